"""A `keras.Model` that trains as on one device on any number of them."""

import keras

from keras_extras.training.batching import LengthBatches
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
    do), and the optimizer's `apply` sums gradients first.

    What layers note, such as batch normalization's moving statistics, is the same on all replicas
    after a step: each replica's change counts as often as it has rows. Batch normalization itself
    uses the rows of each replica, as in Keras, or with `synchronized=True` those of all (and of a
    replica without rows a row of zeros). What layers add with `add_loss` counts as a mean over the
    replica's rows (exact for regularizers of weights and for means over rows). Random numbers, as
    of dropout, are other ones on each replica.

    On JAX, Keras' own steps do all that, on several devices by `keras.distribution`. There a batch
    whose rows cannot be divided evenly among the devices is refused (IndivisibleError), also the
    last one: train on a number of rows that can be, or on `LengthBatches(…, full_batches=True)`.

    Classes derived from this one may be of both kinds: `Base(inputs, outputs)` is an instance of
    a class of the same name that is derived from `Base` and is functional.

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
        if not is_functional(args, kwargs):
            super().__init__(*args, **kwargs)
            return
        if not isinstance(self, Functional):
            object.__setattr__(self, "__class__", functional_class(type(self)))
        Functional.__init__(self, *args, **kwargs)

    def compile(self, *args, on_nan: str = "stop", **kwargs):
        """As `keras.Model.compile`, and what to do with a loss that is no finite number.

        Args:
            on_nan: `"stop"` ends `fit` with an error that names the step; `"skip"` leaves out steps
                whose loss or gradients are not finite (TensorFlow; of the weights, the metrics and
                what layers note, as batch normalization does; a `train_step` of one's own has to
                call this one); `"shrink"` hands them to an optimizer that deals with them, as
                `keras_extras.optimizers.Tiger` does.

        Raises:
            ValueError: if the optimizer or the backend does not offer `on_nan`, or `jit_compile` is
                True with several replicas.
        """
        super().compile(*args, **kwargs)
        check_on_nan(on_nan, self.optimizer)
        self.on_nan = on_nan

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and self.on_nan != "stop":  # a clone may be a keras.Model, which only stops
            config = {**config, "on_nan": self.on_nan}
        return config

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
        shuffles = kwargs.get("shuffle", args[2] if len(args) > 2 else True)
        known = isinstance(x, LengthBatches) and not shuffles
        watch = NonFiniteLoss(x if known else None)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            if not any(isinstance(callback, NonFiniteLoss) for callback in callbacks.callbacks):
                watch.set_model(self)
                watch.set_params(callbacks.params)
                callbacks.callbacks.append(watch)
        else:  # first, so that no other one saves weights that are NaN
            callbacks = [watch, *keras.tree.flatten(callbacks or [])]
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


def functional_class(cls: type) -> type:
    """The class of those instances of a user's class that are functional models.

    It is derived from that class and from Functional, and has its name and its place among the
    registered classes: a file says that name, and the class of that name loads it. (Keras derives
    the class itself from Functional, with all its bases, and so breaks each subclass of them that
    is not functional.)
    """
    if "_functional_class" not in vars(cls):
        names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        derived = type(cls)(cls.__name__, (cls, FunctionalModel), names)
        package, _, name = keras.saving.get_registered_name(cls).rpartition(">")
        if package:
            for each in (derived, cls):  # the last one is what the name stands for
                keras.saving.register_keras_serializable(package, name)(each)
        cls._functional_class = derived
    return vars(cls)["_functional_class"]
