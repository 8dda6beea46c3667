"""A model's files from the Hugging Face hub: configuration, vocabulary and one weight file."""

from __future__ import annotations

import json
import os
import re

from keras_extras.bert4keras.checkpoints import WEIGHT_FILES, CheckpointError

SMALL_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)


def is_repository_id(text: str) -> bool:
    """Whether a text that is no local path can be a hub id (``hfl/chinese-roberta-wwm-ext``)."""
    if re.search(r"\.(ckpt|safetensors|bin|pt|pth|h5|hdf5|json|txt)(-\d+)?$", text):
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", text) is not None


def fetch(repository: str, revision: str | None = None) -> str:
    """Fetches the files that loading needs, and returns the local directory that holds them.

    The configuration and vocabulary files that exist, and the first that exists of
    ``model.safetensors``, ``pytorch_model.bin``, ``tf_model.h5`` or their sharded forms.
    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and the cache of huggingface_hub are honoured, and files
    that are in the cache are not fetched again.

    Args:
        repository: hub id, such as ``hfl/chinese-roberta-wwm-ext``.
        revision: branch, tag or commit. Default: the main branch.

    Raises:
        ImportError: huggingface_hub is not installed.
        CheckpointError: the hub has no such model, or the model has no weights that can be read.
        ConnectionError: the hub cannot be reached, and the files are not in the cache.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise ImportError(
            f"There is no file or directory {repository!r}; to fetch it as a Hugging Face model, "
            "pip install huggingface_hub."
        ) from error
    unreachable = None
    try:
        listed = HfApi().model_info(repository, revision=revision).siblings
        names = {file.rfilename for file in listed or ()}
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(
            f"There is no file or directory {repository!r}, and the Hugging Face hub has no model "
            f"of this name that is open to you: {str(error).splitlines()[0]}"
        ) from error
    except Exception as error:  # offline mode, or whatever the HTTP library raises
        unreachable = error
        names = {*WEIGHT_FILES, *SMALL_FILES}

    def get(name: str) -> str | None:
        try:
            return hf_hub_download(
                repository, name, revision=revision, local_files_only=unreachable is not None
            )
        except EntryNotFoundError:  # also: not in the cache
            return None

    candidates = [name for name in WEIGHT_FILES if name in names]
    weights = next((path for path in map(get, candidates) if path), None)
    if weights is None and unreachable is not None:
        raise ConnectionError(
            f"There is no file or directory {repository!r}; as a Hugging Face model it is not in "
            f"the cache, and the hub cannot be reached ({unreachable}). Check the connection, set "
            "HF_ENDPOINT to a mirror, or give the path of a directory that holds the model."
        ) from unreachable
    if weights is None:
        raise CheckpointError(
            f"The Hugging Face model {repository!r} has none of {', '.join(WEIGHT_FILES)}."
        )
    for name in SMALL_FILES:
        if name in names:
            get(name)
    if weights.endswith(".index.json"):
        with open(weights, encoding="utf-8") as file:
            for shard in sorted(set(json.load(file)["weight_map"].values())):
                if get(shard) is None:
                    raise ConnectionError(f"The part {shard} of {repository!r} cannot be fetched.")
    return os.path.dirname(weights)
