"""CAN against its definition, one row after the other."""

import time

import numpy as np
import pytest

from keras_extras.postprocess import can, uncertainty


def reference(p, prior, k, threshold, alpha, iters, variant):
    p, prior = np.array(p), np.array(prior) / np.sum(prior)
    unsure = []
    for row in p:
        top = np.sort(row)[::-1][:k]
        q = top / top.sum() if variant == "author" else top
        entropy = -sum(x * np.log(x) for x in q if x > 0)
        scale = np.log(len(top)) if variant == "author" else np.log(len(row))
        unsure.append(entropy / scale >= threshold)
    unsure, result = np.array(unsure), p.copy()
    if unsure.all():
        return result
    for i in np.flatnonzero(unsure):
        y = np.concatenate([p[~unsure], p[i : i + 1]])
        for _ in range(iters):
            y = y**alpha
            mean = y.mean(axis=0)
            y = y / np.where(mean > 0, mean, 1) * prior
            y = y / y.sum(axis=1, keepdims=True)
        result[i] = y[-1]
    return result


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(80, 6)) * rng.choice([0.3, 4], size=(80, 1))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[0], p[1], p[2] = 0, 0, 1 / 6
    p[0, :2], p[1, 4] = 0.5, 1
    return p, np.array([30, 5, 20, 1, 10, 14])


@pytest.mark.parametrize("variant, threshold", [("author", 0.9), ("paper", 0.5)])
@pytest.mark.parametrize("alpha, iters", [(1, 1), (1, 3), (2, 1), (0.5, 4), (1, 0)])
def test_against_the_definition(table, variant, threshold, alpha, iters):
    p, prior = table
    arguments = (prior, 3, threshold, alpha, iters, variant)
    unsure = uncertainty(p, 3, variant) >= threshold
    assert 5 < unsure.sum() < 70
    ours = can(p, *arguments)
    np.testing.assert_allclose(ours, reference(p, *arguments), rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(ours[~unsure], p[~unsure])
    np.testing.assert_allclose(ours.sum(axis=1), 1)


def test_the_story():
    """Ten people: nine surely women, prior one half: the unsure one is rather a man."""
    np.testing.assert_allclose(can([[0.05, 0.95], [0.5, 0.5]], [1, 1])[1], [0.725, 0.275])


def test_uncertainty_of_the_largest():
    two = uncertainty([[0.5, 0.25, 0.25], [0.5, 0.5, 0]], k=3)
    np.testing.assert_allclose(two, [1.5 / np.log2(3), 1 / np.log2(3)])
    largest = np.array([[0.5, 0.25, 0.25], [0.5, 0.3, 0.2], [1, 0, 0]])
    np.testing.assert_allclose(uncertainty(largest, 2)[0], 0.918296, atol=1e-6)
    np.testing.assert_allclose(uncertainty(largest, 3)[1:], [0.937231, 0], atol=1e-6)
    tail = [[0.5, 0.3, 0.1, 0.06, 0.04]]
    q = np.array([0.5, 0.3, 0.1])
    expected = -(q * np.log(q)).sum() / np.log(5)
    np.testing.assert_allclose(uncertainty(tail, variant="paper"), expected)
    np.testing.assert_allclose(uncertainty(tail, k=9), uncertainty(tail, k=5))


def test_limits(table):
    p, prior = table
    np.testing.assert_array_equal(can(p, prior, threshold=0), p)  # nobody is sure
    np.testing.assert_array_equal(can(p, prior, threshold=1.1), p)  # everybody is
    balanced = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])  # columns have the prior's means
    np.testing.assert_allclose(can(balanced, [1, 1]), balanced, atol=1e-15)
    np.testing.assert_array_equal(can(np.ones((3, 1)), [5], threshold=2), 1)  # one class


def test_impossible_classes():
    """A class no sure row has, and one of prior 0."""
    p = [[0.0, 1.0, 0.0], [0.4, 0.3, 0.3], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    ours = can(p, [1, 1, 0], threshold=0.6)
    assert np.isfinite(ours).all()
    # of row 1: columns 0.4, 1.3 and 0.3 over 2, priors 1/2, 1/2, 0: shares of 1 and 0.3 / 1.3
    np.testing.assert_allclose(ours[1], [1.3 / 1.6, 0.3 / 1.6, 0])
    np.testing.assert_allclose(ours[2], [0, 1, 0])
    assert can([[1.0, 0, 0], [0, 0.5, 0.5]], [1, 0, 0], threshold=0.6)[1].tolist() == [0, 0.5, 0.5]


def test_refused(table):
    p, prior = table
    with pytest.raises(ValueError, match="'author' and 'paper'"):
        can(p, prior, variant="both")
    with pytest.raises(ValueError, match="two probabilities"):
        can(p, prior, k=1)
    with pytest.raises(ValueError, match="6 of them"):
        can(p, prior[:5])
    with pytest.raises(ValueError, match=r"row \d+ add up to 3, not to 1"):
        can(p * 3, prior)
    with pytest.raises(ValueError, match="none negative"):
        can(np.log(p + 1e-9), prior)


def test_speed():
    """10,000 rows of 119 classes, a third of them unsure."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(10_000, 119)) * np.where(np.arange(10_000) % 3, 8, 1)[:, None]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert 2000 < (uncertainty(p) >= 0.9).sum() < 6000
    start = time.process_time()
    can(p, np.ones(119))
    assert time.process_time() - start < 1  # 0.2 s on a machine of its own
