"""Weights are loaded whole or not at all, and saved so that original bert4keras loads them."""

from __future__ import annotations

import json
import re
import warnings

import keras
import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model
from keras_extras.bert4keras.checkpoints import CheckpointError, open_checkpoint
from keras_extras.bert4keras.weights import collect, load_weights, save_weights, write

SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position": 10,
    "return_keras_model": False,
}


def build(**options):
    return build_transformer_model(**{**SIZES, **options})


@pytest.fixture(scope="module")
def arrays():
    """A BERT checkpoint of random values, with all heads."""
    shapes = {k: v.shape for k, v in collect(build(with_mlm=True, with_nsp=True)).items()}
    rng = np.random.default_rng(5)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def values(transformer):
    return [keras.ops.convert_to_numpy(w) for w in transformer.model.weights]


def weight(transformer, layer, index=0):
    return keras.ops.convert_to_numpy(transformer.layers[layer].weights[index])


def test_each_weight_gets_its_variable(arrays):
    bert = build(with_mlm=True, with_nsp=True)
    load_weights(bert, arrays)
    np.testing.assert_array_equal(
        weight(bert, "Embedding-Token"), arrays["bert/embeddings/word_embeddings"]
    )
    prefix = "bert/encoder/layer_1/"
    for index, part in enumerate(("query", "key", "value")):
        found = weight(bert, "Transformer-1-MultiHeadSelfAttention", 2 * index)
        np.testing.assert_array_equal(found, arrays[f"{prefix}attention/self/{part}/kernel"])
    found = weight(bert, "Transformer-1-FeedForward-Norm", 0)
    np.testing.assert_array_equal(found, arrays[prefix + "output/LayerNorm/beta"])
    np.testing.assert_array_equal(
        weight(bert, "NSP-Proba"), arrays["cls/seq_relationship/output_weights"].T
    )
    again = collect(bert)
    assert set(again) == set(arrays)
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


def test_frozen_layers_are_loaded_too(arrays):
    bert = build()
    bert.layers["Embedding-Token"].trainable = False
    load_weights(bert, arrays)
    np.testing.assert_array_equal(
        weight(bert, "Embedding-Token"), arrays["bert/embeddings/word_embeddings"]
    )


def test_a_layer_prefix(arrays):
    bert = build(prefix="a-")
    load_weights(bert, arrays)
    np.testing.assert_array_equal(
        weight(bert, "a-Embedding-Position"), arrays["bert/embeddings/position_embeddings"]
    )


def test_keep_tokens_and_compound_tokens(arrays):
    bert = build(
        with_mlm=True, keep_tokens=[0, 3, 5, 7], compound_tokens=[[1, 2], ([0, 3], [1, 3])]
    )
    load_weights(bert, arrays)
    table = arrays["bert/embeddings/word_embeddings"]
    kept = table[[0, 3, 5, 7]]
    # compound tokens are means of kept ones: plain, and weighted 1 to 3
    want = np.vstack([kept, (kept[1] + kept[2]) / 2, (kept[0] + 3 * kept[3]) / 4])
    np.testing.assert_allclose(weight(bert, "Embedding-Token"), want, rtol=1e-6)
    assert weight(bert, "MLM-Bias").shape == (6,)


def test_all_that_does_not_fit_stands_in_one_error(arrays):
    wrong = dict(arrays)
    del wrong["bert/encoder/layer_0/attention/self/key/bias"]
    del wrong["bert/embeddings/token_type_embeddings"]
    wrong["bert/embeddings/position_embeddings"] = np.zeros((12, 8), "float32")
    wrong["bert/encoder/layer_2/intermediate/dense/bias"] = np.zeros(12)
    wrong["bert/extra/kernel"] = np.zeros(12)
    bert = build()
    before = values(bert)
    with pytest.raises(CheckpointError) as caught:
        load_weights(bert, wrong)
    message = str(caught.value)
    for part in (
        "5 variables",
        "layer_0/attention/self/key/bias is missing",
        "token_type_embeddings is missing",
        "position_embeddings has shape (12, 8), but Embedding-Position needs (10, 8)",
        "layer_2/intermediate/dense/bias is superfluous",
        "bert/extra/kernel is superfluous",
        "No weight was changed",
    ):
        assert part in message
    assert all(np.array_equal(a, b) for a, b in zip(before, values(bert), strict=True))
    assert isinstance(caught.value, ValueError)


def test_invalid_weights_can_be_ignored(arrays):
    wrong = {k: v for k, v in arrays.items() if "token_type" not in k}
    bert = build(ignore_invalid_weights=True)
    before = weight(bert, "Embedding-Segment")
    with pytest.warns(UserWarning, match="token_type_embeddings is missing") as caught:
        load_weights(bert, wrong)
    assert len(caught) == 1
    np.testing.assert_array_equal(weight(bert, "Embedding-Segment"), before)
    np.testing.assert_array_equal(
        weight(bert, "Embedding-Position"), arrays["bert/embeddings/position_embeddings"]
    )


