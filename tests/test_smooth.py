"""Smooth functions and noisy argmax: values in float64, gradients, identities, backends."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from keras_extras import activations, categorical, smooth

from .smooth_cases import FUNCTIONS, LINE, NOISES, ON_LINE, SCORES, compute, weights_of

DISTRIBUTIONS = {
    "gumbel": stats.gumbel_r,
    "normal": stats.norm,
    "logistic": stats.logistic,
    "laplace": stats.laplace,
    "cauchy": stats.cauchy,
    "uniform": stats.uniform,
    "exponential": stats.expon,
}
UNIT_ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


@pytest.fixture(scope="module")
def ours():
    return compute()


def leaky(y, alpha):
    return np.where(y > 0, y, alpha * y)


def convolved(x, alpha, sigma):
    """leaky relu ⊛ normal density by quadrature."""
    value = lambda e: leaky(x - e, alpha) * stats.norm.pdf(e, scale=sigma)  # noqa: E731
    return sum(
        integrate.quad(value, *ends, epsabs=1e-13)[0]
        for ends in ((-12 * sigma, np.clip(x, -12 * sigma, 12 * sigma)),)
        + ((np.clip(x, -12 * sigma, 12 * sigma), 12 * sigma),)
    )


def floor_sum(x, cdf, low=-60, high=60):
    """The article's sum, long enough for any x here."""
    n = np.arange(low, high + 1)
    return (cdf(x[:, None] - n) - (n <= 0)).sum(1)


def top_k_marks(x, k):
    cdf = stats.laplace.cdf
    shift = optimize.brentq(lambda s: cdf(x - s).sum() - k, x.min() - 9, x.max() + 9, xtol=1e-13)
    return cdf(x - shift)


def k_max_marks(x, k):
    x, marks = x - x.min(), np.zeros_like(x)
    for _ in range(k):
        marks = marks + special.softmax((1 - marks) * x)
    return marks


def argmax_probabilities(mu, noise):
    """Each by adaptive quadrature of its own density."""
    kind, p = DISTRIBUTIONS[noise], []
    for i in range(len(mu)):
        others = np.delete(mu, i)
        integrand = lambda t: np.prod(  # noqa: E731
            kind.cdf(mu[i] - others + kind.ppf(t))  # noqa: B023
        )
        points = kind.cdf(others - mu[i])  # where one of the factors starts
        points = np.unique(np.concatenate([points, kind.cdf(others - mu[i] + 1)]))
        points = points[(points > 1e-9) & (points < 1 - 1e-9)]
        p.append(integrate.quad(integrand, 0, 1, points=points, limit=500, epsabs=1e-11)[0])
    return np.array(p)


