"""PyTorch files are read without torch, in both formats, and no code in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from keras_extras.bert4keras.checkpoints import CheckpointError, open_checkpoint

TORCH = """
import sys, collections, numpy as np, torch
folder = sys.argv[1]
base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
tensors = collections.OrderedDict(
    whole=base, transposed=base.t(), sliced=base[1:3, ::2], expanded=base[0, :1].expand(3),
    parameter=torch.nn.Parameter(base * 2), half=base.half(), bfloat=base.bfloat16(),
    double=base.double(), long=base.long(), flags=base > 3, byte=base.byte(),
    scalar=torch.tensor(2.5), empty=torch.zeros(0, 3),
)
for legacy in (False, True):
    for name, holder in (("ordered", tensors), ("plain", dict(tensors))):
        torch.save(holder, f"{folder}/{name}-{legacy}.bin",
                   _use_new_zipfile_serialization=not legacy)
np.savez(f"{folder}/arrays.npz", **{k: v.detach().float().numpy() for k, v in tensors.items()})
torch.save({"model": {"a": base}, "epoch": 3}, f"{folder}/nested.bin")
torch.save([base], f"{folder}/list.bin")
torch.save(torch.nn.Linear(2, 2), f"{folder}/module.bin")
"""


@pytest.fixture(scope="module")
def torch_files(torch_python, run_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    run_python(torch_python, TORCH, folder)
    return folder


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("holder", ["ordered", "plain"])
def test_torch_files(torch_files, holder, legacy):
    want = np.load(torch_files / "arrays.npz")
    checkpoint = open_checkpoint(torch_files / f"{holder}-{legacy}.bin")
    assert checkpoint.names() == sorted(want.files)
    for name in want.files:
        assert checkpoint.shape(name) == want[name].shape
        np.testing.assert_array_equal(checkpoint[name].astype("float32"), want[name], err_msg=name)
    kinds = {"half": "float16", "bfloat": "bfloat16", "long": "int64", "flags": "bool"}
    assert {name: checkpoint[name].dtype.name for name in kinds} == kinds


def test_torch_files_of_other_content(torch_files):
    with pytest.raises(CheckpointError, match="no tensors at its top level.*model, epoch"):
        open_checkpoint(torch_files / "nested.bin")
    with pytest.raises(CheckpointError, match="but a list"):
        open_checkpoint(torch_files / "list.bin")
    with pytest.raises(CheckpointError, match="names torch.nn.*not run"):
        open_checkpoint(torch_files / "module.bin")


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_that_are_cut_off(torch_files, tmp_path, legacy):
    whole = (torch_files / f"ordered-{legacy}.bin").read_bytes()
    path = tmp_path / "pytorch_model.bin"
    for part in (0, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(CheckpointError, match="cannot be read as a PyTorch"):
            open_checkpoint(path)


def test_a_torch_storage_that_is_too_short(torch_files, tmp_path):
    with zipfile.ZipFile(torch_files / "plain-False.bin") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:8] if name.endswith("data/0") else data)
    checkpoint = open_checkpoint(tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="storage 0 is too short"):
        checkpoint["whole"]


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_in_a_torch_file_is_not_run(tmp_path):
    target = tmp_path / "attacked"
    evil = pickle.dumps({"a": Attack(target)}, protocol=2)
    (tmp_path / "legacy.bin").write_bytes(evil)
    with zipfile.ZipFile(tmp_path / "zip.bin", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
    for name in ("legacy.bin", "zip.bin"):
        with pytest.raises(CheckpointError, match="posix.mkdir.*is not run"):
            open_checkpoint(tmp_path / name)
    assert not target.exists()
    pickle.loads(evil)  # what the file would have done
    assert target.exists()
