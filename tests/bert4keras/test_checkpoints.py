"""Every format that holds weights is read whole and right, and damage is told, not passed over."""

from __future__ import annotations

import json
import os
import sys

import ml_dtypes
import numpy as np
import pytest

from keras_extras.bert4keras.checkpoints import (
    Checkpoint,
    CheckpointError,
    locate,
    open_checkpoint,
    resolve,
)
from keras_extras.bert4keras.checkpoints.tensor_files import write_safetensors, write_tensorflow

ARRAYS = {
    "bert/embeddings/word_embeddings": np.arange(12, dtype="float32").reshape(4, 3),
    "bert/pooler/dense/kernel": np.arange(9, dtype="float32").reshape(3, 3) / 7,
    "bert/pooler/dense/bias": np.array([0.5, -1, 2], "float16"),
    "global_step": np.array(7, "int64"),
}


def assert_same(checkpoint, arrays=ARRAYS):
    assert checkpoint.names() == sorted(arrays)
    for name, value in arrays.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint[name], value)


@pytest.fixture(scope="module")
def tensorflow_prefix(tmp_path_factory):
    pytest.importorskip("tensorflow")
    prefix = tmp_path_factory.mktemp("tf") / "bert_model.ckpt"
    write_tensorflow(str(prefix), ARRAYS)
    return prefix


def test_a_checkpoint_is_a_lazy_mapping(tmp_path):
    path = str(tmp_path / "a.safetensors")
    write_safetensors(path, ARRAYS, {})
    checkpoint = open_checkpoint(path)
    assert isinstance(checkpoint, Checkpoint)
    assert os.fspath(checkpoint) == path and path in checkpoint.source
    assert checkpoint.read_names == set()
    assert "global_step" in checkpoint and len(checkpoint) == 4
    assert_same(checkpoint)
    assert open_checkpoint(checkpoint) is checkpoint
    with pytest.raises(KeyError, match=r"'nothing' is not in .*a\.safetensors"):
        checkpoint["nothing"]
    with pytest.raises(TypeError, match="not a file"):
        os.fspath(open_checkpoint(ARRAYS))


def test_tensorflow_checkpoints(tensorflow_prefix):
    assert_same(open_checkpoint(tensorflow_prefix))
    assert_same(open_checkpoint(f"{tensorflow_prefix}.index"))
    assert_same(open_checkpoint(tensorflow_prefix.parent))
    import tensorflow as tf

    found = tf.train.load_variable(str(tensorflow_prefix), "bert/pooler/dense/kernel")
    np.testing.assert_array_equal(found, ARRAYS["bert/pooler/dense/kernel"])
    by_path = tf.train.load_variable(open_checkpoint(tensorflow_prefix), "global_step")
    assert by_path == 7  # user code may still call TensorFlow on what it is given


def test_the_latest_of_several_tensorflow_checkpoints(tensorflow_prefix, tmp_path):
    for step in (1, 2):
        write_tensorflow(str(tmp_path / f"model.ckpt-{step}"), {"a": np.full(1, step)})
    with pytest.raises(CheckpointError, match="several checkpoints.*ckpt-1.*ckpt-2"):
        open_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    assert open_checkpoint(tmp_path)["a"] == 2


def test_object_based_tensorflow_checkpoints(tensorflow_prefix, tmp_path):
    import tensorflow as tf

    variables = {"bert": tf.Module(), "weights/of.it": tf.Variable([1.0, 2.0])}
    variables["bert"].kernel = tf.Variable([[3.0]])
    prefix = tf.train.Checkpoint(**variables).write(str(tmp_path / "model"))
    checkpoint = open_checkpoint(prefix)
    np.testing.assert_array_equal(checkpoint["weights/of.it"], [1, 2])
    np.testing.assert_array_equal(checkpoint["bert/kernel"], [[3]])


