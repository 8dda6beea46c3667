"""Checkpoints of any common format, presented under bert4keras' variable names.

``open_checkpoint`` finds out what a path is (TensorFlow checkpoint, safetensors, PyTorch file,
Keras H5 of transformers, sharded index, directory, Hugging Face hub id) and returns a lazy,
read-only mapping from TF1 variable names such as
``bert/encoder/layer_0/attention/self/query/kernel`` to arrays in TF1 layout.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keras_extras.bert4keras.checkpoints.checkpoint import Checkpoint, CheckpointError

SHIPPED = Path(__file__).parents[1] / "pretrained"  # folders of the models that come along
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
)


def open_checkpoint(path, architecture: str | None = None) -> Checkpoint:
    """Opens a checkpoint of any format under bert4keras' variable names.

    Args:
        path: one of
            a TensorFlow checkpoint prefix (``"chinese_L-12_H-768_A-12/bert_model.ckpt"``; needs
            TensorFlow); a ``*.safetensors`` file (with TF names, or from Hugging Face);
            a PyTorch ``pytorch_model.bin`` (read without torch, and without running code from it);
            a ``tf_model.h5`` of transformers;
            an index ``*.index.json`` of sharded files;
            a directory that holds one of these;
            ``"keras-extras-mini"``, a small model that comes with this package, also where a
            folder here has that name (which is ``"./keras-extras-mini"``);
            a Hugging Face hub id (``"hfl/chinese-roberta-wwm-ext"``; ``HF_ENDPOINT`` and the
            offline cache are honoured); or a ``Checkpoint`` or a dict of arrays, for convenience.
        architecture: which names the caller expects where the files leave it open: ``"mt5"`` and
            ``"t5"`` differ in nothing else, and a bare ``ElectraModel`` does not name itself. The
            ``model_type`` in the ``config.json`` beside the weights goes first.

    Raises:
        FileNotFoundError: nothing is there.
        CheckpointError: the file is damaged or of an unknown kind.
        ImportError: the format needs a library that is not installed.

    Example:
        >>> import numpy as np
        >>> open_checkpoint({"bert/pooler/dense/bias": np.zeros(3)})["bert/pooler/dense/bias"].shape
        (3,)
    """
    if isinstance(path, Checkpoint):
        return path
    if isinstance(path, Mapping):
        return Checkpoint.from_arrays(path)
    location = locate(path)
    checkpoint = read(location)
    from keras_extras.bert4keras import huggingface

    if huggingface.has_huggingface_names(checkpoint):
        config = os.path.join(os.path.dirname(location), "config.json")
        model_type = None
        if os.path.isfile(config):
            model_type = read_json(config).get("model_type")
        return huggingface.as_bert4keras(checkpoint, model_type, architecture)
    return checkpoint


def locate(path) -> str:
    """The weight file (or TensorFlow prefix) of a shipped model, a directory, a path or hub id."""
    path = os.path.expanduser(os.fspath(path))
    if path in shipped():
        return _in_directory(str(SHIPPED / path))
    if os.path.isdir(path):
        return _in_directory(path)
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    if os.path.isfile(prefix + ".index"):
        if not glob.glob(glob.escape(prefix) + ".data-*"):
            raise CheckpointError(
                f"{prefix}.index is there, but its {prefix}.data-00000-of-00001 is not: a "
                "TensorFlow checkpoint consists of both files. Copy the missing one beside it."
            )
        return prefix
    if os.path.isfile(path):
        return path
    if glob.glob(glob.escape(prefix) + ".data-*"):
        raise CheckpointError(
            f"{prefix}.data-* is there, but {prefix}.index is not: a TensorFlow checkpoint "
            "consists of both files. Copy the missing one beside it."
        )
    from keras_extras.bert4keras.checkpoints import hub

    if hub.is_repository_id(path):
        return _in_directory(hub.fetch(path))
    raise FileNotFoundError(
        f"There is no checkpoint at {path!r}: no such file, no directory, and no TensorFlow "
        "checkpoint with this prefix. Give a path that exists, a model that comes with this "
        f"package ({', '.join(shipped())}), or a Hugging Face id such as "
        "'hfl/chinese-roberta-wwm-ext'."
    )


def shipped() -> list[str]:
    """Names of the models that come with this package.

    >>> shipped()
    ['keras-extras-mini']
    """
    return sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())


def read_json(path: str) -> dict:
    """A JSON file that holds an object, or an error that names the file."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise CheckpointError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object but a {type(content).__name__}.")
    return content


