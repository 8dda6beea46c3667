"""What every kind of checkpoint is read as: names, shapes, and arrays read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np


class CheckpointError(ValueError):
    """A checkpoint is damaged, incomplete, or of a kind that cannot be read."""


class Entry(NamedTuple):
    """One array of a checkpoint: its shape, and how to read it."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Checkpoint(Mapping):
    """A read-only mapping from variable names to arrays, each read when it is asked for.

    Args:
        source: what the arrays come from, in words; used in messages.
        entries: dict name -> ``Entry``.
        path: file or checkpoint prefix, if there is one. ``os.fspath(checkpoint)`` returns it, so
            that code that calls ``tf.train.load_variable(checkpoint, name)`` works on a TensorFlow
            checkpoint.

    Example:
        >>> import numpy as np
        >>> checkpoint = Checkpoint.from_arrays({"bert/pooler/dense/bias": np.zeros(3)})
        >>> checkpoint.names(), checkpoint.shape("bert/pooler/dense/bias")
        (['bert/pooler/dense/bias'], (3,))
    """

    def __init__(self, source: str, entries: Mapping[str, Entry], path: str | None = None):
        self.source = source
        self.entries = dict(entries)
        self.path = path
        self.read_names: set[str] = set()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], source: str = "arrays in memory"):
        """A checkpoint over arrays that are in memory already."""
        entries = {}
        for name, value in arrays.items():
            value = np.asarray(value)
            entries[name] = Entry(value.shape, lambda value=value: value)
        return cls(source, entries)

    def names(self) -> list[str]:
        """The variable names, sorted."""
        return sorted(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable, without reading it."""
        return self._entry(name).shape

    def __getitem__(self, name: str) -> np.ndarray:
        value = self._entry(name).read()
        self.read_names.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError(f"{self.source} is not a file.")
        return self.path

    def __repr__(self) -> str:
        return f"<Checkpoint of {len(self)} variables from {self.source}>"

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise KeyError(f"{name!r} is not in {self.source}")
        return self.entries[name]
