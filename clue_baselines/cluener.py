"""CLUENER2020: names of ten types in a text, each with its first and last character.

    [CLS] text [SEP]  ->  BERT  ->  a score for every type and every span of tokens

With --head global_pointer (the default) and efficient_global_pointer the spans with a score above
0 are the answer; the loss pushes the true ones above 0 and all others below. With --head crf every
token gets one of 21 labels (first or further token of a name of a type, or neither), and the answer
is the best sequence of labels. The score on dev is micro F1: a name counts if type, first and last
character are all right. The submission has one line {"id", "label"} per test text, with
{type: {name: [[first, last], …]}} as the label.

    python clue_baselines/cluener.py
    python clue_baselines/cluener.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

import itertools
from dataclasses import dataclass

try:
    import keras
    import numpy as np

    from clue_baselines import experiment, heads, plots
    from clue_baselines.data import DataError
    from clue_baselines.metrics import entity_marks
    from clue_baselines.settings import Settings, setting
    from clue_baselines.spans import Tokens
    from clue_baselines.task import Example, Task
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/cluener.py"
    ) from None

TYPES = [
    "address", "book", "company", "game", "government",
    "movie", "name", "organization", "position", "scene",
]  # fmt: skip


@dataclass
class CluenerSettings(Settings):
    """The settings of all tasks, and the head."""

    head: str = setting("global_pointer", "what finds the names", choices=tuple(heads.HEADS))


class Cluener(Task):
    """Names are triples (type, first character, last character)."""

    name = "cluener"
    types = TYPES
    submissions = {"test": "cluener_predict.json"}
    options = CluenerSettings
    defaults = {"maxlen": 256}
    metric = "f1"

    def __init__(self, settings):
        super().__init__(settings)
        self.head = heads.HEADS[settings.head](len(TYPES), settings.maxlen)

    def texts(self, record):
        return [record.text("text")]

    def examples(self, record, tokenizer, training):
        """[CLS] text [SEP]; names beyond the greatest length are lost in training."""
        tokens = Tokens(record.raw_text("text"), tokenizer)
        ids = tokenizer.encode("")[0]
        ids[1:1] = tokens.ids[: self.settings.maxlen - 2]
        target = None
        if training:
            spans = [
                (TYPES.index(kind), 1 + place[0], 1 + place[1])  # after [CLS]
                for kind, first, last in sorted(self.truth(record), key=lambda name: name[1])
                if (place := tokens.of_characters(first, last)) and place[1] < len(ids) - 2
            ]
            target = self.head.target(spans, len(ids))
        return [Example((ids, [0] * len(ids)), target, tokens.places)]

    def build(self, bert):
        return keras.Model(bert.model.inputs, self.head(bert))

    def loss(self):
        return self.head.loss()

    def predictor(self, model):
        return self.head.predictor(model)

    def predict(self, record, examples, outputs):
        """The names' characters, from the tokens that the head found."""
        places = examples[0].about
        spans = self.head.spans(outputs[0], length=len(places) + 2)
        return {
            (TYPES[kind], int(places[start - 1, 0]), int(places[end - 1, 1]))
            for kind, start, end in spans
            if 0 < start <= end <= min(len(places), self.settings.maxlen - 2)
        }

    def truth(self, record):
        """The names of a record, checked against its text."""
        text, label = record.raw_text("text"), record.get("label")
        try:
            names = {
                (kind, first, last)
                for kind, found in label.items()
                for places in found.values()
                for first, last in places
            }
            said = {words for found in label.values() for words in found}
        except (AttributeError, TypeError, ValueError):
            raise DataError(
                f"{record.where}: 'label' must be {{type: {{name: [[first, last], …]}}}}."
            ) from None
        for kind, first, last in names:
            if kind not in TYPES:
                raise DataError(f"{record.where}: {kind!r} is none of {', '.join(TYPES)}.")
            if not (type(first) is type(last) is int and 0 <= first <= last < len(text)):
                raise DataError(
                    f"{record.where}: {[first, last]} is no first and last character of the text."
                )
            if text[first : last + 1] not in said:
                raise DataError(f"{record.where}: no name stands at {first} to {last}.")
        return names

    def marks(self, prediction, truth):
        """Micro F1 over all types, and F1 of each type."""
        single = {f"f1 {kind}": entity_marks(prediction, truth, kind) for kind in TYPES}
        return {"f1": entity_marks(prediction, truth), **single}

    def answer(self, record, prediction):
        """The names by type and text, in the order of the text."""
        text, label = record.raw_text("text"), {}
        for kind, first, last in sorted(prediction, key=lambda name: (name[1:], name[0])):
            places = label.setdefault(kind, {}).setdefault(text[first : last + 1], [])
            places.append([first, last])
        return {"id": record["id"], "label": label}

    def say(self, record, answer):
        names = sorted(answer, key=lambda name: name[1:])
        return ", ".join(f"{record['text'][a : b + 1]} ({kind})" for kind, a, b in names) or "–"

    def tables(self, folder, predictions, truths, title):
        """Precision, recall and F1 of every type."""
        counts = np.zeros((len(TYPES), 3), int)
        right = map(set.intersection, predictions, truths)
        for column, sets in enumerate((right, predictions, truths)):
            for kind, _, _ in itertools.chain.from_iterable(sets):
                counts[TYPES.index(kind), column] += 1
        table = plots.count_table("type", TYPES, "names", counts)
        print(f"\n{table}")
        (folder / "types.txt").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    experiment.main(Cluener)
