"""Initialisers, by their formulas and by moments of what they draw."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_extras.initializers import (
    TRUNCATION_CORRECTION,
    CorrectedTruncatedNormal,
    DimensionAveraging,
    NearlyOrthogonal,
    RoFormerV2Initializer,
    Sinusoidal,
    fresh,
    orthogonality_error,
    post_norm_residual_weights,
)


def test_sinusoidal():
    table = np.asarray(Sinusoidal()((50, 6), dtype="float32"))
    position, i = np.arange(50)[:, None], np.arange(3)
    np.testing.assert_allclose(table[:, ::2], np.sin(position * 10000.0 ** (-i / 3)), atol=1e-5)
    np.testing.assert_allclose(table[:, 1::2], np.cos(position * 10000.0 ** (-i / 3)), atol=1e-5)


def test_truncation_correction():
    """The standard deviation of a standard normal cut at ±2, by quadrature."""
    x = np.arange(-2, 2, 2e-5) + 1e-5
    density = np.exp(-(x**2) / 2)
    assert abs((x**2 * density).sum() / density.sum() - 0.7737413) < 1e-6
    assert abs(TRUNCATION_CORRECTION - (density.sum() / (x**2 * density).sum()) ** 0.5) < 1e-5


@pytest.mark.parametrize(
    ("shape", "size"),
    # embeddings (many rows), segments (few rows), kernels
    [((20000, 40), 40), ((2, 40000), 40000), ((400, 300), 400)],
)
def test_roformer_v2(shape, size):
    values = np.asarray(RoFormerV2Initializer(12, seed=3)(shape))
    expected = size**-0.5 * 12**-0.5
    assert abs(values.std() / expected - 1) < 0.01
    assert abs(values.mean()) < expected / 50
    # 1.13684723 is the nominal deviation of a normal that is cut at two of them
    assert 1.9 < np.abs(values).max() / (TRUNCATION_CORRECTION * expected) <= 2.00001


def test_roformer_v2_order_and_gain():
    base = np.asarray(RoFormerV2Initializer(16, seed=3)((40, 30)))
    other = np.asarray(RoFormerV2Initializer(16, order=4, gain=3.0, seed=3)((40, 30)))
    np.testing.assert_allclose(other, base * 3 * 16**0.25, rtol=1e-5)


def test_corrected_truncated_normal():
    """A million numbers: true deviation, cut at two nominal ones; BERT's own is 0.0175925."""
    values = np.asarray(CorrectedTruncatedNormal(0.3, 0.02, seed=1)((1000, 1000))) - 0.3
    assert abs(values.std() / 0.02 - 1) < 1e-3
    assert abs(values.mean()) < 1e-4
    assert 0.999 < np.abs(values).max() / (2 * 0.02 * 1.1368472) < 1.00001
    bert = np.asarray(keras.initializers.TruncatedNormal(stddev=0.02, seed=1)((1000, 1000)))
    assert abs(bert.std() / 0.0175925 - 1) < 1e-3


@pytest.mark.parametrize("distribution", ["truncated_normal", "normal", "uniform"])
@pytest.mark.parametrize("mode", ["arithmetic", "geometric", "quadratic"])
def test_dimension_averaging(mode, distribution):
    inputs, outputs = 400, 1600
    expected = {
        "arithmetic": 1 / 1000,
        "geometric": 1 / 800,
        "quadratic": 2000 / (400**2 + 1600**2),
    }[mode]
    initializer = DimensionAveraging(mode, 1.5, distribution, seed=1)
    values = np.asarray(initializer((inputs, outputs)))
    assert abs(values.var() / (1.5 * expected) - 1) < 0.01
    edge = {"truncated_normal": 2 * TRUNCATION_CORRECTION, "normal": 9, "uniform": 3**0.5}
    assert np.abs(values).max() / values.std() < edge[distribution] * 1.01
    assert abs(DimensionAveraging(mode).dimension(48, 48) - 48) < 1e-9  # all equal if m = n


def test_dimension_averaging_is_the_best_of_its_kind():
    m, n = 768, 3072
    d = {mode: DimensionAveraging(mode).dimension(m, n) for mode in ("geometric", "quadratic")}
    d["arithmetic"] = DimensionAveraging("arithmetic").dimension(m, n)
    assert d["quadratic"] > d["arithmetic"] > d["geometric"]
    assert abs(m / d["geometric"] * (n / d["geometric"]) - 1) < 1e-12  # gain of W₁W₂
    t = np.linspace(0.5 / n, 2 / m, 100001)
    best = t[np.argmin((m * t - 1) ** 2 + (n * t - 1) ** 2)]
    assert abs(best * d["quadratic"] - 1) < 1e-4
    # measured: through a wide layer and back the variance stays
    x = np.random.default_rng(0).normal(size=(64, 300))
    for shape in ((300, 1200), (1200, 300)):
        x = x @ np.asarray(DimensionAveraging(seed=shape[0])(shape))
    assert abs(x.var() - 1) < 0.1


