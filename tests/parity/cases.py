"""The models that are compared: every architecture × application, and every option.

Plain data, read by original bert4keras on tf_keras and by ours on each backend alike.
"""

from __future__ import annotations

import zlib

import numpy as np

VOCABULARY, BATCH, CONDITION_SIZE, CACHE_LENGTH = 31, 3, 5, 4

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "max_position": 160,
}
GATED = {"hidden_act": ["gelu", "linear"]}
KEPT = [0, 5, 3, 9, 30, 7, 11, 2]
ATTENTION = "Transformer-%d-MultiHeadSelfAttention"


def case(model, application="encoder", length=11, condition=False, caches=(), **options):
    """One model: arguments of `build_transformer_model`, and what is fed to it.

    Language models give scores instead of probabilities, which would hide differences.
    """
    if application in ("lm", "unilm") and "gpt" not in model:
        options.setdefault("with_mlm", "linear")
    if "t5" in model:
        options.setdefault("with_lm", "linear")
    if "gpt" in model:
        options.setdefault("final_activation", "linear")
    return {
        "model": model,
        "application": application,
        "length": length,
        "condition": condition,
        "caches": list(caches),
        "options": {**SMALL, **options},
    }


CASES = {
    # every architecture × application that the original builds
    **{
        f"{model}-{application}": case(model, application)
        for model in ("bert", "albert", "albert_unshared", "roberta", "nezha", "roformer")
        + ("roformer_v2",)
        for application in ("encoder", "lm", "unilm")
    },
    "electra-encoder": case("electra", embedding_size=8),
    "gpt-encoder": case("gpt"),
    "gpt-unilm": case("gpt", "unilm"),
    "gpt2-encoder": case("gpt2"),
    "gpt2_ml-encoder": case("gpt2_ml"),
    **{
        model + part: case(model + part, **({} if model.startswith("t5.1.0") else GATED))
        for model in ("t5.1.0", "t5.1.1", "mt5.1.1")
        for part in ("", "_encoder", "_decoder")
    },
    # heads on top of the encoder
    "bert-mlm": case("bert", with_mlm=True, embedding_size=8),
    "bert-mlm-logits": case("bert", with_mlm="linear"),
    "bert-pool": case("bert", with_pool=True),
    "bert-pool-linear": case("bert", with_pool="linear"),
    "bert-nsp-mlm": case("bert", with_nsp=True, with_mlm=True),
    "roformer_v2-mlm": case("roformer_v2", with_mlm=True, embedding_size=8),
    "electra-discriminator": case("electra", with_discriminator=True),
    "t5.1.1_decoder-no-lm": case("t5.1.1_decoder", with_lm=False, **GATED),
    # sizes
    "bert-sizes": case("bert", embedding_size=8, attention_head_size=6, attention_key_size=10),
    "roformer-sizes": case("roformer", embedding_size=8, attention_key_size=10),
    "gpt2_ml-swish": case("gpt2_ml", hidden_act="swish"),
    "t5.1.0-sizes": case("t5.1.0", embedding_size=8, hidden_act="relu", with_lm=True),
    "gpt-softmax": case("gpt", final_activation="softmax"),
    "bert-three-segments": case("bert", segment_vocab_size=3),
    "bert-no-segments": case("bert", segment_vocab_size=0),
    "bert-fixed-length": case("bert", sequence_length=11),
    "bert-prefix": case("bert", prefix="Twin-", name="twin"),
    # positions
    "nezha-long": case("nezha", length=140),  # beyond the clipped distance of 64
    "t5.1.0-long": case("t5.1.0", length=140),  # beyond the last bucket's distance of 128
    "bert-position-ids": case("bert", custom_position_ids=True),
    "roformer-position-ids": case("roformer", custom_position_ids=True),
    "gpt-position-ids": case("gpt", custom_position_ids=True),
    "bert-hierarchical": case("bert", length=60, max_position=8, hierarchical_position=True),
    "bert-hierarchical-ids": case(
        "bert", max_position=13, hierarchical_position=0.3, custom_position_ids=True
    ),
    "gpt2-hierarchical": case("gpt2", length=60, max_position=8, hierarchical_position=0.2),
    "t5.1.1-no-cross-bias": case("t5.1.1", cross_position_bias=False, **GATED),
    # other options
    "bert-shared-segments": case("bert", shared_segment_embeddings=True),
    "nezha-shared-segments": case("nezha", shared_segment_embeddings=True),
    **{
        f"{model}-residual": case(model, residual_attention_scores=True, num_hidden_layers=3)
        for model in ("bert", "albert", "nezha", "roformer", "roformer_v2", "t5.1.0_encoder")
    },
    **{
        f"{model}-condition": case(model, condition=True)
        for model in ("bert", "albert", "nezha", "gpt", "gpt2", "gpt2_ml", "t5.1.0_encoder")
        + ("t5.1.0_decoder",)
    },
    "bert-condition-unilm": case("bert", "unilm", condition=True),
    "roformer-condition-hidden": case(
        "roformer",
        condition=True,
        layer_norm_cond_hidden_size=7,
        layer_norm_cond_hidden_act="tanh",
    ),
    "bert-caches": case("bert", caches=[ATTENTION % 0, ATTENTION % 1]),
    "electra-cache": case("electra", caches=[ATTENTION % 1]),
}