def test_what_is_normal_beside_a_backbone(arrays):
    beside = {
        "global_step": np.array(3),
        "bert/embeddings/word_embeddings/adam_m": np.zeros((20, 8)),
        "bert/pooler/dense/kernel/adam_v": np.zeros((8, 8)),
        "output_weights": np.zeros((3, 8)),
        "classifier.weight": np.zeros((3, 8)),
    }
    load_weights(build(), arrays | beside)


def test_fewer_layers_when_asked_for(arrays):
    deep = arrays | {
        name.replace("layer_1", "layer_2"): value
        for name, value in arrays.items()
        if "/layer_1/" in name
    }
    bert = build()
    with pytest.raises(CheckpointError, match="layer_2.*superfluous"):
        load_weights(bert, deep)
    bert.truncated = True
    load_weights(bert, deep)
    with pytest.raises(CheckpointError, match="layer_1.*is missing"):
        load_weights(build(), {k: v for k, v in arrays.items() if "/layer_1/" not in k})


def test_positions_of_a_bert_are_superfluous_in_a_roformer(arrays):
    with pytest.raises(CheckpointError, match="position_embeddings is superfluous"):
        load_weights(build(model="roformer"), arrays)


def test_an_own_mapping_loads_what_it_names(arrays):
    bert = build()
    before = weight(bert, "Embedding-Position")
    mapping = {"Embedding-Token": ["bert/embeddings/word_embeddings"]}
    with pytest.warns(UserWarning, match="keep the weights they have: .*Embedding-Position"):
        load_weights(bert, arrays, mapping)
    np.testing.assert_array_equal(
        weight(bert, "Embedding-Token"), arrays["bert/embeddings/word_embeddings"]
    )
    np.testing.assert_array_equal(weight(bert, "Embedding-Position"), before)


def test_a_mapping_that_does_not_fit_the_layer(arrays):
    bert = build()
    mapping = bert.variable_mapping()
    mapping["Embedding-Token"] = ["bert/embeddings/word_embeddings", "cls/predictions/output_bias"]
    mapping["Embedding-Norm"] = ["bert/embeddings/LayerNorm/beta"]
    with pytest.raises(CheckpointError) as caught:
        load_weights(bert, arrays, mapping)
    assert "Embedding-Token has 1 weights, but 2 variables" in str(caught.value)
    assert re.search("Embedding-Norm has weights that no variable.*gamma", str(caught.value))


def test_weights_of_a_condition_are_new(arrays):
    condition = keras.Input((4,))
    bert = build(
        layer_norm_cond=condition,
        layer_norm_cond_hidden_size=3,
        additional_input_layers=condition,
    )
    norm = bert.layers["Embedding-Norm"]
    assert len(norm.weights) == 5
    before = [keras.ops.convert_to_numpy(w) for w in norm.weights[2:]]
    load_weights(bert, arrays)
    np.testing.assert_array_equal(
        weight(bert, "Embedding-Norm", 1), arrays["bert/embeddings/LayerNorm/gamma"]
    )
    for index, value in enumerate(before):
        np.testing.assert_array_equal(weight(bert, "Embedding-Norm", 2 + index), value)


def test_overridden_variables_keep_working(arrays):
    from bert4keras.models import BERT

    class Renamed(BERT):
        def load_variable(self, checkpoint, name):
            if name == "bert/embeddings/token_type_embeddings":
                return None  # leaves the weight alone
            return super().load_variable(checkpoint, name.replace("bert/", "model/")) * 2

        def create_variable(self, name, value, dtype=None):
            return super().create_variable(name.replace("bert/", "model/"), value / 2, dtype)

    bert = build(model=Renamed)
    renamed = {name.replace("bert/", "model/"): value for name, value in arrays.items()}
    before = weight(bert, "Embedding-Segment")
    load_weights(bert, renamed)
    table = arrays["bert/embeddings/word_embeddings"]
    np.testing.assert_array_equal(weight(bert, "Embedding-Token"), 2 * table)
    np.testing.assert_array_equal(weight(bert, "Embedding-Segment"), before)
    np.testing.assert_array_equal(collect(bert)["model/embeddings/word_embeddings"], table)


def test_half_precision_weights_are_widened(arrays, tmp_path):
    bert = build()
    load_weights(bert, arrays)
    for dtype in ("float16", "bfloat16"):
        path = tmp_path / f"{dtype}.safetensors"
        save_weights(bert, path, dtype=dtype)
        stored = open_checkpoint(path)["bert/embeddings/word_embeddings"]
        assert stored.dtype.name == dtype
        other = build()
        load_weights(other, path)
        table = weight(other, "Embedding-Token")
        assert table.dtype == np.float32
        np.testing.assert_array_equal(table, stored.astype("float32"))


