"""Worked examples, limits and invariances of each loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import losses as L

from .cases import CASES, EMBEDDINGS, LOGITS, ORDER, SPARSE, TWINS


def approx(value):
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def logits_of(*probabilities):
    return np.log(np.array(probabilities)).astype("float32")


def pair_of_cosine(cosine):
    return [[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]]


# Logit adjustment


@pytest.mark.parametrize("right, expected", [(0, 0.105361), (1, 2.302585)])
def test_zero_logits_leave_the_prior(right, expected):
    loss = L.SparseLogitAdjustedCategoricalCrossentropy([0.9, 0.1])
    assert float(loss([right], [[0.0, 0.0]])) == approx(expected)


def test_no_tau_or_uniform_prior_is_cross_entropy():
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(SPARSE, LOGITS)
    for arguments in [([9, 1, 0, 0], 0.0), ([7, 7, 7, 7], 1.0), (None, 1.0)]:
        loss = L.SparseLogitAdjustedCategoricalCrossentropy(*arguments)
        assert float(loss(SPARSE, LOGITS)) == approx(float(expected))


def test_the_two_forms_of_the_formula():
    f, p, tau = LOGITS[0], np.array([0.5, 0.2, 0.2, 0.1]), 1.5
    for y in range(4):
        expected = np.log(sum((p / p[y]) ** tau * np.exp(f - f[y])))
        loss = L.sparse_logit_adjusted_categorical_crossentropy([y], f[None], p, tau)
        assert float(loss[0]) == approx(expected)


def test_post_hoc_adjustment_undoes_the_loss():
    """With the prior taken off after training and put on in it, both predict alike."""
    prior = [0.7, 0.2, 0.1]
    put_on = LOGITS[:, :3] + np.log(prior)
    np.testing.assert_allclose(L.adjust_logits(put_on, prior), LOGITS[:, :3], atol=1e-6)
    np.testing.assert_allclose(
        L.adjust_logits(LOGITS[:, :3], prior, tau=-1), put_on, rtol=1e-5, atol=1e-6
    )


def test_masked_classes_get_no_part_of_smoothing():
    logits = np.array([[1.0, 2.0, 3.0, -np.inf]])
    log_p = logits[0, :3] - np.log(np.exp(logits[0, :3]).sum())
    expected = -0.9 * log_p[1] - 0.1 * log_p.mean()
    for fill in (-np.inf, -1e12, -6e4):
        logits[0, 3] = fill
        sparse = L.sparse_logit_adjusted_categorical_crossentropy([1], logits, label_smoothing=0.1)
        dense = L.logit_adjusted_categorical_crossentropy(
            np.array([[0, 1, 0, 0]]), logits, label_smoothing=0.1
        )
        assert float(sparse[0]) == approx(expected) and float(dense[0]) == approx(expected)


def test_masked_rows_of_a_sequence():
    """Keras' mask of a token classifier leaves padding out; all padding is loss 0."""
    logits = tf.constant(LOGITS.reshape(3, 4, 4), "float32")
    visible = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    for loss in (
        L.SparseLogitAdjustedCategoricalCrossentropy([4, 3, 2, 1]),
        L.TaiLr(0.2),
        L.SmoothAccuracy(),
    ):
        rows = np.asarray(loss.call(SPARSE.reshape(3, 4), logits))
        for keep in (visible, np.zeros_like(visible)):
            logits._keras_mask = tf.constant(keep)
            expected = (rows * keep).sum() / max(keep.sum(), 1)
            assert float(loss(SPARSE.reshape(3, 4), logits)) == approx(expected)
        del logits._keras_mask


def test_prior_needs_every_class():
    assert L.class_prior([3, 1], smoothing=1).tolist() == pytest.approx([4 / 6, 2 / 6])
    with pytest.raises(ValueError, match=r"prior of classes \[1\] is 0"):
        L.LogitAdjustedCategoricalCrossentropy([3, 0, 1])
    for counts in ([0, 0], [1, -1], [[1, 2]], [np.nan, 1]):
        with pytest.raises(ValueError, match="one count per class"):
            L.class_prior(counts)
    with pytest.raises(ValueError, match="label_smoothing"):
        L.SparseLogitAdjustedCategoricalCrossentropy(label_smoothing=1)


# TaiLr and smooth metrics


