"""config.json of a Hugging Face model, translated to arguments of ``build_transformer_model`` and
back."""

from __future__ import annotations

from typing import Any

from keras_extras.bert4keras.checkpoints.checkpoint import CheckpointError

# Hugging Face's name of an activation -> ours. Names that compute the same differ between its
# versions.
ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
    "tanh": "tanh",
    "linear": "linear",
}

# What bert4keras knows of an architecture by names of its own; they go before Hugging Face's.
_OWN = (
    "attention_dropout_rate",
    "attention_head_size",
    "attention_key_size",
    "dropout_rate",
    "hierarchical_position",
    "max_position",
    "residual_attention_scores",
    "segment_vocab_size",
    "sequence_length",
    "shared_segment_embeddings",
)

# The epsilon that bert4keras gives to all normalisations of a model; None where it mixes two.
_EPSILON = {
    "bert": 1e-12,
    "electra": 1e-12,
    "gpt": 1e-12,
    "gpt2": 1e-5,
    "t5.1.0": 1e-6,
    "t5.1.1": 1e-6,
    "mt5.1.1": 1e-6,
}


def transformer_config(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Which bert4keras model a Hugging Face ``config.json`` describes.

    Args:
        config: the parsed file.

    Returns:
        bert4keras' name of the architecture and the arguments of ``build_transformer_model``, with
        what the file says in bert4keras' own words (``attention_head_size``, …). Two of them are
        for ``adapt``: ``layer_norm_epsilon`` where it is not bert4keras' own, and
        ``scale_decoder_outputs``.

    Raises:
        CheckpointError: the model has a trait that bert4keras' architecture has not; the message
            says which.

    Example:
        >>> name, kwargs = transformer_config({
        ...     "model_type": "bert", "vocab_size": 21128, "hidden_size": 768,
        ...     "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        ...     "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        ... })
        >>> name, kwargs["hidden_act"], kwargs["max_position"]
        ('bert', 'gelu_erf', 512)
    """
    model_type = config.get("model_type")
    if model_type is None:  # files of 2019 lack it, and are BERT's or name the architecture
        names = " ".join(config.get("architectures") or ["Bert"]).lower()
        known = ("albert", "roformer", "electra", "nezha", "ernie", "bert")
        model_type = next((k for k in known if names.startswith(k)), names)
    for read, types in (
        (_bert, ("bert", "ernie", "nezha", "roformer", "electra", "albert")),
        (_gpt, ("gpt2", "openai-gpt")),
        (_t5, ("t5", "mt5")),
    ):
        if model_type in types:
            try:
                name, kwargs = read(config, model_type)
            except KeyError as error:
                raise CheckpointError(
                    f"The configuration of this Hugging Face {model_type} model lacks {error}."
                ) from error
            return name, kwargs | {k: config[k] for k in _OWN if config.get(k) is not None}
    raise CheckpointError(
        f"bert4keras has no counterpart of Hugging Face's model type {model_type!r}. It has one of "
        "bert, ernie, nezha, roformer, electra, albert, gpt2, openai-gpt, t5 and mt5."
    )


def _bert(config: dict, model_type: str) -> tuple[str, dict]:
    name = {"ernie": "bert"}.get(model_type, model_type)
    if model_type == "roformer" and (
        config.get("norm_type") == "rms_norm" or config.get("use_bias") is False
    ):
        name = "roformer_v2"
    _require(config, model_type, "position_embedding_type", None, "absolute")
    _require(config, model_type, "tie_word_embeddings", None, True)
    _require(config, model_type, "rotary_value", None, False)
    _require(config, model_type, "is_decoder", None, False)
    _require(config, model_type, "num_hidden_groups", None, 1)
    _require(config, model_type, "inner_group_num", None, 1)
    if model_type == "nezha":
        _require(config, model_type, "max_relative_position", None, 64)
    kwargs = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "hidden_act": _activation(config.get("hidden_act", "gelu")),
        "dropout_rate": config.get("hidden_dropout_prob"),
        "attention_dropout_rate": config.get("attention_probs_dropout_prob"),
        "max_position": config.get("max_position_embeddings", 512),
        "segment_vocab_size": config.get("type_vocab_size", 2),
        "embedding_size": config.get("embedding_size") or config["hidden_size"],
    }
    return name, kwargs | _epsilon(name, config.get("layer_norm_eps", 1e-12))


def _gpt(config: dict, model_type: str) -> tuple[str, dict]:
    for key, expected in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
        ("tie_word_embeddings", True),
    ):
        _require(config, model_type, key, None, expected)
    name = {"gpt2": "gpt2", "openai-gpt": "gpt"}[model_type]
    act = config.get("activation_function", "gelu_new")
    if name == "gpt":
        act = {"gelu": "gelu_new"}.get(config.get("afn", "gelu"), config.get("afn", "gelu"))
    kwargs = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
        "intermediate_size": config.get("n_inner") or 4 * config["n_embd"],
        "hidden_act": _activation(act),
        "dropout_rate": config.get("resid_pdrop"),
        "attention_dropout_rate": config.get("attn_pdrop"),
        "max_position": config.get("n_positions", 1024),
        "segment_vocab_size": 0,
    }
    return name, kwargs | _epsilon(name, config.get("layer_norm_epsilon", 1e-5))


def _t5(config: dict, model_type: str) -> tuple[str, dict]:
    _require(config, model_type, "relative_attention_num_buckets", None, 32)
    _require(config, model_type, "relative_attention_max_distance", None, 128)
    _require(config, model_type, "num_decoder_layers", None, config["num_layers"])
    gate, _, act = config.get("feed_forward_proj", "relu").rpartition("-")
    if gate == "gated":
        name = "mt5.1.1" if model_type == "mt5" else "t5.1.1"
        act = [_activation("gelu_new" if act == "gelu" else act), "linear"]
    else:
        name, act = "t5.1.0", _activation(act)
    scaled = config.get("scale_decoder_outputs")
    if scaled is None:  # as transformers < 5 had it; its mT5 never scales
        scaled = model_type == "t5" and config.get("tie_word_embeddings", True)
    if name == "t5.1.0" and not scaled:
        raise CheckpointError(
            "This Hugging Face T5 has softmax weights of its own (tie_word_embeddings=False) but "
            "no gated feed-forward; bert4keras has T5 1.0 (neither) and T5 1.1 (both) only."
        )
    kwargs = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_heads"],
        "attention_head_size": config["d_kv"],
        "intermediate_size": config["d_ff"],
        "hidden_act": act,
        "dropout_rate": config.get("dropout_rate"),
        "attention_dropout_rate": config.get("dropout_rate"),
        "cross_position_bias": False,  # between decoder and encoder transformers has none
        "scale_decoder_outputs": bool(scaled),
    }
    return name, kwargs | _epsilon(name, config.get("layer_norm_epsilon", 1e-6))


def adapt(
    transformer,
    layer_norm_epsilon: float | None = None,
    scale_decoder_outputs: bool = True,
    **_other,
):
    """Gives a built model the traits of a Hugging Face model that bert4keras' code does not offer
    as arguments.

    Args:
        transformer: a built ``bert4keras.models.Transformer``.
        layer_norm_epsilon: ε of every layer normalisation. Default: as bert4keras has it.
        scale_decoder_outputs: whether T5's decoder output is divided by sqrt(hidden_size) before
            the softmax weights. bert4keras always does; T5 1.1 and mT5 as published do not.
    """
    from keras_extras.layers import LayerNormalization

    for layer in transformer.layers.values():
        if layer_norm_epsilon is not None and isinstance(layer, LayerNormalization):
            layer.epsilon = layer_norm_epsilon
    scale = transformer.layers.get(transformer.prefixed("Decoder-Output-Scale"))
    if scale is not None and not scale_decoder_outputs:
        scale.scale = 1.0


def _require(config: dict, model_type: str, key: str, *allowed):
    value = config.get(key)
    if value not in allowed:
        raise CheckpointError(
            f"This Hugging Face {model_type} model has {key}={value!r}; bert4keras' architecture "
            f"has {key}={allowed[-1]!r} only, and would compute something else."
        )


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"There is no counterpart here of Hugging Face's activation {name!r}; there is one of "
            f"{', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def _epsilon(name: str, epsilon: float) -> dict[str, float]:
    return {} if _EPSILON.get(name) == epsilon else {"layer_norm_epsilon": epsilon}
