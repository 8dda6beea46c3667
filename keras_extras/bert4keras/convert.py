"""Converts checkpoints: TensorFlow <-> safetensors <-> Hugging Face directory.

    python -m keras_extras.bert4keras.convert SRC DST [--dtype float16]

A TensorFlow checkpoint that was converted once to safetensors loads without TensorFlow ever after.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

import keras
import numpy as np

from keras_extras.bert4keras import weights
from keras_extras.bert4keras.checkpoints import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    read_json,
)
from keras_extras.bert4keras.huggingface import model_type_of
from keras_extras.bert4keras.huggingface.export import write_pretrained
from keras_extras.bert4keras.huggingface.tables import SUPPORTED

FORMATS = ("tensorflow", "safetensors", "huggingface")
_HEADS = {
    "bert": "BertForPreTraining",
    "albert": "AlbertForPreTraining",
    "roformer": "RoFormerForMaskedLM",
    "nezha": "NezhaForPreTraining",
    "electra": "ElectraForPreTraining",
}


def convert(
    source,
    destination,
    to: str | None = None,
    dtype: str | None = None,
    model_type: str | None = None,
    config: str | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> list[str]:
    """Converts a checkpoint to another format.

    Args:
        source: anything that ``open_checkpoint`` takes.
        destination: a name that ends with ``.safetensors``, a TensorFlow prefix with ``.ckpt`` in
            its name, or else a directory, which becomes a Hugging Face one.
        to: one of ``FORMATS``. Default: by the name of ``destination``.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` for all floating arrays. Default: as
            they are.
        model_type: of the Hugging Face model. Default: by config.json, or by the variables' names.
        config: path of the configuration for a Hugging Face directory. Default: the one beside
            ``source``.
        overwrite: whether ``destination`` may exist.
        verbose: whether to show a progress bar.

    Returns:
        the names of the variables that were left out: optimizer slots, and for a Hugging Face
        directory those that have no counterpart in transformers.

    Raises:
        FileExistsError: ``destination`` is there.
        CheckpointError: ``source`` is damaged, or no counterpart exists.
    """
    destination = os.path.expanduser(os.fspath(destination)).rstrip("/")
    to = to or _format_of(destination)
    _refuse_existing(destination, to, overwrite)
    checkpoint = open_checkpoint(source)
    settings = None
    if to == "huggingface":  # first, since it can fail
        settings = _config(checkpoint, model_type, config)
    left_out = [name for name in checkpoint.names() if weights.is_training_state(name, checkpoint)]
    names = [name for name in checkpoint.names() if name not in set(left_out)]
    progress = keras.utils.Progbar(len(names), unit_name="variable", verbose=int(verbose))
    arrays = {}
    for name in names:
        value = checkpoint[name]
        if dtype is not None and _is_floating(value):
            value = value.astype(weights.as_numpy_dtype(dtype))
        arrays[name] = value
        progress.add(1)
    if settings is not None:
        return left_out + write_pretrained(
            destination, arrays, settings, _beside(checkpoint, "vocab.txt")
        )
    weights.write(destination, arrays)
    for name in ("config.json", "bert_config.json", "vocab.txt"):
        found = _beside(checkpoint, name)
        target = os.path.join(os.path.dirname(destination), name)
        if found is not None and not os.path.exists(target):
            shutil.copyfile(found, target)
    return left_out


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_extras.bert4keras.convert", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        help="TensorFlow checkpoint prefix (…/bert_model.ckpt), "
        "*.safetensors, pytorch_model.bin, tf_model.h5, a directory, or a Hugging Face hub id",
    )
    parser.add_argument(
        "destination",
        metavar="DST",
        help="NAME.safetensors, a TensorFlow prefix NAME.ckpt, or a "
        "directory, which becomes a Hugging Face one",
    )
    parser.add_argument("--to", choices=FORMATS, help="format of DST (default: by its name)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="of the written weights (default: as they are)",
    )
    parser.add_argument(
        "--model-type",
        choices=SUPPORTED,
        help="of a Hugging Face DST (default: by the configuration and the variables' names)",
    )
    parser.add_argument(
        "--config",
        help="configuration for a Hugging Face DST (default: the *config*.json beside SRC)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    options = parser.parse_args(arguments)
    try:
        left_out = convert(**vars(options), verbose=True)
    except (CheckpointError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if left_out:
        shown = ", ".join(left_out[:10]) + (" …" if len(left_out) > 10 else "")
        print(f"Left out {len(left_out)} variables: {shown}")
    print(f"Wrote {options.destination}")
    return 0


def _format_of(destination: str) -> str:
    name = os.path.basename(destination)
    if name.endswith(".safetensors"):
        return "safetensors"
    return "tensorflow" if ".ckpt" in name else "huggingface"


def _refuse_existing(destination: str, to: str, overwrite: bool):
    written = {
        "tensorflow": destination + ".index",
        "safetensors": destination,
        "huggingface": os.path.join(destination, "model.safetensors"),
    }[to]
    if os.path.exists(written) and not overwrite:
        raise FileExistsError(
            f"{written} exists. Give another destination, or --overwrite to replace it."
        )


def _config(checkpoint: Checkpoint, model_type: str | None, path: str | None) -> dict:
    path = path or next(
        (
            p
            for p in map(lambda n: _beside(checkpoint, n), ("config.json", "bert_config.json"))
            if p
        ),
        None,
    )
    if path is None:
        raise CheckpointError(
            "A Hugging Face directory needs a configuration, and none lies beside "
            f"{checkpoint.source}: give it with --config."
        )
    config = read_json(path)
    model_type = model_type or config.get("model_type") or model_type_of(checkpoint)
    if model_type == "ernie":
        model_type = "bert"  # its constant task embedding is part of the positions here
        config = {
            k: v for k, v in config.items() if k not in ("use_task_id", "task_type_vocab_size")
        }
        config["architectures"] = ["BertForPreTraining"]
    if model_type == "bert" and "bert/embeddings/position_embeddings" not in checkpoint:
        raise CheckpointError(
            f"{checkpoint.source} has BERT's variables but no positions: say with --model-type "
            "whether it is a roformer or a nezha."
        )
    needed = {"gpt2": "n_embd", "openai-gpt": "n_embd", "t5": "d_model", "mt5": "d_model"}
    if needed.get(model_type, "hidden_size") not in config:
        raise CheckpointError(
            f"{path} is not a Hugging Face configuration of a {model_type} (it has no "
            f"{needed.get(model_type, 'hidden_size')!r}): give one with --config."
        )
    if model_type in _HEADS:
        config.setdefault("architectures", [_HEADS[model_type]])
    return config | {"model_type": model_type}


def _beside(checkpoint: Checkpoint, name: str) -> str | None:
    if checkpoint.path is None:
        return None
    path = os.path.join(os.path.dirname(checkpoint.path), name)
    return path if os.path.isfile(path) else None


def _is_floating(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


if __name__ == "__main__":
    sys.exit(main())