@pytest.mark.parametrize(
    "p, expected",
    [
        (0.1, [2.302585, 1.845256, 1.195674, 0.992255, 0.9]),
        (0.5, [0.693147, 0.664263, 0.575364, 0.526803, 0.5]),
    ],
)
def test_tailr_values(p, expected):
    values = [float(L.tailr([0], logits_of([p, 1 - p]), g)[0]) for g in (0, 0.1, 0.5, 0.8, 1)]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_tailr_is_continuous_and_bounded():
    hopeless = np.array([[0.0, 200.0]], "float32")
    for gamma in (1e-7, 0.1, 0.5, 0.8):
        bound = -np.log(gamma) / (1 - gamma)
        assert float(L.tailr([0], hopeless, gamma)[0]) == approx(bound)
    likely = logits_of([0.3, 0.7])
    assert float(L.tailr([0], likely, 1 - 1e-6)[0]) == approx(0.7)
    assert float(L.tailr([0], likely, 1e-9)[0]) == approx(-np.log(0.3))


@pytest.mark.parametrize("floor", [None, 0.0])
def test_both_forms_of_tailr_have_one_gradient(floor):
    """dL/dp = -1 / (γ + (1 - γ) p): -4/3 at γ = p = 1/2; dp/df = p (1 - p) = 1/4."""
    logits = tf.constant([[0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = L.tailr([0], logits, 0.5, floor)
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], [-1 / 3, 1 / 3], rtol=1e-5)


def test_tailr_refuses():
    for arguments in ({"gamma": 1.5}, {"gamma": -0.1}, {"floor": 2}):
        with pytest.raises(ValueError, match="lies between 0 and 1"):
            L.TaiLr(**arguments)


def test_gamma_schedule():
    """Every epoch has its γ: one step of SGD from zero logits moves by dL/df, to loss(±move)."""
    model = keras.Sequential([keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")])
    loss = L.TaiLr(0.0)
    model.compile(keras.optimizers.SGD(1.0), loss)
    gammas, moves = [0.0, 0.5, 1.0], []

    class Reset(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            moves.append(float(model.weights[0][0, 0]))
            model.weights[0].assign([[0.0, 0.0]])

    schedule = L.GammaSchedule(loss, lambda epoch: gammas[epoch])
    x, y = np.ones((2, 1)), np.zeros(2)
    data = {"validation_data": (x, y), "shuffle": False}
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[schedule, Reset()], **data)
    np.testing.assert_allclose(moves, [0.25 / (g + (1 - g) / 2) for g in gammas], rtol=1e-5)
    p = 1 / (1 + np.exp(-2 * np.array(moves)))
    wanted = [-np.log(p[0]), -np.log(0.5 + 0.5 * p[1]) / 0.5, 1 - p[2]]
    np.testing.assert_allclose(history.history["val_loss"], wanted, rtol=1e-5)


def test_f1_without_anything_right():
    nothing = L.SmoothF1(from_logits=False)
    assert float(nothing([[0.0, 0.0]], [[0.0, 0.0]])) == approx(0)
    assert float(nothing([[1.0, 1.0]], [[1.0, 1.0]])) == approx(0)
    assert float(nothing([[1.0, 0.0]], [[0.0, 1.0]])) == approx(1)
    with pytest.raises(ValueError, match="'micro' or 'macro'"):
        L.SmoothF1("weighted")


def test_f1_mask_is_a_weight():
    y_true = (LOGITS > 0.3).astype("float32").reshape(3, 4, 4)
    y_pred = tf.constant(LOGITS.reshape(3, 4, 4), "float32")
    visible = np.arange(4)[None] < np.array([[2], [4], [1]])
    y_pred._keras_mask = tf.constant(visible)
    kept = L.SmoothF1("macro")(y_true[visible], LOGITS.reshape(3, 4, 4)[visible])
    assert float(L.SmoothF1("macro")(y_true, y_pred)) == approx(float(kept))


# Similarity


@pytest.mark.parametrize("labels, expected", [((1, 0), 0.018150), ((0, 1), 4.018150), ((1, 1), 0)])
def test_cosent_of_two_pairs(labels, expected):
    rows = pair_of_cosine(0.8) + pair_of_cosine(0.6)
    loss = L.CoSENT()(np.repeat(labels, 2), np.array(rows, "float32"))
    assert float(loss) == approx(expected)
    assert float(L.cosent(labels, [0.8, 0.6])) == approx(expected)


def test_cosent_wants_an_order():
    scores = EMBEDDINGS[:, 0]
    loss = float(L.cosent(ORDER, scores, 3))
    assert float(L.cosent(ORDER, scores + 5, 3)) == approx(loss)
    assert float(L.cosent(np.exp(ORDER), scores, 3)) == approx(loss)
    names = np.array(["contradiction", "neutral", "entailment"])[ORDER]
    assert float(L.cosent([L.NLI_ORDER[name] for name in names], scores, 3)) == approx(loss)
    labelled = list(zip(scores, ORDER, strict=True))
    differences = [b - a for a, y in labelled for b, z in labelled if y > z]
    assert loss >= 3 * max(differences)


def test_cosent_factorises_for_two_labels():
    scores, labels = EMBEDDINGS[:, 0], ORDER > 0
    negative, positive = np.exp(2 * scores[~labels]).sum(), np.exp(-2 * scores[labels]).sum()
    loss = L.cosent(labels.astype("int32"), scores, 2.0)
    assert float(loss) == approx(np.log(1 + negative * positive))


def test_cosent_weights_repeat_pairs():
    scores, weights = EMBEDDINGS[:6, 0], np.array([1, 3, 0, 2, 1, 1])
    loss = L.cosent(ORDER[:6], scores, 4, weights)
    repeated = L.cosent(np.repeat(ORDER[:6], weights), np.repeat(scores, weights), 4)
    assert float(loss) == approx(float(repeated))
    assert float(L.cosent(ORDER[:6], scores, 4, np.zeros(6))) == 0


def test_interactive_scores_are_limited():
    loss = L.InteractiveCoSENT(limit=10.0)
    assert float(loss([0, 1], [[1e9], [-1e9]])) == approx(20)


def test_simcse_of_known_rows():
    orthogonal = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], "float32")
    assert float(L.SimCSE()(TWINS[:4], orthogonal)) == pytest.approx(
        np.log1p(2 * np.exp(-20)), abs=1e-7
    )
    assert float(L.SimCSE()(TWINS[:4], np.ones((4, 3), "float32"))) == approx(np.log(3))
    assert float(L.SupervisedSimCSE(2)(TWINS[:4], np.ones((4, 3)))) == approx(np.log(2))


def test_simcse_does_not_mind_who_is_first():
    swapped = EMBEDDINGS.reshape(6, 2, 5)[:, ::-1].reshape(12, 5)
    loss = L.SimCSE()
    assert float(loss(TWINS, swapped)) == approx(float(loss(TWINS, EMBEDDINGS)))


def test_zero_vectors():
    rows = np.array([[0, 0], [1, 0], [1, 0], [1, 0]], "float32")
    assert float(L.CoSENT()([1, 1, 0, 0], rows)) == approx(np.log(1 + np.exp(20)))
    assert np.isfinite(float(L.SimCSE()(TWINS[:4], rows)))


def test_refused_arguments():
    with pytest.raises(ValueError, match="temperature of simcse"):
        L.SimCSE(0)
    with pytest.raises(ValueError, match="an anchor and a positive"):
        L.SupervisedSimCSE(1)
    with pytest.raises(ValueError, match="linear, square, margin"):
        L.CosineContrast("cubic")


# Consistency


def test_r_drop_without_dropout_is_its_loss():
    same = np.repeat(LOGITS[::2], 2, axis=0)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(SPARSE, same)
    assert float(L.RDrop()(SPARSE, same)) == approx(float(plain))
    assert float(L.RDrop()(np.full(12, -1), same)) == approx(0)


def test_r_drop_is_half_of_the_papers_sum():
    p = np.exp(LOGITS[:2]) / np.exp(LOGITS[:2]).sum(-1, keepdims=True)
    kl = (p[0] * np.log(p[0] / p[1])).sum() + (p[1] * np.log(p[1] / p[0])).sum()
    paper = -np.log(p[0, 0]) - np.log(p[1, 0]) + 4 / 2 * kl
    assert float(L.RDrop()([0, 0], LOGITS[:2])) == approx(paper / 2)
    assert float(L.RDrop()([0, 0], LOGITS[1::-1])) == approx(paper / 2)
    np.testing.assert_allclose(L.symmetric_divergence(LOGITS[0], LOGITS[1]), kl, rtol=1e-5)


def test_r_drop_with_one_hot_targets():
    dense = L.RDrop(keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1))
    sparse = L.RDrop(L.SparseLogitAdjustedCategoricalCrossentropy(label_smoothing=0.1))
    assert float(dense(np.eye(4)[SPARSE], LOGITS)) == approx(float(sparse(SPARSE, LOGITS)))
    unlabelled = np.where(np.arange(12)[:, None] < 4, -1, np.eye(4)[SPARSE])
    wanted = sparse(np.where(np.arange(12) < 4, -1, SPARSE), LOGITS)
    assert float(dense(unlabelled, LOGITS)) == approx(float(wanted))


