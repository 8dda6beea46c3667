"""bert4keras' BERT and RoFormer with a language model head at the masked places only.

Beside it the order of two segments can be told, from the vector of `[CLS]`.
"""

import keras
from keras import ops

from keras_extras.bert4keras.models import build_transformer_model, original
from keras_extras.training import Model

__all__ = ["ARCHITECTURES", "masked_language_model"]


@keras.saving.register_keras_serializable(package="keras_extras")
class Gather(keras.layers.Layer):
    """Vectors (batch, length, size) and places (batch, n) → vectors at these places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs):
        vectors, places = inputs
        return ops.take_along_axis(vectors, ops.expand_dims(ops.cast(places, "int32"), 2), axis=1)


class AtPlaces:
    """Mixin: the head for words sees the vectors at a third input's places, not all of them.

    Its product with the embedding is most of a small model's work, and only 15 % of the places
    are to be predicted. The head for the order of sentences is neither loaded nor saved: only
    BERT's checkpoints have a place for it, and fine-tuning has no use.
    """

    def build(self, **options):
        super().build(**options)
        for name in ("Pooler-Dense", "NSP-Proba"):
            self.layers.pop(name, None)

    def get_inputs(self):
        places = keras.layers.Input
        self.places = self.apply(layer=places, shape=(None,), dtype="int32", name="Input-Places")
        return [*super().get_inputs(), self.places]

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        if kwargs.get("name") == "MLM-Dense":
            inputs = self.apply([inputs, self.places], Gather, name="Places")
        return super().apply(inputs, layer, arguments, **kwargs)


class MaskedBERT(AtPlaces, original.BERT):
    """BERT that predicts at given places."""


class MaskedRoFormer(AtPlaces, original.RoFormer):
    """RoFormer that predicts at given places."""


ARCHITECTURES = {"bert": MaskedBERT, "roformer": MaskedRoFormer}


def masked_language_model(
    model: str | None = None,
    architecture: str = "bert",
    sentence_order: bool = False,
    **options,
):
    """bert4keras' model with its head: (tokens, segments, places) → logits (batch, places, vocab).

    With `sentence_order` a dict: these are its "words", and its "order" holds the probabilities
    (batch, 2) that the segments stand in their order, or are exchanged.

    Args:
        model: a config.json, for a model from scratch, or anything with weights that
            `build_transformer_model` takes, to go on from these.
        architecture: "bert" or "roformer".
        sentence_order: also tell the order of the segments. Default False.
        options: instead of what stands in the configuration (`vocab_size`, `dropout_rate`, …).

    Returns:
        bert4keras' object, whose weights are saved as a checkpoint, and the `keras_extras.Model`.
    """
    options |= {"model": ARCHITECTURES[architecture], "with_mlm": "linear"}
    if sentence_order:
        options["with_nsp"] = True
    bert = build_transformer_model(model, return_keras_model=False, **options)
    outputs = bert.model.outputs
    if sentence_order:
        outputs = dict(zip(("order", "words"), outputs, strict=True))
    return bert, Model(bert.model.inputs, outputs)
