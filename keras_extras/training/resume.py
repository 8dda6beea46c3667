"""Training that is interrupted at any moment and goes on as if it had not been."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_extras.training.batching import LengthBatches
from keras_extras.training.interrupt import Interrupt
from keras_extras.training.state import (
    FORMAT,
    ResumeError,
    as_json,
    assign,
    check_shapes,
    fingerprint,
    metric_variables,
    random_state,
    read,
    set_random_state,
    state_variables,
    to_numpy,
    write,
)

__all__ = ["Resume", "ResumeError"]


class Resume(keras.callbacks.Callback):
    """Saves all of a training's state as it goes on, and goes on from there after a stop.

    The state is the weights, the optimizer (with its averages, accumulated gradients and loss
    scale), epoch and step, the order of the data, the random states of dropout, Python, NumPy
    and torch, the metrics of the epoch so far, and `notes`, in which other callbacks keep what they
    need (JSON): `resume.notes["best"] = 0.7`. Instead of `model.fit` call `resume.fit`:

        resume = Resume("run/state", batches, save_every=200)
        resume.fit(model, epochs=3, callbacks=[...])

    After a kill at any moment the same lines, run again, end with the weights that an undisturbed
    run ends with: bit for bit on one CPU with `tf.config.experimental.enable_op_determinism()`,
    else as near as two undisturbed runs are to each other. Where the batches are padded otherwise
    than before (`buckets`, `multiple`, `full_batches`, as other devices want) their order is the
    same, but dropout of single tokens draws other ones.

    A state is written under another name and then renamed, and the one before is kept. If the
    newest is damaged or belongs to another model or data, this is said and the one before is used.
    If a state cannot be written (a full disk), or a variable of the model is not finite any more
    (a weight, or a moving mean), this is said and the training goes on.

    A callback that sets `model.stop_training` at an epoch's end (EarlyStopping) ends the training:
    `fit` does not go on from there, unless `resume.stopped = False` follows `load`. One that sets
    it in an epoch's midst (a time limit) interrupts it: `fit` goes on with the next step. What
    other callbacks keep in themselves is not in the state and begins anew, also after an
    interrupted epoch: what EarlyStopping and ReduceLROnPlateau have counted, the best weights of
    EarlyStopping, the best value of a new ModelCheckpoint, the file of CSVLogger without
    `append=True`.

    Args:
        folder: where the states are kept; made if need be.
        batches: what the model trains on. With other data than `LengthBatches` use `load` and
            `model.fit(…, callbacks=[resume])`; training then goes on after the last whole epoch.
        save_every: steps between two saved states; 0 saves after each epoch only. Default 0.
        writes: whether this process writes states; of several workers only the chief does (see
            `is_chief`), all read them. Default True.

    Example:

    >>> import tempfile
    >>> batches = LengthBatches([[[1, 2], [3]]], targets=[0.0, 1.0], batch_size=1)
    >>> tokens = keras.Input((None,), dtype="int32")
    >>> vectors = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(4, 2)(tokens))
    >>> model = keras.Model([tokens], keras.layers.Dense(1)(vectors))
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = Resume(folder, batches, save_every=1).fit(model, epochs=2, verbose=0)
    ...     Resume(folder, batches).load(model)  # the epoch to go on with
    2
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        batches: LengthBatches | None = None,
        save_every: int = 0,
        writes: bool = True,
    ):
        super().__init__()
        if save_every < 0:
            raise ValueError(f"save_every must be 0 or more, not {save_every}.")
        if save_every and batches is None:
            raise ValueError("save_every needs `batches`, or a training could not go on there.")
        self.folder, self.batches = Path(folder), batches
        self.save_every, self.writes = save_every, writes
        self.notes: dict = {}
        self.epoch, self.step, self.skipped = 0, 0, 0
        self.stopped = False  # by a callback at an epoch's end
        self.last: Path | None = None
        self._loaded = self._interrupted = False
        self._steps = 0  # of the epoch; 0 if unknown
        self._metrics: list | None = None  # to be put into the model when the epoch begins
        self._random: list | None = None  # as well, or in its middle
        self._values: list = []  # of the variables when a state was last saved
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)

    def fit(
        self,
        model: keras.Model,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options,
    ) -> dict[str, list]:
        """`model.fit` on the batches, from where the saved state says.

        Callbacks are called before this one, so what they note at an epoch's end is saved with
        it. An epoch that was interrupted is a `fit` of its own, so `on_train_begin` comes twice.
        If nothing is left to train, the model ends with the weights that `fit` would end with:
        averaged ones where the optimizer averages (`use_ema=True`).

        Args:
            model: compiled model.
            epochs: to train in all, with those that are done.
            callbacks: callbacks beside this one.
            options: other arguments of `model.fit`.

        Returns:
            Per metric its values in the epochs that were trained now, as `History.history`.

        Raises:
            ResumeError: there are states, but none that can be used.
        """
        if self.batches is None:
            raise ValueError("Resume.fit needs the batches; give them to Resume(…, batches).")
        options = {"shuffle": False, **options}
        if not self._loaded:
            self.load(model)
        history: dict[str, list] = {}
        model.stop_training = False
        if self.epoch >= epochs or self.stopped:
            if self.stopped:
                message = (
                    f"A callback stopped this training after epoch {self.epoch}; to go on, set "
                )
                message += "resume.stopped = False after resume.load(model)."
                print(message, file=sys.stderr, flush=True)
            if self.epoch and isinstance(model.optimizer, keras.optimizers.Optimizer):
                model.optimizer.finalize_variable_values(model.trainable_weights)
            return history
        while self.epoch < epochs and not model.stop_training:
            end = self.epoch + 1 if self.step else epochs
            self._show_batches()
            with Interrupt() as interrupt:
                done = model.fit(
                    self.batches,
                    initial_epoch=self.epoch,
                    epochs=end,
                    callbacks=[*callbacks, self, interrupt],
                    **options,
                )
            for name, values in done.history.items():
                history.setdefault(name, []).extend(values)
            if self.epoch < epochs and not model.stop_training:
                # averaged weights have replaced the others, as at the end of every `fit`
                assign(state_variables(model), self._values)
        return history

    def _show_batches(self):
        """Lets Keras see as many batches as there are to do in the first epoch.

        A plain `keras.Model` on TensorFlow takes the shapes of all batches from the first two, so
        they must not be those that happen to come next, but the longest and the shortest, with
        which every epoch begins.
        """
        self.batches.set_epoch(self.epoch)
        rest = len(self.batches) - self.step
        if rest > 1:
            self.batches.batches = self.batches.batches[:rest]
        else:
            self.batches.set_epoch(self.epoch, skip=self.step)

    def on_train_begin(self, logs=None):
        unseen = self.last is None and not self._loaded
        if self.writes and unseen and any(self.folder.glob("state-*.npz")):
            raise ValueError(
                f"{self.folder} holds states of an earlier training, which the first state of this "
                "one would replace. Call load(model) before model.fit, or take another folder."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.skipped = epoch, 0 if self.batches is None else self.step
        self._steps = self.params.get("steps") or 0
        if self.batches is not None:
            self.batches.set_epoch(epoch, skip=self.skipped)
            self._steps = self.skipped + len(self.batches)
        self.params["skipped"] = self.skipped  # for other callbacks (NonFiniteLoss)
        if self._metrics is not None:
            assign(metric_variables(self.model), self._metrics)
            self._metrics = None
        if not self.step:
            self._set_random_state()

    def on_train_batch_begin(self, batch, logs=None):
        # not before: torch draws a number for each iterator, which a saved state is past
        self._set_random_state()

    def _set_random_state(self):
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def on_train_batch_end(self, batch, logs=None):
        before, self.step = self.step, self.skipped + batch + 1
        due = self.save_every and self.step // self.save_every > before // self.save_every
        self._interrupted = self.model.stop_training
        # the state after the last step is saved with what the epoch's end adds to it
        if self.batches is not None and (due or self._interrupted) and self.step < self._steps:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training and self.step < self._steps:
            return  # the epoch is not done, and the state of its last step is saved
        self.epoch, self.step = epoch + 1, 0
        self.stopped = bool(self.model.stop_training and not self._interrupted)
        self.save()

    def save(self) -> Path | None:
        """Writes the state of now; returns its file, or None if it could not be written."""
        model = self.model
        self._values = variables = [to_numpy(v) for v in state_variables(model)]
        metrics = [to_numpy(v) for v in metric_variables(model)] if self.step else []
        if not self.writes:  # reading them may need all workers; writing does not
            return None
        kept = f"the state in {self.last} remains" if self.last else "there is none yet"
        broken = [
            variable.path
            for variable, array in zip(model.variables, variables, strict=False)
            if not np.isfinite(array).all()
        ]
        if broken:
            message = f"WARNING: no state is saved of weights that are not finite ({broken[0]}"
            message += f" and {len(broken) - 1} more" * (len(broken) > 1)
            print(f"{message}); {kept}.", file=sys.stderr, flush=True)
            return None
        about = {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            "data": fingerprint(self.batches),
            "variables": len(variables),
            "stopped": self.stopped,
            "random": random_state(),
            "notes": self.notes,
        }
        arrays = {str(i): array for i, array in enumerate([*variables, *metrics])}
        path = self.folder / f"state-{self.epoch:05d}-{self.step:08d}.npz"
        temporary = self.folder / "state.tmp"
        try:
            write(temporary, {"about": np.array(json.dumps(about, default=as_json)), **arrays})
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            message = f"WARNING: cannot save the training's state in {path} ({error}); {kept}."
            print(message, file=sys.stderr, flush=True)
            return None
        for old in self.folder.glob("state-*.npz"):
            if old not in (path, self.last):
                old.unlink()
        self.last = path
        return path

    def load(self, model: keras.Model) -> int:
        """Puts the newest usable state into the model.

        Args:
            model: compiled model of the kind that was trained; its optimizer is built if need be.

        Returns:
            The epoch to go on with, for `initial_epoch`; 0 if nothing was saved.

        Raises:
            ResumeError: there are states, but none that can be used.
        """
        self._loaded, refused = True, []
        for path in sorted(self.folder.glob("state-*.npz"), reverse=True):
            try:
                self._load(path, model)
            except ResumeError as error:
                refused.append(f"{path}: {error}")
                continue
            for reason in refused:
                print(f"WARNING: not used: {reason}", file=sys.stderr)
            if refused:
                print(f"WARNING: going on from {path}", file=sys.stderr, flush=True)
            self.last = path
            return self.epoch
        if refused:
            raise ResumeError(
                "No saved state can be used; start anew in another folder. " + " ".join(refused)
            )
        return 0

    def _load(self, path: Path, model: keras.Model):
        """Puts the state of one file into the model, or changes nothing."""
        about, arrays = read(path)
        data = fingerprint(self.batches)
        if about["data"] != data:
            raise ResumeError(
                f"it belongs to a training on other batches ({about['data']}, not {data})."
            )
        count, step = about["variables"], about["step"]
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = state_variables(model)
        check_shapes(variables, arrays[:count])
        if step and len(metric_variables(model)) < len(arrays) - count:
            model.test_on_batch(*self.batches[0])  # makes the metrics' variables
            model.reset_metrics()
        metrics = metric_variables(model) if step else []
        check_shapes(metrics, arrays[count:])
        assign(variables, arrays[:count])
        self._random = about["random"]
        self._metrics = arrays[count:] if step else None
        self.epoch, self.step, self.notes = about["epoch"], step, about["notes"]
        self.stopped = about.get("stopped", False)  # states of old do not say
