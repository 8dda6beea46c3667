"""bert4keras' architectures, built on Keras 3.

The classes are bert4keras' own. What is bound to Keras 2 in them is replaced here, at three seams
of its base class: how a layer is made (`apply`), how weights are loaded and how they are saved.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os

import bert4keras.models as original
import keras

from keras_extras.bert4keras import backend, checkpoints, weights
from keras_extras.bert4keras.huggingface.config import adapt, transformer_config
from keras_extras.bert4keras.recompute import recompute
from keras_extras.initializers import RoFormerV2Initializer
from keras_extras.layers import FirstToken, LanguageModelMask, UnifiedLanguageModelMask

#: bert4keras writes these layers as Lambdas around closures, which a saved model does not survive.
_INSTEAD_OF_LAMBDA = {
    "Attention-LM-Mask": LanguageModelMask,
    "Attention-UniLM-Mask": UnifiedLanguageModelMask,
    "Pooler": FirstToken,
}
_RECOMPUTED = {
    "FeedForward",
    "GatedAttentionUnit",
    "LayerNormalization",
    "MultiHeadAttention",
    "ScaleOffset",
}
#: bert4keras' names of architectures.
_NAMES = (
    "bert albert albert_unshared roberta nezha roformer roformer_v2 electra gpt gpt2 gpt2_ml "
    "t5 t5_encoder t5_decoder t5.1.0 t5.1.0_encoder t5.1.0_decoder "
    "t5.1.1 t5.1.1_encoder t5.1.1_decoder mt5.1.1 mt5.1.1_encoder mt5.1.1_decoder"
).split()
_make_layer = original.Transformer.apply
_build = original.build_transformer_model


@functools.wraps(_make_layer)
def _apply(self, inputs=None, layer=None, arguments=None, **kwargs):
    if layer is original.Lambda and kwargs.get("name") in _INSTEAD_OF_LAMBDA:
        layer = _INSTEAD_OF_LAMBDA[kwargs["name"]]
        del kwargs["function"]
    for key, value in kwargs.items():
        if key.endswith("activation"):
            kwargs[key] = _activation(value)
        elif key.endswith("initializer"):
            kwargs[key] = _initializer(value)
    methods = [k for k, v in kwargs.items() if k.endswith("initializer") and inspect.ismethod(v)]
    output = _make_layer(self, inputs, layer, arguments, **kwargs)
    made = self.layers.get(self.prefixed(kwargs.get("name")))
    if backend.do_recompute and getattr(layer, "__name__", None) in _RECOMPUTED:
        recompute(made)
    if getattr(made, "built", False):
        for key in methods:  # have done their work; a saved model names bert4keras' stand-in
            setattr(made, key, keras.initializers.GlorotUniform())
    return output


def _activation(value):
    """bert4keras' meaning of an activation's name, which is not always Keras'."""
    if isinstance(value, list):
        return [_activation(v) for v in value]
    return backend.ACTIVATIONS.get(value, value) if isinstance(value, str) else value


def _initializer(value):
    """Initialisers that a saved model can name: no bare names, no bound methods."""
    if isinstance(value, str):
        return backend.INITIALIZERS[value]() if value in backend.INITIALIZERS else value
    if getattr(value, "__func__", None) is original.RoFormerV2.initializer:
        return RoFormerV2Initializer(value.__self__.num_hidden_layers)
    return value


def _with_tensors(build):
    """A `build` whose model has tensors as `input` and `output` when there is just one.

    Keras 3 keeps the list it is given, so that `Dropout(0.1)(bert.output)` would see a list.
    """

    def alone(x):
        return x[0] if isinstance(x, list) and len(x) == 1 else x

    @functools.wraps(build)
    def wrapper(self, *args, **kwargs):
        before = getattr(self, "model", None)
        build(self, *args, **kwargs)
        if self.model is not before:
            ends = alone(self.inputs), alone(self.outputs)
            self.model = keras.Model(*ends, name=self.model.name)

    return wrapper


