"""What a record scores by the official metrics that are more than an accuracy."""

import math
import re
from collections.abc import Collection, Iterable, Sequence

from clue_baselines.treebank import words

# what CMRC2018's official script drops before it compares; it also lists "……", which no single
# character equals, so an ellipsis stays
DROPPED = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
CHINESE = re.compile("[\u4e00-\u9fa5]")

Entity = tuple[str, int, int]  # type, first and last character


def mean_recall(truths: Sequence[int], predictions: Sequence[int]) -> tuple[float, float]:
    """Balanced accuracy: the mean over the classes of their accuracies, with its standard error.

    The classes are those of `truths`; the error is ``sqrt(Σ p_c (1 - p_c) / n_c) / classes``.

    >>> score, error = mean_recall([0, 0, 1, 1], [0, 0, 0, 1])
    >>> score, round(error, 4)
    (0.75, 0.1768)
    """
    rights: dict[int, list[bool]] = {}
    for truth, prediction in zip(truths, predictions, strict=True):
        rights.setdefault(truth, []).append(truth == prediction)
    shares = [(sum(right) / len(right), len(right)) for right in rights.values()]
    variance = sum(p * (1 - p) / n for p, n in shares)
    return sum(p for p, _ in shares) / len(shares), math.sqrt(variance) / len(shares)


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


def entity_marks(
    predicted: Collection[Entity], truth: Collection[Entity], kind: str | None = None
) -> tuple[int, int]:
    """What a record adds to parts and wholes of F1: 2 · right, predicted + true.

    An entity is right if type, first and last character are all as in the truth.

    Args:
        kind: count this type only; None counts all.

    >>> entity_marks([("name", 0, 2), ("game", 5, 6)], [("name", 0, 2)])
    (2, 3)
    """
    ours, theirs = ({e for e in some if kind in (None, e[0])} for some in (predicted, truth))
    return 2 * len(ours & theirs), len(ours) + len(theirs)
