"""The CRF against all its paths, enumerated in float64."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_extras.layers import ConditionalRandomField

LABELS = 3


def numpy_softmax_sum(values):
    top = np.max(values)
    return top + np.log(np.sum(np.exp(np.array(values) - top)))


def path_score(scores, trans, path):
    points = sum(scores[t, label] for t, label in enumerate(path))
    return points + sum(trans[a, b] for a, b in itertools.pairwise(path))


def all_paths(length):
    return list(itertools.product(range(LABELS), repeat=length))


def expected_loss(scores, trans, path):
    """-log p(path) of one unpadded sequence."""
    paths = all_paths(len(scores))
    norm = numpy_softmax_sum([path_score(scores, trans, p) for p in paths])
    return norm - path_score(scores, trans, path)


def best_path(scores, trans):
    return max(all_paths(len(scores)), key=lambda path: path_score(scores, trans, path))


def make_crf(trans, **kwargs):
    crf = ConditionalRandomField(**kwargs)
    crf.build((None, None, len(trans)))
    crf.set_weights([np.asarray(trans, "float32") / crf.lr_multiplier])
    return crf


@pytest.fixture
def case():
    """Scores, labels, a padding mask (one row empty), transitions."""
    rng = np.random.default_rng(1)
    mask = np.arange(5) < np.array([5, 3, 1, 0])[:, None]
    scores = rng.normal(size=(4, 5, LABELS)) * 2
    return scores, rng.integers(0, LABELS, (4, 5)), mask, rng.normal(size=(LABELS, LABELS))


def masked(crf, scores, mask):
    return crf(ops.convert_to_tensor(scores, "float32"), mask=ops.convert_to_tensor(mask))


def expected_losses(scores, labels, mask, trans):
    """Every run of unmasked positions is a chain of its own."""
    losses = []
    for row, path, valid in zip(scores, labels, mask, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(int), [0]])))
        runs = zip(edges[::2], edges[1::2], strict=True)
        losses.append(sum(expected_loss(row[a:b], trans, path[a:b]) for a, b in runs))
    return np.array(losses, "float64")


@pytest.mark.parametrize("lr_multiplier", [1, 100])
def test_loss_is_the_negative_log_likelihood(case, lr_multiplier):
    scores, labels, mask, trans = case
    crf = make_crf(trans, lr_multiplier=lr_multiplier)
    outputs = masked(crf, scores, mask)
    expected = expected_losses(scores, labels, mask, trans)
    one_hot = np.eye(LABELS)[labels]
    assert expected[3] == 0
    np.testing.assert_allclose(crf.sparse_loss(labels, outputs), expected, atol=1e-5)
    np.testing.assert_allclose(crf.sparse_loss(labels[..., None], outputs), expected, atol=1e-5)
    np.testing.assert_allclose(crf.dense_loss(one_hot, outputs), expected, atol=1e-5)


def test_padding_on_the_left_and_gaps(case):
    scores, labels, _, trans = case
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 0, 1, 1], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0]], bool)
    crf = make_crf(trans)
    outputs = masked(crf, scores, mask)
    expected = expected_losses(scores, labels, mask, trans)
    np.testing.assert_allclose(crf.sparse_loss(labels, outputs), expected, atol=1e-5)
    paths = np.zeros((4, 5), int)
    for i, (a, b) in [(0, (2, 5)), (1, (0, 2)), (1, (3, 5)), (2, (1, 2)), (2, (3, 4)), (3, (1, 4))]:
        paths[i, a:b] = best_path(scores[i, a:b], trans)
    np.testing.assert_array_equal(crf.decode(outputs), paths)


def test_probabilities_of_all_paths_sum_to_one(case):
    scores, _, _, trans = case
    paths = np.array(all_paths(5))
    crf = make_crf(trans)
    losses = crf.sparse_loss(paths, np.repeat(scores[:1], len(paths), axis=0))
    assert np.exp(-np.asarray(losses, "float64")).sum() == pytest.approx(1, abs=1e-5)


def test_labels_on_the_padding_do_not_matter(case):
    scores, labels, mask, trans = case
    crf = make_crf(trans)
    outputs = masked(crf, scores, mask)
    others = np.where(mask, labels, -1)
    np.testing.assert_array_equal(
        crf.sparse_loss(others, outputs), crf.sparse_loss(labels, outputs)
    )
    np.testing.assert_array_equal(crf.dense_loss(np.full((4, 5, LABELS), np.nan), outputs)[3], 0)


@pytest.mark.parametrize("fill", [-np.inf, -1e12, -6e4])
def test_mask_is_read_from_any_masking_value(case, fill):
    scores, labels, mask, trans = case
    crf = make_crf(trans)
    filled = np.where(mask[..., None], scores, fill)
    expected = expected_losses(scores, labels, mask, trans)
    np.testing.assert_allclose(crf.sparse_loss(labels, filled), expected, atol=1e-5)


def test_a_forbidden_label_is_not_padding():
    scores = np.array([[[0.0, 0.0], [-np.inf, 0.0]]])
    crf = make_crf(np.zeros((2, 2)))
    np.testing.assert_allclose(crf.sparse_loss([[0, 1]], scores), [np.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(crf.decode(scores), [[0, 1]])


def test_nan_is_not_taken_for_padding():
    crf = make_crf(np.zeros((2, 2)))
    assert np.isnan(crf.sparse_loss([[0, 1]], np.full((1, 2, 2), np.nan)))


def test_viterbi_finds_the_best_path(case):
    scores, _, mask, trans = case
    crf = make_crf(trans)
    expected = np.zeros((4, 5), int)
    for i, length in enumerate([5, 3, 1, 0]):
        if length:
            expected[i, :length] = best_path(scores[i, :length], trans)
    np.testing.assert_array_equal(crf.decode(masked(crf, scores, mask)), expected)
    np.testing.assert_array_equal(crf.decode(scores, mask), expected)
    np.testing.assert_array_equal(crf.decode(scores[:1, :1]), [[np.argmax(scores[0, 0])]])


def test_gradients_are_those_of_finite_differences(case):
    scores, labels, mask, trans = case
    crf = make_crf(trans)
    inputs = tf.constant(scores, "float32")
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(crf.sparse_loss(labels, crf(inputs, mask=tf.constant(mask))))
    gradients = tape.gradient(loss, [inputs, crf.weights[0].value])
    for gradient, variable in zip(gradients, (scores, trans), strict=True):
        expected = np.zeros_like(variable)
        for index in np.ndindex(variable.shape):
            center = variable[index]
            ends = []
            for variable[index] in (center + 1e-5, center - 1e-5):
                ends.append(expected_losses(scores, labels, mask, trans).sum())
            variable[index] = center
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_of_any_length(case, jit_compile):
    """XLA needs a bound on the loop to differentiate it; see `scan_states`."""
    scores, labels, mask, trans = case
    crf = make_crf(trans)
    inputs = masked(crf, scores, mask)
    spec = [tf.TensorSpec((None, None, LABELS)), tf.TensorSpec((None, None), "int32")]

    def losses_and_gradients(scores, labels):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            losses = crf.sparse_loss(labels, scores)
        return losses, tape.gradient(losses, [scores, crf.weights[0].value])

    graph = tf.function(losses_and_gradients, input_signature=spec, jit_compile=jit_compile)
    decode = tf.function(crf.decode, input_signature=spec[:1], jit_compile=jit_compile)
    for length in (5, 1):
        arguments = inputs[:, :length], tf.constant(labels[:, :length], "int32")
        for ours, eager in zip(
            tf.nest.flatten(graph(*arguments)),
            tf.nest.flatten(losses_and_gradients(*arguments)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, eager, atol=1e-6)
        np.testing.assert_array_equal(decode(arguments[0]), crf.decode(arguments[0]))


def test_long_sequences_do_not_overflow():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(1, 150, 4)) * 50
    trans = rng.normal(size=(4, 4))
    state = scores[0, 0]
    for row in scores[0, 1:]:
        state = np.array([numpy_softmax_sum(state + trans[:, j]) for j in range(4)]) + row
    norm = numpy_softmax_sum(state)
    crf = make_crf(trans)
    path = np.asarray(crf.decode(scores))
    expected = norm - path_score(scores[0], trans, path[0])
    np.testing.assert_allclose(crf.sparse_loss(path, scores), [expected], atol=1e-2)


def test_accuracy_leaves_the_padding_out(case):
    scores, labels, mask, trans = case
    crf = make_crf(trans)
    outputs = masked(crf, scores, mask)
    expected = (scores.argmax(-1) == labels)[mask].mean()
    assert float(crf.sparse_accuracy(labels, outputs)) == pytest.approx(expected)
    assert float(crf.dense_accuracy(np.eye(LABELS)[labels], outputs)) == pytest.approx(expected)
    assert float(crf.sparse_accuracy(labels[3:], outputs[3:])) == 0


@pytest.mark.parametrize("policy, tolerance", [("mixed_float16", 2e-2), ("mixed_bfloat16", 2e-1)])
def test_half_precision(case, policy, tolerance):
    scores, labels, mask, trans = case
    crf = make_crf(trans, dtype=policy)
    outputs = masked(crf, scores, mask)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()
    expected = expected_losses(scores, labels, mask, trans)
    for y_pred in (outputs, ops.cast(outputs, "float32")):
        losses = crf.sparse_loss(labels, y_pred)
        assert losses.dtype == "float32"
        np.testing.assert_allclose(losses, expected, atol=tolerance)


def test_multiplier_speeds_up_the_transitions():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 6, LABELS)).astype("float32"), rng.integers(0, LABELS, (8, 6))
    moves, starts = [], []
    for multiplier in (1, 50):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, LABELS))
        crf = ConditionalRandomField(lr_multiplier=multiplier)
        model = keras.Model(inputs, crf(inputs))
        before = ops.convert_to_numpy(crf.trans)
        model.compile(keras.optimizers.Adam(1e-3), loss=crf.sparse_loss)
        model.train_on_batch(x, y)
        moves.append(np.abs(ops.convert_to_numpy(crf.trans) - before).max())
        starts.append(before)
    np.testing.assert_allclose(starts[0], starts[1], rtol=1e-5)
    assert 0 < np.abs(starts[0]).max() <= 1  # the limit of Glorot for a 3 x 3 matrix
    assert moves[0] == pytest.approx(1e-3, rel=1e-3)
    assert moves[1] == pytest.approx(5e-2, rel=1e-3)


def test_a_model_learns_transitions():
    """Labels alternate and the inputs say nothing: only the transitions can tell."""
    rng = np.random.default_rng(4)
    batches = []
    for length in (4, 7, 5) * 20:
        tokens = np.ones((16, length), "int32")
        tokens[::2, -2:] = 0
        labels = (rng.integers(0, 2, (16, 1)) + np.arange(length)) % 2
        batches.append((tokens, labels))
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(2, 2, mask_zero=True)(tokens)
    crf = ConditionalRandomField(lr_multiplier=10)
    model = keras.Model(tokens, crf(x))
    assert model.output_shape == (None, None, 2)
    assert getattr(model.output, "_keras_mask", None) is None
    model.compile(keras.optimizers.Adam(0.02), loss=crf.sparse_loss, metrics=[crf.sparse_accuracy])
    losses = []
    for batch in batches:
        model.reset_metrics()  # Keras 3.12 goes on with the mean
        losses.append(model.train_on_batch(*batch)[0])
    assert np.mean(losses[-3:]) < 0.8 < 2 < losses[0]  # one free bit per sequence: log 2
    paths = np.asarray(crf.decode(model.predict(batches[0][0], verbose=0)))
    assert (paths[:, 0] != paths[:, 1]).all() and (paths[::2, 2:] == 0).all()


def test_config_and_errors():
    crf = ConditionalRandomField(lr_multiplier=7, name="tags")
    twin = ConditionalRandomField.from_config(crf.get_config())
    assert (twin.lr_multiplier, twin.name) == (7, "tags")
    assert crf.compute_mask(None, np.ones((1, 2))) is None
    with pytest.raises(ValueError, match="lr_multiplier must be positive"):
        ConditionalRandomField(lr_multiplier=0)
    with pytest.raises(ValueError, match=r"shape \(batch, length, labels\)"):
        make_crf(np.zeros((2, 2))).sparse_loss([[0]], np.zeros((1, 2)))
