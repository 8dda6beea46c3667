"""What belongs to the state of a training, and the file that holds it."""

import hashlib
import json
import os
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_extras.training.batching import LengthBatches

FORMAT = "keras_extras training state 1"
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


class ResumeError(Exception):
    """A saved state that cannot be used; the message says which, why, and what to do."""


def state_variables(model: keras.Model) -> list:
    """Weights, random number states of dropout, and the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def metric_variables(model: keras.Model) -> list:
    """What the metrics have counted so far in this epoch, the loss among them."""
    return [variable for metric in model.metrics for variable in metric.variables]


def to_numpy(variable) -> np.ndarray:
    """Value of a variable; NumPy's file format knows no bfloat16, but float32 holds it exactly."""
    value = keras.ops.convert_to_numpy(variable)
    return value.astype("float32") if value.dtype.name == "bfloat16" else value


def assign(variables: Sequence, arrays: Sequence[np.ndarray]):
    """Gives every variable its value."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def check_shapes(variables: Sequence, arrays: Sequence[np.ndarray]):
    """Complains if the arrays are not of these variables."""
    if len(variables) != len(arrays):
        raise ResumeError(
            f"it belongs to another model or optimizer ({len(arrays)} variables, not "
            f"{len(variables)})."
        )
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise ResumeError(
                f"it belongs to another model or optimizer ({variable.path} has the shape "
                f"{tuple(variable.shape)} here and {array.shape} there)."
            )


def write(path: Path, arrays: dict[str, np.ndarray]):
    """Writes arrays as `np.savez` does, down to the disk.

    `np.savez` leaves an archive behind that tries to write again, when there is no room.
    """
    with path.open("wb") as file:
        archive = zipfile.ZipFile(file, "w")
        try:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array))
            archive.close()
        except BaseException:
            archive.fp = None  # so that it is not closed a second time
            raise
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[dict, list[np.ndarray]]:
    """A file's description and arrays; the archive's checksums are tested by reading it all."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            about = json.loads(str(stored["about"]))
            arrays = [stored[str(i)] for i in range(len(stored.files) - 1)]
        is_state = about["format"] == FORMAT
    except DAMAGE as error:
        raise ResumeError(f"it is damaged ({error}).") from None
    if not is_state:
        raise ResumeError(f"it is no {FORMAT}, but {about['format']!r}.")
    return about, arrays


def as_json(value) -> float | list:
    """What JSON can hold of a number or array of NumPy."""
    if not hasattr(value, "tolist"):
        raise TypeError(
            f"A state's notes hold {value!r}, which JSON cannot; keep numbers, texts, lists and "
            "dicts of them in Resume.notes."
        )
    return value.tolist()


def fingerprint(batches: LengthBatches | None) -> str:
    """What the order of the data depends on, in short."""
    if batches is None:
        return "unknown"
    lengths = hashlib.sha256(np.asarray(batches.lengths, "int64").tobytes()).hexdigest()[:16]
    settings = f"size {batches.batch_size}, seed {batches.seed}, window {batches.window}"
    kind = "shuffled" if batches.shuffle else "sorted"
    return f"{len(batches.lengths)} examples, {settings}, {kind}, lengths {lengths}"


def random_state() -> list:
    """States of Python's, NumPy's and torch's global random numbers, as JSON can hold them."""
    kind, keys, *rest = np.random.get_state()
    state = [random.getstate(), [kind, keys.tolist(), *rest]]
    if keras.backend.backend() == "torch":  # whose dropout draws from it
        import torch

        states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        state.append([each.tolist() for each in states])
    return state


def set_random_state(state: list):
    """Takes what `random_state` gave."""
    (version, words, gauss), numpy_state, *torch_states = state
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(numpy_state))
    if torch_states and keras.backend.backend() == "torch":
        import torch

        cpu, *gpus = (torch.tensor(each, dtype=torch.uint8) for each in torch_states[0])
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)
