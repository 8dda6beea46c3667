"""The sentence-order task: do two segments of a row stand in their order, or exchanged?"""

import numpy as np

__all__ = ["SENTENCE_ENDS", "exchange_segments"]

SENTENCE_ENDS = ("。", "！", "？", "；", "!", "?", ";")


def exchange_segments(
    tokens: np.ndarray,
    starts: np.ndarray,
    ends: list[int],
    separator: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Divides rows into two segments and exchanges them in one row of two, drawn at random.

    `[CLS] p A B q x [SEP]` becomes `[CLS] p A [SEP] B q [SEP]` or `[CLS] p B [SEP] A q [SEP]`: A
    and B are whole sentences, as equal in length as the ends of sentences allow; p and q are what
    the row holds before the first and behind the last end; the last token x gives way to the inner
    `[SEP]`. Where a row holds fewer than three ends, A and B are its halves, p and q are empty.

    So nothing but the text tells the order. If p and q were exchanged as well, the token before the
    inner `[SEP]` would: a sentence's end only where nothing is exchanged.

    Args:
        tokens: (batch, length) ids, from `[CLS]` to `[SEP]`.
        starts: (batch, length), true at the first token of every word.
        ends: ids of tokens that end sentences (`SENTENCE_ENDS`).
        separator: id of `[SEP]`.
        rng: where the randomness comes from.

    Returns:
        tokens and starts in their new order, segments (0, and 1 behind the inner `[SEP]`), all
        (batch, length), and (batch,) whether the segments are exchanged.

    Source: Lan et al., "ALBERT" (arXiv 1909.11942).

    Example (1 to 3 are the special tokens, 9 ends a sentence):

    >>> row = np.array([[2, 10, 9, 11, 12, 9, 13, 9, 14, 15, 3]])
    >>> tokens, _, segments, exchanged = exchange_segments(
    ...     row, row > 8, [9], 3, np.random.default_rng(2)
    ... )
    >>> exchanged.tolist(), tokens.tolist(), segments.tolist()
    ([True], [[2, 10, 9, 13, 9, 3, 11, 12, 9, 14, 3]], [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
    """
    batch, length = tokens.shape
    exchanged, odd = rng.random(batch) < 0.5, rng.integers(0, 2, batch)
    is_end = np.isin(tokens, ends)
    is_end[:, :-1] &= tokens[:, 1:] != separator  # no segment begins with the end of a document
    order = np.empty(tokens.shape, int)
    for row in range(batch):
        first, middle, last = cuts(np.flatnonzero(is_end[row]) + 1, length, odd[row])
        left, right = np.arange(first, middle), np.arange(middle, last)
        if exchanged[row]:
            left, right = right, left
        before, behind, sep = np.arange(first), np.arange(last, length - 2), [length - 1]
        order[row] = np.concatenate([before, left, sep, right, behind, sep])
    inner = np.argmax(order == length - 1, axis=1)
    segments = np.arange(length) > inner[:, None]
    tokens, starts = (np.take_along_axis(x, order, 1) for x in (tokens, starts))
    return tokens, starts, segments.astype("int32"), exchanged


def cuts(begins: np.ndarray, length: int, odd: int) -> tuple[int, int, int]:
    """Where the first segment begins, where the second, and where that is over.

    Args:
        begins: places behind the ends of sentences.
        length: of the row; its last two places are a token that goes and `[SEP]`.
        odd: 0 or 1, which half of an odd number of tokens is the longer one.
    """
    if len(begins) < 3:
        return 1, 1 + (length - 3 + odd) // 2, length - 2
    first, last = begins[0], begins[-1]
    inner = begins[1:-1]
    return first, inner[np.abs(2 * inner - first - last).argmin()], last
