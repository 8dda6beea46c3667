"""Checkpoints go round through all formats and come back bit for bit."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model
from keras_extras.bert4keras.checkpoints import CheckpointError, open_checkpoint
from keras_extras.bert4keras.convert import convert, main
from keras_extras.bert4keras.weights import write

CONFIG = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
}
SLOT = "bert/pooler/dense/bias/adam_m"


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A directory as Google publishes them, with an optimizer's slot in the checkpoint."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("chinese_L-2_H-8_A-2")
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    bert = build_transformer_model(
        folder / "bert_config.json", with_mlm=True, with_nsp=True, return_keras_model=False
    )
    bert.save_weights_as_checkpoint(str(folder / "bert_model.ckpt"))
    arrays = dict(open_checkpoint(folder))
    write(folder / "bert_model.ckpt", arrays | {SLOT: np.zeros(8), "global_step": np.array(3)})
    return folder, arrays


def assert_holds(path, arrays):
    checkpoint = open_checkpoint(path)
    assert checkpoint.names() == sorted(arrays)
    assert all(np.array_equal(checkpoint[name], arrays[name]) for name in arrays)


def test_all_the_way_round(google, tmp_path):
    folder, arrays = google
    first = tmp_path / "first" / "bert.safetensors"
    left_out = convert(folder / "bert_model.ckpt", first)
    assert left_out == [SLOT, "global_step"]
    assert_holds(first, arrays)
    assert sorted(os.listdir(first.parent)) == ["bert.safetensors", "bert_config.json", "vocab.txt"]

    second = tmp_path / "second"
    assert convert(first, second) == []
    assert sorted(os.listdir(second)) == ["config.json", "model.safetensors", "vocab.txt"]
    config = json.loads((second / "config.json").read_text())
    assert config["model_type"] == "bert" and config["hidden_size"] == 8
    from safetensors.numpy import load_file

    stored = load_file(second / "model.safetensors")
    np.testing.assert_array_equal(
        stored["bert.encoder.layer.1.intermediate.dense.weight"],
        arrays["bert/encoder/layer_1/intermediate/dense/kernel"].T,
    )
    assert_holds(second, arrays)

    third = tmp_path / "third" / "bert_model.ckpt"
    convert(second, third)
    assert_holds(third, arrays)


def test_the_model_is_the_same_from_every_format(google, tmp_path):
    folder, _ = google
    convert(folder, tmp_path / "hf")
    tokens = np.array([[2, 3, 4, 5, 0]])
    outputs = [
        build_transformer_model(path, with_mlm=True).predict([tokens, tokens * 0], verbose=0)
        for path in (folder, tmp_path / "hf")
    ]
    np.testing.assert_allclose(*outputs, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes(google, tmp_path, dtype):
    folder, arrays = google
    convert(folder, tmp_path / "a.safetensors", dtype=dtype)
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    assert {checkpoint[name].dtype.name for name in checkpoint} == {dtype}
    name = "bert/embeddings/word_embeddings"
    error = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0}[dtype]
    found = checkpoint[name].astype("float32")
    np.testing.assert_allclose(found, arrays[name], rtol=error, atol=1e-7)
    convert(folder, tmp_path / "hf", dtype=dtype)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == dtype


def test_nothing_is_overwritten_unasked(google, tmp_path):
    folder, arrays = google
    for name in ("a.safetensors", "b.ckpt", "c"):
        convert(folder, tmp_path / name)
        with pytest.raises(FileExistsError, match="exists"):
            convert(folder, tmp_path / name)
        convert(folder, tmp_path / name, overwrite=True)
        assert_holds(tmp_path / name, arrays)


def test_a_directory_needs_a_configuration(google, tmp_path):
    folder, arrays = google
    write(tmp_path / "a.safetensors", arrays)
    with pytest.raises(CheckpointError, match="needs a configuration"):
        convert(tmp_path / "a.safetensors", tmp_path / "out")
    convert(tmp_path / "a.safetensors", tmp_path / "out", config=folder / "bert_config.json")
    assert_holds(tmp_path / "out", arrays)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a Hugging Face configuration of a bert"):
        convert(tmp_path / "a.safetensors", tmp_path / "other")


def test_bert_without_positions_is_of_another_kind(google, tmp_path):
    folder, arrays = google
    less = {k: v for k, v in arrays.items() if "position" not in k and "cls/seq" not in k}
    write(tmp_path / "a.safetensors", less)
    config = folder / "bert_config.json"
    with pytest.raises(CheckpointError, match="--model-type"):
        convert(tmp_path / "a.safetensors", tmp_path / "out", config=config)
    convert(tmp_path / "a.safetensors", tmp_path / "out", config=config, model_type="roformer")
    assert_holds(tmp_path / "out", less)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["model_type"] == "roformer"


def test_the_command_line(google, tmp_path, capsys):
    folder, arrays = google
    target = str(tmp_path / "a.safetensors")
    assert main([str(folder / "bert_model.ckpt"), target]) == 0
    printed = capsys.readouterr()
    assert f"Wrote {target}" in printed.out and "Left out 2 variables" in printed.out
    assert_holds(target, arrays)
    assert main([str(folder), target]) == 1
    assert "error:" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing.ckpt"), target, "--overwrite"]) == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_the_module_runs(run_python):
    script = (
        "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('{0}', {{}}, '__main__')"
    )
    script = script.format("keras_extras.bert4keras.convert")
    printed = run_python(sys.executable, script)
    assert "SRC DST" in printed and "--dtype" in printed and "--overwrite" in printed
