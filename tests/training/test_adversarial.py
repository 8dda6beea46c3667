"""Regularizations of embeddings against closed forms in float64."""

import itertools
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.training import FGM, VAT, GradientPenalty

from .adversarial import EMBEDDINGS, KERNEL, LABELS, TOKENS, make_model, train

HERE = Path(__file__).parent
ONE_HOT = np.eye(2)[LABELS]


def log_softmax(embeddings, kernel, change=0.0):
    logits = (embeddings[TOKENS] + change).mean(1) @ kernel
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def cross_entropy(embeddings, kernel, change=0.0):
    return -np.mean(np.sum(ONE_HOT * log_softmax(embeddings, kernel, change), 1))


def gradient_of_tokens(embeddings, kernel):
    """∂L/∂e of each of the 6 · 3 tokens; L is a mean over 6 examples of a mean over 3 tokens."""
    apart = (np.exp(log_softmax(embeddings, kernel)) - ONE_HOT) @ kernel.T / 18
    return np.repeat(apart[:, None], 3, axis=1)


def penalized(embeddings, kernel):
    squares = (gradient_of_tokens(embeddings, kernel) ** 2).sum()
    return cross_entropy(embeddings, kernel) + 3.0 / 2 * squares


g = gradient_of_tokens(EMBEDDINGS, KERNEL)
WORST = 0.7 * g / np.sqrt((g**2).sum())


def attacked(embeddings, kernel):
    clean = cross_entropy(embeddings, kernel)
    return clean + 0.5 * cross_entropy(embeddings, kernel, WORST)


def divergent(signs):
    """VAT of two classes: the direction is that between the two columns of the kernel."""
    between = np.tile(KERNEL[:, 1] - KERNEL[:, 0], (6, 3, 1))
    change = np.array(signs)[:, None, None] * between / np.sqrt((between[0] ** 2).sum())
    expected = log_softmax(EMBEDDINGS, KERNEL)  # not differentiated

    def loss(embeddings, kernel):
        found = log_softmax(embeddings, kernel, change)
        divergence = np.sum(np.exp(expected) * (expected - found), 1)
        return cross_entropy(embeddings, kernel) + 2 * divergence.mean()

    return loss


def check(formula, loss, moved):
    assert loss == pytest.approx(formula(EMBEDDINGS, KERNEL), rel=1e-5)
    for number, move in enumerate(moved):
        for index in np.ndindex(move.shape):
            weights = [EMBEDDINGS.copy(), KERNEL.copy()], [EMBEDDINGS.copy(), KERNEL.copy()]
            weights[0][number][index] += 1e-6
            weights[1][number][index] -= 1e-6
            slope = (formula(*weights[0]) - formula(*weights[1])) / 2e-6
            assert move[index] == pytest.approx(-slope, rel=1e-4, abs=2e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "regularization, formula",
    [(None, cross_entropy), (FGM(0.7, 0.5), attacked), (GradientPenalty(3.0), penalized)],
)
def test_one_step(regularization, formula, jit_compile):
    check(formula, *train(regularization, jit_compile=jit_compile))


def test_vat_finds_the_direction():
    check_vat(*train(VAT(weight=2.0, iterations=2, seed=1)))


def test_vat_of_a_step_is_always_the_same():
    """Random numbers come of seed and step, so that a resumed training draws the same."""
    first, second = (train(VAT(seed=3)) for _ in range(2))
    assert first[0] == second[0] != train(VAT(seed=4))[0]


def check_vat(loss, moved):
    every = [divergent(signs) for signs in itertools.product((-1, 1), repeat=6)]
    formula = min(every, key=lambda f: abs(f(EMBEDDINGS, KERNEL) - loss))
    check(formula, loss, moved)


def test_unlabelled_rows_count_for_vat():
    model = make_model(VAT(seed=1))
    history = model.fit(TOKENS, LABELS, sample_weight=np.zeros(6), batch_size=6, verbose=0)
    assert history.history["loss"][0] > 1e-4
    model = make_model(FGM())
    history = model.fit(TOKENS, LABELS, sample_weight=np.zeros(6), batch_size=6, verbose=0)
    assert history.history["loss"][0] == 0


@pytest.mark.parametrize("regularization", [FGM(0.7, 0.5), GradientPenalty(3.0)])
def test_half_precision(regularization):
    expected, _ = train(regularization)
    keras.config.set_dtype_policy("mixed_float16")
    loss, moved = train(regularization)
    assert loss == pytest.approx(expected, rel=1e-2)
    assert all(np.isfinite(move).all() for move in moved)


def test_small_gradients_of_vat_in_half_precision():
    """Logits of 1/1000, which float16's gradients of the divergence would not see."""
    losses = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        model = make_model(VAT(epsilon=1000.0, seed=1))
        model.set_weights([EMBEDDINGS, KERNEL / 1000])
        losses.append(model.train_on_batch(TOKENS, LABELS))
    assert losses[0] > np.log(2) + 0.05
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_evaluation_is_not_regularized():
    model = make_model(FGM())
    loss = model.evaluate(TOKENS, LABELS, verbose=0)
    assert loss == pytest.approx(cross_entropy(EMBEDDINGS, KERNEL), rel=1e-5)
    assert "call" not in vars(model.get_layer("Embedding-Token"))


def test_saved_with_the_model(tmp_path):
    model = make_model(VAT(0.5, 2.0, 0.2, 3, seed=4))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.regularization) is VAT
    assert loaded.regularization.get_config() == model.regularization.get_config()
    loaded.fit(TOKENS, LABELS, verbose=0)


def test_refused():
    with pytest.raises(ValueError, match="'Embedding', and .* name one of them with `layer`"):
        make_model(FGM(layer="Embedding"))
    with pytest.raises(ValueError, match="epsilon of GradientPenalty is above 0"):
        GradientPenalty(0)


def test_two_replicas_equal_one_device(run_python):
    """With accumulation, over batches of 3 = 2 + 1 rows."""
    found = json.loads(run_python(sys.executable, HERE / "adversarial.py").splitlines()[-1])
    loss, moved = found.pop("VAT")
    check_vat(loss, [np.array(move) for move in moved])
    assert set(found) == {"FGM", "GradientPenalty"} and max(found.values()) < 1e-5, found