x64, s64 = LINE.astype("float64"), SCORES.astype("float64")
EXPECTED = {
    "softplus": lambda: np.logaddexp(0, 2 * x64) / 2,
    "gaussian_relu": lambda: [convolved(x, 0.0, 0.7) for x in x64],
    "swish": lambda: x64 * special.expit(1.5 * x64),
    "gelu": lambda: x64 * stats.norm.cdf(x64 / 0.6),
    "sau": lambda: [convolved(x, float(np.float32(0.1)), 0.8) for x in x64],
    "smooth_floor": lambda: floor_sum(x64, lambda z: special.expit(4 * z)),
    "smooth_floor-normal": lambda: floor_sum(x64, lambda z: stats.norm.cdf(3 * z)),
    "smooth_abs": lambda: np.logaddexp(2 * x64, -2 * x64) / 2,
    "smooth_max": lambda: special.logsumexp(2 * s64, 1) / 2,
    "smooth_max-min": lambda: -special.logsumexp(-2 * s64, 0) / 2,
    "smooth_max-all": lambda: [[special.logsumexp(s64)]],
    "soft_argmax": lambda: special.softmax(2 * s64, 1) @ np.arange(5),
    "soft_k_max": lambda: [k_max_marks(row, 2) for row in s64],
    "soft_top_k": lambda: [top_k_marks(row, 2) for row in s64],
    "soft_top_k-axis": lambda: np.transpose([top_k_marks(row, 1) for row in s64.T]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name, ours):
    np.testing.assert_allclose(ours[name], EXPECTED[name](), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("noise", NOISES)
def test_noisy_argmax(noise, ours):
    """Smooth noise nearly to float32's last digit; noise with edges to the quadrature's error."""
    tolerance = {"uniform": 1e-3, "exponential": 1e-3, "laplace": 1e-4, "cauchy": 1e-3}
    expected = [argmax_probabilities(row, noise) for row in s64]
    np.testing.assert_allclose(ours[noise], expected, atol=tolerance.get(noise, 1e-6))
    np.testing.assert_allclose(ours[noise].sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_against_differences(name, ours):
    """Of the float64 value by central differences where it is known, else of our own in float64."""
    x = (LINE if name in ON_LINE else SCORES).astype("float64")
    x = np.where(x == 0, 0.0, x)
    function, step = FUNCTIONS[name], 1e-4

    def total(x):
        y = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x, "float64")))
        return (y * weights_of(y.shape)).sum()

    expected = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        shift = np.zeros(x.shape)
        shift[i] = step
        expected[i] = (total(x + shift) - total(x - shift)) / (2 * step)
    np.testing.assert_allclose(ours[f"{name}/gradient"], expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, ours, request, run_python, tmp_path):
    python = request.getfixturevalue(f"{backend}_python")
    script, out = Path(__file__).with_name("smooth_cases.py"), tmp_path / "out.npz"
    fast = {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": 1}  # to compile
    run_python(python, script, out, **fast)
    theirs = dict(np.load(out))
    assert set(theirs) == set(ours)
    for name, value in ours.items():
        tolerance = 2e-5
        if name.startswith("sample/"):
            tolerance = 0.06  # other random numbers
        elif name.startswith("deviation/"):
            tolerance = 0.02 * value
        np.testing.assert_allclose(theirs[name], value, rtol=2e-5, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_low_precision(name, dtype):
    """Inputs and outputs of 16 bits, computed in between with 32: large ones overflow nowhere."""
    x = (LINE if name in ON_LINE else SCORES) * (100 if name in ON_LINE else 1)
    low = keras.ops.cast(x, dtype)
    result = FUNCTIONS[name](low)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    expected = FUNCTIONS[name](keras.ops.cast(low, "float32"))
    expected = keras.ops.convert_to_numpy(expected)
    result = keras.ops.convert_to_numpy(keras.ops.cast(result, "float32"))
    assert np.isfinite(result).all()
    roundoff = UNIT_ROUNDOFF[dtype] * (4 if name == "swish" else 1)  # swish is Keras' own
    np.testing.assert_allclose(result, expected, rtol=roundoff, atol=1e-3)


def array(*x):
    return keras.ops.convert_to_tensor(x, "float32")


def test_numbers_of_the_articles():
    x = array(2, 1, 4, 5, 3)
    assert float(activations.gaussian_relu(array(0.0))[0]) == pytest.approx(0.398942, abs=1e-6)
    assert float(activations.gaussian_relu(array(1.0))[0]) == pytest.approx(1.083315, abs=1e-6)
    assert float(smooth.smooth_max(x, 10.0)) == pytest.approx(5.000005, abs=1e-6)
    assert float(smooth.soft_argmax(x, 10.0)) + 1 == pytest.approx(3.999955, abs=1e-6)
    np.testing.assert_allclose(smooth.soft_k_max(50 * x, 2), [0, 0, 1, 1, 0], atol=1e-6)
    p = categorical.noisy_argmax_probabilities(array(1, 0, -1), "gumbel")
    np.testing.assert_allclose(p, [0.66524, 0.24473, 0.09003], atol=1e-5)
    # two classes and normal noise in closed form
    for gap in (0.0, 0.5, 3.0):
        p = categorical.noisy_argmax_probabilities(array(gap, 0))
        np.testing.assert_allclose(p[0], stats.norm.cdf(gap / math.sqrt(2)), atol=1e-5)


def test_the_articles_quadrature():
    """Its rule, with 2000 points k/2001; 64 tanh-sinh points come nearer."""
    t = np.arange(1, 2001) / 2001
    mu, kind, p = np.array([1.0, 0, -1]), stats.gumbel_r, []
    for i in range(3):
        gaps = mu[i] - np.delete(mu, i)
        p.append(kind.cdf(gaps[:, None] + kind.ppf(t)).prod(0).mean())
    np.testing.assert_allclose(p, [0.66532, 0.24460, 0.08983], atol=1e-5)
    for noise in ("normal", "logistic"):
        ours = categorical.noisy_argmax_probabilities(array(1, 0, -1), noise)
        assert np.abs(ours - argmax_probabilities(mu, noise)).max() < 1e-6


def test_limits():
    """Narrower densities and larger scores: the sharp functions."""
    x = np.array([-3.2, -0.6, 0.4, 2.7], "float32")
    np.testing.assert_allclose(activations.gaussian_relu(x, 1e-3), np.maximum(x, 0), atol=1e-6)
    np.testing.assert_allclose(activations.softplus(x, 1e3), np.maximum(x, 0), atol=1e-6)
    np.testing.assert_allclose(activations.swish(x, 1e3), np.maximum(x, 0), atol=1e-6)
    np.testing.assert_allclose(activations.gelu_erf(x, 1e-3), np.maximum(x, 0), atol=1e-6)
    np.testing.assert_allclose(activations.sau(x, 0.2, 1e-3), leaky(x, 0.2), atol=1e-6)
    np.testing.assert_allclose(activations.smooth_floor(x, 1e3), np.floor(x), atol=1e-6)
    np.testing.assert_allclose(smooth.smooth_abs(x, 1e3), np.abs(x), atol=1e-6)
    np.testing.assert_allclose(smooth.smooth_max(x, 1e3), 2.7, atol=1e-6)
    np.testing.assert_allclose(smooth.soft_top_k(x * 1e3, 2), [0, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(
        activations.smooth_floor(np.arange(-3.0, 3)), np.arange(-3.0, 3) - 0.5, atol=1e-6
    )
    cold = categorical.relaxed_one_hot(np.zeros((50, 4), "float32"), 1e-4, seed=1)
    warm = categorical.relaxed_one_hot(np.zeros((50, 4), "float32"), 1e4, seed=1)
    assert (np.sort(cold, 1)[:, -1] > 0.99).mean() > 0.9
    np.testing.assert_allclose(warm, 0.25, atol=1e-3)


def test_derivative_of_a_smooth_relu_is_the_distribution_function(ours):
    for name, cdf in (
        ("softplus", special.expit(2 * x64)),
        ("gaussian_relu", stats.norm.cdf(x64 / 0.7)),
    ):
        expected = cdf * weights_of(LINE.shape)
        np.testing.assert_allclose(ours[f"{name}/gradient"], expected, atol=2e-6)


@pytest.mark.parametrize("k", [1, 4, 30])
def test_soft_top_k(k):
    """Sum, range, order, shift, many scores, ties, large gaps."""
    x = np.random.default_rng(0).normal(0, 4, (3, 31)).astype("float32")
    p = np.asarray(smooth.soft_top_k(x, k))
    np.testing.assert_allclose(p.sum(1), k, rtol=1e-6)
    assert (p > 0).all() and (p <= 1).all()
    assert (np.diff(np.take_along_axis(p, np.argsort(x, 1), 1)) >= 0).all()
    np.testing.assert_allclose(smooth.soft_top_k(x + 5, k), p, atol=2e-6)
    np.testing.assert_allclose(smooth.soft_top_k(np.zeros((1, 31), "float32"), k), k / 31)
    gap = np.where(np.arange(31) < k, 3e4, -3e4).astype("float32")
    np.testing.assert_allclose(smooth.soft_top_k(gap, k), np.arange(31) < k, atol=1e-6)


def test_samples_are_of_the_distribution():
    """The argmax of noisy scores, counted, against probabilities by quadrature."""
    mu = np.array([1.0, 0.0, -0.5])
    scores = np.tile(mu.astype("float32"), (40000, 1))
    for noise in NOISES:
        sample = categorical.relaxed_one_hot(scores, noise=noise, straight_through=True, seed=5)
        sample = np.asarray(sample)
        np.testing.assert_allclose(np.sort(sample, 1), np.tile([0, 0, 1], (40000, 1)), atol=1e-6)
        frequencies = sample.mean(0)
        expected = special.softmax(mu) if noise == "gumbel" else argmax_probabilities(mu, noise)
        np.testing.assert_allclose(frequencies, expected, atol=0.01, err_msg=noise)


def test_straight_through_has_the_gradient_of_the_soft_sample():
    import tensorflow as tf

    x = tf.constant([[0.3, -0.2, 1.0]])
    gradients = []
    for straight_through in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = categorical.relaxed_one_hot(x, 0.7, straight_through=straight_through, seed=4)
            total = tf.reduce_sum(y * [[1.0, 2.0, 4.0]])
        gradients.append(tape.gradient(total, x).numpy())
    assert np.abs(gradients[0]).max() > 0.01
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_seeds():
    x = np.zeros((4, 3), "float32")
    same = [np.asarray(categorical.relaxed_one_hot(x, seed=1)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    generator = keras.random.SeedGenerator(1)
    first, second = (np.asarray(categorical.relaxed_one_hot(x, seed=generator)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


def test_traced_with_an_unknown_batch():
    import tensorflow as tf

    rows = [FUNCTIONS[name] for name in ("smooth_max", "soft_k_max", "soft_top_k", "normal")]
    signature = [tf.TensorSpec((None, 5))]
    for compiled in (False, True):
        traced = tf.function(
            lambda x: [function(x) for function in rows], signature, jit_compile=compiled
        )
        for a, b in zip(traced(SCORES), [function(SCORES) for function in rows], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)
    with pytest.raises(ValueError, match="number of scores is not known"):
        tf.function(lambda x: smooth.soft_top_k(x, 2), [tf.TensorSpec((2, None))])(SCORES[:2])


@pytest.mark.parametrize("activation", ["softplus", "gaussian_relu", "sau", "smooth_floor"])
def test_activations_have_names(activation):
    function = getattr(activations, activation)
    config = keras.activations.serialize(function)
    assert f"keras_extras>{activation}" in json.dumps(config)
    assert keras.activations.get(config) is function


def test_bad_arguments():
    x = np.zeros((2, 3), "float32")
    for call, word in (
        (lambda: activations.sau(x, sigma=0), "sigma"),
        (lambda: activations.softplus(x, beta=-1.0), "beta"),
        (lambda: activations.smooth_floor(x, beta=0.5), "beta"),
        (lambda: activations.smooth_floor(x, kernel="box"), "kernel"),
        (lambda: smooth.soft_top_k(x, 3), "`k`"),
        (lambda: smooth.soft_k_max(x, 0), "`k`"),
        (lambda: categorical.noisy_argmax_probabilities(x, "other"), "noise"),
        (lambda: categorical.noisy_argmax_probabilities(x, points=0), "points"),
        (lambda: categorical.relaxed_one_hot(x, 0.0), "temperature"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
