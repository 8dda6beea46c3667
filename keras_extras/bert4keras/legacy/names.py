"""Patches for the names of Keras 2 and TensorFlow 1: `legacy` lists and applies them."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import types
import warnings

import keras

from keras_extras import layers as extra_layers
from keras_extras.bert4keras import backend, optimizers
from keras_extras.bert4keras import keras_backend as K


def faces(name=""):
    """The modules that show Keras' names: ``keras.x``, and ``tf.keras.x`` of TensorFlow."""
    for root in ("keras", "keras._tf_keras.keras"):
        module = sys.modules.get(f"{root}.{name}" if name else root)
        if module is not None:
            yield module


def show(name, value, module=""):
    for face in faces(module):
        setattr(face, name, value)


def alias_modules():
    """Modules and names that Keras 3 has no more or only in `tf.keras`, and ``keras.backend`` with
    the functions of Keras 2.

    Why: ``import keras.backend as K``, ``from keras.engine.topology import Layer``,
    ``from keras.layers.merge import add``, ``from keras.utils.np_utils import to_categorical``,
    ``from keras.losses import kullback_leibler_divergence``, ``keras.optimizers.adam``.
    """
    K.tensorflow_backend = K
    for root in ("keras", "tensorflow.keras"):
        sys.modules[f"{root}.backend"] = sys.modules[f"{root}.backend.tensorflow_backend"] = K
    sys.modules["keras._tf_keras.keras.backend"] = K
    show("backend", K)

    for name in ("", ".image", ".sequence", ".text"):
        importlib.import_module(f"keras._tf_keras.keras.preprocessing{name}")
    sys.modules["keras.preprocessing.text"] = keras._tf_keras.keras.preprocessing.text
    preprocessing = ("preprocessing", "preprocessing.image", "preprocessing.sequence")
    for name in ("layers", "losses", "metrics", *preprocessing):
        plain, full = faces(name)
        vars(plain).update({k: v for k, v in vars(full).items() if not hasattr(plain, k)})
    for name in ("losses", "metrics"):
        show("cosine_proximity", keras.losses.cosine_similarity, name)

    def multi_gpu_model(*args, **kwargs):
        raise NotImplementedError(
            "keras.utils.multi_gpu_model does not exist on Keras 3: build and compile the model "
            "inside `with tf.distribute.MirroredStrategy().scope():` instead."
        )

    show("multi_gpu_model", multi_gpu_model, "utils")

    def alias(name, *sources, **extra):
        *parents, last = name.split(".")
        parent = ".".join(parents)
        module = types.ModuleType(f"keras.{name}")
        for source in (keras.layers, keras.utils, keras.models, *sources):
            vars(module).update({k: v for k, v in vars(source).items() if k[0] != "_"})
        vars(module).update(extra)
        sys.modules[f"keras.{name}"] = sys.modules[f"tensorflow.keras.{name}"] = module
        for root in ("keras", "keras._tf_keras.keras"):
            owner = sys.modules.get(f"{root}.{parent}" if parent else root)
            if owner is not None:
                setattr(owner, last, module)

    alias("engine")
    for name in ("base_layer", "input_layer", "network", "sequential", "topology", "training"):
        alias(f"engine.{name}", Network=keras.Model)
    for name in ("core", "merge", "embeddings", "normalization", "recurrent", "pooling"):
        alias(f"layers.{name}")
    for name in ("convolutional", "wrappers", "advanced_activations", "local"):
        alias(f"layers.{name}")
    for name in ("np_utils", "generic_utils", "vis_utils", "data_utils", "training_utils"):
        alias(f"utils.{name}")
    alias("utils.io_utils")
    alias("utils.layer_utils", count_params=lambda weights: sum(map(K.count_params, weights)))
    alias("callbacks.callbacks", keras.callbacks)
    alias("objectives", keras.losses)
    old = ("legacy_add_weight_support", "legacy_get_updates_support")  # decorators
    alias("legacy.interfaces", **dict.fromkeys(old, lambda function: function))
    for cell in ("GRU", "LSTM"):
        show(f"CuDNN{cell}", getattr(keras.layers, cell), "layers")
    for name, value in list(vars(keras.initializers).items()):
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if isinstance(value, type) and not hasattr(keras.initializers, snake):
            show(snake, value, "initializers")
    for name, value in list(vars(keras.optimizers).items()):
        if isinstance(value, type):
            show(name.lower(), value, "optimizers")


def register_bare_names():
    """bert4keras' bare names in Keras' registry: "gelu" (as `set_gelu` has it), "swish", "Loss" …;
    and names of losses that Keras 3 dropped.

    Why: scripts write ``activation='gelu'``, ``loss='logcosh'``, and models they saved name their
    layers barely.
    """
    registry = keras.utils.get_custom_objects()
    registry.update(backend.custom_objects)
    registry.update({n: getattr(extra_layers, n) for n in extra_layers.__all__})

    def gelu(x):
        return backend.ACTIVATIONS["gelu"](x)

    registry["gelu"] = gelu
    for name in ("cosine_proximity", "kullback_leibler_divergence", "logcosh"):
        registry[name] = getattr(keras.losses, name)
    registry.update(optimizers.custom_objects)
    optimizers.custom_objects = registry


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
    memory growth and otherwise do nothing, nor does ``tf.compat.v1.disable_eager_execution``.

    Why: many scripts begin with such lines, and `WebServing` enters graph and session for each
    request. A session that is to run something is refused. Keras 3 has no mode but the eager one.
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
            options = getattr(config, "gpu_options", None)
            if getattr(options, "allow_growth", False):
                for device in tf.config.list_physical_devices("GPU"):
                    tf.config.experimental.set_memory_growth(device, True)

        def __getattr__(self, name):
            raise NotImplementedError(
                f"tf.Session().{name} belongs to TensorFlow 1: tensors have values as they are. "
                "Use model.predict, K.eval or K.function instead."
            )

    class Graph:
        def as_default(self):
            return contextlib.nullcontext(self)

    def stay_eager():
        warnings.warn(
            "Keras 3 runs TensorFlow eagerly and in tf.function: eager execution stays enabled.",
            stacklevel=2,
        )

    K.set_session, K.get_session = lambda session: None, Session
    tf.get_default_graph = Graph
    v1 = tf.compat.v1
    tf.Session = v1.Session = v1.InteractiveSession = Session
    v1.disable_eager_execution = v1.disable_v2_behavior = stay_eager
