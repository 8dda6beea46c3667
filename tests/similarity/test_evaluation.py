"""Spearman's correlation against SciPy's, and pooling against NumPy."""

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from keras_extras.similarity import POOLINGS, sentence_encoder, similarity_spearman, spearman


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, 30), rng.normal(size=30)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert spearman([1, 2, 3], [1, 8, 27]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    with pytest.raises(ValueError, match="all numbers of one side are equal"):
        spearman([1, 1], [0, 1])
    with pytest.raises(ValueError, match="two rows of n finite numbers"):
        spearman([1, 2], [0, 1, 2])


def test_whitening_finds_what_a_common_direction_hides():
    """Vectors with one huge common component have cosines of 1; whitening takes it off."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    first = rng.normal(size=(400, 8))
    second = np.where(labels[:, None], first, 0) + rng.normal(size=(400, 8))
    common = rng.normal(size=(800, 1)) * 100 * np.ones(8)
    raw = similarity_spearman(first + common[:400], second + common[400:], labels)
    white = similarity_spearman(first + common[:400], second + common[400:], labels, whiten=True)
    reduced = similarity_spearman(
        first + common[:400], second + common[400:], labels, whiten=True, dim=4
    )
    assert raw < 0.2 < reduced < white
    rotated = similarity_spearman(first, second, labels, whiten=True, beta=0, gamma=0)
    assert rotated == pytest.approx(similarity_spearman(first, second, labels))


@pytest.fixture
def model():
    """Two layers named as bert4keras names them: x · 2 and · 3, over a mask; a pooled output."""
    inputs = keras.Input((None, 3))
    x = keras.layers.Masking()(inputs)
    for i, factor in enumerate((2.0, 3.0)):
        name = f"Transformer-{i}-FeedForward-Norm"
        x = keras.layers.Rescaling(factor, name=name)(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("pooling", ["cls", "last-avg", "first-last-avg"])
def test_poolings(pooling, model):
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    x[0, 2:] = 0
    mean = np.stack([x[0, :2].mean(0), x[1].mean(0)])
    expected = {"cls": 6 * x[:, 0], "last-avg": 6 * mean, "first-last-avg": 4 * mean}[pooling]
    np.testing.assert_allclose(sentence_encoder(model, pooling)(x), expected, rtol=1e-5)


def test_pooler(model):
    pooled = keras.Model(model.input, keras.ops.tanh(model.output[:, 0]))
    x = np.ones((2, 4, 3), "float32")
    found = sentence_encoder(pooled, "pooler")(x)
    np.testing.assert_allclose(found, np.tanh(6 * x[:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match="with_pool='linear'"):
        sentence_encoder(model, "pooler")


def test_refused(model):
    with pytest.raises(ValueError, match=", ".join(POOLINGS)):
        sentence_encoder(model, "max")
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="layers named Transformer-0-FeedForward-Norm"):
        sentence_encoder(plain)
