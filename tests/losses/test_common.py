"""What every loss has to do: its formula, its gradient, weights, precision, config, backends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_extras.losses

from .cases import CASES, EVERY, MASKED, WEIGHTS, ZEROS, value_and_gradient

HERE = Path(__file__).parent
cases = pytest.mark.parametrize("name", CASES)


def test_no_loss_is_left_out():
    tested = {type(case.loss) for case in CASES.values()}
    classes = [getattr(keras_extras.losses, name) for name in keras_extras.losses.__all__]
    left_out = {
        c for c in classes if isinstance(c, type) and issubclass(c, keras.losses.Loss)
    } - tested
    assert {c.__name__ for c in left_out} == {
        "MultilabelCategoricalCrossentropy",
        "SparseMultilabelCategoricalCrossentropy",
    }  # test_multilabel.py


@pytest.mark.parametrize("name", [*CASES, *MASKED])
def test_value_and_gradient(name):
    case = EVERY[name]
    value, gradient = value_and_gradient(case, case.y_pred.astype("float32"))
    assert float(value) == pytest.approx(case.expected(), rel=1e-5)
    expected = case.expected_gradient()
    if name == "tailr-weighted":  # whose weight is not differentiated
        p = np.exp(-CASES["tailr-0"].formula(case.y_true, case.y_pred))
        weight = np.maximum(0.2, p / (0.3 + 0.7 * p))
        softmax = np.exp(case.y_pred) / np.exp(case.y_pred).sum(-1, keepdims=True)
        expected = weight[:, None] * (softmax - np.eye(4)[case.y_true]) / 12
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=2e-6)


@cases
def test_sample_weights(name):
    case = CASES[name]
    value = case.loss(case.y_true, case.y_pred.astype("float32"), WEIGHTS)
    assert float(value) == pytest.approx(case.expected(weights=WEIGHTS), rel=1e-5)


@cases
def test_reduction(name):
    case = CASES[name]
    if not case.of_rows:
        assert "reduction" not in case.loss.get_config()
        return
    expected = case.formula(case.y_true, case.y_pred)
    config = case.loss.get_config()
    for reduction, wanted in (("sum", expected.sum()), (None, expected)):
        loss = type(case.loss).from_config({**config, "reduction": reduction})
        value = np.asarray(loss(case.y_true, case.y_pred.astype("float32")))
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)


@cases
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_precision(name, dtype):
    """Predictions in half precision are computed with in float32."""
    case = CASES[name]
    y_pred = keras.ops.cast(case.y_pred, dtype)
    assert (np.asarray(keras.ops.cast(y_pred, "float64")) == case.y_pred).all()
    loss = type(case.loss).from_config({**case.loss.get_config(), "dtype": "float32"})
    assert float(loss(case.y_true, y_pred)) == pytest.approx(case.expected(), rel=1e-5)
    direct = loss.call(keras.ops.convert_to_tensor(case.y_true.astype("float32")), y_pred)
    wanted = "float64" if dtype == "float64" else "float32"
    assert keras.backend.standardize_dtype(direct.dtype) == wanted
    assert float(np.mean(direct)) == pytest.approx(case.expected(), rel=1e-5)


@cases
@pytest.mark.parametrize("size", [0.0, 1e-6, 6e4])
def test_extreme_predictions_stay_finite(name, size):
    case = CASES[name]
    value, gradient = value_and_gradient(case, (np.sign(case.y_pred) * size).astype("float32"))
    assert np.isfinite(float(value)) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ZEROS)
def test_zero_vectors(name):
    """They have no direction: their cosines are 0, and nothing moves them."""
    case = ZEROS[name]
    value, gradient = value_and_gradient(case, case.y_pred.astype("float32"))
    assert float(value) == pytest.approx(case.expected(), rel=1e-5, abs=1e-6)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[3].any()


@cases
def test_config(name):
    loss = CASES[name].loss
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    assert data["registered_name"] == f"keras_extras>{type(loss).__name__}"
    twin = keras.saving.deserialize_keras_object(data)
    assert type(twin) is type(loss) and twin.get_config() == loss.get_config()
    case = CASES[name]
    assert float(twin(case.y_true, case.y_pred)) == float(loss(case.y_true, case.y_pred))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backends_agree(backend, request, run_python, tmp_path):
    python = request.getfixturevalue(f"{backend}_python")
    file = tmp_path / "results.npz"
    run_python(
        python,
        f"import tests.losses.cases as c; c.main({str(file)!r})",
        KERAS_BACKEND=backend,
        JAX_DISABLE_MOST_OPTIMIZATIONS=1,  # to compile in less time
    )
    with np.load(file) as results:
        for name, case in EVERY.items():
            expected = pytest.approx(case.expected(), rel=1e-5, abs=1e-6)
            assert results[f"{name}|value"] == expected, name
            _, gradient = value_and_gradient(case, case.y_pred.astype("float32"))
            np.testing.assert_allclose(
                results[f"{name}|gradient"], gradient, rtol=1e-4, atol=2e-6, err_msg=name
            )


def test_two_replicas_equal_one_device(run_python):
    """Losses that compare rows of a batch compare those of all replicas."""
    found = json.loads(run_python(sys.executable, HERE / "mirrored.py").splitlines()[-1])
    assert set(found) >= {"cosent", "simcse", "simcse-triplets", "f1-macro", "r_drop"}
    assert {name: error for name, error in found.items() if not error <= 1e-5} == {}
