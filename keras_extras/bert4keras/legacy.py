"""Everything that the runner changes in Keras so that scripts of 2020-2023 run on Keras 3.

`apply()` is called by ``python -m keras_extras.bert4keras script.py`` and by nothing else: it
changes Keras for the whole process. Each patch below says what it does, why, and was tried with
Keras 3.15.1 on TensorFlow 2.21. What a script needs beyond the functions and classes listed here
works as Keras 3 has it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import shutil
import sys
import tempfile
import types
import zipfile

import keras
import numpy as np

from keras_extras import layers as extra_layers
from keras_extras.bert4keras import backend, legacy_batches, optimizers
from keras_extras.bert4keras import keras_backend as K

Layer = keras.layers.Layer
_input = keras.Input((1,))
Functional = type(keras.Model(_input, _input))  # has no public name


def apply() -> None:
    """Apply all patches once.

    Raises:
        RuntimeError: the backend is not TensorFlow, which these scripts were written for.
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras runs on {keras.config.backend()}, but scripts of Keras 2 need TensorFlow: "
            "set KERAS_BACKEND=tensorflow."
        )
    if getattr(keras, "_keras_extras_legacy", False):
        return
    keras._keras_extras_legacy = True
    importlib.import_module("keras._tf_keras.keras")  # so that tf.keras shows the same names
    for patch in (
        keep_masks,
        alias_modules,
        register_bare_names,
        accept_old_optimizer_arguments,
        accept_old_layer_methods,
        accept_old_losses,
        accept_old_fit,
        accept_old_predict,
        accept_old_files,
        accept_old_callbacks,
        accept_symbolic_losses,
        accept_train_functions,
        accept_tensorflow_on_symbols,
        accept_tensorflow_1,
    ):
        patch()


def _faces(name=""):
    """The modules that show Keras' names: ``keras.x``, and ``tf.keras.x`` of TensorFlow."""
    for root in ("keras", "keras._tf_keras.keras"):
        module = sys.modules.get(f"{root}.{name}" if name else root)
        if module is not None:
            yield module


def _show(name, value, module=""):
    for face in _faces(module):
        setattr(face, name, value)


# --- Names -----------------------------------------------------------------------------------


def alias_modules():
    """Modules that Keras 3 has no more, and ``keras.backend`` with the functions of Keras 2.

    Why: ``import keras.backend as K``, ``from keras.engine.topology import Layer``,
    ``from keras.layers.merge import add``, ``from keras.utils.np_utils import to_categorical``.
    """
    K.tensorflow_backend = K
    for root in ("keras", "tensorflow.keras"):
        sys.modules[f"{root}.backend"] = sys.modules[f"{root}.backend.tensorflow_backend"] = K
    sys.modules["keras._tf_keras.keras.backend"] = K
    _show("backend", K)

    def alias(name, **extra):
        *parents, last = name.split(".")
        parent = ".".join(parents)
        module = types.ModuleType(f"keras.{name}")
        for source in (keras.layers, keras.utils, keras.models):
            vars(module).update({k: v for k, v in vars(source).items() if k[0] != "_"})
        vars(module).update(extra)
        sys.modules[f"keras.{name}"] = sys.modules[f"tensorflow.keras.{name}"] = module
        for root in ("keras", "keras._tf_keras.keras"):
            owner = sys.modules.get(f"{root}.{parent}" if parent else root)
            if owner is not None:
                setattr(owner, last, module)

    extra = {"Layer": Layer, "Model": keras.Model, "InputSpec": keras.layers.InputSpec}
    for name in ("engine", "engine.base_layer", "engine.topology", "engine.training"):
        alias(name, **extra)
    for name in ("core", "merge", "embeddings", "normalization", "recurrent", "pooling"):
        alias(f"layers.{name}")
    for name in ("convolutional", "wrappers", "advanced_activations", "local"):
        alias(f"layers.{name}")
    for name in ("np_utils", "generic_utils", "vis_utils", "data_utils"):
        alias(f"utils.{name}")
    for cell in ("GRU", "LSTM"):
        _show(f"CuDNN{cell}", getattr(keras.layers, cell), "layers")
    for name, value in list(vars(keras.initializers).items()):
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if isinstance(value, type) and not hasattr(keras.initializers, snake):
            _show(snake, value, "initializers")

    def multi_gpu_model(*args, **kwargs):
        raise NotImplementedError(
            "keras.utils.multi_gpu_model does not exist on Keras 3: build and compile the model "
            "inside `with tf.distribute.MirroredStrategy().scope():` instead."
        )

    _show("multi_gpu_model", multi_gpu_model, "utils")