def test_half_a_tensorflow_checkpoint(tensorflow_prefix, tmp_path):
    for missing in (".index", ".data-00000-of-00001"):
        prefix = tmp_path / missing.strip(".") / "bert_model.ckpt"
        write_tensorflow(str(prefix), ARRAYS)
        os.remove(f"{prefix}{missing}")
        with pytest.raises(CheckpointError, match="consists of both"):
            open_checkpoint(prefix)
    prefix = tmp_path / "cut.ckpt"
    write_tensorflow(str(prefix), ARRAYS)
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.truncate(20)
    with pytest.raises(CheckpointError, match="cannot be read|not a whole"):
        dict(open_checkpoint(prefix))


def test_without_tensorflow_the_converter_is_named(tensorflow_prefix, run_python):
    script = f"""
import os, sys
sys.modules["tensorflow"] = None
from keras_extras.bert4keras.checkpoints import open_checkpoint
from keras_extras.bert4keras.checkpoints.tensor_files import write_tensorflow
for act in (
    lambda: open_checkpoint({str(tensorflow_prefix)!r}),
    lambda: write_tensorflow("a.ckpt", {{}}),
):
    try:
        act()
    except ImportError as error:
        print(error)
"""
    printed = run_python(sys.executable, script, KERAS_BACKEND="jax").splitlines()
    assert len(printed) == 2
    assert f"convert {tensorflow_prefix} DST" in printed[0]
    assert ".safetensors" in printed[1]


def test_safetensors_in_bfloat16(tmp_path):
    arrays = {"a": np.arange(4).astype(ml_dtypes.bfloat16)}
    write_safetensors(str(tmp_path / "a.safetensors"), arrays, {})
    assert_same(open_checkpoint(tmp_path / "a.safetensors"), arrays)


def test_others_may_read_a_written_file(tmp_path):
    """As they may read any file that is written with the same umask."""
    write_safetensors(str(tmp_path / "a.safetensors"), ARRAYS, {})
    (tmp_path / "b").write_text("")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("size", [0, 4, 60, -5])
def test_a_safetensors_file_that_is_cut_off(tmp_path, size):
    path = tmp_path / "a.safetensors"
    write_safetensors(str(path), ARRAYS, {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        open_checkpoint(path)


def test_writing_leaves_no_partial_file(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    write_safetensors(str(path), ARRAYS, {})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="cannot be written.*dtype"):
        write_safetensors(str(path), {"a": np.array(["text"])}, {})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.safetensors"]


def test_shards(tmp_path):
    names = sorted(ARRAYS)
    where = {name: f"part-{i // 2}.safetensors" for i, name in enumerate(names)}
    for part in set(where.values()):
        held = {name: ARRAYS[name] for name in names if where[name] == part}
        write_safetensors(str(tmp_path / part), held, {})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert_same(open_checkpoint(tmp_path))
    index.write_text(json.dumps({"weight_map": where | {"more": "part-0.safetensors"}}))
    with pytest.raises(CheckpointError, match="their shards lack: more"):
        open_checkpoint(tmp_path)
    os.remove(tmp_path / "part-1.safetensors")
    with pytest.raises(CheckpointError, match=r"not beside it: part-1\.safetensors"):
        open_checkpoint(tmp_path)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="not an index of shards"):
        open_checkpoint(tmp_path)
    index.write_text("{")
    with pytest.raises(CheckpointError, match="is not a JSON file"):
        open_checkpoint(tmp_path)


def test_h5_of_transformers(tmp_path):
    """Names as transformers 4 wrote them: scopes, ``_._`` for lists, ``mlm___`` for one shared."""
    import h5py

    stored = {
        "bert": {
            "tf_bert/bert/encoder/layer_._0/attention/self/query/kernel:0": np.ones((2, 3)),
            "tf_bert/bert/encoder/layer_._0/output/LayerNorm/gamma:0": np.full(3, 2.0),
            "tf_bert/bert/encoder/layer_._0/output/LayerNorm/beta:0": np.full(3, 3.0),
            "tf_bert/bert/embeddings/word_embeddings/weight:0": np.arange(8.0).reshape(4, 2),
            "tf_bert/bert/embeddings/token_type_embeddings/embeddings:0": np.ones((2, 2)),
        },
        "mlm___cls": {"tf_bert/mlm___cls/predictions/bias:0": np.arange(4.0)},
        "nsp___cls": {"tf_bert/nsp___cls/seq_relationship/kernel:0": np.arange(6.0).reshape(3, 2)},
    }
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in stored]
        for layer, values in stored.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in values]
            for name, value in values.items():
                group.create_dataset(name, data=value)
    checkpoint = open_checkpoint(tmp_path)
    prefix = "bert/encoder/layer_0/"
    assert_same(
        checkpoint,
        {
            prefix + "attention/self/query/kernel": np.ones((2, 3)),
            prefix + "output/LayerNorm/gamma": np.full(3, 2.0),
            prefix + "output/LayerNorm/beta": np.full(3, 3.0),
            "bert/embeddings/word_embeddings": np.arange(8.0).reshape(4, 2),
            "bert/embeddings/token_type_embeddings": np.ones((2, 2)),
            "cls/predictions/output_bias": np.arange(4.0),
            "cls/seq_relationship/output_weights": np.arange(6.0).reshape(3, 2).T,
        },
    )


