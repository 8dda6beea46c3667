"""What happens after every epoch: score on dev, keep the best weights, make resuming possible."""

import json
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from clue_baselines.data import DataError
from clue_baselines.recipes import averaged_weights
from clue_baselines.results import write_history
from keras_extras.training import LengthBatches


class AfterEpoch(keras.callbacks.Callback):
    """Scores the model, then saves history, best weights and the state of training.

    Args:
        folder: the run's folder.
        weights: the model under training without its optimizer (shares its layers).
        score: returns the dev score; higher is better.
        metric: name of the score.
        batches: what the model trains on.
    """

    def __init__(
        self,
        folder: Path,
        weights: keras.Model,
        score: Callable[[], float],
        metric: str,
        batches: LengthBatches,
    ):
        super().__init__()
        self.folder, self.weights, self.score = folder, weights, score
        self.metric, self.batches = metric, batches
        self.history: list[dict] = []

    @property
    def best(self) -> dict:
        """The epoch with the highest score (the first of equals)."""
        return max(self.history, key=lambda row: row[f"dev_{self.metric}"])

    def on_train_begin(self, logs=None):
        computed, real = self.batches.tokens()
        print(f"Tokens per epoch: {real}, with padding {computed} ({computed / real:.2f} times)")

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.started
        if not math.isfinite(logs["loss"]):
            raise DataError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}; try a lower "
                "--learning-rate, or --precision float32."
            )
        with averaged_weights(self.model.optimizer):
            self.score_and_keep_best(epoch, logs, seconds)
        write_history(self.folder / "history.csv", self.history)
        save_state(self.folder / "resume.npz", self.model, self.history)

    def score_and_keep_best(self, epoch: int, logs: dict, seconds: float):
        """Adds the epoch to the history, and saves the weights if it is the best."""
        score = float(self.score())
        logs[f"dev_{self.metric}"] = score  # for TensorBoard
        row = {"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()}
        speed = len(self.batches.lengths) / seconds
        row |= {"seconds": round(seconds, 2), "examples_per_second": round(speed, 2)}
        self.history.append(row)
        improved = self.best is row
        print(
            f"Epoch {epoch + 1}: dev {self.metric} {100 * score:.2f} %"
            f"{' (best so far)' if improved else ''}, {speed:.0f} examples/s"
        )
        if improved:
            temporary = self.folder / "best.tmp.weights.h5"
            self.weights.save_weights(temporary)
            temporary.replace(self.folder / "best.weights.h5")

    def resume(self, model: keras.Model) -> int:
        """Puts the state after the last finished epoch into the model; returns its number."""
        path = self.folder / "resume.npz"
        if path.is_file():
            self.history = load_state(path, model)
        return len(self.history)


def state_variables(model: keras.Model) -> list:
    """Weights, random number states of dropout, and the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def save_state(path: Path, model: keras.Model, history: list[dict]):
    """Writes all of training's state into one file, in one go."""
    arrays = {}
    for i, variable in enumerate(state_variables(model)):
        value = keras.ops.convert_to_numpy(variable)
        # NumPy's file format knows no bfloat16; float32 holds it exactly
        arrays[str(i)] = value.astype("float32") if value.dtype.name == "bfloat16" else value
    temporary = path.with_name("resume.tmp.npz")
    np.savez(temporary, history=json.dumps(history), **arrays)
    temporary.replace(path)


def load_state(path: Path, model: keras.Model) -> list[dict]:
    """Reads what `save_state` wrote into a model of the same kind; returns the history.

    Raises:
        DataError: the file belongs to another model or optimizer, or is damaged.
    """
    variables = state_variables(model)
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            values = [arrays[str(i)] for i in range(len(arrays.files) - 1)]
            history = json.loads(str(arrays["history"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); start a new run.") from None
    if [value.shape for value in values] != [tuple(v.shape) for v in variables]:
        raise DataError(f"{path} was written by another model or optimizer; start a new run.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return history
