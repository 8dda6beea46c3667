"""CMRC2018: the piece of a passage that answers a question.

    [CLS] question [SEP] window [SEP]  ->  BERT  ->  a score for every span of window tokens

A passage longer than --maxlen is seen through windows that move on by --stride tokens. The scores
of a window are the logits of a softmax over its spans; a window without the whole answer has the
span from [CLS] to [CLS] as its target. The question takes no part in spans. To answer, [CLS] is
left out too, and the window whose best span scores highest wins; its characters are cut from the
passage as it stands in the file.

The scores on dev are those of the official script, exact match (which decides) and F1, each
against the best of three answers; and as an extra the author's, which asks for the first answer at
its annotated place. The submission is one object {question id: answer}.

    python clue_baselines/cmrc2018.py
    python clue_baselines/cmrc2018.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

try:
    import keras
    from keras import ops

    from clue_baselines import data, experiment
    from clue_baselines.data import DataError
    from clue_baselines.metrics import answer_f1, exact_match
    from clue_baselines.settings import Settings, setting
    from clue_baselines.spans import Tokens
    from clue_baselines.task import Example, Task
    from keras_extras.layers import GlobalPointer
    from keras_extras.training import Model
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/cmrc2018.py"
    ) from None

HEAD_SIZE = 64


@dataclass
class CmrcSettings(Settings):
    """The settings of all tasks, and how far windows move."""

    stride: int = setting(128, "tokens from one window of a passage to the next")


class Window(NamedTuple):
    """Where the window's tokens come from, for the way back from tokens to characters."""

    tokens: Tokens
    first: int  # the passage's token at `offset`
    offset: int


class Piece(NamedTuple):
    """A piece of a passage: its text, and where it starts."""

    text: str
    start: int