def test_r_drop_of_every_token():
    logits, labels = LOGITS.reshape(4, 3, 4), np.repeat([[0, 1, 2], [3, 3, -1]], 2, axis=0)
    loss = L.RDrop(reduction=None)(labels, logits)
    assert loss.shape == (4, 3)
    for t in range(3):
        expected = L.RDrop(reduction=None)(labels[:, t], logits[:, t])
        np.testing.assert_allclose(loss[:, t], expected, rtol=1e-5)


# Layouts


def test_layouts():
    x = np.array([[1, 2], [3, 4]])
    assert L.twice_in_a_row((x, np.array([5, 6])))[1].tolist() == [5, 5, 6, 6]
    assert L.twice_in_a_row({"x": x}, 3)["x"].tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
    (ids, labels) = L.interleave((x, np.array([0, 1])), (np.array([[7], [8]]), np.array([2, 3])))
    assert ids.tolist() == [[1, 2], [7, 0], [3, 4], [8, 0]] and labels.tolist() == [0, 2, 1, 3]
    assert L.interleave(np.ones((2, 1, 3)), np.ones((2, 2, 3)), padding=9).shape == (4, 2, 3)
    assert L.group_numbers(2, 3).tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"the columns have \[2, 1\] rows"):
        L.interleave(x, x[:1])


