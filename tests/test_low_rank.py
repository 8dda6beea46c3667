"""LoRA in models that exist: what trains, what is saved, what fits, and against peft."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model
from keras_extras.layers import Embedding, FirstToken, LowRankDense
from keras_extras.low_rank import (
    add_low_rank,
    load_low_rank,
    merge_low_rank,
    remove_low_rank,
    save_low_rank,
    unmerge_low_rank,
)

IDS = np.random.default_rng(0).integers(1, 30, (6, 5)).astype("int32")
X = [IDS, np.zeros_like(IDS)]
Y = np.arange(6) % 3
PATTERNS = ["q_dense", "v_dense", "^Embedding-Token$"]


def make_backbone(**kwargs):
    keras.utils.set_random_seed(1)
    config = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "max_position": 16}
    config |= {"num_attention_heads": 2, "intermediate_size": 16, "hidden_act": "gelu"}
    bert = build_transformer_model(**config, **kwargs)
    rng = np.random.default_rng(2)
    for weight in bert.weights:
        weight.assign(weight.numpy() + rng.normal(0, 0.2, weight.shape))
    return bert


def make_classifier(patterns=PATTERNS, **kwargs):
    """A bert with factors, and a head put on it afterwards."""
    bert = make_backbone()
    if patterns:
        add_low_rank(bert, patterns, rank=2, seed=1, **kwargs)
    logits = keras.layers.Dense(3, name="classifier")(FirstToken()(bert.output))
    return keras.Model(bert.input, logits)


def train(model, epochs=3):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss)
    return model.fit(X, Y, batch_size=6, epochs=epochs, verbose=0).history["loss"]


def outputs(model):
    return np.asarray(model(X))


@pytest.fixture(scope="module")
def trained():
    """Before, after, and how the weights moved; nothing below changes it for good."""
    model = make_classifier()
    start = {w.path: w.numpy() for w in model.weights}
    losses = train(model)
    moved = {w.path for w in model.weights if (w.numpy() != start[w.path]).any()}
    return {"model": model, "losses": losses, "moved": moved, "outputs": outputs(model)}


def test_only_factors_and_head_train(trained):
    layers = [f"Transformer-{i}-MultiHeadSelfAttention/{x}" for i in "01" for x in ("q", "v")]
    expected = {f"{layer}_dense/low_rank/{factor}" for layer in layers for factor in "ab"}
    expected |= {f"Embedding-Token/low_rank/{factor}" for factor in "ab"}
    expected |= {"classifier/kernel", "classifier/bias"}
    model = trained["model"]
    assert {w.path for w in model.trainable_weights} == expected
    assert trained["moved"] == expected
    assert trained["losses"][-1] < 0.7 * trained["losses"][0]
    assert len(model.optimizer.variables) == 2 + 2 * len(expected)  # two moments of these alone


def test_nothing_changes_before_training_nor_in_functions_compiled_before():
    model = make_backbone()
    before = model.predict(X, verbose=0)
    paths = add_low_rank(model, ["o_dense$", "Embedding-Segment"], rank=2, seed=1)
    assert len(paths) == 5
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    firsts = [w.numpy() for w in model.trainable_weights if w.path.endswith("_dense/low_rank/a")]
    assert [a.shape for a in firsts] == [(8, 2), (16, 2)] * 2
    assert np.abs(firsts[0] - firsts[2]).max() > 0.01  # numbers of their own
    for weight in model.trainable_weights:
        weight.assign(np.cos(np.arange(weight.numpy().size)).reshape(weight.shape))
    assert np.abs(model.predict(X, verbose=0) - before).max() > 0.01


@pytest.mark.parametrize("with_factors", [False, True])
def test_save_and_load(trained, tmp_path, with_factors):
    path = tmp_path / "factors.npz"
    save_low_rank(trained["model"], path)
    count = sum(int(np.prod(w.shape)) for w in trained["model"].trainable_weights)
    with np.load(path, allow_pickle=False) as file:
        assert sum(file[n].size for n in file.files if n != "low_rank") == count
        assert {n for n in file.files if n != "low_rank"} == trained["moved"]
    assert os.listdir(tmp_path) == ["factors.npz"]
    twin = make_classifier(PATTERNS if with_factors else None)
    twin.predict(X, verbose=0)
    load_low_rank(twin, path)
    np.testing.assert_allclose(twin.predict(X, verbose=0), trained["outputs"], atol=1e-6)
    assert {w.path for w in twin.trainable_weights} == trained["moved"]
    again = train(twin, 1)[0]  # goes on where the other stopped
    assert again == pytest.approx(
        trained["model"].evaluate(X, Y, batch_size=6, verbose=0), rel=1e-4
    )


def test_merge_unmerge_remove(trained, tmp_path):
    model = make_classifier()
    model.set_weights(trained["model"].get_weights())
    before = model.predict(X, verbose=0)
    frozen = {w.path: w.numpy() for w in model.weights}
    merge_low_rank(model)
    np.testing.assert_allclose(model.predict(X, verbose=0), before, atol=2e-6)
    assert {w.path for w in model.trainable_weights} == {"classifier/kernel", "classifier/bias"}
    save_low_rank(model, tmp_path / "merged.npz")  # the factors are kept, merged or not
    unmerge_low_rank(model)
    for weight in model.weights:
        np.testing.assert_allclose(weight.numpy(), frozen[weight.path], atol=1e-6)
    plain = make_classifier(None)
    load_low_rank(plain, tmp_path / "merged.npz")
    np.testing.assert_allclose(outputs(plain), before, atol=2e-6)
    remove_low_rank(model)
    np.testing.assert_allclose(model.predict(X, verbose=0), before, atol=2e-6)
    fresh = make_classifier(None)
    assert [w.path for w in model.weights] == [w.path for w in fresh.weights]
    assert "call" not in vars(model.get_layer("Embedding-Token"))
    trained_now = [w.path for w in model.trainable_weights]
    assert trained_now == [w.path for w in fresh.trainable_weights]
    start = [w.numpy() for w in model.weights]
    train(model, 1)
    moved = [
        w.path for w, old in zip(model.weights, start, strict=True) if (w.numpy() != old).any()
    ]
    assert "Transformer-0-MultiHeadSelfAttention/q_dense/kernel" in moved
    with pytest.raises(ValueError, match="add_low_rank first"):
        merge_low_rank(model)


def test_weights_files(trained, tmp_path):
    """`save_weights` fits the model with factors exactly, the plain one, and the other way."""
    path = tmp_path / "model.weights.h5"
    trained["model"].save_weights(path)
    plain = make_classifier(None)
    plain.load_weights(path)
    np.testing.assert_allclose(outputs(plain), trained["outputs"], atol=2e-6)
    twin = make_classifier()
    twin.load_weights(path)
    for ours, theirs in zip(twin.weights, trained["model"].weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=3e-7, err_msg=ours.path)
    other = make_classifier(None)
    other.save_weights(path)
    twin.load_weights(path)
    np.testing.assert_allclose(outputs(twin), outputs(other), atol=1e-6)


def test_a_saved_model_is_plain_and_merged(trained, tmp_path):
    bert = make_backbone()
    add_low_rank(bert, PATTERNS, rank=2, seed=1)
    values = {w.path: w for w in trained["model"].weights}
    for weight in bert.weights:
        weight.assign(values[weight.path])
    expected = outputs(bert)
    bert.save(tmp_path / "bert.keras")
    loaded = keras.models.load_model(tmp_path / "bert.keras")
    np.testing.assert_allclose(outputs(loaded), expected, atol=2e-6)
    assert not any("low_rank" in w.path for w in loaded.weights)


def test_layers_made_with_factors_are_saved_with_them(tmp_path):
    model = keras.Sequential([keras.Input((4,)), LowRankDense(3, rank=2, name="thin")])
    model.layers[0].low_rank.b.assign(np.ones((2, 3)))
    model.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-7)
    remove_low_rank(loaded)  # merged, and still such a layer
    assert loaded.layers[0].low_rank.merged


def test_what_does_not_fit(trained, tmp_path):
    path = tmp_path / "factors.npz"
    save_low_rank(trained["model"], path)
    wide = make_classifier(["q_dense"])
    before = [w.numpy() for w in wide.weights]
    x, ids = keras.Input((4,)), keras.Input((4,), dtype="int32")
    other = keras.Model(x, keras.layers.Dense(3, name="classifier")(x))
    cases = {
        "Embedding-Token is .30, 9., in the file .30, 8.": keras.Model(
            ids, Embedding(30, 9, name="Embedding-Token")(ids)
        ),
        "no Dense or Embedding layer Transformer-1-MultiHeadSelfAttention/v_dense": other,
        "classifier/kernel is .4, 3., in the file .8, 3.": other,
        "has rank=2, in the file 4": None,
        "v_dense has factors, but not in the file": None,
    }
    for message, model in cases.items():
        if model is None:
            save_low_rank(make_with(rank=4) if "rank=2" in message else wide, path)
            model = trained["model"]
        with pytest.raises(ValueError, match=message):
            load_low_rank(model, path)
        assert "low_rank" not in "".join(w.path for w in other.weights)
    np.testing.assert_array_equal(outputs(trained["model"]), trained["outputs"])
    for weight, value in zip(wide.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    np.savez(path, a=np.zeros(2))
    with pytest.raises(ValueError, match="was not written by save_low_rank"):
        load_low_rank(wide, path)
    with pytest.raises(ValueError, match=".npz"):
        save_low_rank(wide, tmp_path / "factors.h5")


def make_with(rank):
    bert = make_backbone()
    add_low_rank(bert, PATTERNS, rank=rank)
    return bert


def test_train_and_frozen_layers():
    """`train` names more weights; a layer that was frozen before does not freeze its factors."""
    model = make_backbone()
    model.get_layer("Transformer-1-MultiHeadSelfAttention").trainable = False
    add_low_rank(model, ["Transformer-1-.*q_dense"], rank=2, mode="additive", train=["1-.*bias$"])
    paths = [w.path for w in model.trainable_weights]
    assert sum("low_rank" in path for path in paths) == 2
    assert all(re.search("1-.*(bias|q_dense/low_rank/[ab])$", path) for path in paths)
    assert len(paths) == 2 + 6  # q, k, v, o, and two of the feed-forward network


def test_bad_requests():
    model = make_backbone()
    weights = [w.path for w in model.weights]
    for arguments, message in (
        ({"include": ["nowhere"]}, "'nowhere' of `include` is found in none"),
        ({"include": "q_dense"}, "list of regular expressions"),
        ({"include": ["q_dense"], "train": ["clasifier"]}, "'clasifier' of `train`"),
        ({"include": ["q_dense"], "train": ["q_dense/kernel"]}, "cannot ask for it too"),
        ({"include": ["q_dense"], "rank": 0}, "`rank`"),
        ({"include": ["q_dense"], "mode": "additive", "rank": 3}, "divides both sides"),
    ):
        with pytest.raises(ValueError, match=message):
            add_low_rank(model, **arguments)
    assert [w.path for w in model.trainable_weights] == weights
    add_low_rank(model, ["q_dense"], rank=2)
    with pytest.raises(ValueError, match="has factors already"):
        add_low_rank(model, ["q_dense"], rank=2)
    kept = keras.layers.Dense(3, kernel_constraint="non_neg", name="kept")
    with pytest.raises(ValueError, match="kept has a constraint"):
        add_low_rank(keras.Sequential([keras.Input((4,)), kept]), ["kept"], rank=2)
    theirs = keras.layers.Dense(3, name="theirs", lora_rank=2)
    with pytest.raises(ValueError, match="theirs is quantized, or has Keras' own LoRA"):
        add_low_rank(keras.Sequential([keras.Input((4,)), theirs]), ["theirs"], rank=2)
    twins = [keras.layers.Dense(4, name="twin"), keras.layers.Dense(4, name="twin")]
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="path twin"):
        inner = keras.Model(x, twins[0](x), name="inner")
        y = keras.Input((4,))
        add_low_rank(keras.Model(y, twins[1](inner(y))), ["twin"], rank=2)


@pytest.fixture(scope="module")
def peft_python(request) -> str:
    """KERAS_EXTRAS_PEFT_PYTHON, or the peer with torch if it has peft."""
    python = os.environ.get("KERAS_EXTRAS_PEFT_PYTHON") or request.getfixturevalue("torch_python")
    probe = "import importlib.util as u; assert u.find_spec('peft') and u.find_spec('transformers')"
    if subprocess.run([python, "-c", probe], capture_output=True).returncode:
        pytest.skip(f"{python} has no peft; KERAS_EXTRAS_PEFT_PYTHON may name one that has")
    return python


@pytest.mark.slow
def test_peft(peft_python, run_python, tmp_path):
    """Outputs, losses and factors through three steps of SGD, and the merged model."""
    run_python(peft_python, Path(__file__).with_name("peft_peer.py"), tmp_path)
    theirs = dict(np.load(tmp_path / "peft.npz"))
    model = build_transformer_model(tmp_path)
    inputs = [theirs["ids"].astype("int32"), np.zeros_like(theirs["ids"], "int32")]
    np.testing.assert_allclose(np.asarray(model(inputs)), theirs["before"], atol=2e-5)
    add_low_rank(model, ["q_dense", "v_dense", "^Embedding-Token$"], rank=3, alpha=6)
    ours = {}
    for weight in model.trainable_weights:
        path, factor = weight.path.split("/low_rank/")
        block = re.match(r"Transformer-(\d+)-.*/([qv])_dense", path)
        if block:
            kind = {"q": "query", "v": "value"}[block[2]]
            place, end = f"layer.{block[1]}.attention.self.{kind}", f"lora_{factor.upper()}.default"
        else:
            place, end = "word_embeddings", f"lora_embedding_{factor.upper()}.default"
        (name,) = [n for n in theirs["names"] if place in n and end in n]
        ours[str(name)] = weight
        weight.assign(theirs[f"start/{name}"].T)
    assert len(ours) == len(theirs["names"]) == 10
    np.testing.assert_allclose(np.asarray(model(inputs)), theirs["after"], atol=2e-5)

    targets = keras.Model(model.input, model.output[:, 0, :4])
    targets.compile(keras.optimizers.SGD(0.5), "mse")
    ones = np.ones((4, 4), "float32")
    losses = []
    for _ in range(3):
        losses.append(float(targets.train_on_batch(inputs, ones)))
        targets.reset_metrics()
    np.testing.assert_allclose(losses, theirs["losses"], rtol=1e-5)
    for name, weight in ours.items():
        np.testing.assert_allclose(weight.numpy(), theirs[f"end/{name}"].T, atol=2e-5, err_msg=name)
    remove_low_rank(model)
    np.testing.assert_allclose(np.asarray(model(inputs)), theirs["merged"], atol=5e-5)
