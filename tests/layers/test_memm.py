"""The MEMM against its definition, written out in float64."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_extras.layers import MaximumEntropyMarkovModel

LABELS = 3


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def neighbour_logits(scores, trans, path):
    """Logits at every position given the true neighbours, for both directions."""
    length = len(scores)
    for t in range(length):
        yield scores[t] if t == 0 else (scores[t] + trans[path[t - 1]]) / 2
    for t in range(length):
        yield scores[t] if t == length - 1 else (scores[t] + trans[:, path[t + 1]]) / 2


def expected_losses(scores, trans, path):
    """Cross entropies of one unpadded sequence: twice its length."""
    logits = neighbour_logits(scores, trans, path)
    return [-log_softmax(x)[label] for x, label in zip(logits, [*path, *path], strict=True)]


def expected_hits(scores, trans, path):
    logits = neighbour_logits(scores, trans, path)
    return [x.argmax() == label for x, label in zip(logits, [*path, *path], strict=True)]


def make_memm(*weights, **kwargs):
    memm = MaximumEntropyMarkovModel(**kwargs)
    memm.build((None, None, len(weights[0])))
    memm.set_weights([np.asarray(w, "float32") / memm.lr_multiplier for w in weights])
    return memm


@pytest.fixture
def case():
    """Scores, labels, runs (row, start, end) of unmasked positions, their mask, transitions."""
    rng = np.random.default_rng(1)
    runs = [(0, 0, 5), (1, 0, 3), (2, 0, 1), (3, 2, 5)]
    mask = np.zeros((5, 5), bool)
    for row, start, end in runs:
        mask[row, start:end] = True
    scores = rng.normal(size=(5, 5, LABELS)) * 2
    return scores, rng.integers(0, LABELS, (5, 5)), runs, mask, rng.normal(size=(LABELS, LABELS))


def masked(memm, scores, mask):
    return memm(ops.convert_to_tensor(scores, "float32"), mask=ops.convert_to_tensor(mask))


def mean_over_runs(function, scores, labels, runs, trans):
    return np.mean(
        np.concatenate([function(scores[r, a:b], trans, labels[r, a:b]) for r, a, b in runs])
    )


@pytest.mark.parametrize("lr_multiplier", [1, 100])
def test_loss_is_the_mean_cross_entropy_of_both_directions(case, lr_multiplier):
    scores, labels, runs, mask, trans = case
    memm = make_memm(trans, lr_multiplier=lr_multiplier)
    outputs = masked(memm, scores, mask)
    expected = mean_over_runs(expected_losses, scores, labels, runs, trans)
    others = np.where(mask, labels, -1)
    assert float(memm.sparse_loss(others, outputs)) == pytest.approx(expected, rel=1e-5)
    one_hot = np.eye(LABELS)[labels]
    assert float(memm.dense_loss(one_hot, outputs)) == pytest.approx(expected, rel=1e-5)


def test_low_rank_transitions(case):
    scores, labels, runs, mask, _ = case
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(2, LABELS, 2))
    memm = make_memm(left, right, hidden_dim=2, lr_multiplier=10)
    outputs = masked(memm, scores, mask)
    expected = mean_over_runs(expected_losses, scores, labels, runs, left @ right.T)
    assert float(memm.sparse_loss(labels, outputs)) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(memm.trans, left @ right.T, atol=1e-5)
    full = make_memm(left @ right.T)
    np.testing.assert_array_equal(memm.decode(outputs), full.decode(outputs))


def test_accuracy_given_the_true_neighbours(case):
    scores, labels, runs, mask, trans = case
    memm = make_memm(trans)
    outputs = masked(memm, scores, mask)
    expected = mean_over_runs(expected_hits, scores, labels, runs, trans)
    assert 0 < expected < 1
    assert float(memm.sparse_accuracy(labels, outputs)) == pytest.approx(expected)
    assert float(memm.dense_accuracy(np.eye(LABELS)[labels], outputs)) == pytest.approx(expected)


def test_nothing_but_padding(case):
    scores, labels, _, mask, trans = case
    memm = make_memm(trans)
    outputs = masked(memm, scores, mask)[4:]
    assert float(memm.sparse_loss(labels[4:], outputs)) == 0
    assert float(memm.sparse_accuracy(labels[4:], outputs)) == 0
    np.testing.assert_array_equal(memm.decode(outputs), np.zeros((1, 5)))


@pytest.mark.parametrize("fill", [-np.inf, -1e12, -6e4])
def test_mask_is_read_from_any_masking_value(case, fill):
    scores, labels, runs, mask, trans = case
    memm = make_memm(trans)
    filled = np.where(mask[..., None], scores, fill)
    expected = mean_over_runs(expected_losses, scores, labels, runs, trans)
    assert float(memm.sparse_loss(labels, filled)) == pytest.approx(expected, rel=1e-5)


def test_decoding_finds_the_labels_of_least_loss(case):
    scores, _, runs, mask, trans = case
    trans = trans * 3
    memm = make_memm(trans)
    expected = np.zeros((5, 5), int)
    for row, start, end in runs:
        piece = scores[row, start:end]
        paths = list(itertools.product(range(LABELS), repeat=end - start))
        losses = [sum(expected_losses(piece, trans, path)) for path in paths]
        expected[row, start:end] = paths[np.argmin(losses)]
    np.testing.assert_array_equal(memm.decode(masked(memm, scores, mask)), expected)
    np.testing.assert_array_equal(memm.decode(scores, mask), expected)


def test_gradients_are_those_of_finite_differences(case):
    scores, labels, runs, mask, trans = case
    memm = make_memm(trans)
    inputs = tf.constant(scores, "float32")
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = memm.sparse_loss(labels, memm(inputs, mask=tf.constant(mask)))
    gradients = tape.gradient(loss, [inputs, memm.weights[0].value])
    for gradient, variable in zip(gradients, (scores, trans), strict=True):
        expected = np.zeros_like(variable)
        for index in np.ndindex(variable.shape):
            center = variable[index]
            ends = []
            for variable[index] in (center + 1e-5, center - 1e-5):
                ends.append(mean_over_runs(expected_losses, scores, labels, runs, trans))
            variable[index] = center
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_of_any_length(case, jit_compile):
    scores, labels, _, mask, trans = case
    memm = make_memm(trans)
    inputs = masked(memm, scores, mask)
    spec = [tf.TensorSpec((None, None, LABELS)), tf.TensorSpec((None, None), "int32")]

    def loss_and_path(scores, labels):
        return memm.sparse_loss(labels, scores), memm.decode(scores)

    graph = tf.function(loss_and_path, input_signature=spec, jit_compile=jit_compile)
    for length in (5, 1):
        arguments = inputs[:, :length], tf.constant(labels[:, :length], "int32")
        loss, path = graph(*arguments)
        expected_loss, expected_path = loss_and_path(*arguments)
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
        np.testing.assert_array_equal(path, expected_path)


@pytest.mark.parametrize("policy, tolerance", [("mixed_float16", 1e-2), ("mixed_bfloat16", 5e-2)])
def test_half_precision(case, policy, tolerance):
    scores, labels, runs, mask, trans = case
    memm = make_memm(trans, dtype=policy)
    outputs = masked(memm, scores, mask)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()
    expected = mean_over_runs(expected_losses, scores, labels, runs, trans)
    for y_pred in (outputs, ops.cast(outputs, "float32")):
        loss = memm.sparse_loss(labels, y_pred)
        assert loss.dtype == "float32"
        assert float(loss) == pytest.approx(expected, abs=tolerance)


def test_a_model_learns_transitions():
    """The label counts 0, 1, 2, 0 …; the inputs are the same everywhere."""
    rng = np.random.default_rng(4)
    inputs = keras.Input((None, LABELS))
    memm = MaximumEntropyMarkovModel(hidden_dim=3, lr_multiplier=10)
    model = keras.Model(inputs, memm(keras.layers.Masking(0.0)(inputs)))
    model.compile(
        keras.optimizers.Adam(0.02), loss=memm.sparse_loss, metrics=[memm.sparse_accuracy]
    )
    for length in (4, 7, 5) * 15:
        x = np.ones((16, length, LABELS), "float32")
        x[::2, -2:] = 0
        y = (rng.integers(0, LABELS, (16, 1)) + np.arange(length)) % LABELS
        model.train_on_batch(x, y)
    outputs = model.predict(x, verbose=0)
    assert float(memm.sparse_accuracy(y, outputs)) > 0.8  # the ends have no neighbour to tell
    path = np.asarray(memm.decode(outputs))
    assert ((path[1::2, 1:] - path[1::2, :-1]) % LABELS == 1).all()
    assert (path[::2, -2:] == 0).all()


def test_config_and_errors():
    memm = MaximumEntropyMarkovModel(lr_multiplier=7, hidden_dim=5, name="tags")
    twin = MaximumEntropyMarkovModel.from_config(memm.get_config())
    assert (twin.lr_multiplier, twin.hidden_dim, twin.name) == (7, 5, "tags")
    assert memm.compute_mask(None, np.ones((1, 2))) is None
    with pytest.raises(ValueError, match="lr_multiplier must be positive"):
        MaximumEntropyMarkovModel(lr_multiplier=-1)