class Cmrc2018(Task):
    """A record is one question with its passage."""

    name = "cmrc2018"
    submissions = {"test": "cmrc2018_predict.json"}
    one_object = True
    options = CmrcSettings
    # 32 windows an update, in batches with which BERT-base stays within 16 GiB
    defaults = {"maxlen": 512, "batch_size": 8, "accumulate": 4}
    metric = "exact_match"
    unit = "questions"

    def __init__(self, settings):
        if settings.stride < 1:
            raise DataError("--stride must be at least 1.")
        super().__init__(settings)

    def read(self, source, split, limit=None):
        """The questions of a split, of all passages one after the other."""
        return questions(source.path(split), answered=split in ("train", "dev"))[:limit]

    def texts(self, record):
        return [record.text("question"), record.text("context")]

    def examples(self, record, tokenizer, training):
        """One example per window; the third input is 1 where spans may be."""
        maxlen = self.settings.maxlen
        start = tokenizer.encode(record.text("question"), maxlen=maxlen // 2)[0]
        tokens = tokens_of(tokenizer, record.raw_text("context"))
        room = maxlen - len(start) - 1
        characters = place(record) if training else None
        answer = tokens.of_characters(*characters) if characters else None
        found = []
        for left, right in windows(len(tokens.ids), room, self.settings.stride):
            ids = [*start, *tokens.ids[left:right], start[-1]]
            spans_here = [1] + [0] * (len(start) - 1) + [1] * (right - left) + [0]
            target, offset = None, len(start)
            if training:
                inside = answer and left <= answer[0] and answer[1] < right
                target = [token - left + offset for token in answer] if inside else [0, 0]
            second = 0 if self.settings.segment_ids == "zero" else 1
            segments = [0] * len(start) + [second] * (right - left + 1)
            inputs = (ids, segments, spans_here)
            found.append(Example(inputs, target, Window(tokens, left, offset)))
        return found

    def build(self, bert):
        """The scores of all spans, `(batch, length, length)`."""
        spans_here = keras.Input((None,), dtype="int32", name="spans-here")
        pointer = GlobalPointer(
            1,
            HEAD_SIZE,
            use_bias=False,
            kernel_initializer=bert.initializer,
            dtype="float32",
            name="spans",
        )
        scores = pointer(bert.model.output, mask=ops.not_equal(spans_here, 0))
        return keras.Model([*bert.model.inputs, spans_here], scores[:, 0])

    def loss(self):
        return SpanSoftmax()

    def predictor(self, model):
        return Model(model.inputs, BestSpan(name="best_span")(model.outputs[0]))

    def predict(self, record, examples, outputs):
        """The best span of the window with the highest score, cut from the passage."""
        spans, scores = outputs
        best = int(scores.argmax())
        tokens, first, offset = examples[best].about
        start, end = (int(token) - offset + first for token in spans[best])
        left, right = int(tokens.places[start, 0]), int(tokens.places[end, 1])
        return Piece(record["context"][left : right + 1], left)

    def truth(self, record):
        """All answers, the first one with its place."""
        return [Piece(a["text"], a["answer_start"]) for a in record["answers"]]

    def marks(self, prediction, truth):
        answers = [answer.text for answer in truth]
        return {
            "exact_match": (exact_match(answers, prediction.text), 1),
            "f1": (answer_f1(answers, prediction.text), 1),
            "position_accuracy": (float(prediction == truth[0]), 1),
        }

    def say(self, record, answer):
        """A predicted piece, or all answers."""
        pieces = [answer] if isinstance(answer, Piece) else answer
        return " / ".join(dict.fromkeys(piece.text for piece in pieces))

    def answer(self, record, prediction):
        return {str(record["id"]): prediction.text}


@lru_cache(maxsize=1)
def tokens_of(tokenizer, text: str) -> Tokens:
    """The tokens of a passage; its questions stand next to each other."""
    return Tokens(text, tokenizer)


def windows(length: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """First token and the one after the last of the windows that cover a passage.

    A window shorter than the stride moves on by its own length: no token is left out.

    >>> list(windows(10, room=6, stride=3)), list(windows(5, room=6, stride=3))
    ([(0, 6), (3, 9), (6, 10)], [(0, 5)])
    """
    left = 0
    while left + room < length:
        yield left, left + room
        left += min(stride, room)
    yield left, length


def place(record) -> tuple[int, int] | None:
    """First and last character of the first answer, or None if the passage has it nowhere.

    Some answers do not stand where the file says; they are taken from the nearest place.
    """
    context, answer = record["context"], record["answers"][0]
    text, said = answer["text"].strip(), answer["answer_start"]
    starts = [i for i in range(len(context)) if text and context.startswith(text, i)]
    if not starts:
        return None
    start = min(starts, key=lambda i: abs(i - said))
    return start, start + len(text) - 1


def questions(path, answered: bool = True) -> list[data.Record]:
    """All questions of a file in SQuAD's format, each with its passage.

    Args:
        answered: whether each must have an answer; those of a test set need none. Default True.
    """
    records, passages = [], 0
    document, where = data.read_document(path, dict), str(path)
    try:
        for entry_number, entry in enumerate(document["data"], 1):
            where = f"{path}, entry {entry_number} of 'data'"
            for paragraph in entry["paragraphs"]:
                passages += 1
                where = f"{path}, passage {passages}"
                for number, question in enumerate(paragraph["qas"], 1):
                    where = f"{path}, passage {passages} question {number}"
                    record = data.Record(question, context=paragraph["context"])
                    record.where = where
                    given = record["answers"] if answered else []
                    answers = [(str(a["text"]), int(a["answer_start"])) for a in given]
                    if (answered and not answers) or "id" not in record:
                        raise DataError(f"{where}: a question without id or answer.")
                    records.append(record)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: not in the format of CMRC2018 ({error!r}).") from None
    if not records:
        raise DataError(f"{path} holds no question.")
    return records


class SpanSoftmax(keras.losses.Loss):
    """Softmax cross-entropy over all spans; targets `(batch, 2)`: first and last token."""

    def call(self, y_true, y_pred):
        length = ops.shape(y_pred)[-1]
        places = ops.cast(y_true, "int32")
        cells = places[:, 0] * length + places[:, 1]
        scores = ops.reshape(y_pred, (-1, length * length))
        return keras.losses.sparse_categorical_crossentropy(cells, scores, from_logits=True)


class BestSpan(keras.layers.Layer):
    """The best span that does not start at [CLS]: its first and last token, and its score."""

    def call(self, scores):
        length = ops.shape(scores)[-1]
        without_cls = ops.reshape(scores[:, 1:], (ops.shape(scores)[0], -1))
        cell = ops.cast(ops.argmax(without_cls, axis=-1), "int32")
        spans = ops.stack([1 + cell // length, cell % length], axis=-1)
        return spans, ops.max(without_cls, axis=-1)

    def compute_output_spec(self, scores):
        batch = scores.shape[0]
        return keras.KerasTensor((batch, 2), "int32"), keras.KerasTensor((batch,), scores.dtype)


if __name__ == "__main__":
    experiment.main(Cmrc2018)
