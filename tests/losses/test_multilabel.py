"""Multilabel cross entropy against its formula in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.losses import (
    MultilabelCategoricalCrossentropy,
    SparseMultilabelCategoricalCrossentropy,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)


def expected_loss(y_true, logits, kept=None):
    """log(1 + Σ (1 - y) e^s) + log(1 + Σ y e^-s) over the kept classes."""
    kept = np.ones(np.shape(logits)) if kept is None else kept
    wrong = np.log(1 + np.sum(kept * (1 - y_true) * np.exp(logits), axis=-1))
    return wrong + np.log(1 + np.sum(kept * y_true * np.exp(-logits), axis=-1))


def loss_and_gradient(loss, y_true, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(tf.constant(y_true), logits)
    return np.asarray(value), np.asarray(tf.cast(tape.gradient(value, logits), "float32"))


@pytest.fixture
def case():
    """Logits ``(2, 3, 6)`` and 0/1 labels: none, some and all classes right."""
    rng = np.random.default_rng(1)
    y_true = rng.integers(0, 2, (2, 3, 6)).astype("float64")
    y_true[0, 0], y_true[0, 1] = 0, 1
    return y_true, rng.normal(size=(2, 3, 6)) * 3


def indices_of(y_true, start=0):
    """The right classes of every row as numbers, padded with 0."""
    flat = y_true.reshape(-1, y_true.shape[-1])
    rows = [np.flatnonzero(row) for row in flat]
    width = max(len(row) for row in rows)
    padded = [np.pad(row, (0, width - len(row))) for row in rows]
    return np.array(padded).reshape(*y_true.shape[:-1], width) + start


def test_worked_example():
    expected = pytest.approx(2 * np.log(1 + np.exp(-2)), rel=1e-5)  # 0.253856
    assert float(multilabel_categorical_crossentropy([1, 0], [2.0, -2.0])) == expected
    assert float(sparse_multilabel_categorical_crossentropy([0], [2.0, -2.0])) == expected


def test_one_right_class_whose_logit_is_0_is_cross_entropy():
    logits, right = np.random.default_rng(0).normal(size=(5, 4)), np.array([0, 1, 2, 3, 1])
    shifted = logits - logits[np.arange(5), right][:, None]
    found = multilabel_categorical_crossentropy(np.eye(4)[right], shifted) - np.log(2)
    np.testing.assert_allclose(found, np.log(np.exp(shifted).sum(-1)), rtol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_dense_loss_and_gradient(case, soft):
    y_true, logits = case
    if soft:
        y_true = np.clip(y_true, 0.1, 0.7)
        y_true[0, 0, 0], y_true[0, 0, 1] = 0, 1
    ours, gradient = loss_and_gradient(
        multilabel_categorical_crossentropy, y_true.astype("float32"), logits.astype("float32")
    )
    np.testing.assert_allclose(ours, expected_loss(y_true, logits), rtol=1e-5)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        up, down = expected_loss(y_true, logits + step), expected_loss(y_true, logits - step)
        assert gradient[index] == pytest.approx((up - down).sum() / 2e-5, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_loss_agrees_with_dense(case, dtype):
    y_true, logits = case
    y_true[..., 0] = 1  # so that every row has a class for the padding to repeat
    y_true[..., 1:] = np.arange(5) < 2
    expected = expected_loss(y_true, logits)
    ours = sparse_multilabel_categorical_crossentropy(indices_of(y_true), logits.astype(dtype))
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_sparse_padding_with_zero(case):
    y_true, logits = case
    y_true[..., 0] = 0
    kept = np.arange(6) > 0
    for dtype in ("int32", "float32"):
        ours, gradient = loss_and_gradient(
            lambda y_true, y_pred: sparse_multilabel_categorical_crossentropy(
                y_true, y_pred, mask_zero=True
            ),
            indices_of(y_true).astype(dtype),
            logits.astype("float32"),
        )
        np.testing.assert_allclose(ours, expected_loss(y_true, logits, kept), rtol=1e-4)
        dense = loss_and_gradient(
            multilabel_categorical_crossentropy,
            y_true[..., 1:].astype("float32"),
            logits[..., 1:].astype("float32"),
        )
        np.testing.assert_array_equal(gradient[..., 0], 0)
        np.testing.assert_allclose(gradient[..., 1:], dense[1], atol=1e-5)


@pytest.mark.parametrize("dtype, fill", [("float32", -np.inf), ("float32", -1e12),
                                         ("float32", -6e4), ("float16", -6e4),
                                         ("float16", -np.inf), ("bfloat16", -1e12)])  # fmt: skip
def test_masked_logits_are_left_out(case, dtype, fill):
    y_true, logits = case
    logits = np.round(logits * 8) / 8  # exact in half precision
    kept = np.ones((2, 3, 6))
    kept[..., 3], kept[1, 2] = 0, 0
    y_pred = tf.cast(np.where(kept, logits, fill), dtype)
    ours, gradient = loss_and_gradient(
        multilabel_categorical_crossentropy, y_true.astype("float32"), y_pred
    )
    assert ours.dtype == "float32" and ours[1, 2] == 0
    np.testing.assert_allclose(ours, expected_loss(y_true, logits, kept), rtol=1e-5)
    assert np.isfinite(gradient).all() and (gradient[kept == 0] == 0).all()

    y_true[..., 0] = 0
    kept[..., 0] = 0
    ours, gradient = loss_and_gradient(
        lambda y_true, y_pred: sparse_multilabel_categorical_crossentropy(y_true, y_pred, True),
        indices_of(y_true),
        y_pred,
    )
    assert ours.dtype == "float32" and ours[1, 2] == 0
    np.testing.assert_allclose(ours, expected_loss(y_true, logits, kept), rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all() and (gradient[kept == 0] == 0).all()


def test_large_logits_stay_finite():
    y_true = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], "float32")
    logits = np.tile(np.array([[300.0, -400.0]], "float32"), (4, 1))
    ours, gradient = loss_and_gradient(multilabel_categorical_crossentropy, y_true, logits)
    np.testing.assert_allclose(ours, [0, 700, 400, 300], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [1, -1], [0, -1], [1, 0]], atol=1e-6)


def test_loss_classes(case):
    y_true, logits = case
    expected = expected_loss(y_true, logits)
    loss = MultilabelCategoricalCrossentropy()
    assert float(loss(y_true, logits)) == pytest.approx(expected.mean(), rel=1e-5)
    weights = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
    total = MultilabelCategoricalCrossentropy(reduction="sum")
    assert float(total(y_true, logits, weights)) == pytest.approx(
        (expected * weights).sum(), rel=1e-5
    )
    y_true[..., 0] = 0
    expected = expected_loss(y_true, logits, np.arange(6) > 0)
    sparse = SparseMultilabelCategoricalCrossentropy(mask_zero=True)
    assert float(sparse(indices_of(y_true), logits)) == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        MultilabelCategoricalCrossentropy(reduction="sum", name="spans"),
        SparseMultilabelCategoricalCrossentropy(mask_zero=True, name="cells"),
        multilabel_categorical_crossentropy,
        sparse_multilabel_categorical_crossentropy,
    ],
)
def test_registered_and_serializable(loss):
    data = keras.losses.serialize(loss)
    name = getattr(loss, "__name__", type(loss).__name__)
    twin = keras.saving.deserialize_keras_object(data)
    assert keras.saving.get_registered_object(f"keras_extras>{name}") is not None
    assert getattr(twin, "__name__", type(twin).__name__) == name
    if isinstance(loss, keras.losses.Loss):
        assert twin.get_config() == loss.get_config()
