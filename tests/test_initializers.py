"""Initialisers, by their formulas and by moments of what they draw."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_extras.initializers import (
    TRUNCATION_CORRECTION,
    RoFormerV2Initializer,
    Sinusoidal,
    fresh,
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


@pytest.mark.parametrize("initializer", [Sinusoidal(), RoFormerV2Initializer(6, 3, 0.5, seed=2)])
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
