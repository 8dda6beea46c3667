"""Layers that join, cut and pool sequences, and what they do to masks, by hand."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_extras.layers import (
    Add,
    BatchConcat,
    BatchSplit,
    Concatenate1D,
    Embedding,
    FirstToken,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LanguageModelMask,
    Loss,
    ReZero,
    UnifiedLanguageModelMask,
)

X = np.arange(1, 13, dtype="float32").reshape(2, 3, 2)
MASK = ops.convert_to_tensor(np.array([[True, True, False], [True, False, False]]))
OTHER = ops.convert_to_tensor(np.array([[True, False, True], [True, True, True]]))


def test_add_keeps_the_masks_that_are_there():
    layer = Add()
    assert layer.compute_mask([X, X], None) is None
    assert layer.compute_mask([X, X], [None, None]) is None
    np.testing.assert_array_equal(layer.compute_mask([X, X], [MASK, None]), MASK)
    np.testing.assert_array_equal(layer.compute_mask([X, X], [None, MASK]), MASK)
    both = layer.compute_mask([X, X, X], [MASK, None, OTHER])
    np.testing.assert_array_equal(both, [[True, False, False], [True, False, False]])


def test_re_zero():
    layer = ReZero()
    layer([X, X])
    layer.set_weights([np.array(0.5)])
    np.testing.assert_allclose(layer([X, 3 * X]), 2.5 * X)


def test_add_hands_the_mask_on_in_a_model():
    """BERT's token and segment embeddings: without the mask, padding is averaged too."""
    ids, segments = keras.Input((None,)), keras.Input((None,))
    x = Add()([Embedding(9, 2, mask_zero=True)(ids), Embedding(2, 2)(segments)])
    model = keras.Model([ids, segments], GlobalAveragePooling1D()(x))
    padded, short = np.array([[3.0, 4, 0, 0]]), np.array([[3.0, 4]])
    np.testing.assert_allclose(
        model([padded, 0 * padded]), model([short, 0 * short]), rtol=1e-5, atol=1e-7
    )


def test_concatenate():
    layer = Concatenate1D()
    np.testing.assert_array_equal(layer([X, X[:, :1]]), np.concatenate([X, X[:, :1]], 1))
    assert layer.compute_mask([X, X], [None, None]) is None
    mask = layer.compute_mask([ops.convert_to_tensor(X[:, :1]), X], [None, MASK])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0], [1, 1, 0, 0]])
    assert layer.compute_output_shape([(None, 3, 2), (None, 4, 2)]) == (None, 7, 2)
    assert layer.compute_output_shape([(None, None, 2), (None, 4, 2)]) == (None, None, 2)


def test_batch_split_and_concat():
    x = np.arange(7.0)[:, None]
    parts = BatchSplit(3)(x)
    assert [tuple(part.shape) for part in parts] == [(3, 1), (2, 1), (2, 1)]
    np.testing.assert_array_equal(BatchConcat()(parts), x)
    sizes = [len(part) for part in BatchSplit([1, 1, 2])(np.zeros((8, 1)))]
    assert sizes == [2, 2, 4]
    split = BatchSplit(2)([x[:4], x[:2]])
    np.testing.assert_array_equal(np.concatenate(split), x[[0, 1, 2, 3, 0, 1]])
    masks = BatchSplit(2).compute_mask([X, X], [MASK, None])
    np.testing.assert_array_equal(masks[0], MASK[:1])
    np.testing.assert_array_equal(masks[1], MASK[1:])
    assert masks[2:] == [None, None]
    joined = BatchConcat().compute_mask([X, X], [MASK, OTHER])
    np.testing.assert_array_equal(joined, np.concatenate([MASK, OTHER]))
    assert BatchConcat().compute_mask([X, X], [MASK, None]) is None


def test_pooling():
    average, highest = GlobalAveragePooling1D(), GlobalMaxPooling1D()
    np.testing.assert_allclose(average(X), [[3, 4], [9, 10]])
    np.testing.assert_allclose(average(X, mask=MASK), [[2, 3], [7, 8]])
    np.testing.assert_array_equal(average(X, mask=MASK & False), np.zeros((2, 2)))
    np.testing.assert_allclose(highest(X), [[5, 6], [11, 12]])
    np.testing.assert_allclose(highest(X, mask=MASK), [[3, 4], [7, 8]])
    np.testing.assert_allclose(highest(-X, mask=MASK), [[-1, -2], [-7, -8]])
    first = X.swapaxes(1, 2)
    average, highest = (
        layer("channels_first") for layer in (GlobalAveragePooling1D, GlobalMaxPooling1D)
    )
    np.testing.assert_allclose(average(first, mask=MASK), [[2, 3], [7, 8]])
    np.testing.assert_allclose(highest(first, mask=MASK), [[3, 4], [7, 8]])
    np.testing.assert_array_equal(FirstToken()(X), X[:, 0])


def test_masks_of_language_models():
    np.testing.assert_array_equal(LanguageModelMask()(X[..., 0]), np.tri(3, dtype=bool))
    segments = np.array([[0.0, 0, 1, 1], [0, 1, 1, 0]])
    np.testing.assert_array_equal(
        UnifiedLanguageModelMask()(segments),
        [
            [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
            [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]],
        ],
    )


@keras.saving.register_keras_serializable(package="keras_extras_tests")
class Difference(Loss):
    def compute_loss(self, inputs, mask=None):
        return ops.mean(ops.square(inputs[0] - inputs[1]))


def test_loss():
    x, y = keras.Input((2,)), keras.Input((2,))
    layer = Difference(output_axis=1)
    model = keras.Model([x, y], layer([keras.layers.Dense(2)(x), y]))
    model.compile("sgd")
    weights = [np.eye(2), np.ones(2)]
    model.set_weights(weights)
    inputs = [np.full((4, 2), 3.0), np.full((4, 2), 2.0)]
    assert abs(model.train_on_batch(inputs) - 4.0) < 1e-5  # (3 + 1 − 2)²
    assert not np.allclose(model.get_weights()[1], weights[1])
    np.testing.assert_array_equal(model(inputs), inputs[1])
    assert Difference.from_config(layer.get_config()).output_axis == 1
    assert len(Difference()([X, X])) == 2
    assert [tuple(a.shape) for a in Difference([1, 0])([X, X])] == [X.shape] * 2
