"""A `keras.Model` that trains as on one device on any number of them."""

import keras

from keras_extras.training.keras_seams import Functional
from keras_extras.training.non_finite import NonFiniteLoss, check_on_nan

if keras.backend.backend() == "tensorflow":
    from keras_extras.training.tensorflow_trainer import TensorFlowTrainer as Trainer
else:

    class Trainer:
        """On JAX and torch, Keras' own trainer (and `keras.distribution`) does everything."""

        def take_non_finite_steps(self) -> int:
            return 0


__all__ = ["Model"]


@keras.saving.register_keras_serializable(package="keras_extras")
class Model(Trainer, keras.Model):
    """`keras.Model`, whose training is right under tf.distribute.

    It is used like `keras.Model`: functional (`Model(inputs, outputs)`) or as a base class, with
    the same `compile`, `fit`, `evaluate`, `predict`, callbacks and files. On TensorFlow its steps
    differ from Keras' where several replicas share a batch (`tf.distribute`): gradients are summed
    over the replicas first and then unscaled, tested, clipped, accumulated and applied; means of
    losses and metrics are those of the whole batch, however unevenly it is divided. So N replicas
    train as one device does on the same batches, also with `gradient_accumulation_steps`,
    `ema_overwrite_frequency`, `global_clipnorm`, mixed_float16, `steps_per_execution`, and several
    workers, where Keras 3.15 crashes or is wrong. Build and compile it in `strategy.scope()`.

    Two things are different on one device, too: where a batch holds a row of an embedding several
    times, the optimizer sees the sum of its gradients, as in tf.keras (Keras 3's Adam squares
    each); and a metric function that says one number for a batch counts as often as the batch has
    rows (in Keras once, also for a short last batch).

    With a `train_step` or `compute_loss` of one's own under several replicas, `compute_loss`
    returns the replica's part of the loss (Keras' losses and `keras_extras.training.global_mean`
    do), and the optimizer's `apply` sums gradients first. Two things stay as in Keras: batch
    normalization uses the statistics of each replica, and what layers add with `add_loss` counts as
    a mean over the replica's rows (exact for regularizers of weights and for means over rows).

    Example:

    >>> import numpy as np
    >>> inputs = keras.Input((3,))
    >>> model = Model(inputs, keras.layers.Dense(1)(inputs))
    >>> model.compile("sgd", "mse", on_nan="skip")
    >>> history = model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
    """

    on_nan = "stop"

    def __new__(cls, *args, **kwargs):
        if cls is Model and is_functional(args, kwargs):
            cls = FunctionalModel
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        if is_functional(args, kwargs) and not isinstance(self, Functional):
            make_functional(type(self))
        if isinstance(self, Functional) and is_functional(args, kwargs):
            Functional.__init__(self, *args, **kwargs)
        else:
            super().__init__(*args, **kwargs)

    def compile(self, *args, on_nan: str = "stop", **kwargs):
        """As `keras.Model.compile`, and what to do with a loss that is no finite number.

        Args:
            on_nan: `"stop"` ends `fit` with an error that names the step; `"skip"` leaves out steps
                whose loss or gradients are not finite (TensorFlow; of the weights and metrics, not
                of what layers note, as batch normalization does); `"shrink"` hands them to an
                optimizer that deals with them, as `keras_extras.optimizers.Tiger` does.

        Raises:
            ValueError: if the optimizer or the backend does not offer `on_nan`, or `jit_compile` is
                True with several replicas.
        """
        super().compile(*args, **kwargs)
        check_on_nan(on_nan, self.optimizer)
        self.on_nan = on_nan

    def get_compile_config(self):
        config = super().get_compile_config()
        return {**config, "on_nan": self.on_nan} if config else config

    def compile_from_config(self, config):
        if type(self).compile is not Model.compile:
            super().compile_from_config(config)  # which warns
            return
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        **kwargs,
    ):
        """As `keras.Model.fit`.

        Raises:
            FloatingPointError: when the loss is no longer finite (see `on_nan` of `compile`).
        """
        if isinstance(callbacks, keras.callbacks.CallbackList):
            if not any(isinstance(callback, NonFiniteLoss) for callback in callbacks.callbacks):
                callbacks.append(NonFiniteLoss())
        else:  # first, so that no other one saves weights that are NaN
            callbacks = [NonFiniteLoss(), *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_extras")
class FunctionalModel(Model, Functional):
    """What `Model(inputs, outputs)` makes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def is_functional(args: tuple, kwargs: dict) -> bool:
    """Whether these are the arguments of a functional model: inputs and outputs."""
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def make_functional(cls: type) -> None:
    """Derives a class of the user's, whose instance turns out to be functional, from Functional.

    Keras does the same with every class up to `keras.Model`, and so would change `Model` and break
    its subclasses that are not functional.
    """
    if cls is Model or not issubclass(cls, Model) or issubclass(cls, FunctionalModel):
        return
    for base in cls.__bases__:
        make_functional(base)
    cls.__bases__ = tuple(FunctionalModel if base is Model else base for base in cls.__bases__)
