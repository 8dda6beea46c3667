"""Patches for compile, fit, predict and callbacks: `legacy` lists and applies them."""

from __future__ import annotations

import functools
import os
import re
import types

import keras
import numpy as np

from keras_extras.bert4keras import keras_backend as K
from keras_extras.bert4keras.legacy import batches


@keras.saving.register_keras_serializable(package="keras_extras")
class FunctionLoss(keras.losses.Loss):
    """A loss function of a script: its targets keep their shape, its output its history.

    Keras 3 would squeeze the targets; `search_layer` needs to find the model behind `y_pred`.
    """

    def __init__(self, function, history=None):
        name = getattr(function, "__name__", "loss")
        super().__init__(name=re.sub(r"\W", "_", name).strip("_"))  # "<lambda>"
        self.function = function
        self.history = history

    def call(self, y_true, y_pred):
        if self.history is not None and not hasattr(y_pred, "_keras_history"):
            y_pred._keras_history = self.history
        return self.function(y_true, y_pred)

    def get_config(self):
        function = self.function
        if isinstance(function, types.FunctionType):
            function = keras.saving.serialize_keras_object(function)
        return {"function": function if isinstance(function, dict) else self.name}

    @classmethod
    def from_config(cls, config):
        function = config["function"]
        if isinstance(function, str):
            raise ValueError(
                f"The model was compiled with the loss {function}, a method of one of its layers: "
                "load it with compile=False and compile it again."
            )
        return cls(keras.saving.deserialize_keras_object(function))


