"""Losses of 50 training steps: ``training.py results.npz`` in this or in a legacy interpreter.

With TF_KERAS=1 and TF_USE_LEGACY_KERAS=1 the model is original bert4keras' on tf_keras. Batches
are titles of TNEWS where CLUE_DATA names the real data, else random ids of the same shape.
"""

import json
import os
import sys

import cases
import numpy as np

STEPS, BATCH, LENGTH, VOCABULARY, CLASSES = 50, 16, 24, 800, 15
BERT = cases.case(
    "bert",
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_attention_heads=4,
    intermediate_size=64,
    max_position=LENGTH,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
)


def batches():
    """`STEPS` triples of token ids, segment ids and labels."""
    rng = cases.generator("training")
    folder = os.environ.get("CLUE_DATA")
    if folder:
        with open(os.path.join(folder, "tnews", "train.json"), encoding="utf-8") as file:
            rows = [json.loads(line) for line, _ in zip(file, range(STEPS * BATCH), strict=False)]
        texts = [[2 + ord(c) % (VOCABULARY - 2) for c in row["sentence"]] for row in rows]
        names = sorted({row["label"] for row in rows})
        labels = [names.index(row["label"]) for row in rows]
    else:
        labels = rng.integers(0, CLASSES, STEPS * BATCH)
        # ids that tell something of the label, so that there is something to learn
        texts = [
            2 + (rng.integers(0, VOCABULARY - 2, rng.integers(5, LENGTH)) // CLASSES * CLASSES + y)
            for y in labels
        ]
    ids = np.zeros((STEPS * BATCH, LENGTH), "float32")
    for row, text in zip(ids, texts, strict=True):
        text = [1, *text][:LENGTH]
        row[: len(text)] = np.minimum(text, VOCABULARY - 1)
    labels = np.array(labels, "float32")[:, None]
    for i in range(0, STEPS * BATCH, BATCH):
        yield [ids[i : i + BATCH], np.zeros_like(ids[:BATCH])], labels[i : i + BATCH]


def losses(keras, build_transformer_model, optimizer):
    """The loss of every step of training BERT and a classifier on its first token."""
    bert = cases.build(BERT, build_transformer_model, keras.layers.Input)
    first = keras.layers.Lambda(lambda x: x[:, 0], output_shape=lambda s: (s[0], s[2]))
    dense = keras.layers.Dense(CLASSES, activation="softmax", name="Classes")
    model = keras.models.Model(bert.model.inputs, dense(first(bert.model.output)))
    bert.layers["Classes"] = dense
    cases.randomize("training", bert)
    for layer in cases.layers_of(bert).values():
        if layer.name.startswith("Embedding"):
            continue
        for weight in layer.trainable_weights:  # as small as BERT's own
            if len(weight.shape) == 2:
                weight.assign(weight.numpy() * 0.3)
    model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer)
    losses = []
    for x, y in batches():
        model.reset_metrics()  # Keras 3.12 goes on with the mean
        losses.append(float(model.train_on_batch(x, y)))
    return losses


def main(path):
    settings = {"learning_rate": 1e-3, "epsilon": 1e-6}
    if os.environ.get("TF_KERAS"):
        from bert4keras.backend import keras
        from bert4keras.models import build_transformer_model

        adamw = keras.optimizers.AdamW(weight_decay=0.01, **settings)
    else:
        import keras

        from keras_extras.bert4keras import build_transformer_model
        from keras_extras.optimizers import extend_with_weight_decay

        # not keras.optimizers.AdamW: on TensorFlow it squares the gradient of an embedding before
        # the rows of a token that stands twice in the batch are added up
        adamw = extend_with_weight_decay(keras.optimizers.Adam)(weight_decay_rate=0.01, **settings)
    sgd = keras.optimizers.SGD(learning_rate=0.05)
    np.savez(
        path,
        sgd=losses(keras, build_transformer_model, sgd),
        adamw=losses(keras, build_transformer_model, adamw),
    )


if __name__ == "__main__":
    main(sys.argv[1])