class Model(NamedTuple):
    """Where a model's configuration and weights are."""

    config_path: str
    weights_path: str


def resolve(path) -> Model:
    """The configuration and the weights of a model that comes with this package (whose name comes
    before a folder's of the same), in a directory, or of a Hugging Face hub id (which is fetched).

    The configuration is ``config.json``, or else the only ``*config*.json`` (Google's
    ``bert_config.json``).

    Raises:
        FileNotFoundError: one of them is missing.
    """
    path = os.path.expanduser(os.fspath(path))
    if path in shipped() or not os.path.isdir(path):
        path = os.path.dirname(locate(path))
    weights = _in_directory(path)
    config = os.path.join(path, "config.json")
    if not os.path.isfile(config):
        found = [
            name
            for name in glob.glob(os.path.join(glob.escape(path), "*config*.json"))
            if not name.endswith(("tokenizer_config.json", "generation_config.json"))
        ]
        if len(found) != 1:
            raise FileNotFoundError(
                f"The directory {path} has no config.json, and {len(found)} other *config*.json. "
                "Give the path of the configuration file itself, and checkpoint_path."
            )
        config = found[0]
    return Model(config, weights)


def read(location: str) -> Checkpoint:
    """Opens one file or TensorFlow prefix, under the names that stand in it."""
    from keras_extras.bert4keras.checkpoints import tensor_files, torch_files

    if location.endswith(".index.json"):
        return _read_shards(location)
    if location.endswith(".safetensors"):
        return tensor_files.read_safetensors(location)
    if location.endswith((".bin", ".pt", ".pth")):
        return torch_files.read_torch(location)
    if location.endswith((".h5", ".hdf5")):
        return tensor_files.read_h5(location)
    if os.path.isfile(location + ".index"):
        return tensor_files.read_tensorflow(location)
    raise CheckpointError(
        f"{location} is no kind of checkpoint known here. Known are TensorFlow checkpoints (a "
        "prefix, with .index and .data files), *.safetensors, pytorch_model.bin, tf_model.h5 and "
        "*.index.json of shards."
    )


def _in_directory(directory: str) -> str:
    for name in WEIGHT_FILES:
        if os.path.isfile(os.path.join(directory, name)):
            return os.path.join(directory, name)
    state = os.path.join(
        directory, "checkpoint"
    )  # TensorFlow's note of which checkpoint is the latest
    if os.path.isfile(state):
        with open(state, encoding="utf-8") as file:
            latest = re.search(r'^model_checkpoint_path: "(.+)"', file.read(), re.MULTILINE)
        if latest and os.path.isfile(os.path.join(directory, latest[1]) + ".index"):
            return os.path.join(directory, latest[1])
    pattern = glob.escape(directory)
    found = glob.glob(os.path.join(pattern, "*.safetensors"))
    found += [p.removesuffix(".index") for p in glob.glob(os.path.join(pattern, "*.index"))]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"The directory {directory} holds several checkpoints ({', '.join(sorted(found))}). "
            "Name one."
        )
    raise FileNotFoundError(
        f"The directory {directory} holds no weights: none of {', '.join(WEIGHT_FILES)}, no other "
        "*.safetensors and no TensorFlow checkpoint (*.index)."
    )


def _read_shards(location: str) -> Checkpoint:
    where = read_json(location).get("weight_map")
    if not isinstance(where, dict):
        raise CheckpointError(f"{location} is not an index of shards: it has no weight_map.")
    directory = os.path.dirname(location)
    files = sorted(set(where.values()))
    absent = [name for name in files if not os.path.isfile(os.path.join(directory, name))]
    if absent:
        raise CheckpointError(
            f"{location} names shards that are not beside it: {', '.join(absent)}."
        )
    shards = {name: read(os.path.join(directory, name)) for name in files}
    lacking = sorted(name for name, shard in where.items() if name not in shards[shard])
    if lacking:
        raise CheckpointError(
            f"{location} names variables that their shards lack: "
            f"{', '.join(lacking[:10])}{' …' if len(lacking) > 10 else ''}. The download is "
            "probably incomplete."
        )
    entries = {name: shards[shard].entries[name] for name, shard in where.items()}
    return Checkpoint(location, entries, location)
