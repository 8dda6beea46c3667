"""A bert4keras model or checkpoint, written as a directory that transformers loads."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_extras.bert4keras import huggingface
from keras_extras.bert4keras.checkpoints import tensor_files
from keras_extras.bert4keras.checkpoints.checkpoint import CheckpointError
from keras_extras.bert4keras.weights import collect, unmapped

# our name of an activation -> Hugging Face's
_BACK = {
    "gelu_erf": "gelu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
    "linear": "linear",
}


def save_pretrained(transformer, directory, vocabulary=None, dtype: str | None = None):
    """Saves a bert4keras model as a Hugging Face directory: config.json and model.safetensors.

    The attention masks of the applications ``"lm"`` and ``"unilm"`` are no part of a BERT in
    transformers; a warning says so.

    Args:
        transformer: a built ``bert4keras.models.Transformer``.
        directory: made if it does not exist.
        vocabulary: path of a ``vocab.txt`` that is copied there. Default: none.
        dtype: of the stored arrays. Default: ``keras.config.floatx()``.

    Raises:
        CheckpointError: transformers has no architecture that computes the same.
    """
    config = huggingface_config(transformer)
    masks = [transformer.prefixed(name) for name in ("Attention-LM-Mask", "Attention-UniLM-Mask")]
    masks = [name for name in masks if name in transformer.layers]
    if masks and config["model_type"] in ("bert", "albert", "roformer", "electra", "nezha"):
        warnings.warn(
            f"The model has the attention mask {masks[0]}, which transformers is not told of: "
            "there each token sees all others.",
            stacklevel=2,
        )
    arrays = collect(transformer, None, dtype)
    if "type_vocab_size" in config and not transformer.segment_vocab_size:
        # transformers adds the embedding of a segment to every token: here it is zero
        words = next(name for name in arrays if name.endswith("/word_embeddings"))
        segments = words.replace("word_embeddings", "token_type_embeddings")
        arrays[segments] = np.zeros_like(arrays[words][:1])
    scale = transformer.layers.get(transformer.prefixed("Decoder-Output-Scale"))
    if scale is not None and "decoder/logits/kernel" in arrays:
        # transformers does not scale before softmax weights of their own
        logits = arrays["decoder/logits/kernel"]
        arrays["decoder/logits/kernel"] = (logits * scale.scale).astype(logits.dtype)
    left = write_pretrained(directory, arrays, config, vocabulary)
    if left:
        warnings.warn(
            f"transformers' model has no place for {', '.join(left)}: they are not in {directory}.",
            stacklevel=2,
        )


def write_pretrained(
    directory, arrays: Mapping[str, np.ndarray], config: dict, vocabulary=None
) -> list[str]:
    """Writes arrays under bert4keras' names as a Hugging Face directory.

    Returns:
        the names of the variables that have no counterpart in transformers, and were left out.
    """
    directory = os.path.expanduser(os.fspath(directory))
    model_type = config["model_type"]
    plan, leftover = huggingface.to_huggingface({k: v.shape for k, v in arrays.items()}, model_type)
    stored = {
        name: source.make(*(arrays[tf] for tf in source.names)) for name, source in plan.items()
    }
    if model_type == "roformer":
        size = config["hidden_size"] // config["num_attention_heads"]
        table = huggingface.sinusoidal_positions(config["max_position_embeddings"], size)
        prefix = "roformer." if any(name.startswith("roformer.") for name in stored) else ""
        stored[f"{prefix}encoder.embed_positions.weight"] = table
    os.makedirs(directory, exist_ok=True)
    kept = ("float32", "float16", "bfloat16")
    dtypes = {value.dtype.name for value in arrays.values()} & set(kept)
    config = config | {"dtype": dtypes.pop() if len(dtypes) == 1 else "float32"}
    weights = os.path.join(directory, "model.safetensors")
    tensor_files.write_safetensors(weights, stored, {"format": "pt"})
    partial = os.path.join(directory, "config.json.writing")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2, ensure_ascii=False, sort_keys=True)
        file.write("\n")
    os.replace(partial, os.path.join(directory, "config.json"))
    if vocabulary is not None:
        shutil.copyfile(vocabulary, os.path.join(directory, "vocab.txt"))
    return leftover


def huggingface_config(transformer) -> dict[str, Any]:
    """The ``config.json`` with which transformers builds the same model as a built bert4keras one.

    Raises:
        CheckpointError: the model has a trait that transformers' architecture has not; the message
            says which.
    """
    from keras_extras.layers import FeedForward, LayerNormalization

    kinds = [kind.__name__ for kind in type(transformer).__mro__]
    layers = {name.removeprefix(transformer.prefix): x for name, x in transformer.layers.items()}
    feed_forward = [x for x in layers.values() if isinstance(x, FeedForward)]
    norms = [x for x in layers.values() if isinstance(x, LayerNormalization)]
    own = unmapped(transformer)
    width = transformer.attention_head_size * transformer.num_attention_heads
    unfit = [
        trait
        for trait, there in (
            ("conditional layer normalisation", any(x.conditional for x in norms)),
            ("residual attention scores", transformer.residual_attention_scores),
            ("hierarchical positions", getattr(transformer, "hierarchical_position", None)),
            ("shared segment embeddings", getattr(transformer, "shared_segment_embeddings", False)),
            ("separate sizes of keys and values",
             transformer.attention_key_size != transformer.attention_head_size),
            ("attention heads that are not hidden_size wide together",
             width != transformer.hidden_size and "T5_Base" not in kinds),
            (f"weights that no variable is named for (of {', '.join(own)})", own),
            ("no feed-forward layer", not feed_forward),
        )
        if there
    ]  # fmt: skip
    if unfit:
        raise CheckpointError(
            f"The model has {', '.join(unfit)}, which no model of transformers has: save it with "
            "save_weights_as_checkpoint or model.save instead."
        )
    acts = [_BACK.get(getattr(act, "__name__", str(act))) for act in feed_forward[0].activation]
    if None in acts:
        raise CheckpointError(f"transformers has no activation {feed_forward[0].activation}.")
    epsilon = norms[0].epsilon
    if "T5_Base" in kinds:
        config = _t5_config(transformer, layers, acts)
    elif "GPT" in kinds and "GPT2_ML" not in kinds:
        config = _gpt_config(transformer, kinds, acts[0])
    else:
        config = _bert_config(transformer, kinds, layers, acts[0])
    key = "layer_norm_eps" if "layer_norm_eps" in config else "layer_norm_epsilon"
    return config | {key: epsilon, "vocab_size": transformer.vocab_size, "pad_token_id": 0}


def _bert_config(transformer, kinds, layers, act) -> dict:
    known = ("ALBERT", "RoFormer", "NEZHA", "ELECTRA", "BERT")
    kind = next((kind for kind in kinds if kind in known), None)
    if kind is None or {"RoFormerV2", "ALBERT_Unshared", "GPT2_ML"} & set(kinds):
        raise CheckpointError(
            f"transformers has no model like {type(transformer).__name__}: save it with "
            "save_weights_as_checkpoint."
        )
    stem = {"ALBERT": "Albert", "NEZHA": "Nezha", "BERT": "Bert", "ELECTRA": "Electra"}.get(
        kind, kind
    )
    if kind == "ELECTRA":
        head = "ForPreTraining" if "Discriminator-Dense" in layers else "Model"
    elif "MLM-Dense" in layers:
        head = "ForPreTraining" if "NSP-Proba" in layers else "ForMaskedLM"
    else:
        head = "Model"
    config = {
        "architectures": [stem + head],
        "model_type": kind.lower(),
        "hidden_size": transformer.hidden_size,
        "num_hidden_layers": transformer.num_hidden_layers,
        "num_attention_heads": transformer.num_attention_heads,
        "intermediate_size": transformer.intermediate_size,
        "hidden_act": act,
        "hidden_dropout_prob": transformer.dropout_rate,
        "attention_probs_dropout_prob": transformer.attention_dropout_rate,
        "max_position_embeddings": transformer.max_position,
        "type_vocab_size": transformer.segment_vocab_size or 1,
        "layer_norm_eps": None,
    }
    if kind == "NEZHA":
        config["max_relative_position"] = 64
    if kind == "RoFormer":
        config["rotary_value"] = False
    if kind in ("ALBERT", "ELECTRA", "RoFormer"):
        config["embedding_size"] = transformer.embedding_size
    elif transformer.embedding_size != transformer.hidden_size:
        raise CheckpointError(f"transformers' {stem} has no embedding_size of its own.")
    return config


def _gpt_config(transformer, kinds, act) -> dict:
    if transformer.embedding_size != transformer.hidden_size:
        raise CheckpointError("transformers' GPT models have no embedding_size of their own.")
    config = {
        "n_embd": transformer.hidden_size,
        "n_layer": transformer.num_hidden_layers,
        "n_head": transformer.num_attention_heads,
        "n_positions": transformer.max_position,
        "resid_pdrop": transformer.dropout_rate,
        "embd_pdrop": transformer.dropout_rate,
        "attn_pdrop": transformer.attention_dropout_rate,
    }
    if "GPT2" in kinds:
        return config | {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_inner": transformer.intermediate_size,
            "activation_function": act,
        }
    afn = {"gelu_new": "gelu", "relu": "relu", "silu": "silu"}.get(act)
    if afn is None or transformer.segment_vocab_size:
        raise CheckpointError(
            "transformers' OpenAI GPT knows the activations gelu_tanh, relu and swish and no "
            "segment embeddings; this model differs."
        )
    if transformer.intermediate_size != 4 * transformer.hidden_size:
        raise CheckpointError("transformers' OpenAI GPT is four times as wide in its feed-forward.")
    return config | {
        "architectures": ["OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "afn": afn,
    }


def _t5_config(transformer, layers, acts) -> dict:
    decoder = getattr(transformer, "_decoder", transformer)
    if getattr(decoder, "cross_position_bias", False):
        raise CheckpointError(
            "transformers' T5 has no position bias between decoder and encoder: build the model "
            "with cross_position_bias=False."
        )
    encodes, decodes = "Encoder-Output-Norm" in layers, "Decoder-Output-Norm" in layers
    if not encodes:
        raise CheckpointError("transformers has no T5 decoder without an encoder.")
    stem = "MT5" if transformer.version.startswith("mt5") else "T5"
    return {
        "architectures": [stem + ("ForConditionalGeneration" if decodes else "EncoderModel")],
        "model_type": stem.lower(),
        "d_model": transformer.hidden_size,
        "d_kv": transformer.attention_head_size,
        "d_ff": transformer.intermediate_size,
        "num_layers": transformer.num_hidden_layers,
        "num_heads": transformer.num_attention_heads,
        "dropout_rate": transformer.dropout_rate,
        "feed_forward_proj": f"gated-{acts[0]}" if len(acts) > 1 else acts[0],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "is_encoder_decoder": decodes,
        "tie_word_embeddings": len(acts) == 1,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
    }