def test_twice_in_a_row_of_every_epoch():
    class Batches(keras.utils.PyDataset):
        epoch = 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.array([[10 * self.epoch + index], [5]]), np.array([index, 5]), None

        def on_epoch_end(self):
            self.epoch += 1

    twice = L.TwiceInARow(Batches())
    for epoch in range(2):
        inputs, targets, weights = twice[1]
        assert inputs.tolist() == [[10 * epoch + 1]] * 2 + [[5]] * 2
        assert targets.tolist() == [1, 1, 5, 5] and weights is None and len(twice) == 2
        twice.on_epoch_end()


GROUPED = ["cosent", "simcse", "simcse-pairs", "simcse-triplets", "cosine-linear", "r_drop"]


@pytest.mark.parametrize("name", GROUPED)
def test_wrong_layouts_are_detected(name):
    case = CASES[name]
    with pytest.raises(ValueError, match="batches whose rows stand in groups of .* has 11 rows"):
        case.loss(case.y_true[:11], case.y_pred[:11])
    y_true, y_pred = np.roll(case.y_true, 1), tf.constant(case.y_pred, "float32")
    with pytest.raises(ValueError, match="neighbours of this one have other targets"):
        case.loss(y_true, y_pred)
    for jit_compile in (False, True):
        step = tf.function(case.loss, jit_compile=jit_compile)
        assert np.isnan(step(tf.constant(y_true, "float32"), y_pred))
        right = step(tf.constant(case.y_true, "float32"), y_pred)
        assert float(right) == approx(case.expected())


def test_targets_may_have_a_second_axis():
    for name in GROUPED[:-1]:
        case = CASES[name]
        assert float(case.loss(case.y_true[:, None], case.y_pred)) == approx(case.expected())


def test_unknown_batch_size():
    """One trace serves all batch sizes."""
    for name in GROUPED:
        case = CASES[name]
        targets, outputs = tf.TensorSpec([None]), tf.TensorSpec([None, case.y_pred.shape[1]])
        traced = tf.function(case.loss, input_signature=[targets, outputs])
        y_true, y_pred = tf.constant(case.y_true, "float32"), tf.constant(case.y_pred, "float32")
        for rows in (12, 6):
            expected = case.loss(case.y_true[:rows], case.y_pred[:rows])
            assert float(traced(y_true[:rows], y_pred[:rows])) == approx(float(expected))


def test_embeddings_of_one_kind_give_one_order():
    """All labels equal: nothing to order, and no gradient."""
    rows = tf.constant(EMBEDDINGS, "float32")
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = L.CoSENT()(np.ones(12), rows)
    assert float(loss) == 0 and not np.any(tape.gradient(loss, rows))