def register_bare_names():
    """bert4keras' bare names in Keras' registry: "gelu" (as `set_gelu` has it), "swish", "Loss" ….

    Why: scripts write ``activation='gelu'``, and models they saved name their layers barely.
    """
    registry = keras.utils.get_custom_objects()
    registry.update(backend.custom_objects)
    registry.update({n: getattr(extra_layers, n) for n in extra_layers.__all__})

    def gelu(x):
        return backend.ACTIVATIONS["gelu"](x)

    registry["gelu"] = gelu
    registry.update(optimizers.custom_objects)
    optimizers.custom_objects = registry


def keep_masks():
    """Merging layers that know masks, and pooling layers that do, as bert4keras put them there.

    Why: Keras 3's Add, Multiply … lose the mask when one input has none, its Concatenate too, and
    its pooling does not mask the maximum. Keras 2 combined the masks that are there by "and".
    """

    def compute_mask(self, inputs, mask=None):
        masks = [m for m in mask or [] if m is not None]
        return functools.reduce(keras.ops.logical_and, masks) if masks else None

    def concatenated(self, inputs, mask=None):
        if all(m is None for m in mask or [None]):
            return None
        masks = []
        for x, m in zip(inputs, mask, strict=True):
            m = keras.ops.ones_like(x, dtype="bool") if m is None else m
            m = keras.ops.expand_dims(m, -1) if K.ndim(m) < K.ndim(x) else m
            masks.append(keras.ops.logical_and(m, keras.ops.ones_like(x, dtype="bool")))
        return K.all(keras.ops.concatenate(masks, axis=self.axis), axis=-1)

    merge = keras.layers.Add.__mro__[1]  # the base class, which has no public name
    merge.compute_mask, keras.layers.Concatenate.compute_mask = compute_mask, concatenated
    for name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
        _show(name, getattr(extra_layers, name), "layers")


# --- Optimizers ------------------------------------------------------------------------------


def accept_old_optimizer_arguments():
    """``lr=``, ``decay=``, ``epsilon=None``, and ``optimizer.lr``.

    Why: Keras 3 refuses `lr`, ignores `decay` and has no default epsilon to fall back to.
    """
    cls = keras.optimizers.Optimizer
    init, build = cls.__init__, cls.build

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        for method in ("get_updates", "_resource_apply_dense"):
            if hasattr(type(self), method):
                raise NotImplementedError(
                    f"{type(self).__name__} is written for the optimizers of Keras 2: its "
                    f"{method} is never called on Keras 3. Write it as a subclass of "
                    "keras.optimizers.Optimizer with build and update_step."
                )
        rate = kwargs.pop("lr", None)
        decay = kwargs.pop("decay", None)
        kwargs.pop("schedule_decay", None)  # of Keras 2's Nadam
        if args:
            kwargs["learning_rate"], args = args[0], args[1:]
        if rate is not None:
            kwargs["learning_rate"] = rate
        if decay:
            kwargs["learning_rate"] = keras.optimizers.schedules.InverseTimeDecay(
                kwargs["learning_rate"], decay_steps=1, decay_rate=decay
            )
        init(self, *args, **kwargs)

    @functools.wraps(build)
    def new_build(self, variables):
        if getattr(self, "epsilon", 0) is None:
            self.epsilon = keras.config.epsilon()
        build(self, variables)

    cls.__init__, cls.build = __init__, new_build
    cls.lr = property(
        lambda self: self.learning_rate,
        lambda self, value: setattr(self, "learning_rate", value),
    )


# --- Layers ----------------------------------------------------------------------------------