def test_resized_weights(arrays):
    wide = build(hidden_size=16, autoresize_weights=True)
    load_weights(wide, arrays)
    table = arrays["bert/embeddings/word_embeddings"]
    found = weight(wide, "Embedding-Token")
    # pairs of columns are repeated, and the whole keeps its norm
    repeated = np.concatenate([np.tile(table[:, i : i + 2], 2) for i in range(0, 8, 2)], axis=1)
    want = repeated / np.linalg.norm(repeated) * np.linalg.norm(table)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    zero = {k: v * 0 if k.endswith("bias") else v for k, v in arrays.items()}
    load_weights(wide, zero)
    assert all(np.isfinite(value).all() for value in values(wide))


def test_shared_albert_layers_with_different_weights_cannot_be_saved(tmp_path):
    unshared = build(model="albert_unshared")
    with pytest.raises(CheckpointError, match="Several layers of the model"):
        save_weights(unshared, tmp_path / "a.safetensors")
    shared = build(model="albert")
    save_weights(shared, tmp_path / "a.safetensors")
    load_weights(unshared, tmp_path / "a.safetensors")
    save_weights(unshared, tmp_path / "b.safetensors")
    a, b = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in "ab")
    assert a.names() == b.names() and all(np.array_equal(a[name], b[name]) for name in a)


ALL = [
    ("bert", {"with_mlm": True, "with_pool": True}),
    ("albert", {"with_mlm": True, "embedding_size": 4}),
    ("nezha", {}),
    ("roformer", {"embedding_size": 4}),
    ("roformer_v2", {"with_mlm": True}),
    ("electra", {"with_discriminator": True, "embedding_size": 4}),
    ("gpt", {}),
    ("gpt2", {}),
    ("gpt2_ml", {}),
    ("t5.1.0", {}),
    ("t5.1.1", {"hidden_act": ["gelu", "linear"]}),
    ("mt5.1.1", {"hidden_act": ["gelu", "linear"]}),
    ("t5.1.0_encoder", {}),
]


@pytest.mark.parametrize(("model", "options"), ALL)
def test_every_architecture_comes_back(model, options, tmp_path):
    first, second = build(model=model, **options), build(model=model, **options)
    first.save_weights_as_checkpoint(str(tmp_path / "a.safetensors"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.load_weights_from_checkpoint(str(tmp_path / "a.safetensors"))
    assert all(np.array_equal(a, b) for a, b in zip(values(first), values(second), strict=True))


ORIGINAL = """
import sys, json
import numpy as np
from bert4keras.models import build_transformer_model
folder = sys.argv[1]
sizes = json.loads(sys.argv[2])
for name, options in json.loads(sys.argv[3]):
    options = {"model": name, "checkpoint_path": f"{folder}/{name}.ckpt", **sizes, **options}
    model = build_transformer_model(**options)
    inputs = [np.load(f"{folder}/{i}.npy") for i in "ab"]
    if "gpt2" in name:
        inputs = inputs[0]
    np.save(f"{folder}/{name}.npy", model.predict(inputs, verbose=0))
"""


def test_original_bert4keras_loads_what_we_save(arrays, legacy_python, run_python, tmp_path):
    pytest.importorskip("tensorflow")
    cases = [
        ("bert", {"with_mlm": True}),
        ("roformer_v2", {}),
        ("gpt2", {}),
        ("mt5.1.1", {"hidden_act": ["gelu", "linear"]}),
    ]
    tokens = np.array([[2, 3, 4, 5, 6], [7, 8, 9, 0, 0]])
    np.save(tmp_path / "a.npy", tokens)
    np.save(tmp_path / "b.npy", np.minimum(tokens, 1) * [[0, 0, 1, 1, 1]])
    want = {}
    write(tmp_path / "narrow.ckpt", arrays)  # and original bert4keras resizes as we do
    wider = {"hidden_size": 16, "intermediate_size": 18, "hidden_act": "relu"}
    wider |= {"autoresize_weights": True, "checkpoint_path": str(tmp_path / "narrow.ckpt")}
    for name, options in cases:
        transformer = build(model=name, **options)
        transformer.save_weights_as_checkpoint(str(tmp_path / f"{name}.ckpt"))
        inputs = [np.load(tmp_path / f"{i}.npy") for i in "ab"]
        inputs = inputs[0] if "gpt2" in name else inputs
        want[name] = transformer.model.predict(inputs, verbose=0)
    cases.append(("resized", wider | {"model": "bert"}))
    want["resized"] = build(**cases[-1][1]).model.predict(inputs, verbose=0)
    sizes = {k: v for k, v in SIZES.items() if k != "return_keras_model"}
    run_python(
        legacy_python,
        ORIGINAL,
        tmp_path,
        json.dumps(sizes),
        json.dumps(cases),
        TF_KERAS=1,
        TF_USE_LEGACY_KERAS=1,
    )
    for name, value in want.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, atol=1e-5)
