"""Temperature against closed forms and a general minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from keras_extras.postprocess import find_temperature, soften


def cross_entropy(y_true, logits, temperature):
    f = logits / temperature
    return np.mean(np.log(np.exp(f).sum(1)) - f[np.arange(len(f)), y_true])


def test_smallest_cross_entropy():
    rng = np.random.default_rng(1)
    y_true = rng.integers(0, 6, 300)
    for scale in (0.2, 1.0, 5.0):
        logits = scale * (rng.normal(size=(300, 6)) + np.eye(6)[y_true])
        best = minimize_scalar(
            lambda t, f=logits: cross_entropy(y_true, f, np.exp(t)), options={"xtol": 1e-10}
        )
        assert find_temperature(y_true, logits) == pytest.approx(np.exp(best.x), rel=1e-5)


def test_two_classes():
    """Logits ±a that are right with share q: σ(2a / T) = q."""
    logits = np.array([[3.0, -3.0]] * 10)
    expected = 6 / np.log(0.8 / 0.2)
    assert find_temperature([0] * 8 + [1] * 2, logits) == pytest.approx(expected)
    assert soften(logits, expected)[0, 0] == pytest.approx(0.8)


def test_bounds():
    logits = np.array([[3.0, -3.0], [1.0, -1.0]])
    assert find_temperature([0, 0], logits) == 1e-3  # all right
    assert find_temperature([1, 1], logits) == 1e3  # worse than guessing
    assert find_temperature([1, 0], logits, highest=7.0) == 7.0


def test_soften():
    extreme = np.array([[1e4, 0.0, -1e4]])
    np.testing.assert_allclose(
        soften(extreme, 1e4)[0], np.exp([1, 0, -1]) / np.exp([1, 0, -1]).sum()
    )
    np.testing.assert_array_equal(soften(extreme, 0.1), [[1, 0, 0]])
    with pytest.raises(ValueError, match="above 0"):
        soften(extreme, 0)
    with pytest.raises(ValueError, match="got shapes"):
        find_temperature([0], [1.0, 2.0])
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="finite logits; row 1 has NaN or infinite"):
            find_temperature([0, 1], [[1.0, 2.0], [0.0, wrong]])
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        find_temperature([3], extreme)