def accept_old_losses():
    """`compile` without a loss, with one loss or one list of metrics for all outputs, with
    functions as losses, and with arguments that Keras 3 dropped.

    Why: Keras 3 wants a loss for each output, and squeezes targets before a loss sees them.
    """
    compile_ = keras.Model.compile
    owner = next(cls for cls in keras.Model.__mro__ if "compile" in vars(cls))

    def wrapped(loss, tensor):
        if callable(loss) and not isinstance(loss, (keras.losses.Loss, type)):
            if not getattr(loss, "__module__", "").startswith("keras."):
                return FunctionLoss(loss, getattr(tensor, "_keras_history", None))
        return loss

    @functools.wraps(compile_)
    def compile(self, optimizer="rmsprop", loss=None, metrics=None, **kwargs):
        for name in ("sample_weight_mode", "target_tensors", "distribute"):
            kwargs.pop(name, None)
        outputs = getattr(self, "outputs", None) or [None]
        if isinstance(loss, (list, tuple)):
            loss = [wrapped(one, x) for one, x in zip(loss, outputs, strict=True)]
            loss = loss[0] if len(loss) == 1 else loss
        elif isinstance(loss, dict):
            loss = {name: wrapped(one, None) for name, one in loss.items()}
        elif loss is not None:
            loss = [wrapped(loss, x) for x in outputs]
            loss = loss[0] if len(loss) == 1 else loss
        if isinstance(metrics, (list, tuple)) and len(outputs) > 1:
            if not any(isinstance(m, (list, tuple)) for m in metrics):
                metrics = [list(metrics) for _ in outputs]
        if isinstance(optimizer, str) and optimizer in keras.utils.get_custom_objects():
            optimizer = keras.utils.get_custom_objects()[optimizer]()
        self.__dict__.pop("_legacy_total_loss", None)
        compile_(self, optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        names = getattr(self, "output_names", None) or [""]
        self.__dict__["_legacy_names"] = names_to_be(loss, metrics, names)

    owner.compile = compile  # on the base class: Keras asks whether a subclass overrides it


def names_to_be(loss, metrics, outputs):
    """`metrics_names` before the first batch, with which Keras 3 makes the metrics.

    Args:
        loss, metrics: as `compile` takes them, for each of several outputs.
        outputs: the names of the outputs.
    """
    from keras.src.utils.naming import get_object_name

    def named(metrics):
        flat = keras.tree.flatten(metrics or [])
        return [m if isinstance(m, str) else get_object_name(m) for m in flat]

    def by_output(given):
        if not isinstance(given, dict):
            given = dict(zip(outputs, given or [], strict=False))
        return [(name, given[name]) for name in outputs if given.get(name) is not None]

    if len(outputs) == 1:
        return ["loss", *named(metrics)]
    losses = [f"{output}_loss" for output, _ in by_output(loss)]
    metrics = [f"{output}_{name}" for output, own in by_output(metrics) for name in named(own)]
    return ["loss", *(losses if len(losses) > 1 else []), *metrics]


def accept_old_fit():
    """`fit` and `evaluate` on generators of lists and on lists of numbers; `fit_generator`,
    `evaluate_generator`; `metrics_names` name what `evaluate` returns, in Keras 2's order;
    `workers=` and the like are accepted and mean nothing.

    Why: Keras 3 wants tuples without None, takes the sequence lengths of a generator's first two
    batches for those of all, and sorts the metrics of several outputs by their names.
    """
    fit, evaluate = keras.Model.fit, keras.Model.evaluate
    train_on_batch, test_on_batch = keras.Model.train_on_batch, keras.Model.test_on_batch
    dropped = ("workers", "use_multiprocessing", "max_queue_size", "pickle_safe")

    def prepared(model, x, y, sample_weight, steps, shuffle=True):
        """(x, y, sample_weight, steps) as Keras 3 takes them."""
        if batches.is_generator(x):
            if batches.is_sequence(x):
                steps = steps or len(x)
                x = batches.endless(x, shuffle)
            return batches.dataset(model, x), None, None, steps
        if hasattr(x, "element_spec") and isinstance(x.element_spec, tuple):
            x = batches.with_targets_in_order(model, x)
        if isinstance(x, (list, tuple, dict, np.ndarray)):
            x, y, sample_weight = (
                *batches.as_batch(model, (x, y, sample_weight)),
                None,
                None,
            )[:3]
        return x, y, sample_weight, steps

    @functools.wraps(fit)
    def new_fit(self, x=None, y=None, batch_size=None, epochs=1, verbose=1, *args, **kwargs):
        names = ("callbacks", "validation_split", "validation_data", "shuffle", "class_weight")
        kwargs.update(zip(names, args, strict=False))
        for name in dropped:
            kwargs.pop(name, None)
        epochs = kwargs.pop("nb_epoch", epochs)
        if getattr(self, "inputs", None):
            x, y, kwargs["sample_weight"], kwargs["steps_per_epoch"] = prepared(
                self, x, y, kwargs.get("sample_weight"), kwargs.get("steps_per_epoch")
            )
            validation = kwargs.get("validation_data")
            if batches.is_generator(validation) or hasattr(validation, "element_spec"):
                validation, _, _, steps = prepared(
                    self, validation, None, None, kwargs.get("validation_steps"), False
                )
                kwargs.update(validation_data=validation, validation_steps=steps)
            elif isinstance(validation, (list, tuple)):
                kwargs["validation_data"] = batches.as_batch(self, validation)
            if y is None and not isinstance(x, (tuple, dict, np.ndarray)):
                kwargs["shuffle"] = False  # a dataset has its order
        return fit(self, x, y, batch_size, epochs, verbose, **kwargs)

    @functools.wraps(evaluate)
    def new_evaluate(self, x=None, y=None, batch_size=None, verbose=1, *args, **kwargs):
        kwargs.update(zip(("sample_weight", "steps", "callbacks"), args, strict=False))
        for name in dropped:
            kwargs.pop(name, None)
        x, y, kwargs["sample_weight"], kwargs["steps"] = prepared(
            self, x, y, kwargs.get("sample_weight"), kwargs.get("steps"), False
        )
        return evaluate(self, x, y, batch_size, verbose, **kwargs)

    def fit_generator(self, generator, steps_per_epoch=None, epochs=1, verbose=1, *args, **kwargs):
        names = (
            "callbacks",
            "validation_data",
            "validation_steps",
            "validation_freq",
            "class_weight",
        )
        kwargs.update(zip(names, args, strict=False))
        kwargs.update(steps_per_epoch=steps_per_epoch, epochs=epochs, verbose=verbose)
        return self.fit(generator, **kwargs)

    def ordered(self, logs):
        """The names in `logs`: the loss, the outputs' losses, their metrics, those of layers."""
        names = [*self.__dict__.get("_legacy_names", ()), *(m.name for m in self.metrics)]
        names = [name for name in dict.fromkeys(names) if name in logs]
        return names + sorted(set(logs).difference(names))

    def metrics_names(self):
        if not all(x is None or x.built for x in (self._compile_loss, self._compile_metrics)):
            return self.__dict__["_legacy_names"]
        return ordered(self, self.get_metrics_result())

    def values(self, logs):
        values = [logs[name] for name in ordered(self, logs)]
        return values[0] if len(values) == 1 else values

    def on_batch(original):
        @functools.wraps(original)
        def method(self, x, y=None, sample_weight=None, *args, **kwargs):
            x, y, sample_weight, _ = prepared(self, x, y, sample_weight, None)
            kwargs.pop("reset_metrics", None)
            return original(self, x, y, sample_weight, *args, **kwargs)

        return method

    keras.Model.fit, keras.Model.evaluate = new_fit, new_evaluate
    keras.Model.fit_generator = fit_generator
    keras.Model.evaluate_generator = on_generator("evaluate")
    keras.Model.metrics_names = property(metrics_names)
    keras.Model._flatten_metrics_in_order = values
    keras.Model.train_on_batch = on_batch(train_on_batch)
    keras.Model.test_on_batch = on_batch(test_on_batch)


def on_generator(name: str):
    """`evaluate_generator` or `predict_generator`, with the arguments of Keras 2 in their order."""

    def method(
        self,
        generator,
        steps=None,
        callbacks=None,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
        verbose=0,
    ):
        return getattr(self, name)(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    return method


def accept_old_predict():
    """`predict`, silent, on arrays, lists of lists and generators; `predict_generator`.

    Why: Keras 3 draws a progress bar for each call, and builds a data pipeline for each call:
    scripts that decode token by token would wait for that, not for the model.
    """
    predict = keras.Model.predict
    predict_on_batch = keras.Model.predict_on_batch

    def in_batches(self, x, batch_size):
        flat = keras.tree.flatten(x)
        size = len(flat[0])
        parts = [
            keras.tree.map_structure(lambda a: a[i : i + batch_size], x)  # noqa: B023
            for i in range(0, size, batch_size)
        ]
        results = [predict_on_batch(self, part) for part in parts]
        if len(results) == 1:
            return results[0]
        return keras.tree.map_structure(lambda *a: np.concatenate(a, axis=0), *results)

    @functools.wraps(predict)
    def new_predict(self, x, batch_size=None, verbose=0, steps=None, callbacks=None, **kwargs):
        if batches.is_generator(x):
            if batches.is_sequence(x):
                steps, x = steps or len(x), batches.endless(x, shuffle=False)
            x = batches.dataset(self, x, only_inputs=True)
        elif isinstance(x, (list, tuple, np.ndarray)) and getattr(self, "inputs", None):
            x = batches.as_arrays(x, self.inputs)
            if not verbose and not callbacks and steps is None:
                return in_batches(self, x, batch_size or 32)
        return predict(self, x, batch_size, verbose, steps, callbacks)

    keras.Model.predict, keras.Model.predict_generator = new_predict, on_generator("predict")
    keras.Model.predict_on_batch = lambda self, x: predict_on_batch(
        self, batches.as_arrays(x, self.inputs)
    )
    keras.Model._make_predict_function = keras.Model.make_predict_function
    keras.Model._make_test_function = keras.Model.make_test_function


def accept_old_callbacks():
    """Callbacks that do not call ``super().__init__()`` or that set ``self.model`` themselves;
    `ModelCheckpoint` under any file name and with ``period=``; ``mode='auto'`` for any metric.

    Why: in Keras 3 `model` is a property without a setter over an attribute made in `__init__`;
    checkpoints need certain endings, and the direction of a script's own metric must be told.
    """
    keras.callbacks.Callback._model = None
    keras.callbacks.Callback.params = None
    keras.callbacks.Callback.validation_data = None
    keras.callbacks.Callback.model = property(
        lambda self: self._model, lambda self, model: setattr(self, "_model", model)
    )
    checkpoint = keras.callbacks.ModelCheckpoint
    init, on_epoch_end = checkpoint.__init__, checkpoint.on_epoch_end
    monitor = next(cls for cls in checkpoint.__mro__ if "_set_monitor_op" in vars(cls))
    set_monitor_op = monitor._set_monitor_op

    @functools.wraps(init)
    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        period=1,
        **kwargs,
    ):
        accepted = "x.weights.h5" if save_weights_only else "x.keras"
        init(self, accepted, monitor, verbose, save_best_only, save_weights_only, mode, **kwargs)
        self.filepath = os.fspath(filepath)
        self.period, self.epochs_since_last_save = period, 0

    @functools.wraps(on_epoch_end)
    def new_on_epoch_end(self, epoch, logs=None):
        self.epochs_since_last_save += 1
        if self.epochs_since_last_save >= self.period:
            self.epochs_since_last_save = 0
            on_epoch_end(self, epoch, logs)

    @functools.wraps(set_monitor_op)
    def new_set_monitor_op(self):
        """Keras 3's direction where it knows one, else Keras 2's, which goes by the name."""
        try:
            set_monitor_op(self)
        except ValueError:
            rises = "acc" in self.monitor or self.monitor.startswith("fmeasure")
            self.mode = "max" if rises else "min"
            set_monitor_op(self)

    checkpoint.__init__, checkpoint.on_epoch_end = __init__, new_on_epoch_end
    monitor._set_monitor_op = new_set_monitor_op


def accept_train_functions():
    """``model.total_loss``, ``model._feed_inputs`` … and a ``model.train_function`` on arrays.

    Why: adversarial training was written by replacing `train_function` with one that first
    computes ``K.gradients(model.total_loss, [embeddings])``.
    """
    make = keras.Model.make_train_function

    class TotalLoss(K.BackendCall):
        def compute_output_spec(self, *tensors):
            return keras.KerasTensor((), dtype=K.floatx())

    def placeholders(model):
        if "_legacy_total_loss" not in model.__dict__:
            targets = [keras.Input(batch_shape=(None,) * len(x.shape)) for x in model.outputs]
            weights = [keras.Input(batch_shape=(None,)) for _ in model.outputs]

            def loss(y_true, sample_weight, y_pred):
                parts = [x[0] if len(x) == 1 else x for x in (y_true, y_pred, sample_weight)]
                return model.compute_loss(None, *parts)

            total = TotalLoss.apply(loss, targets, weights, list(model.outputs))
            model.__dict__["_legacy_total_loss"] = (targets, weights, total)
        return model.__dict__["_legacy_total_loss"]

    def one_step(model, keras_function, inputs):
        """A training step on one list of arrays: inputs, targets and sample weights."""
        n, m = len(model.inputs), len(model.outputs)
        parts = [inputs[:n], inputs[n : n + m], inputs[n + m :]]
        x, y, weight = (p[0] if len(p) == 1 else tuple(p) for p in parts)
        logs = keras_function(iter([(x, y, weight)]))
        model.__dict__["_legacy_log_names"] = list(logs)
        return [float(value) for value in logs.values()]

    def on_iterator(model, script_function):
        """The script's function, called as `fit` calls Keras 3's."""

        def train_function(iterator):
            x, y, weight = (*next(iterator), None, None)[:3]
            arrays = [np.asarray(a) for part in (x, y) for a in keras.tree.flatten(part)]
            if weight is None:
                weight = [np.ones(len(arrays[0]), "float32") for _ in model.outputs]
            outputs = script_function([*arrays, *keras.tree.flatten(weight)])
            names = model.__dict__["_legacy_log_names"]
            return dict(zip(names, outputs, strict=True))

        return train_function

    def _make_train_function(self):
        make(self)
        inner = self.train_function
        self.train_function = functools.partial(one_step, self, inner)
        self.__dict__["_legacy_made"] = self.train_function

    @functools.wraps(make)
    def make_train_function(self, force=False):
        made = self.__dict__.get("_legacy_made")
        if made is None:
            return make(self, force)
        current = self.train_function
        if not getattr(current, "_legacy_adapter", False):
            self.train_function = on_iterator(self, current)
            self.train_function._legacy_adapter = True

    cls = keras.Model
    cls.make_train_function, cls._make_train_function = make_train_function, _make_train_function
    cls.total_loss = property(lambda self: placeholders(self)[2])
    cls.targets = cls._feed_targets = property(lambda self: placeholders(self)[0])
    cls.sample_weights = cls._feed_sample_weights = property(lambda self: placeholders(self)[1])
    cls._feed_inputs = property(lambda self: list(self.inputs))
