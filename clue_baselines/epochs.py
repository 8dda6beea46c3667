"""What happens after every epoch: score on dev, keep history and best weights."""

import time
from collections.abc import Callable
from pathlib import Path

import keras

from clue_baselines.recipes import averaged_weights
from clue_baselines.results import write_history
from keras_extras.training import Resume


class AfterEpoch(keras.callbacks.Callback):
    """Scores the model, then saves history and best weights.

    Args:
        folder: the run's folder.
        weights: the model under training without its optimizer (shares its layers).
        score: returns the dev score; higher is better.
        metric: name of the score.
        resume: saves the state of training, this history with it.
    """

    def __init__(
        self,
        folder: Path,
        weights: keras.Model,
        score: Callable[[], float],
        metric: str,
        resume: Resume,
    ):
        super().__init__()
        self.folder, self.weights, self.score = folder, weights, score
        self.metric, self.resume = metric, resume

    @property
    def history(self) -> list[dict]:
        """One row per finished epoch."""
        return self.resume.notes.setdefault("history", [])

    @property
    def best(self) -> dict:
        """The epoch with the highest score (the first of equals)."""
        return max(self.history, key=lambda row: row[f"dev_{self.metric}"])

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.started
        with averaged_weights(self.model.optimizer):
            self.score_and_keep_best(epoch, logs, seconds)
        write_history(self.folder / "history.csv", self.history)

    def score_and_keep_best(self, epoch: int, logs: dict, seconds: float):
        """Adds the epoch to the history, and saves the weights if it is the best."""
        score = float(self.score())
        logs[f"dev_{self.metric}"] = score  # for TensorBoard
        row = {"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()}
        batches = self.resume.batches
        speed = (len(batches.lengths) - self.resume.skipped * batches.batch_size) / seconds
        row |= {"seconds": round(seconds, 2), "examples_per_second": round(speed, 2)}
        self.history.append(row)
        improved = self.best is row
        print(
            f"Epoch {epoch + 1}: dev {self.metric} {100 * score:.2f} %"
            f"{' (best so far)' if improved else ''}, {speed:.0f} examples/s"
        )
        if improved:
            self.keep_weights()

    def score_untrained(self):
        """The history and weights of a run without training."""
        score = float(self.score())
        self.history.append({"epoch": 0, "loss": float("nan"), f"dev_{self.metric}": score})
        print(f"As it is: dev {self.metric} {100 * score:.2f} %")
        self.keep_weights()
        write_history(self.folder / "history.csv", self.history)

    def keep_weights(self):
        temporary = self.folder / "best.tmp.weights.h5"
        self.weights.save_weights(temporary)
        temporary.replace(self.folder / "best.weights.h5")
