"""From a BERT to vectors of sentences."""

from __future__ import annotations

import keras

from keras_extras.layers import FirstToken, GlobalAveragePooling1D

POOLINGS = ("cls", "pooler", "last-avg", "first-last-avg")
NORM = "Transformer-{}-FeedForward-Norm"


def sentence_encoder(model: keras.Model, pooling: str = "cls") -> keras.Model:
    """A model that gives one vector per sentence, of one that bert4keras' builder made.

    - "cls": the last layer's first token ([CLS]).
    - "pooler": the model's own pooled output; build it with ``with_pool="linear"``.
    - "last-avg": the mean of the last layer's tokens.
    - "first-last-avg": the mean of the first and the last layer's "last-avg".

    Means leave padding out. The encoder shares the model's weights.

    Args:
        model: from `keras_extras.bert4keras.build_transformer_model` of a BERT, RoBERTa, NEZHA,
            RoFormer …: its layers are named ``Transformer-0-FeedForward-Norm`` and so on.
        pooling: one of the names above; "cls" by default.

    Returns:
        A model of the same inputs with output ``(batch, dim)``.

    Raises:
        ValueError: unknown `pooling`, or the model has no such layers or no pooled output.

    Source: kexue.fm/archives/8069, 8348.

    >>> inputs = keras.Input((None, 4))
    >>> layer = keras.layers.Dense(3, name="Transformer-0-FeedForward-Norm")
    >>> encoder = sentence_encoder(keras.Model(inputs, layer(inputs)), "last-avg")
    >>> encoder.output.shape
    (None, 3)
    """
    if pooling not in POOLINGS:
        raise ValueError(
            f"sentence_encoder's pooling is one of {', '.join(POOLINGS)}; got {pooling!r}."
        )
    if pooling == "pooler":
        if len(model.output.shape) != 2:
            raise ValueError(
                "sentence_encoder's 'pooler' needs a model with a pooled output; this one's "
                f"output has shape {model.output.shape}. Build it with with_pool='linear'."
            )
        return keras.Model(model.input, model.output)
    names = {layer.name for layer in model.layers}
    count = 0
    while NORM.format(count) in names:
        count += 1
    if not count:
        raise ValueError(
            f"sentence_encoder looks for layers named {NORM.format(0)}, as bert4keras names them, "
            f"and {model.name} has none."
        )
    first, last = (model.get_layer(NORM.format(i)).output for i in (0, count - 1))
    if pooling == "cls":
        output = FirstToken(name="Sentence-CLS")(last)
    else:
        output = GlobalAveragePooling1D(name="Sentence-Last")(last)
    if pooling == "first-last-avg":
        mean = GlobalAveragePooling1D(name="Sentence-First")(first)
        output = keras.layers.Average(name="Sentence-Average")([mean, output])
    return keras.Model(model.input, output)