#: Loaded from a TensorFlow checkpoint that the original loads as well: every variable mapping.
FROM_CHECKPOINT = {
    **{name: CASES[name] for name in ("bert-nsp-mlm", "albert-lm", "albert_unshared-unilm")},
    **{name: CASES[name] for name in ("nezha-lm", "roformer-unilm", "roformer_v2-lm")},
    **{name: CASES[name] for name in ("electra-discriminator", "gpt-encoder", "gpt2-encoder")},
    **{name: CASES[name] for name in ("t5.1.0", "mt5.1.1", "bert-prefix")},
    "bert-keep-tokens": case("bert", with_mlm=True, keep_tokens=KEPT),
    "bert-compound-tokens": case(
        "bert", with_mlm=True, compound_tokens=[[1, 2], ([3, 4, 5], [1, 2, 3])]
    ),
    "gpt2_ml-keep-tokens": case("gpt2_ml", keep_tokens=KEPT),
    "t5.1.1-keep-tokens": case("t5.1.1", keep_tokens=KEPT, **GATED),
}

#: What the original refuses: ours has to refuse it too, with the same kind of error.
REFUSED = {
    "electra-lm": case("electra", "lm"),
    "electra-unilm": case("electra", "unilm"),
    "t5-lm": case("t5", "lm"),
    "t5.1.1-unilm": case("t5.1.1", "unilm", **GATED),
    "gpt-lm": case("gpt", "lm"),
    "gpt2-lm": case("gpt2", "lm"),
    "gpt2-unilm": case("gpt2", "unilm"),
    "unknown": case("no_such_model"),
}

#: Gradients of every weight are compared too.
WITH_GRADIENTS = (
    "bert-encoder",
    "bert-unilm",
    "albert-lm",
    "nezha-encoder",
    "roformer-encoder",
) + ("bert-condition",)


#: Computed live by the original at every run of the tests; the others are compared with goldens.
LIVE = (
    *("bert-encoder", "bert-unilm", "bert-nsp-mlm", "bert-condition"),
    *("roformer-encoder", "roformer-position-ids", "t5.1.0", "t5.1.1"),
)

#: Compared on JAX and torch too: every architecture, attention and position encoding once.
ON_BACKENDS = (
    *("bert-nsp-mlm", "bert-unilm", "bert-residual", "bert-caches", "bert-hierarchical-ids"),
    *("albert-lm", "nezha-long", "roformer-condition-hidden", "roformer-position-ids"),
    *("roformer_v2-mlm", "electra-discriminator", "gpt-position-ids", "gpt2-hierarchical"),
    *("gpt2_ml-condition", "t5.1.0-long", "mt5.1.1"),
)