def accept_old_layer_methods():
    """``add_loss(x, inputs=)``, ``add_metric``, ``add_weight('name', …)``, ``weights=[…]``,
    ``get_output_at``, ``input_mask`` and ``output_mask``; Lambdas of any function.

    Why: Keras 3 dropped them, and infers the shape of a Lambda without its mask and its dtype.
    """
    init, add_loss, add_weight = Layer.__init__, Layer.add_loss, Layer.add_weight

    @functools.wraps(init)
    def __init__(self, *, weights=None, **kwargs):
        init(self, **kwargs)
        if weights is not None:
            self._legacy_weights = _Plain(weights)

    post_build = Layer._post_build

    @functools.wraps(post_build)
    def new_post_build(self):
        post_build(self)
        pending = self.__dict__.pop("_legacy_weights", None)
        if pending is not None:
            self.set_weights(pending.value)

    @functools.wraps(add_loss)
    def new_add_loss(self, loss, inputs=None):
        add_loss(self, loss)

    def add_metric(self, value, aggregation=None, name=None):
        """The mean of `value` over the batches, shown as `name`."""
        if name is None and isinstance(aggregation, str) and aggregation != "mean":
            name = aggregation  # Keras 2.3: add_metric(value, name)
        _mean(self, name or f"metric_{self.name}").update_state(value)

    @functools.wraps(add_weight)
    def new_add_weight(self, *args, **kwargs):
        if args and isinstance(args[0], str):
            kwargs["name"], args = args[0], args[1:]
        return add_weight(self, *args, **kwargs)

    def tensors_at(self, index, kind):
        tensors = getattr(self._inbound_nodes[index], kind)
        return tensors[0] if len(tensors) == 1 else list(tensors)

    def mask_of(tensors):
        masks = [getattr(x, "_keras_mask", None) for x in keras.tree.flatten(tensors)]
        return masks[0] if len(masks) == 1 else masks

    lambda_spec = keras.layers.Lambda.compute_output_spec

    @functools.wraps(lambda_spec)
    def compute_output_spec(self, *args, **kwargs):
        if self._output_shape is None:
            return keras.Operation.compute_output_spec(self, *args, **kwargs)
        return lambda_spec(self, *args, **kwargs)

    keras.layers.Lambda.compute_output_spec = compute_output_spec
    Layer.__init__, Layer.add_loss, Layer.add_weight = __init__, new_add_loss, new_add_weight
    Layer._post_build, Layer.add_metric = new_post_build, add_metric
    Layer.get_output_at = lambda self, index: tensors_at(self, index, "output_tensors")
    Layer.get_input_at = lambda self, index: tensors_at(self, index, "input_tensors")
    Layer.input_mask = property(lambda self: mask_of(self.input))
    Layer.output_mask = property(lambda self: mask_of(self.output))


class _Plain:
    """Hides a value from Keras' tracking of attributes."""

    def __init__(self, value):
        self.value = value


def _mean(layer, name):
    """The `Mean` metric called `name` of a layer, made when it is first needed."""
    import tensorflow as tf

    metrics = layer.__dict__.setdefault("_legacy_means", _Plain({})).value
    if name not in metrics:
        locked = layer._tracker.locked
        layer._tracker.unlock()
        with tf.init_scope():
            metrics[name] = keras.metrics.Mean(name=name)
        layer._metrics.append(metrics[name])
        if locked:
            layer._tracker.lock()
    return metrics[name]


# --- Training --------------------------------------------------------------------------------


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

    owner.compile = compile  # on the base class: Keras asks whether a subclass overrides it


