"""Heads that find names of several types in a text: GlobalPointer in two sizes, and a CRF.

A head says what the loss compares with (`target`), what the model gives (`__call__`), how that is
decoded inside the graph (`predictor`) and which spans the result means (`spans`). A span is a
triple (type, first token, last token) of integers.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_extras.layers import ConditionalRandomField, EfficientGlobalPointer, GlobalPointer
from keras_extras.losses import sparse_multilabel_categorical_crossentropy
from keras_extras.training import Model

HEAD_SIZE = 64
MOST = 40  # spans of one text; CLUENER has no more than 10
CRF_RATE = 100  # its transitions learn that many times faster: they start small and are few

Span = tuple[int, int, int]


class PointerHead:
    """A score for every type and every span; the answer are the spans above 0."""

    layer = GlobalPointer

    def __init__(self, types: int, maxlen: int):
        self.types = types

    def __call__(self, bert):
        """Scores `(batch, types, length, length)`."""
        pointer = self.layer(
            self.types,
            HEAD_SIZE,
            use_bias=False,
            kernel_initializer=bert.initializer,
            dtype="float32",
            name="spans",
        )
        return pointer(bert.model.output)

    def target(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """First and last token of the spans of each type, `(types, most of a type, 2)`.

        Types with fewer spans are filled up with -1.
        """
        by_type = [[span[1:] for span in spans if span[0] == kind] for kind in range(self.types)]
        most = max(1, *map(len, by_type))
        return np.array([[*some, *[(-1, -1)] * (most - len(some))] for some in by_type])

    def loss(self):
        return SpanCrossentropy()

    def predictor(self, model: keras.Model) -> keras.Model:
        return Model(model.inputs, BestSpans(MOST, name="best_spans")(model.outputs[0]))

    def spans(self, output: np.ndarray, length: int) -> list[Span]:
        """The spans that were found; rows of zeros mean nothing."""
        return [tuple(span) for span in output.tolist() if span[2]]


class EfficientPointerHead(PointerHead):
    """The same with fewer weights: all types share how a span is scored, and add a bias."""

    layer = EfficientGlobalPointer


class LabelHead:
    """A label for every token: 0 for none, 1 + 2k for the first of type k, 2 + 2k for further."""

    def __init__(self, types: int, maxlen: int):
        self.types, self.maxlen = types, maxlen

    def __call__(self, bert):
        """Scores `(batch, length, labels)`; the layer `self.crf` knows those of transitions."""
        scores = keras.layers.Dense(
            1 + 2 * self.types,
            kernel_initializer=bert.initializer,
            dtype="float32",
            name="label_scores",
        )
        self.crf = ConditionalRandomField(lr_multiplier=CRF_RATE, dtype="float32", name="crf")
        return self.crf(scores(bert.model.output))

    def target(self, spans: Sequence[Span], length: int) -> np.ndarray:
        """Labels `(length,)`; of spans that overlap the first keeps its place."""
        labels = np.zeros(length, "int32")
        for kind, first, last in spans:
            if not labels[first : last + 1].any():
                labels[first : last + 1] = 2 + 2 * kind
                labels[first] = 1 + 2 * kind
        return labels

    def loss(self):
        return self.crf.sparse_loss

    def predictor(self, model: keras.Model) -> keras.Model:
        best = BestLabels(self.crf, self.maxlen, name="best_labels")
        return Model(model.inputs, best(model.outputs[0]))

    def spans(self, output: np.ndarray, length: int) -> list[Span]:
        """The spans that labels mean; a further token that continues nothing means nothing."""
        spans, previous = [], 0
        for i, label in enumerate(output[:length].tolist()):
            if label % 2:
                spans.append([(label - 1) // 2, i, i])
            elif label and previous in (label, label - 1):
                spans[-1][2] = i
            else:
                label = 0
            previous = label
        return [tuple(span) for span in spans]


HEADS = {
    "global_pointer": PointerHead,
    "efficient_global_pointer": EfficientPointerHead,
    "crf": LabelHead,
}


class SpanCrossentropy(keras.losses.Loss):
    """Multilabel cross-entropy over the spans of each type.

    Targets `(batch, types, n, 2)`, first and last token or -1; scores `(batch, types, length,
    length)`. The span from 0 to 0, of [CLS] alone, is no name: it stands for what is filled up.
    """

    def call(self, y_true, y_pred):
        length = ops.shape(y_pred)[-1]
        places = ops.cast(y_true, "int32")
        cells = ops.maximum(places[..., 0] * length + places[..., 1], 0)
        scores = ops.reshape(y_pred, (*ops.shape(y_pred)[:2], length * length))
        return sparse_multilabel_categorical_crossentropy(cells, scores, mask_zero=True)


class BestSpans(keras.layers.Layer):
    """The best spans with a score above 0, as `(batch, most, 3)`: type, first, last token.

    What there is less than `most` is filled up with zeros.
    """

    def __init__(self, most: int, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def call(self, scores):
        length = ops.shape(scores)[-1]
        best, cells = ops.top_k(ops.reshape(scores, (ops.shape(scores)[0], -1)), self.most)
        cells = ops.cast(cells, "int32")
        kinds, places = cells // (length * length), cells % (length * length)
        spans = ops.stack([kinds, places // length, places % length], axis=-1)
        return spans * ops.cast(best > 0, "int32")[..., None]

    def compute_output_spec(self, scores):
        return keras.KerasTensor((scores.shape[0], self.most, 3), "int32")


class BestLabels(keras.layers.Layer):
    """The CRF's best labels, filled up with zeros to `(batch, maxlen)`."""

    def __init__(self, crf: ConditionalRandomField, maxlen: int, **kwargs):
        super().__init__(**kwargs)
        self.crf, self.maxlen = crf, maxlen

    def call(self, scores):
        labels = self.crf.decode(scores)
        batch, length = ops.shape(labels)
        rest = ops.zeros((batch, self.maxlen - length), labels.dtype)
        return ops.concatenate([labels, rest], axis=1)

    def compute_output_spec(self, scores):
        return keras.KerasTensor((scores.shape[0], self.maxlen), "int32")
