"""Two segments in their order or exchanged."""

import numpy as np
import pytest

from pretraining.sentence_order import exchange_segments

CLS, SEP, END, LENGTH = 2, 3, 9, 16
#      p        A              B              q, and a token that goes
TEXT = [11, 12, END, 13, 14, END, 15, 16, 17, END, 18, 19, 20, 21]
PARTS = [[11, 12, END], [13, 14, END], [15, 16, 17, END], [18, 19, 20]]


def rows_of(text, seed=0, count=200):
    """Many times the same row, with what becomes of it."""
    tokens = np.tile([CLS, *text, SEP], (count, 1))
    starts = tokens % 2 == 1  # so that a start is known by its token
    return exchange_segments(tokens, starts, [END], SEP, np.random.default_rng(seed))


def expected(p, a, b, q, exchanged):
    first, second = (b, a) if exchanged else (a, b)
    tokens = [CLS, *p, *first, SEP, *second, *q, SEP]
    inner = 1 + len(p) + len(first)
    return tokens, [0] * (inner + 1) + [1] * (len(tokens) - inner - 1)


def test_whole_sentences_change_places():
    tokens, starts, segments, exchanged = rows_of(TEXT)
    for row in range(len(tokens)):
        layout = expected(*PARTS, exchanged[row])
        assert (tokens[row].tolist(), segments[row].tolist()) == layout
    assert (starts == (tokens % 2 == 1)).all()
    assert abs(exchanged.mean() - 0.5) < 4 * 0.5 / len(exchanged) ** 0.5


@pytest.mark.parametrize("text", [range(11, 25), [*range(11, 16), END, *range(17, 24), END]])
def test_halves_where_there_are_too_few_sentences(text):
    """The second text's end is followed by [SEP], as at the end of a document."""
    text = list(text)
    tokens, _, segments, exchanged = rows_of(text)
    lengths = {True: set(), False: set()}
    for row in range(len(tokens)):
        inner = int((segments[row] == 0).sum()) - 1
        size = inner - 1 if not exchanged[row] else LENGTH - 2 - inner
        layout = expected([], text[:size], text[size:-1], [], exchanged[row])
        assert (tokens[row].tolist(), segments[row].tolist()) == layout
        lengths[bool(exchanged[row])].add(inner)
    assert lengths[True] == lengths[False] == {7, 8}  # where [SEP] stands tells nothing


def test_it_depends_on_the_generator_alone():
    assert (rows_of(TEXT)[0] == rows_of(TEXT)[0]).all()
    assert (rows_of(TEXT)[0] != rows_of(TEXT, seed=1)[0]).any()