def accept_old_fit():
    """`fit` and `evaluate` on generators of lists and on lists of numbers; `fit_generator`,
    `evaluate_generator`; `metrics_names` name what `evaluate` returns; `workers=` and the like are
    accepted and mean nothing.

    Why: Keras 3 wants tuples without None, and takes the sequence lengths of a generator's first
    two batches for those of all.
    """
    fit, evaluate = keras.Model.fit, keras.Model.evaluate
    train_on_batch, test_on_batch = keras.Model.train_on_batch, keras.Model.test_on_batch
    dropped = ("workers", "use_multiprocessing", "max_queue_size", "pickle_safe")

    def prepared(model, x, y, sample_weight, steps, shuffle=True):
        """(x, y, sample_weight, steps) as Keras 3 takes them."""
        if legacy_batches.is_generator(x):
            if legacy_batches.is_sequence(x):
                steps = steps or len(x)
                x = legacy_batches.endless(x, shuffle)
            return legacy_batches.dataset(model, x), None, None, steps
        if hasattr(x, "element_spec") and isinstance(x.element_spec, tuple):
            x = legacy_batches.with_targets_in_order(model, x)
        if isinstance(x, (list, tuple, dict, np.ndarray)):
            x, y, sample_weight = (
                *legacy_batches.as_batch(model, (x, y, sample_weight)),
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
            if legacy_batches.is_generator(validation) or hasattr(validation, "element_spec"):
                validation, _, _, steps = prepared(
                    self, validation, None, None, kwargs.get("validation_steps"), False
                )
                kwargs.update(validation_data=validation, validation_steps=steps)
            elif isinstance(validation, (list, tuple)):
                kwargs["validation_data"] = legacy_batches.as_batch(self, validation)
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

    def fit_generator(self, generator, steps_per_epoch=None, epochs=1, verbose=1, **kwargs):
        return self.fit(
            generator, epochs=epochs, verbose=verbose, steps_per_epoch=steps_per_epoch, **kwargs
        )

    def evaluate_generator(self, generator, steps=None, verbose=0, **kwargs):
        return self.evaluate(generator, steps=steps, verbose=verbose, **kwargs)

    def metrics_names(self):
        names = []
        for metric in self.metrics:
            names += [m.name for m in getattr(metric, "metrics", [metric])]
        return names

    def on_batch(original):
        @functools.wraps(original)
        def method(self, x, y=None, sample_weight=None, *args, **kwargs):
            x, y, sample_weight, _ = prepared(self, x, y, sample_weight, None)
            kwargs.pop("reset_metrics", None)
            return original(self, x, y, sample_weight, *args, **kwargs)

        return method

    keras.Model.fit, keras.Model.evaluate = new_fit, new_evaluate
    keras.Model.fit_generator, keras.Model.evaluate_generator = fit_generator, evaluate_generator
    keras.Model.metrics_names = property(metrics_names)
    keras.Model.train_on_batch = on_batch(train_on_batch)
    keras.Model.test_on_batch = on_batch(test_on_batch)


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
        if legacy_batches.is_generator(x):
            if legacy_batches.is_sequence(x):
                steps, x = steps or len(x), legacy_batches.endless(x, shuffle=False)
            x = legacy_batches.dataset(self, x, only_inputs=True)
        elif isinstance(x, (list, tuple, np.ndarray)) and getattr(self, "inputs", None):
            x = legacy_batches.as_arrays(x, self.inputs)
            if not verbose and not callbacks and steps is None:
                return in_batches(self, x, batch_size or 32)
        return predict(self, x, batch_size, verbose, steps, callbacks)

    def predict_generator(self, generator, steps=None, verbose=0, **kwargs):
        return self.predict(generator, steps=steps, verbose=verbose)

    keras.Model.predict, keras.Model.predict_generator = new_predict, predict_generator
    keras.Model.predict_on_batch = lambda self, x: predict_on_batch(
        self, legacy_batches.as_arrays(x, self.inputs)
    )
    keras.Model._make_predict_function = keras.Model.make_predict_function
    keras.Model._make_test_function = keras.Model.make_test_function


# --- Files -----------------------------------------------------------------------------------


def accept_old_files():
    """Weights and models under any name: ``save_weights('best.weights')``, ``save('x.model')``.

    Weights are written as Keras 2 wrote them (HDF5, layer by layer), so that files of the two
    exchange; models as Keras 3's zip file, whatever their name.
    Why: Keras 3 accepts only the endings .weights.h5, .keras and .h5.
    """
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    save_weights, load_weights = keras.Model.save_weights, keras.Model.load_weights
    save, load_model = keras.Model.save, keras.models.load_model

    @functools.wraps(save_weights)
    def new_save_weights(self, filepath, overwrite=True, save_format=None, **kwargs):
        filepath = os.fspath(filepath)
        if filepath.endswith(".weights.h5"):
            return save_weights(self, filepath, overwrite=overwrite)
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(f"{filepath} exists, and overwrite=False.")
        with h5py.File(filepath, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, self)

    @functools.wraps(load_weights)
    def new_load_weights(self, filepath, by_name=False, skip_mismatch=False, **kwargs):
        filepath = os.fspath(filepath)
        if not h5py.is_hdf5(filepath):
            if os.path.exists(f"{filepath}.index"):
                raise ValueError(
                    f"{filepath} is a TensorFlow checkpoint, written by tf.keras without the "
                    "ending .h5. Load it where it was written and save it again as .h5."
                )
            raise OSError(f"{filepath} is no file of weights: it does not exist or is no HDF5.")
        with h5py.File(filepath, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                if by_name:
                    return legacy_h5_format.load_weights_from_hdf5_group_by_name(
                        group, self, skip_mismatch=skip_mismatch
                    )
                return legacy_h5_format.load_weights_from_hdf5_group(group, self)
        with _under_name(filepath, "x.weights.h5") as path:
            return load_weights(self, path, skip_mismatch=skip_mismatch)

    @functools.wraps(save)
    def new_save(self, filepath, overwrite=True, include_optimizer=True, **kwargs):
        filepath = os.fspath(filepath)
        if filepath.endswith(".keras"):
            return save(self, filepath, overwrite=overwrite)
        with tempfile.TemporaryDirectory() as folder:
            save(self, os.path.join(folder, "x.keras"))
            shutil.move(os.path.join(folder, "x.keras"), filepath)

    @functools.wraps(load_model)
    def new_load_model(filepath, custom_objects=None, compile=True, **kwargs):
        filepath = os.fspath(filepath)
        kwargs.setdefault("safe_mode", False)  # a script's own file, with its own Lambdas
        if os.path.isdir(filepath):
            raise ValueError(
                f"{filepath} is a SavedModel folder, which Keras 3 does not load as a model: "
                "rebuild the model in code and load its weights."
            )
        if zipfile.is_zipfile(filepath):
            with _under_name(filepath, "x.keras") as path:
                return load_model(path, custom_objects, compile, **kwargs)
        with _under_name(filepath, "x.h5") as path:
            return load_model(path, custom_objects, compile, **kwargs)

    keras.Model.save_weights, keras.Model.load_weights = new_save_weights, new_load_weights
    keras.Model.save = new_save
    _show("load_model", new_load_model, "models")
    _show("load_model", new_load_model, "saving")
    _show("save_model", lambda model, *a, **k: model.save(*a, **k), "models")


class _under_name:
    """A temporary second name of a file, because Keras 3 looks at the ending."""

    def __init__(self, filepath, name):
        self.filepath, self.name = os.path.abspath(filepath), name

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, self.name)
        try:
            os.symlink(self.filepath, path)
        except OSError:
            shutil.copyfile(self.filepath, path)
        return path

    def __exit__(self, *error):
        self.folder.cleanup()


# --- Callbacks -------------------------------------------------------------------------------


def accept_old_callbacks():
    """Callbacks that do not call ``super().__init__()`` or that set ``self.model`` themselves.

    Why: in Keras 3 `model` is a property without a setter over an attribute made in `__init__`.
    """
    keras.callbacks.Callback._model = None
    keras.callbacks.Callback.params = None
    keras.callbacks.Callback.validation_data = None
    keras.callbacks.Callback.model = property(
        lambda self: self._model, lambda self, model: setattr(self, "_model", model)
    )


# --- Symbolic tensors ------------------------------------------------------------------------


def accept_symbolic_losses():
    """``model.add_loss(tensor)`` and ``model.add_metric(tensor, name=…)`` on symbolic tensors,
    and models of one-element lists whose `input` and `output` are tensors.

    Why: Keras 3 has add_loss only inside `call`, and keeps the lists it is given.
    """
    init, call = Functional.__init__, Functional.call

    def alone(x):
        return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x

    @functools.wraps(init)
    def __init__(self, inputs, outputs, name=None, **kwargs):
        init(self, alone(inputs), alone(outputs), name=name, **kwargs)

    def terms(self):
        return self.__dict__.setdefault("_legacy_terms", _Plain({"losses": [], "metrics": []}))

    def add_loss(self, loss, inputs=None):
        for x in keras.tree.flatten(loss):
            if K.is_keras_tensor(x):
                terms(self).value["losses"].append(x)
            else:
                Layer.add_loss(self, x)
        terms(self).value.pop("model", None)

    def add_metric(self, value, aggregation=None, name=None):
        if not K.is_keras_tensor(value):
            return Layer.add_metric(self, value, aggregation, name)
        if name is None and isinstance(aggregation, str) and aggregation != "mean":
            name = aggregation
        name = name or f"metric_{len(terms(self).value['metrics'])}"
        _mean(self, name)
        terms(self).value["metrics"].append((name, value))
        terms(self).value.pop("model", None)

    @functools.wraps(call)
    def new_call(self, inputs, training=None, mask=None, **kwargs):
        extra = self.__dict__.get("_legacy_terms")
        if extra is None:
            return call(self, inputs, training=training, mask=mask, **kwargs)
        extra = extra.value
        if "model" not in extra:
            tensors = [*extra["losses"], *(x for _, x in extra["metrics"])]
            extra["model"] = keras.Model(self._inputs_struct, [self._outputs_struct, tensors])
        outputs, values = call(extra["model"], inputs, training=training, mask=mask, **kwargs)
        count = len(extra["losses"])
        for loss in values[:count]:
            Layer.add_loss(self, keras.ops.mean(loss))
        for (name, _), value in zip(extra["metrics"], values[count:], strict=True):
            _mean(self, name).update_state(value)
        return outputs

    Functional.__init__, Functional.call = __init__, new_call
    Functional.add_loss, Functional.add_metric = add_loss, add_metric


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


def accept_tensorflow_on_symbols():
    """TensorFlow functions on symbolic tensors: ``tf.gather(model.output, …)``.

    Why: Keras 3 takes only `keras.ops` there; tf.keras recorded them as layers.
    """
    import tensorflow as tf

    class Dispatcher(tf.__internal__.dispatch.GlobalOpDispatcher):
        def handle(self, op, args, kwargs):
            if any(K.is_keras_tensor(x) for x in keras.tree.flatten((args, kwargs))):
                return K.BackendCall.apply(op, *args, **kwargs)
            return self.NOT_SUPPORTED

    Dispatcher().register()


def accept_tensorflow_1():
    """``tf.log`` and other functions that moved to ``tf.compat.v1``; ``tf.ConfigProto``,
    ``tf.Session``, ``K.set_session``, ``K.get_session`` and ``tf.get_default_graph``: they set GPU
    memory growth and otherwise do nothing.

    Why: many scripts begin with such lines, and `WebServing` enters graph and session for each
    request. A session that is to run something is refused.
    """
    import tensorflow as tf

    found = vars(tf).get("__getattr__")

    def __getattr__(name):
        if found is not None:
            with contextlib.suppress(AttributeError):
                return found(name)
        if name.startswith("__") or not hasattr(tf.compat.v1, name):
            raise AttributeError(f"module 'tensorflow' has no attribute {name!r}")
        return getattr(tf.compat.v1, name)

    tf.__getattr__ = __getattr__

    class Session:
        def __init__(self, target="", graph=None, config=None):
            self.config = config

        def __getattr__(self, name):
            raise NotImplementedError(
                f"tf.Session().{name} belongs to TensorFlow 1: tensors have values as they are. "
                "Use model.predict, K.eval or K.function instead."
            )

    class Graph:
        def as_default(self):
            return contextlib.nullcontext(self)

    def set_session(session):
        options = getattr(session.config, "gpu_options", None)
        if getattr(options, "allow_growth", False):
            for device in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(device, True)

    K.set_session, K.get_session = set_session, Session
    tf.Session, tf.get_default_graph = Session, Graph
