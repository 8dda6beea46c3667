"""CLUEWSC2020: whether a pronoun stands for a certain noun of the text.

    [CLS] … _noun_ … [pronoun] … [SEP]  ->  BERT  ->  vector of [CLS]  ->  2 logits

The noun is put between underscores, the pronoun between brackets, whichever comes first. The loss
is the cross-entropy, the score the accuracy on dev, the submissions one line {"id", "label"} per
test text. The task is small (1,244 rows), so it takes 30 epochs; compare several seeds.

    python clue_baselines/wsc.py
    python clue_baselines/wsc.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.classification import Classification
    from clue_baselines.data import DataError
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/wsc.py"
    ) from None


class Wsc(Classification):
    """Classification of texts in which two places are marked."""

    name = "wsc"
    labels = ["false", "true"]
    submissions = {"test1.0": "cluewsc10_predict.json", "test": "cluewsc11_predict.json"}
    defaults = {"epochs": 30}

    def texts(self, record):
        """The text with its marks."""
        return [marked(record)]


def marked(record) -> str:
    """The text with `_` around span1 (the noun) and `[` `]` around span2 (the pronoun).

    The marks are set from right to left, so that no index moves before it is used.
    """
    text, marks = record.raw_text("text"), []
    for number, (left, right) in ((1, "__"), (2, "[]")):
        start, end = span(record, text, number)
        marks += [(start, 1, left), (end, 0, right)]  # where two meet, the end comes first
    for position, _, mark in sorted(marks, reverse=True):
        text = text[:position] + mark + text[position:]
    return text


def span(record, text: str, number: int) -> tuple[int, int]:
    """Start and end of a span, which must hold the text that the record says."""
    target = record.get("target")
    keys = (f"span{number}_index", f"span{number}_text")
    start, words = (target.get(key) if isinstance(target, dict) else None for key in keys)
    if not (isinstance(start, int) and isinstance(words, str) and words):
        raise DataError(f"{record.where}: 'target' needs {keys[0]} and {keys[1]}.")
    if start < 0 or text[start : start + len(words)] != words:
        raise DataError(f"{record.where}: {keys[1]} {words!r} does not stand at {keys[0]} {start}.")
    return start, start + len(words)


if __name__ == "__main__":
    experiment.main(Wsc)
