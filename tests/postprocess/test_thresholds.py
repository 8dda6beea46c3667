"""Thresholds and class weights against trying everything, and against Powell's method."""

import numpy as np
import pytest
from scipy.optimize import minimize

from keras_extras.postprocess import find_class_weights, find_threshold


def quality(y_true, predicted, metric):
    if metric == "accuracy":
        return np.mean(predicted == y_true)
    both = (predicted & (y_true == 1)).sum()
    return 2 * both / max(predicted.sum() + y_true.sum(), 1)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_best_of_all_thresholds(metric):
    rng = np.random.default_rng(5)
    for n in (1, 2, 7, 60):
        for _ in range(20):
            y_true = rng.integers(0, 2, n)
            scores = np.round(rng.normal(size=n) + y_true, 1)  # with ties
            threshold, found = find_threshold(y_true, scores, metric)
            tried = np.concatenate([scores, scores - 0.05, [scores.max() + 1]])
            best = max(quality(y_true, scores > t, metric) for t in tried)
            assert found == pytest.approx(best)
            assert quality(y_true, scores > threshold, metric) == pytest.approx(found)


def test_thresholds_of_one_kind():
    assert find_threshold([1, 1], [0.2, 0.4])[0] < 0.2
    assert find_threshold([0, 0], [0.2, 0.4])[0] > 0.4
    assert find_threshold([0, 1], [0.5, 0.5])[1] == 0.5
    neighbours = np.array([1.0, np.nextafter(1.0, 2)])
    threshold, accuracy = find_threshold([0, 1], neighbours)
    assert accuracy == 1 and (neighbours > threshold).tolist() == [False, True]


def test_refused_thresholds():
    with pytest.raises(ValueError, match="one label and one score"):
        find_threshold([1, 0], [0.5])
    with pytest.raises(ValueError, match="labels 0 and 1"):
        find_threshold([2, 0], [0.5, 0.5])
    with pytest.raises(ValueError, match="accuracy and f1"):
        find_threshold([1, 0], [0.5, 0.5], "auc")


def unbalanced(n=400, classes=5, seed=0):
    """Probabilities of a model that is wrong about the classes' shares."""
    rng = np.random.default_rng(seed)
    y_true = rng.choice(classes, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y_true]
    p = np.exp(logits)
    return y_true, p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_class_weights_are_as_good_as_powells(seed):
    y_true, p = unbalanced(seed=seed)
    weights, accuracy = find_class_weights(y_true, p)
    assert np.mean(np.argmax(weights * p, 1) == y_true) == accuracy
    assert accuracy > np.mean(np.argmax(p, 1) == y_true)
    assert np.log(weights).mean() == pytest.approx(0)

    def error(z):
        return -np.mean(np.argmax(p * (np.tanh(z) + 1) / 2, 1) == y_true)

    powell = minimize(error, np.zeros(5), method="Powell", options={"xtol": 1e-10, "ftol": 1e-10})
    assert accuracy >= -powell.fun - 0.005


def test_two_classes_are_a_threshold():
    rng = np.random.default_rng(2)
    y_true, scores = rng.integers(0, 2, 200), rng.random(200)
    p = np.stack([1 - scores, scores], 1)
    _, accuracy = find_class_weights(y_true, p)
    assert accuracy == pytest.approx(find_threshold(y_true, scores)[1])


def test_never_worse_than_argmax():
    rng = np.random.default_rng(4)
    for _ in range(30):
        y_true, p = rng.integers(0, 4, 12), rng.integers(0, 3, (12, 4)) / 2.0
        weights, accuracy = find_class_weights(y_true, p)
        assert np.isfinite(weights).all()
        assert accuracy >= np.mean(np.argmax(p, 1) == y_true)
    assert find_class_weights([0, 0], [[1.0], [1.0]]) == ([1.0], 1.0)  # one class


def test_refused_weights():
    with pytest.raises(ValueError, match="got shapes"):
        find_class_weights([0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="labels from 0 to 1"):
        find_class_weights([2], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="no logits"):
        find_class_weights([0], [[-0.5, 0.5]])