def generator(*names: str) -> np.random.Generator:
    """Random numbers that depend on nothing but `names`."""
    return np.random.default_rng(zlib.crc32("/".join(names).encode()))


def layers_of(transformer) -> dict:
    """The layers of a bert4keras object, by name, without its inputs."""
    return {name: x for name, x in transformer.layers.items() if hasattr(x, "weights")}


def randomize(name: str, transformer) -> None:
    """Give every trainable weight a random value, so that no zero or one hides a mistake.

    The values depend on the case, the layer's name and the weight's rank in its layer alone, so
    that both sides draw the same ones: this is what fixes the order of the weights.
    """
    for layer_name, layer in layers_of(transformer).items():
        rng = generator(name, layer_name)
        for weight in layer.trainable_weights:
            offset = 1 if weight.name.split("/")[-1].startswith("gamma") else 0
            weight.assign(offset + rng.normal(0, 0.2, tuple(weight.shape)).astype("float32"))


def build(case: dict, build_transformer_model, Input):
    """The bert4keras object (whose `.model` is the Keras model) of one case."""
    options, extra = dict(case["options"]), []
    if case["condition"]:
        options["layer_norm_cond"] = Input((CONDITION_SIZE,), name="Condition")
        extra.append(options["layer_norm_cond"])
    if case["caches"]:
        caches = {}
        for name in case["caches"]:
            caches[name] = [
                Input((None, options["hidden_size"]), name=f"{name}-{part}-Cache")
                for part in ("Key", "Value")
            ]
            extra += caches[name]
        options["attention_caches"] = caches
    if extra:
        options["additional_input_layers"] = extra
    return build_transformer_model(
        model=case["model"],
        application=case["application"],
        return_keras_model=False,
        **options,
    )


def feed(name: str, case: dict, inputs) -> list[np.ndarray]:
    """Arrays for the input tensors, by their names: padded ids, two segments."""
    rng = generator(name, "inputs")
    options, length = case["options"], case["length"]
    vocabulary = len(options.get("keep_tokens") or range(VOCABULARY))
    vocabulary += len(options.get("compound_tokens") or [])
    lengths = [length, 2 * length // 3, length // 3]
    arrays = []
    for tensor in inputs:
        kind = tensor.name.removeprefix(options.get("prefix", "")).split(":")[0]
        if kind.endswith("Input-Token"):
            size = 1 if kind.startswith("Decoder") else 0
            ids = rng.integers(1, vocabulary, (BATCH, length - 2 * size))
            for row, end in zip(ids, lengths, strict=True):
                row[max(end - 2 * size, 1) :] = 0
            if size:
                ids[:, 0] = 0  # as T5's decoder starts
            arrays.append(ids.astype("float32"))
        elif kind == "Input-Segment":
            positions = np.arange(length)[None]
            ends = np.array(lengths)[:, None]
            segments = (positions >= ends // 2) & (positions < ends)
            if options.get("segment_vocab_size") == 3:
                segments = segments * 1 + (positions >= 3 * ends // 4) * segments
            arrays.append(segments.astype("float32"))
        elif kind == "Input-Position":
            arrays.append(rng.integers(0, 150, (BATCH, length)).astype("float32"))
        elif kind == "Condition":
            arrays.append(rng.normal(size=(BATCH, CONDITION_SIZE)).astype("float32"))
        elif kind == "Input-Context":
            shape = (BATCH, length, options["hidden_size"])
            arrays.append(rng.normal(size=shape).astype("float32"))
        else:
            shape = (BATCH, CACHE_LENGTH, options["hidden_size"])
            arrays.append(rng.normal(size=shape).astype("float32"))
    return arrays


def cotangent(name: str, index: int, shape) -> np.ndarray:
    """The weights of the sum over an output whose gradients are compared."""
    return generator(name, "cotangent", str(index)).normal(size=shape).astype("float32")
