"""What to do when the loss becomes NaN or infinite."""

import math
import warnings

import keras

from keras_extras.training.batching import LengthBatches

CHOICES = ("stop", "skip", "shrink")
SHOWN = 32  # examples in a message


def check_on_nan(on_nan: str, optimizer) -> None:
    """Refuses a way that does not exist, or that this optimizer or backend does not offer."""
    if on_nan not in CHOICES:
        raise ValueError(f"`on_nan` must be one of {', '.join(CHOICES)}, but got {on_nan!r}.")
    if on_nan != "stop" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"on_nan={on_nan!r} needs the TensorFlow backend, but Keras runs on "
            f"{keras.backend.backend()}; use 'stop'."
        )
    if on_nan == "shrink" and not hasattr(optimizer, "shrink_ratio"):
        raise ValueError(
            "on_nan='shrink' needs an optimizer that shrinks weights whose gradient is not finite, "
            f"such as keras_extras.optimizers.Tiger, but got {type(optimizer).__name__}; "
            "use 'stop' or 'skip'."
        )


class NonFiniteLoss(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a finite number, or reports the steps left out.

    `keras_extras.Model.fit` uses it by itself. It looks at the logs, which Keras reads anyway: the
    running mean of the loss stays NaN from the first NaN on until the epoch ends.

    Args:
        batches: what `fit` takes one after the other, to say which examples are concerned. Default
            None: they are not known.

    Raises:
        FloatingPointError: in `fit`; says at which step of which epoch.
    """

    async_safe = True  # Keras need not wait for the device on its account

    def __init__(self, batches: LengthBatches | None = None):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.last = epoch, -1
        self.model.take_non_finite_steps()  # left by a `fit` that an error ended

    def on_train_batch_end(self, batch, logs=None):
        steps = range(self.last + 1, batch + 1)  # several with steps_per_execution
        self.last = batch
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise FloatingPointError(self._message(loss, steps))

    def _message(self, loss: float, steps: range) -> str:
        """What is known of the steps of this `fit` of which one gave that loss."""
        first, last = steps[0] + self._skipped(), steps[-1] + self._skipped()
        step, batch = f"step {last + 1}", f"batch {last}"
        if first < last:
            step, batch = f"one of steps {first + 1}-{last + 1}", f"batch {first} to {last}"
        rows = "" if self.batches is None else self._examples(steps)
        advice = "."
        if self.model.on_nan == "stop" and keras.backend.backend() == "tensorflow":
            advice = "; or on_nan='skip', to leave such steps out."
        return (
            f"The loss became {loss} in {step} of epoch {self.epoch + 1} ({batch} of the epoch, "
            f"counted from 0{rows}; learning rate {rate_of(self.model.optimizer)}, precision "
            f"{self.model.dtype_policy.name}). The weights may hold NaN now: go back to a saved "
            "state. What helps: a smaller learning rate or a warm-up, `global_clipnorm`, "
            "mixed_bfloat16 instead of mixed_float16, a look at that batch for NaN and for "
            f"logarithms or divisions of 0{advice}"
        )

    def _examples(self, steps: range) -> str:
        rows = [int(row) for step in steps for row in self.batches.batches[step]]
        shown = ", ".join(map(str, rows[:SHOWN]))
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        return f", with the examples {shown}{more}"

    def _skipped(self) -> int:
        """Steps of the epoch that an earlier `fit` did, as `Resume` says."""
        return (self.params or {}).get("skipped", 0)

    def on_epoch_end(self, epoch, logs=None):
        left_out = self.model.take_non_finite_steps()
        whole = not self._skipped() and not self.model.stop_training
        if whole and left_out and left_out > self.last:
            raise FloatingPointError(
                f"Every step of epoch {epoch + 1} had a loss or a gradient that is not finite; the "
                "weights cannot recover by leaving steps out. Go back to a saved state and train "
                "with a smaller learning rate."
            )
        if left_out:
            which = "the last " if self._skipped() else ""
            what = "left out" if self.model.on_nan == "skip" else "used to shrink the weights"
            warnings.warn(
                f"{left_out} of {which}{self.last + 1} steps of epoch {epoch + 1} had a loss or a "
                f"gradient that is not finite and were {what}.",
                stacklevel=2,
            )


def rate_of(optimizer) -> str:
    """The current learning rate, in words where the optimizer has not one."""
    try:
        return f"{float(keras.ops.convert_to_numpy(optimizer.learning_rate)):.3g}"
    except (AttributeError, TypeError, ValueError):
        return "unknown"
