"""PyTorch's ``pytorch_model.bin`` read without torch, and without running any code that stands in
it.

Such a file is a pickle, and unpickling runs whatever the pickle names. Here only the few names that
describe a dictionary of tensors are known; any other is an error. Both formats are read: the zip
archive (torch >= 1.6) and the older sequence of pickles, in which many Chinese models of 2019 and
2020 are published.
"""

from __future__ import annotations

import collections
import functools
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_extras.bert4keras.checkpoints.checkpoint import Checkpoint, CheckpointError, Entry

_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_DAMAGE = (  # what reading raises on a file that is cut off, or of another kind
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_ignored) -> _Tensor:
    tensor = _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    steps = [
        stride * (length - 1) for stride, length in zip(tensor.strides, tensor.shape, strict=True)
    ]
    empty = 0 in tensor.shape
    if min((0, offset, *tensor.shape, *tensor.strides)) < 0 or (
        not empty and tensor.offset + sum(steps) >= storage.size
    ):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return tensor


def _rebuild_parameter(data, *_ignored) -> _Tensor:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str):
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is no part of a dictionary of tensors and is not "
                "run"
            )
        return _KNOWN[module, name]

    def persistent_load(self, reference) -> _Storage:
        kind, dtype, key, _location, size, *view = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise pickle.UnpicklingError(f"unknown reference {reference!r}")
        self.storages[str(key)] = _Storage(str(key), dtype, int(size))
        return self.storages[str(key)]


def read_torch(path: str) -> Checkpoint:
    """Opens a PyTorch file that holds a dictionary of tensors.

    Raises:
        CheckpointError: the file is damaged, holds anything but a dictionary of tensors, or names
            code.
    """
    try:
        tensors, read_storage = (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(path)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch dictionary of tensors: {error}. If you trust the "
            "file, load it with torch and save it as safetensors; if it was downloaded, download "
            "it again."
        ) from error
    if not isinstance(tensors, dict):
        raise CheckpointError(
            f"{path} holds no dictionary of tensors but a {type(tensors).__name__}."
        )
    entries = {
        name: Entry(value.shape, functools.partial(_view, value, read_storage, path))
        for name, value in tensors.items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    }
    if not entries:
        raise CheckpointError(
            f"{path} holds no tensors at its top level (its keys are "
            f"{', '.join(map(str, list(tensors)[:5]))}). A training checkpoint keeps them deeper: "
            "save model.state_dict() alone."
        )
    return Checkpoint(path, entries, path)


def _view(tensor: _Tensor, read_storage, path: str) -> np.ndarray:
    storage = read_storage(tensor.storage)
    if storage.size < tensor.storage.size:
        raise CheckpointError(f"{path} is cut off: the storage {tensor.storage.key} is too short.")
    width = storage.dtype.itemsize
    strides = [stride * width for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
    return np.array(view)  # a copy of its own, in C order


def _read_zip(path: str):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (record,) = [name for name in names if name.endswith("/data.pkl")]
        root = record.removesuffix("data.pkl")
        if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        with archive.open(record) as file:
            tensors = _Unpickler(file).load()

    def read_storage(storage: _Storage) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(f"{root}data/{storage.key}")
        return np.frombuffer(data, storage.dtype)

    return tensors, read_storage


def _read_legacy(path: str):
    with open(path, "rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC or _Unpickler(file).load() != _LEGACY_PROTOCOL:
            raise ValueError("it is in no format of torch that is known here")
        if not _Unpickler(file).load()["little_endian"]:
            raise ValueError("it was written on a big-endian machine")
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        starts = {}
        for key in _Unpickler(file).load():
            size = int.from_bytes(file.read(8), "little")
            starts[str(key)] = file.tell()
            file.seek(size * unpickler.storages[str(key)].dtype.itemsize, os.SEEK_CUR)
        if file.tell() > os.path.getsize(path):
            raise ValueError("it is cut off")

    def read_storage(storage: _Storage) -> np.ndarray:
        return np.fromfile(path, storage.dtype, storage.size, offset=starts[storage.key])

    return tensors, read_storage
