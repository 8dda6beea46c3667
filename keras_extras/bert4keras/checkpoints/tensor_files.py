"""Reading and writing of files of named arrays: safetensors, TensorFlow checkpoints, transformers'
H5."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping

import numpy as np

from keras_extras.bert4keras.checkpoints.checkpoint import Checkpoint, CheckpointError, Entry

CONVERTER = "python -m keras_extras.bert4keras.convert"


def read_safetensors(path: str) -> Checkpoint:
    """Opens a ``*.safetensors`` file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs the safetensors package: pip install safetensors."
        ) from error
    try:
        file = safe_open(path, framework="np")
        entries = {
            name: Entry(
                tuple(file.get_slice(name).get_shape()), lambda name=name: file.get_tensor(name)
            )
            for name in file.keys()
        }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). Download or convert it again."
        ) from error
    return Checkpoint(path, entries, path)


def read_tensorflow(prefix: str) -> Checkpoint:
    """Opens a TF1 or TF2 checkpoint by its prefix; needs TensorFlow."""
    tf = _tensorflow(f"Reading the TensorFlow checkpoint {prefix}", f"{CONVERTER} {prefix} DST")
    try:
        reader = tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{prefix} is not a whole TensorFlow checkpoint: {error}") from error
    dtypes = reader.get_variable_to_dtype_map()

    def read(stored: str) -> np.ndarray:
        try:
            return reader.get_tensor(stored)
        except (tf.errors.OpError, LookupError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{stored} cannot be read from {prefix}: {error}") from error

    entries = {
        _tensorflow_name(stored): Entry(tuple(shape), lambda stored=stored: read(stored))
        for stored, shape in reader.get_variable_to_shape_map().items()
        if dtypes[stored] != tf.string
    }
    return Checkpoint(prefix, entries, prefix)


def _tensorflow_name(stored: str) -> str:
    """Object-based (TF2) checkpoints wrap and escape names: a.Sb/.ATTRIBUTES/VARIABLE_VALUE is
    a/b."""
    name = stored.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    if name == stored:
        return stored
    return name.replace(".S", "/").replace("..", ".")


def read_h5(path: str) -> Checkpoint:
    """Opens a ``tf_model.h5`` of transformers, under the names and in the layout of its PyTorch
    twin."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"Reading {path} needs the h5py package: pip install h5py.") from error

    def read(place: str, transpose: bool, shape: tuple[int, ...]) -> np.ndarray:
        with h5py.File(path, "r") as file:
            value = file[place][()]
        return value.T if transpose else value.reshape(shape)

    entries = {}
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CheckpointError(
            f"{path} is not a whole HDF5 file ({error}). Download it again."
        ) from error
    with file:
        if "layer_names" not in file.attrs:
            raise CheckpointError(
                f"{path} is not a tf_model.h5 of transformers. Weights that Keras saved are loaded "
                "into a built model with model.load_weights(path)."
            )
        for group in file.attrs["layer_names"]:
            group = group.decode() if isinstance(group, bytes) else group
            for stored in file[group].attrs["weight_names"]:
                stored = stored.decode() if isinstance(stored, bytes) else stored
                place = f"{group}/{stored}"
                shape = file[place].shape
                name, transpose = _torch_name(stored)
                if transpose:
                    shape = shape[::-1]
                elif name.endswith(".bias") and len(shape) == 2 and shape[0] == 1:
                    shape = shape[1:]  # Conv1D's bias is a row there
                entries[name] = Entry(
                    tuple(shape), lambda p=place, t=transpose, s=shape: read(p, t, s)
                )
    return Checkpoint(path, entries, path)


def _torch_name(stored: str) -> tuple[str, bool]:
    """transformers' rule from a TensorFlow weight name to PyTorch's, and whether to transpose."""
    name = stored.removesuffix(":0")
    name = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", name)  # scope "mlm___cls" stands for "cls"
    parts = re.sub("//+", "/", name.replace("_._", "/")).split("/")
    parts = parts[1:] if len(parts) > 1 else parts
    kernel = parts[-1] == "kernel"
    last = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}
    parts[-1] = last.get(parts[-1], parts[-1])
    return ".".join(parts), kernel


def write_safetensors(path: str, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]):
    """Writes a ``*.safetensors`` file: first beside it, then renamed, so that no partial file
    stays."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ImportError(
            f"Writing {path} needs the safetensors package: pip install safetensors."
        ) from error
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    with _beside(path) as directory:
        partial = os.path.join(directory, "partial.safetensors")
        try:
            save_file(arrays, partial, metadata=metadata)
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be written: {error}") from error
        usual = os.path.join(directory, "usual")
        open(usual, "wb").close()
        shutil.copymode(usual, partial)  # safetensors lets nobody but its writer read a file
        os.replace(partial, path)


def write_tensorflow(prefix: str, arrays: Mapping[str, np.ndarray]):
    """Writes a name-based (TF1) checkpoint, which original bert4keras and ``tf.train`` read."""
    tf = _tensorflow(
        f"Writing the TensorFlow checkpoint {prefix}",
        "give a file name that ends with .safetensors",
    )
    names = sorted(arrays)
    with _beside(prefix) as directory:
        partial = os.path.join(directory, "partial")
        with tf.device("CPU"):
            tf.raw_ops.SaveV2(
                prefix=partial,
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[tf.constant(arrays[name]) for name in names],
            )
        if os.path.exists(prefix + ".index"):
            os.remove(prefix + ".index")  # a new index beside old data would read as nonsense
        os.replace(partial + ".data-00000-of-00001", prefix + ".data-00000-of-00001")
        os.replace(partial + ".index", prefix + ".index")


def _beside(path: str) -> tempfile.TemporaryDirectory:
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".writing-", dir=directory)


def _tensorflow(what: str, instead: str):
    try:
        import tensorflow as tf

        tf.raw_ops.SaveV2  # noqa: B018  a broken installation imports as an empty package
    except Exception as error:
        raise ImportError(
            f"{what} needs TensorFlow, which cannot be imported here ({error}). Convert the "
            f"checkpoint once, where TensorFlow is installed, with `{CONVERTER} SRC DST`, or: "
            f"{instead}."
        ) from error
    return tf
