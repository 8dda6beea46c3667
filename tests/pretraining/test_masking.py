"""Which tokens are hidden, and what the model sees instead."""

import numpy as np
import pytest

from pretraining.masking import mask_words, most_masked

MASK, SPECIAL, VOCABULARY, LENGTH = 4, 5, 1000, 64


@pytest.fixture(scope="module")
def batch():
    """400 rows of words of 1 to 4 tokens between [CLS] and [SEP], with a [SEP] inside."""
    rng = np.random.default_rng(7)
    tokens = rng.integers(SPECIAL, VOCABULARY, (400, LENGTH))
    starts = rng.random((400, LENGTH)) < 0.45
    tokens[:, 0], tokens[:, -1], tokens[:, 30] = 2, 3, 3
    starts[:, [0, 1, 30, 31, -1]] = True
    return tokens, starts


def masked(batch, rate=0.15, seed=0):
    return mask_words(*batch, MASK, VOCABULARY, SPECIAL, np.random.default_rng(seed), rate)


def chosen_places(result):
    """(batch, length), true where something is to be predicted."""
    chosen = np.zeros((400, LENGTH), bool)
    rows, columns = np.nonzero(result.weights)
    chosen[rows, result.positions[rows, columns]] = True
    return chosen


def test_words_are_hidden_whole(batch):
    tokens, starts = batch
    chosen = chosen_places(masked(batch))
    word = np.cumsum(starts, axis=1)
    for row in range(400):
        for number in np.unique(word[row]):
            inside = (word[row] == number) & (tokens[row] >= SPECIAL)
            assert chosen[row][inside].all() or not chosen[row][inside].any()


def test_labels_are_what_stood_there(batch):
    tokens, _ = batch
    result = masked(batch)
    used = result.weights > 0
    there = np.take_along_axis(tokens, result.positions, 1)
    assert (result.labels[used] == there[used]).all()
    assert (result.labels[used] >= SPECIAL).all()
    untouched = ~chosen_places(result)
    assert (result.tokens[untouched] == tokens[untouched]).all()


def test_shares(batch):
    tokens, _ = batch
    result = masked(batch)
    most = most_masked(LENGTH)
    counts = result.weights.sum(axis=1)
    assert most == 9 and counts.max() == most and counts.mean() > most - 0.5
    chosen = chosen_places(result)
    hidden = (result.tokens == MASK)[chosen].mean()
    kept = (result.tokens == tokens)[chosen].mean()
    n = chosen.sum()
    assert abs(hidden - 0.8) < 4 * (0.8 * 0.2 / n) ** 0.5
    assert abs(kept - 0.1) < 4 * (0.1 * 0.9 / n) ** 0.5 + 1 / VOCABULARY


def test_masks_depend_on_the_generator_alone(batch):
    assert (masked(batch, seed=1).tokens == masked(batch, seed=1).tokens).all()
    assert (masked(batch, seed=1).tokens != masked(batch, seed=2).tokens).any()


def test_a_row_with_nothing_to_predict():
    tokens = np.array([[2, 3, 3, 3]])
    result = mask_words(
        tokens, np.ones((1, 4), bool), MASK, VOCABULARY, SPECIAL, np.random.default_rng(0), 0.5
    )
    assert result.weights.sum() == 0 and (result.tokens == tokens).all()
