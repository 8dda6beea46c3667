"""Whole-word masking: if a token is to be predicted, so are all tokens of its word."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Masked", "mask_words", "most_masked"]


@dataclass
class Masked:
    """A batch to train on.

    Attributes:
        tokens: (batch, length), the ids that the model sees.
        positions: (batch, most), where it predicts; unused places hold 0.
        labels: (batch, most), the ids that stood there.
        weights: (batch, most), 1 where `positions` is used, else 0.
    """

    tokens: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def most_masked(length: int, rate: float = 0.15) -> int:
    """How many tokens of a sequence are predicted at most: `rate` of them, at least one.

    >>> most_masked(128)
    19
    """
    return max(1, int(rate * length))


def mask_words(
    tokens: np.ndarray,
    starts: np.ndarray,
    mask_id: int,
    vocabulary: int,
    special: int,
    rng: np.random.Generator,
    rate: float = 0.15,
) -> Masked:
    """Chooses words at random, until `rate` of the tokens are chosen, and hides them.

    Of the chosen tokens 80 % become `[MASK]`, 10 % another token at random, 10 % stay. A word is
    chosen whole or not at all; one that would make it more than `most_masked` is passed over.

    Args:
        tokens: (batch, length) ids; those below `special` are never chosen or drawn.
        starts: (batch, length), true at the first token of every word.
        mask_id: id of `[MASK]`.
        vocabulary: number of ids.
        special: ids from 0 to here (exclusive) are `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`.
        rng: where the randomness comes from.
        rate: share of the tokens to predict. Default 0.15.

    Source: Devlin et al., arXiv 1810.04805; Cui et al., arXiv 1906.08101 (whole words of Chinese).

    Example:

    >>> ids, starts = np.array([[2, 9, 8, 7, 3]]), np.array([[1, 1, 0, 1, 1]], bool)
    >>> batch = mask_words(ids, starts, 4, 10, 5, np.random.default_rng(2), rate=0.4)
    >>> batch.positions, batch.labels
    (array([[1, 2]], dtype=int32), array([[9, 8]], dtype=int32))
    """
    batch, length = tokens.shape
    most = most_masked(length, rate)
    ordinary = tokens >= special
    # a word ends where the next one, or a special token, begins
    edges = starts | ~ordinary | np.concatenate([np.ones((batch, 1), bool), ~ordinary[:, :-1]], 1)
    words = np.cumsum(edges, axis=1) - 1
    sizes = np.zeros((batch, length), np.int64)
    rows = np.broadcast_to(np.arange(batch)[:, None], tokens.shape)
    np.add.at(sizes, (rows[ordinary], words[ordinary]), 1)

    scores = np.where(sizes > 0, rng.random((batch, length)), np.inf)
    order = np.argsort(scores, axis=1)
    chosen_words = take_while_it_fits(np.take_along_axis(sizes, order, 1), most)
    chosen = np.zeros((batch, length), bool)
    np.put_along_axis(chosen, order, chosen_words, 1)
    chosen = np.take_along_axis(chosen, words, 1) & ordinary

    places = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    weights = np.take_along_axis(chosen, places, 1)
    positions = np.where(weights, places, 0)
    labels = np.where(weights, np.take_along_axis(tokens, places, 1), 0)

    kind = rng.random((batch, length))
    drawn = rng.integers(special, vocabulary, (batch, length))
    seen = np.where(chosen & (kind < 0.8), mask_id, tokens)
    seen = np.where(chosen & (kind >= 0.9), drawn, seen)
    return Masked(
        seen.astype("int32"),
        positions.astype("int32"),
        labels.astype("int32"),
        weights.astype("float32"),
    )


def take_while_it_fits(sizes: np.ndarray, most: int) -> np.ndarray:
    """Which words are taken, from left to right, if each that still fits is taken.

    >>> take_while_it_fits(np.array([[2, 4, 1, 1, 0]]), 4)
    array([[ True, False,  True,  True, False]])
    """
    taken = np.zeros(sizes.shape, bool)
    room = np.full(len(sizes), most)
    for i in range(sizes.shape[1]):
        fits = (sizes[:, i] > 0) & (sizes[:, i] <= room)
        taken[:, i] = fits
        room -= np.where(fits, sizes[:, i], 0)
        if not room.any():
            break
    return taken
