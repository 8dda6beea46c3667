"""What every layer has to do: config, mask, dynamic shapes, mixed precision, saving, backends."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_extras.layers

from .common_cases import CASES, as_arrays

HERE = Path(__file__).parent
cases = pytest.mark.parametrize("name", CASES)
SIZES = [(2, 5), (4, 7)]


@pytest.fixture(scope="module")
def models():
    """For each case a functional model around the layer, its weights away from 0 and 1."""
    made = {}
    keras.utils.set_random_seed(1)
    for name, case in CASES.items():
        inputs = case.symbolic()
        made[name] = keras.Model(inputs, case.apply(case.layer, inputs))
        rng = np.random.default_rng(1)
        for weight in case.layer.trainable_weights:
            weight.assign(weight.numpy() + rng.normal(0, 0.3, weight.shape))
    return made


def apply(case, layer, size=(2, 5)):
    return as_arrays(case.apply(layer, [tf.constant(x) for x in case.arrays(*size)]))


def assert_close(actual, expected, tolerance=1e-5):
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_no_layer_is_left_out():
    tested = {type(case.layer).__name__ for case in CASES.values()}
    abstract = {"AttentionPosition", "Loss"}
    assert set(keras_extras.layers.__all__) - tested == abstract


@cases
def test_config(name, models):
    case = CASES[name]
    config = case.layer.get_config()
    json.dumps(keras.saving.serialize_keras_object(case.layer))
    assert keras.saving.get_registered_name(type(case.layer)).startswith("keras_extras>")
    twin = type(case.layer).from_config(config)
    assert twin.get_config() == config
    apply(case, twin)
    assert [w.path for w in twin.weights] == [w.path for w in case.layer.weights]
    twin.set_weights(case.layer.get_weights())
    assert_close(apply(case, twin), apply(case, case.layer), 0)


@cases
def test_dynamic_batch_and_length(name, models):
    """One trace of unknown batch and length serves every size, and knows its static shape."""
    case, model = CASES[name], models[name]
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    traced = tf.function(lambda *xs: model(list(xs)), input_signature=specs)
    for size in SIZES:
        outputs = as_arrays(traced(*case.arrays(*size)))
        assert_close(outputs, apply(case, case.layer, size))
        for symbolic, output in zip(model.outputs, outputs, strict=True):
            tf.TensorShape(symbolic.shape).assert_is_compatible_with(output.shape)
            assert len(symbolic.shape) == output.ndim


@cases
def test_mask(name, models):
    """Padding changes nothing that is visible, and the mask is handed on as documented."""
    case = CASES[name]
    arrays = case.arrays(2, 5)
    names = case.inputs.split()
    visible = np.arange(5)[None] < 5 - np.arange(2)[:, None]
    masks = [tf.constant(visible) if n in ("x", "y") else None for n in names]
    if names[0] == "ids":
        return  # masks of the embedding: test_embedding.py; the LM mask ignores ids
    many = len(names) > 1
    inputs = [tf.constant(x) for x in arrays]
    handed_on = case.layer.compute_mask(inputs if many else inputs[0], masks if many else masks[0])
    expected = {
        "kept": visible,
        "dropped": None,
        "kept first": [visible, None],
        "joined": np.concatenate([visible, np.ones((2, 5), bool)], 1),
        "joined batch": np.concatenate([visible, visible], 0),
        "split": [visible[:1], visible[1:]],
    }[case.mask]
    if "x" not in names or names[0] == "plain":
        expected = None
    for mask, wanted in zip(
        handed_on if isinstance(expected, list) else [handed_on],
        expected if isinstance(expected, list) else [expected],
        strict=True,
    ):
        assert (mask is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(mask, wanted)
    if "x" not in names:
        return
    noisy = [
        tf.constant(np.where(visible[..., None], x, 9.0).astype("float32"))
        if n in ("x", "y")
        else x
        for n, x in zip(names, arrays, strict=True)
    ]
    outputs = []
    for xs in (inputs, noisy):
        masked = {"mask": masks if many else masks[0]} if case.layer._call_has_mask_arg else {}
        output = case.layer([*xs] if many else xs[0], **case.call, **masked)
        outputs.append(as_arrays(output))
    if case.mask == "dropped" and outputs[0][0].ndim == 4:  # spans (batch, heads, start, end)
        square = visible[:, None, :, None] & visible[:, None, None]
        assert_close(*[[np.where(square, o[0], 0)] for o in outputs], 1e-4)
    elif case.mask == "dropped" and name not in ("crf", "memm"):
        assert_close(*outputs, 1e-5)
    elif case.mask in ("kept", "dropped") and outputs[0][0].shape[0] == 2:
        keep = visible[..., None]
        assert_close(*[[np.where(keep, o[0], 0)] for o in outputs], 1e-5)


@cases
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(name, policy, models):
    case = CASES[name]
    layer = type(case.layer).from_config({**case.layer.get_config(), "dtype": policy})
    apply(case, layer)
    assert {w.dtype for w in layer.weights} <= {"float32"}
    layer.set_weights(case.layer.get_weights())
    inputs = [tf.constant(x) for x in case.arrays(2, 5)]
    raw = case.apply(layer, inputs)
    dtype = raw[0].dtype if isinstance(raw, list) else raw.dtype
    assert dtype.name in (policy.removeprefix("mixed_"), "bool")
    for half, full in zip(as_arrays(raw), apply(case, case.layer), strict=True):
        assert np.isfinite(half).all()
        shown = np.abs(full) < 1e4  # masked scores differ by dtype, and are as finite
        assert (np.abs(half[~shown]) > 1e4).all()
        tolerance = 0.02 if policy == "mixed_float16" else 0.15
        np.testing.assert_allclose(half[shown], full[shown], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow), "torch"]
)
def test_saved_models_in_a_fresh_process(backend, models, request, run_python, tmp_path):
    """Saved here, loaded in safe mode with only `import keras_extras`, on every backend."""
    fixtures = {"tensorflow": "legacy_python", "jax": "jax_python", "torch": "torch_python"}
    python = request.getfixturevalue(fixtures[backend])
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    fast = {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": 1}  # to compile
    run_python(python, HERE / "common_cases.py", tmp_path, backend, **fast)
    with np.load(tmp_path / f"{backend}.npz") as file:
        results = dict(file)
    for name, case in CASES.items():
        for size in SIZES:
            expected = apply(case, case.layer, size)
            outputs = [results.pop(f"{name}|{size[0]}|{i}") for i in range(len(expected))]
            for output, wanted in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(
                    output, wanted, rtol=1e-5, atol=1e-5, err_msg=f"{name} on {backend}"
                )
    assert not results