def test_h5_of_gpt2_has_biases_as_rows(tmp_path):
    import h5py

    block = "tf_gpt2/transformer/h_._0/attn/c_attn"
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = ["transformer"]
        group = file.create_group("transformer")
        values = {
            f"{block}/weight:0": np.arange(12.0).reshape(2, 6),
            f"{block}/bias:0": np.arange(6.0)[None],
            "tf_gpt2/transformer/wte/weight:0": np.ones((5, 2)),
        }
        group.attrs["weight_names"] = list(values)
        for name, value in values.items():
            group.create_dataset(name, data=value)
    checkpoint = open_checkpoint(tmp_path)
    key = "gpt/transformer/layer_0/attention/self/key/"
    np.testing.assert_array_equal(checkpoint[key + "kernel"], [[2, 3], [8, 9]])
    np.testing.assert_array_equal(checkpoint[key + "bias"], [2, 3])


def test_h5_of_another_kind(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["x"] = np.ones(2)
    with pytest.raises(CheckpointError, match="model.load_weights"):
        open_checkpoint(tmp_path / "a.weights.h5")
    (tmp_path / "b.h5").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a whole HDF5 file"):
        open_checkpoint(tmp_path / "b.h5")


def test_paths_at_which_nothing_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at '.*bert_model.ckpt'"):
        open_checkpoint(tmp_path / "bert_model.ckpt")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        open_checkpoint(tmp_path)
    (tmp_path / "notes.txt").write_text("no")
    with pytest.raises(CheckpointError, match="no kind of checkpoint"):
        open_checkpoint(tmp_path / "notes.txt")


def test_safetensors_go_first_in_a_directory(tmp_path):
    for name in ("pytorch_model.bin", "tf_model.h5"):
        (tmp_path / name).write_bytes(b"")
    write_safetensors(str(tmp_path / "model.safetensors"), ARRAYS, {})
    assert locate(tmp_path) == str(tmp_path / "model.safetensors")


def test_a_directory_with_configuration(tmp_path):
    write_safetensors(str(tmp_path / "any.safetensors"), ARRAYS, {})
    with pytest.raises(FileNotFoundError, match="no config.json"):
        resolve(tmp_path)
    for name in ("bert_config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    found = resolve(tmp_path)
    assert os.path.basename(found.config_path) == "bert_config.json"
    assert os.path.basename(found.weights_path) == "any.safetensors"
    (tmp_path / "config.json").write_text("{}")
    assert os.path.basename(resolve(tmp_path).config_path) == "config.json"
