"""CHID: which of ten idioms belongs into which blank of a group of passages.

    [CLS] idiom [SEP] …text [unused1] text [MASK][MASK][MASK][MASK] text… [SEP]  ->  BERT  ->  score

[unused1] is the blank in question, four [MASK] stand for every other blank, and the text is cut on
both sides so that the blank stays in its middle; other blanks stay or go whole. The scores of the
ten idioms are the logits of a cross-entropy. In a group no idiom is used twice, so its blanks are
solved together: the assignment of different idioms with the greatest sum of scores (--no-hungarian
takes each blank's best). The score is the accuracy on dev, the submissions one object {blank:
number of the idiom}.

    python clue_baselines/chid.py
    python clue_baselines/chid.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

import re
from dataclasses import dataclass

try:
    import numpy as np

    from clue_baselines import data, experiment
    from clue_baselines.multiple_choice import MultipleChoice
    from clue_baselines.settings import Settings, setting
    from clue_baselines.task import Example
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/chid.py"
    ) from None

BLANK = re.compile(r"(#idiom\d{6}#)")
THIS, OTHER = ["[unused1]"], ["[MASK]"] * 4


@dataclass
class ChidSettings(Settings):
    """The common flags and one more."""

    hungarian: bool = setting(True, "no idiom twice in a group of passages")


class Chid(MultipleChoice):
    """A record is a group of passages with ten candidates; every blank is an example."""

    name = "chid"
    choices = 10
    submissions = {"test1.0": "chid10_predict.json", "test1.1": "chid11_predict.json"}
    one_object = True
    options = ChidSettings
    defaults = {"maxlen": 64, "batch_size": 12, "accumulate": 2, "epochs": 5}
    tokens = ("[unused1]", "[MASK]")
    unit = "blanks"

    def read(self, source, split, limit=None):
        """The groups; the answers of train and dev stand in a file of their own."""
        records = super().read(source, split, limit)
        labelled = split in ("train", "dev")
        answers = data.read_document(source.path(f"{split}_answer"), dict) if labelled else None
        for record in records:
            record["blanks"] = BLANK.findall("".join(record.list_of_texts("content")))
            if not record["blanks"] or len(record.list_of_texts("candidates")) != self.choices:
                raise data.DataError(f"{record.where}: blanks and ten candidates are expected.")
            if labelled:
                record["answers"] = [self.right(record, answers, b) for b in record["blanks"]]
        return records

    def right(self, record, answers: dict, blank: str) -> int:
        """Number of the right idiom for a blank."""
        answer = answers.get(blank)
        if answer not in range(self.choices):
            raise data.DataError(
                f"{record.where}: the answer to {blank} is {answer!r}, not 0 to 9."
            )
        return answer

    def texts(self, record):
        return [BLANK.sub("", t) for t in record.list_of_texts("content")] + record["candidates"]

    def examples(self, record, tokenizer, training):
        """For every blank ten rows: one idiom and the text around the blank."""
        idioms = [tokenizer.tokenize(idiom) for idiom in record.list_of_texts("candidates")]
        room = self.settings.maxlen - max(map(len, idioms)) - 2  # for [unused1] and [SEP]
        examples = []
        for passage in record.list_of_texts("content"):
            texts = [tokenizer.tokenize(text)[1:-1] for text in BLANK.split(passage)[::2]]
            for i in range(1, len(texts)):
                left, right = centred(texts[:i], texts[i:], room)
                text = left + THIS + right + ["[SEP]"]
                rows = [tokenizer.tokens_to_ids(idiom + text) for idiom in idioms]
                segments = [self.segments(idiom, text) for idiom in idioms]
                target = record["answers"][len(examples)] if training else None
                examples.append(Example((rows, segments), target))
        return examples

    def segments(self, idiom: list[str], text: list[str]) -> list[int]:
        """Segment ids of a row."""
        second = 0 if self.settings.segment_ids == "zero" else 1
        return [0] * len(idiom) + [second] * len(text)

    def predict(self, record, examples, outputs):
        """The idioms of all blanks of the group."""
        return (assign(outputs) if self.settings.hungarian else outputs.argmax(axis=1)).tolist()

    def truth(self, record):
        return record["answers"]

    def marks(self, prediction, truth):
        """Blanks are counted, groups are independent of each other."""
        return {"accuracy": (float(np.equal(prediction, truth).sum()), len(truth))}

    def size(self, record):
        return len(record["blanks"])

    def say(self, record, answer):
        return ", ".join(record["candidates"][i] for i in answer)

    def ids(self, record):
        return record["blanks"]

    def answer(self, record, prediction):
        return dict(zip(record["blanks"], prediction, strict=True))


def centred(
    left: list[list[str]], right: list[list[str]], room: int
) -> tuple[list[str], list[str]]:
    """What fits of the texts on both sides of a blank, with the other blanks between them.

    The side with more text, or the right one, loses its outermost token until all fits; with the
    last token of a text goes the blank beside it.

    >>> centred([list("abcd")], [list("efgh")], 5)
    (['b', 'c', 'd'], ['e', 'f'])
    >>> centred([list("ab"), list("cd")], [list("e")], 7)
    (['c', 'd'], ['e'])
    """
    left, right = [list(text) for text in left], [list(text) for text in right]
    before, behind = (sum(map(len, texts)) for texts in (left, right))  # tokens without blanks
    room = max(room, 0)
    while before + behind + len(OTHER) * (len(left) + len(right) - 2) > room:
        if before > behind or right == [[]]:
            before -= drop(left, 0)
        else:
            behind -= drop(right, -1)
    return joined(left), joined(right)


def drop(texts: list[list[str]], end: int) -> int:
    """Drops the token at an end of the texts, with the blank beside it; returns how many tokens."""
    if len(texts) > 1 and len(texts[end]) < 2:
        return len(texts.pop(end))
    texts[end].pop(end)
    return 1


def joined(texts: list[list[str]]) -> list[str]:
    """The texts with a blank between each two."""
    tokens = list(texts[0])
    for text in texts[1:]:
        tokens += OTHER + text
    return tokens


def assign(scores: np.ndarray) -> np.ndarray:
    """Different columns for the rows, with the greatest sum of scores (Hungarian algorithm).

    Where there are more rows than columns, the rows left over take their greatest score.

    >>> assign(np.array([[5.0, 4.0, 0.0], [6.0, 1.0, 0.0]])).tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    best = scores.argmax(axis=1)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    best[rows] = columns
    return best


if __name__ == "__main__":
    experiment.main(Chid)
