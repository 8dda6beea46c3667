"""The tasks' official scores that are more than an accuracy, and their standard errors.

Every function returns a share between 0 and 1, or what it takes per record to get one.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from clue_baselines.treebank import words

# what CMRC2018's official script drops before it compares; it also lists "……", which no single
# character equals, so an ellipsis stays
DROPPED = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
CHINESE = re.compile("[\u4e00-\u9fa5]")

Entity = tuple[str, int, int]  # type, first and last character


def exact_match(answers: Iterable[str], prediction: str) -> float:
    """CMRC2018's EM: 1 if one of the answers is the prediction, but for case and punctuation.

    >>> exact_match(["光荣和ω-force", "光荣"], "光荣和ω-Force。")
    1.0
    """
    said = without_punctuation(prediction)
    return float(any(without_punctuation(answer) == said for answer in answers))


def answer_f1(answers: Iterable[str], prediction: str) -> float:
    """CMRC2018's F1: by the longest run of segments that answer and prediction share.

    With `c` segments in that run, precision is c / (segments of the prediction) and recall
    c / (segments of the answer); the best of all answers counts.

    >>> answer_f1(["1963年3月"], "1963年")  # 1963 年 in 1963 年 3 月: 2 · 1 · ½ / (1 + ½)
    0.6666666666666666
    """
    said = segments(prediction)
    return max(f1_of_run(segments(answer), said) for answer in answers)


def f1_of_run(answer: Sequence[str], said: Sequence[str]) -> float:
    """F1 of the longest common run of two lists of segments."""
    common = longest_common_run(answer, said)
    return 2 * common / (len(answer) + len(said)) if common else 0.0


def without_punctuation(text: str) -> str:
    """Lower case, without the punctuation that CMRC2018's script drops."""
    return "".join(c for c in text.lower().strip() if c not in DROPPED)


def segments(text: str) -> list[str]:
    """CMRC2018's mixed segmentation: every Chinese character, and the words between them.

    >>> segments("于2008年由ATI Technologies推出。")
    ['于', '2008', '年', '由', 'ati', 'technologies', '推', '出']
    """
    parts, other = [], ""
    for character in without_punctuation(text):
        if CHINESE.match(character):
            parts += [*words(other), character]
            other = ""
        else:
            other += character
    return parts + words(other)


def longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest stretch of equal neighbours that both lists have.

    >>> longest_common_run("abcd", "xbcy")
    2
    """
    longest, above = 0, [0] * (len(second) + 1)
    for item in first:
        row = [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if item == other else 0)
        longest = max(longest, *row)
        above = row
    return longest


def entity_counts(
    predicted: Sequence[Iterable[Entity]],
    truth: Sequence[Iterable[Entity]],
    kind: str | None = None,
) -> np.ndarray:
    """Per record the numbers of right, predicted and true entities.

    An entity is right if type, first and last character are all as in the truth.

    Args:
        predicted, truth: one collection of entities per record.
        kind: count this type only; None counts all.

    Returns:
        Array `(records, 3)`.
    """
    rows = []
    for ours, theirs in zip(predicted, truth, strict=True):
        ours, theirs = ({e for e in some if kind in (None, e[0])} for some in (ours, theirs))
        rows.append((len(ours & theirs), len(ours), len(theirs)))
    return np.array(rows, dtype=float).reshape(-1, 3)


def f1(counts: np.ndarray) -> float:
    """F1 of summed counts (right, predicted, true): 2 right / (predicted + true), 0 if none.

    >>> f1(np.array([[1, 2, 1], [2, 2, 3]]))
    0.75
    """
    right, predicted, true = np.sum(counts, axis=0)
    return float(2 * right / (predicted + true)) if predicted + true else 0.0


def jackknife_error(rows: np.ndarray, score: Callable[[np.ndarray], float] | None = None) -> float:
    """Standard error of a score over independent records: the jackknife.

    With θ_i the score without record i: sqrt((n - 1) / n · Σ (θ_i - mean θ)²). For a mean this is
    the usual s / sqrt(n).

    Args:
        rows: one row per record. Its sum is all that the score may depend on.
        score: maps the rows' array `(k, columns)` to the score. Default: the mean of the rows.

    Source: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans" (1982).

    >>> round(jackknife_error(np.array([0.0, 1.0, 1.0, 0.0])), 4)
    0.2887
    """
    n = len(rows)
    if n < 2:
        return float("nan")
    total = np.sum(rows, axis=0)
    if score is None:
        without = (total - rows) / (n - 1)
    else:
        without = np.array([score((total - row)[None]) for row in rows])
    return float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))