@pytest.mark.parametrize("shape", [(3, 5, 20, 30), (7,), (12, 8)])
def test_arithmetic_averaging_is_glorots(shape):
    ours = DimensionAveraging("arithmetic", distribution="uniform", seed=4)(shape)
    np.testing.assert_allclose(ours, keras.initializers.GlorotUniform(seed=4)(shape), rtol=1e-5)
    ours = DimensionAveraging("arithmetic", seed=4)(shape)
    np.testing.assert_allclose(ours, keras.initializers.GlorotNormal(seed=4)(shape), rtol=1e-5)


@pytest.mark.parametrize(("shape", "expected"), [((100, 100), 1.01 / 100), ((400, 50), 1.02 / 400)])
def test_nearly_orthogonal(shape, expected):
    """The mean square of WᵀW − I: (n(n − 1)/m + 2n/m)/n² of an m×n matrix; and norms are kept."""
    m, n = shape
    expected_exactly = (n * (n - 1) + 2 * n) / m / n**2
    assert abs(expected_exactly / expected - 1) < 1e-3
    errors = [orthogonality_error(NearlyOrthogonal(seed=i)(shape)) for i in range(30)]
    assert abs(np.mean(errors) / expected - 1) < 0.03
    wide = [orthogonality_error(NearlyOrthogonal(seed=i)(shape[::-1])) for i in range(30)]
    assert abs(np.mean(wide) / expected - 1) < 0.03
    x = np.random.default_rng(0).normal(size=n)
    y = np.asarray(NearlyOrthogonal(gain=2.0, seed=1)(shape)) @ x
    assert abs(np.linalg.norm(y) / np.linalg.norm(x) - 2) < 0.4


def test_orthogonality_error():
    orthogonal = keras.initializers.Orthogonal(seed=1)((20, 9))
    assert orthogonality_error(orthogonal) < 1e-12
    assert abs(orthogonality_error([[2.0, 0.0], [0.0, 1.0]]) - 9 / 4) < 1e-12


@pytest.mark.parametrize("variance", [1.0, 0.25, 0.0])
def test_post_norm_residual_weights(variance):
    """Against the recursion x ← (x + F)/√(1 + σ²), run on unit vectors."""
    x = np.eye(25)[0]
    for branch in np.eye(25)[1:]:
        x = (x + branch) / (1 + variance) ** 0.5
    weights = post_norm_residual_weights(24, variance)
    np.testing.assert_allclose(weights, x, rtol=1e-12)
    if variance == 1:
        assert weights[0] == 2**-12
        assert abs((weights**2).sum() - 1) < 1e-12  # unit variances stay one
    with pytest.raises(ValueError, match="depth"):
        post_norm_residual_weights(-1)


def test_draws():
    """Without a seed every call draws anew; with one it repeats."""
    for kind in (CorrectedTruncatedNormal, DimensionAveraging, NearlyOrthogonal):
        free, fixed = kind(), kind(seed=3)
        assert np.abs(np.asarray(free((6, 5))) - np.asarray(free((6, 5)))).max() > 1e-3
        np.testing.assert_array_equal(fixed((6, 5)), fixed((6, 5)))
        values = fixed((6, 5), dtype="bfloat16")
        assert keras.backend.standardize_dtype(values.dtype) == "bfloat16"


@pytest.mark.parametrize(
    "arguments", [{"mode": "harmonic"}, {"distribution": "cauchy"}, {"scale": 0}]
)
def test_dimension_averaging_rejects(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        DimensionAveraging(**arguments)


@pytest.mark.parametrize(
    "initializer",
    [
        Sinusoidal(),
        RoFormerV2Initializer(6, 3, 0.5, seed=2),
        CorrectedTruncatedNormal(0.1, 0.5, seed=2),
        DimensionAveraging("quadratic", 2.0, "uniform", seed=2),
        NearlyOrthogonal(1.5, seed=2),
    ],
)
def test_round_trip(initializer):
    config = keras.initializers.serialize(initializer)
    assert config["registered_name"].startswith("keras_extras>")
    twin = keras.initializers.get(config)
    np.testing.assert_array_equal(twin((9, 4)), initializer((9, 4)))


def test_fresh_draws_anew():
    initializer = keras.initializers.GlorotUniform()
    assert np.abs(fresh(initializer)((5, 5)) - initializer((5, 5))).max() > 0.01
    np.testing.assert_array_equal(
        fresh(keras.initializers.GlorotUniform(seed=1))((5, 5)),
        keras.initializers.GlorotUniform(seed=1)((5, 5)),
    )
    function = keras.initializers.get("zeros").__call__
    assert fresh(function) is function
