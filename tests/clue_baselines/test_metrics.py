"""The official metrics, against values worked out by hand and words cut by NLTK."""

import numpy as np
import pytest

from clue_baselines import results
from clue_baselines.metrics import answer_f1, entity_marks, exact_match, segments
from clue_baselines.treebank import words


@pytest.mark.parametrize(
    "answers, said, em, score",
    [
        (["1963年"], "1963年", 1, 1),
        (["1963年"], "《1963年》。", 1, 1),  # punctuation does not count
        (["ATI公司"], "ati公司", 1, 1),  # nor does case
        (["1963年"], "", 0, 0),
        (["。"], "", 1, 0),  # nothing but punctuation: no segment to share
        (["A", "光荣"], "光荣", 1, 1),  # the best of the answers
        (["光荣和索尼"], "光荣", 0, 2 * 2 / (5 + 2)),
        (["光荣和索尼"], "光荣与索尼", 0, 2 * 2 / (5 + 5)),  # a run, not a subsequence
        (["光荣", "光荣和索尼公司"], "光荣和索尼", 0, 2 * 5 / (7 + 5)),
        (["2008年"], "20", 0, 0),  # numbers are whole segments
        (["1.5米"], "1.5 米", 0, 1),  # EM sees the space, F1 does not
        (["约3,000人"], "3,000人", 0, 2 * 2 / (3 + 2)),
        (["half-life 2"], "halflife", 0, 2 * 1 / (2 + 1)),  # the hyphen goes before words are cut
        (["a……b"], "a……b", 1, 1),
        (["a……b"], "ab", 0, 0),  # an ellipsis is not among the signs that are dropped
    ],
)
def test_cmrc_by_hand(answers, said, em, score):
    assert exact_match(answers, said) == em
    assert answer_f1(answers, said) == pytest.approx(score)


def test_segments_by_hand():
    said = segments(' 由「ATI Technologies, Inc.」于2008年~2010年推出：“Radeon"HD 4870"”… ')
    assert said == [
        *["由", "ati", "technologies", ",", "inc", ".", "于", "2008", "年", "2010", "年"],
        *["推", "出", "radeon", "''", "hd", "4870", "''", "…"],
    ]


# cut by nltk.word_tokenize(text, preserve_line=True) of NLTK 3.10
NLTK = {
    '"hi" ("x")': "`` hi '' ( `` x '' )",
    "u.s. army corp.": "u.s. army corp .",
    "it's they'll n't don't i'm he'd": "it 's they 'll n't do n't i 'm he 'd",
    "'90s rock 'n' roll": "' 90s rock 'n ' roll",
    "$5,000.50 (50%) a,b,c.": "$ 5,000.50 ( 50 % ) a , b , c .",
    "cannot gonna lemme 'tis": "can not gon na lem me ' tis",
    "wait... «no»‘x": "wait ... « no » ‘ x",
    "c# & c++; d–e @f?!": "c # & c++ ; d – e @ f ? !",
    "end.) ": "end . )",
}


@pytest.mark.parametrize("text, cut", NLTK.items())
def test_words_are_cut_as_by_nltk(text, cut):
    assert words(text) == cut.split()


def test_an_entity_is_right_by_type_and_both_ends():
    truth = [("name", 0, 2), ("game", 5, 6), ("name", 8, 8)]
    predicted = [("name", 0, 2), ("name", 5, 6), ("name", 8, 9)]
    assert entity_marks(predicted, truth) == (2, 6)
    assert entity_marks(predicted, truth, "name") == (2, 5)
    assert entity_marks(predicted, truth, "game") == (0, 1)
    assert entity_marks([], []) == (0, 0)
    assert entity_marks(2 * truth[:1], truth[:1]) == (2, 2)


def test_the_error_of_micro_f1_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, 400)
    missed, wrong = rng.integers(0, 3, (2, 400))
    parts, wholes = 2 * right, 2 * right + missed + wrong
    score, error = results.ratio(parts, wholes)
    assert score == pytest.approx(2 * right.sum() / (2 * right.sum() + missed.sum() + wrong.sum()))
    draws = rng.integers(0, 400, (2000, 400))
    assert error == pytest.approx(np.std(parts[draws].sum(1) / wholes[draws].sum(1)), rel=0.06)