def data_parallel(model, devices=None, parts=None):
    """Not on Keras 3: one copy of the model a device is what strategies are for.

    Raises:
        RuntimeError: always, with the way to go.
    """
    raise RuntimeError(
        "data_parallel does not exist on Keras 3: build and compile the model inside "
        "`with keras_extras.training.get_strategy('mirrored').scope():` instead."
    )


def build_transformer_model(
    config_path: str | os.PathLike | None = None,
    checkpoint_path: str | os.PathLike | None = None,
    model: str | type | None = None,
    application: str = "encoder",
    return_keras_model: bool = True,
    **kwargs,
):
    """Build a Transformer and load its weights.

    Args:
        config_path: a config.json (of Google's or Hugging Face's form); or a directory,
            ``"keras-extras-mini"`` (a small Chinese model that comes with this package) or a
            Hugging Face hub id, from which architecture, configuration and weights are taken.
        checkpoint_path: weights, see `keras_extras.bert4keras.checkpoints`; random without.
        model: bert4keras' name of the architecture (``"bert"`` by default, ``"albert"``,
            ``"roformer"``, ``"t5.1.1"``, …) or a class derived from one of bert4keras'.
        application: ``"encoder"``, ``"lm"`` (each position sees its past) or ``"unilm"``.
        return_keras_model: False returns bert4keras' object, whose `.model` is the Keras model
            and whose `.layers`, `.initializer` and sizes are at hand.
        **kwargs: anything of the configuration (``num_hidden_layers=6``), bert4keras' options
            (``with_mlm``, ``with_pool``, ``keep_tokens``, ``hierarchical_position``, …) and
            ``ignore_invalid_weights=True`` to go on where weights do not fit.

    Raises:
        ValueError: weights are missing, superfluous or of another shape (they are listed); or
            `model`, `application` or the sizes are not what bert4keras has.

    >>> bert = build_transformer_model(
    ...     vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    ...     intermediate_size=16, hidden_act="gelu", max_position=16,
    ... )
    >>> bert.output.shape
    (None, None, 8)
    """
    config = {}
    if config_path is not None:
        config_path = os.fspath(config_path)
        if not config_path.endswith(".json"):
            source = checkpoints.resolve(config_path)
            config_path = source.config_path
            checkpoint_path = checkpoint_path or source.weights_path
        config = checkpoints.read_json(config_path)
        if "model_type" in config or "architectures" in config:
            name, config = transformer_config(config)
            model = model or name
    config.update(kwargs)
    model = model or "bert"
    _check(model, application, config)
    transformer = _build(model=model, application=application, return_keras_model=False, **config)
    adapt(transformer, **config)
    if checkpoint_path is not None:
        transformer.truncated = "num_hidden_layers" in kwargs
        transformer.load_weights_from_checkpoint(checkpoint_path)
    return transformer.model if return_keras_model else transformer


def _check(model, application, config):
    """Refuse what bert4keras would crash on, or take for something else."""
    if application.lower() not in ("encoder", "lm", "unilm"):
        raise ValueError(f"`application` is 'encoder', 'lm' or 'unilm', not {application!r}.")
    if not isinstance(model, str):  # a class of the user's own, which may have its own rules
        return
    if model.lower() not in _NAMES:
        near = difflib.get_close_matches(model.lower(), _NAMES)
        raise ValueError(
            f"bert4keras has no model {model!r}"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + f" It has {', '.join(_NAMES)}."
        )
    size, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if size and heads and size % heads and not config.get("attention_head_size"):
        raise ValueError(
            f"hidden_size={size} cannot be divided among num_attention_heads={heads}: change one "
            "of them, or give attention_head_size."
        )


original.Transformer.apply = _apply
original.Transformer.load_variable = weights.load_variable
original.Transformer.create_variable = weights.create_variable
original.Transformer.load_weights_from_checkpoint = weights.load_weights
original.Transformer.save_weights_as_checkpoint = weights.save_weights
original.Transformer.build = _with_tensors(original.Transformer.build)
original.T5.build = _with_tensors(original.T5.build)
original.data_parallel = data_parallel
original.build_transformer_model = build_transformer_model
