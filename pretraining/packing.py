"""Shards of token ids → sequences of full length, and a vocabulary without rare tokens."""

import argparse
from pathlib import Path

import numpy as np

from keras_extras.vocabulary import load_vocab, save_vocab

__all__ = ["DTYPES", "PARTS", "SPECIAL_TOKENS", "finish", "pack", "shard", "small_vocabulary"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = tuple(f"[unused{i}]" for i in range(1, 10))  # for tasks that need some of their own
PARTS = ("train", "heldout")
DTYPES = {"tokens": "uint16", "starts": "bool"}


def shard(folder: Path, name: str, part: str, kind: str) -> Path:
    """File of a shard's stream."""
    return folder / f"{name}.{part}.{kind}"


def small_vocabulary(vocab: dict[str, int], counts: np.ndarray, rare: int) -> dict[str, int]:
    """The special tokens, then, in the old order, marks and what occurs `rare` times or more."""
    kept = [
        token
        for token, i in vocab.items()
        if (counts[i] >= rare or token in MARKS) and token not in SPECIAL_TOKENS
    ]
    return {token: i for i, token in enumerate((*SPECIAL_TOKENS, *kept))}


def pack(stream: np.ndarray, length: int, first: int, last: int) -> np.ndarray:
    """Cuts a stream into rows that begin with `first` and end with `last`.

    What is left over at the end, less than a row, is dropped.

    >>> pack(np.arange(10, 17, dtype="uint16"), 5, 2, 3)
    array([[ 2, 10, 11, 12,  3],
           [ 2, 13, 14, 15,  3]], dtype=uint16)
    """
    inside = length - 2
    rows = len(stream) // inside
    packed = np.empty((rows, length), stream.dtype)
    packed[:, 0], packed[:, -1] = first, last
    packed[:, 1:-1] = stream[: rows * inside].reshape(rows, inside)
    return packed


def finish(shards: Path, names: list[str], options: argparse.Namespace) -> dict:
    """Shards → packed arrays and the smaller vocabulary; returns their sizes.

    Args:
        shards: folder of `<name>.<part>.<kind>`.
        names: the shards, in order.
        options: of `pretraining.corpus`: vocab, rare, length and output.
    """

    def stream(part: str, kind: str) -> np.ndarray:
        files = [np.fromfile(shard(shards, name, part, kind), DTYPES[kind]) for name in names]
        return np.concatenate(files)

    vocab = load_vocab(options.vocab)
    counts = np.bincount(stream("train", "tokens"), minlength=max(vocab.values()) + 1)
    small = small_vocabulary(vocab, counts, options.rare)
    table = np.full(len(counts), small["[UNK]"], "uint16")
    for token, i in small.items():
        table[vocab[token]] = i
    sizes = {}
    for part in PARTS:
        rows = pack(table[stream(part, "tokens")], options.length, small["[CLS]"], small["[SEP]"])
        save(options.output / f"{part}.tokens.npy", rows)
        starts = pack(stream(part, "starts"), options.length, True, True)
        save(options.output / f"{part}.starts.npy", starts)
        sizes[part] = len(rows)
    save_vocab(options.output / "vocab.txt", small)
    return {"sequences": sizes, "vocabulary": len(small)}


def save(path: Path, array: np.ndarray):
    """Writes an array under another name first."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)
