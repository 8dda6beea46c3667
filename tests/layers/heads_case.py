"""The inputs on which heads are compared with peers: written by the test, read by the peers.

Token k has the k-th row of an embedding table as its scores or features; token 0 is padding.
Run as a script it computes our side on the backend that is set: ``heads_case.py IN.npz OUT.npz``.
"""

from __future__ import annotations

import sys

import numpy as np

BATCH, LENGTH, LABELS, DIM, HEADS = 3, 6, 5, 7, 2
LENGTHS = (6, 4, 1)

# name: (class, constructor arguments, shapes of the layer's weights)
LAYERS = {
    "crf": ("ConditionalRandomField", {"lr_multiplier": 10}, [(5, 5)]),
    "memm": ("MaximumEntropyMarkovModel", {}, [(5, 5)]),
    "memm_low": (
        "MaximumEntropyMarkovModel",
        {"hidden_dim": 3, "lr_multiplier": 10},
        [(5, 3), (5, 3)],
    ),
    "pointer": ("GlobalPointer", {"heads": 2, "head_size": 4}, [(7, 16), (16,)]),
    "efficient": (
        "EfficientGlobalPointer",
        {"heads": 2, "head_size": 4},
        [(7, 8), (8,), (8, 4), (4,)],
    ),
}


def is_tagger(name):
    return name.startswith(("crf", "memm"))


def is_sparse(name):
    """Whether the pointer `name` trains with the sparse loss."""
    return name == "efficient"


def make_inputs():
    """Token ids, labels and random weights, as a dict of arrays."""
    rng = np.random.default_rng(20)
    tokens = np.arange(1, BATCH * LENGTH + 1).reshape(BATCH, LENGTH)
    tokens = np.where(np.arange(LENGTH) < np.array(LENGTHS)[:, None], tokens, 0)
    spans = np.zeros((BATCH, HEADS, LENGTH, LENGTH), "float32")
    spans[0, 0, 1, 3] = spans[0, 0, 2, 2] = spans[0, 1, 0, 5] = spans[1, 1, 1, 2] = 1
    cells = np.zeros((BATCH, HEADS, 2), "int32")
    for b, h, m, n in np.argwhere(spans):
        cells[b, h, int(cells[b, h, 0] > 0)] = m * LENGTH + n
    case = {
        "tokens": tokens.astype("int32"),
        "labels": rng.integers(0, LABELS, (BATCH, LENGTH)).astype("int32"),
        "spans": spans,
        "cells": cells,
    }
    for name, (_, _, shapes) in LAYERS.items():
        dim = LABELS if is_tagger(name) else DIM
        case[f"{name}/0"] = rng.normal(size=(BATCH * LENGTH + 1, dim)).astype("float32")
        for i, shape in enumerate(shapes):
            case[f"{name}/{i + 1}"] = (rng.normal(size=shape) / 2).astype("float32")
    return case


def compute(case):
    """Outputs, losses, accuracies, paths, and gradients (what a step of SGD takes away)."""
    import keras

    import keras_extras.layers
    from keras_extras import losses

    results = {}
    for name, (kind, arguments, shapes) in LAYERS.items():
        weights = [case[f"{name}/{i}"] for i in range(len(shapes) + 1)]
        tokens = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(*weights[0].shape, mask_zero=True)(tokens)
        layer = getattr(keras_extras.layers, kind)(**arguments)
        model = keras.Model(tokens, layer(x))
        model.set_weights(weights)
        results[f"{name}/outputs"] = outputs = model.predict(case["tokens"], verbose=0)
        if is_tagger(name):
            labels, one_hot = case["labels"], np.eye(LABELS, dtype="float32")[case["labels"]]
            for what in ("loss", "accuracy"):
                for form, y in (("sparse", labels), ("dense", one_hot)):
                    value = getattr(layer, f"{form}_{what}")(y, outputs)
                    results[f"{name}/{form}_{what}"] = keras.ops.convert_to_numpy(value)
            results[f"{name}/path"] = keras.ops.convert_to_numpy(layer.decode(outputs))
            y, loss = labels, layer.sparse_loss
        else:
            y, loss = case["spans"], losses.multilabel_categorical_crossentropy
            if is_sparse(name):
                y, loss = case["cells"], losses.sparse_multilabel_categorical_crossentropy
            loss = over_cells(loss, keras.ops.reshape)
        model.compile(keras.optimizers.SGD(1.0), loss=loss)
        results[f"{name}/train_loss"] = np.asarray(model.train_on_batch(case["tokens"], y))
        for i, after in enumerate(model.get_weights()):
            results[f"{name}/gradient_{i}"] = weights[i] - after
    return results


def over_cells(loss, reshape):
    """The multilabel `loss` of every head over all cells of its square."""

    def cells_loss(y_true, y_pred):
        y_pred = reshape(y_pred, (BATCH, HEADS, LENGTH * LENGTH))
        if loss.__name__.startswith("sparse"):
            return loss(y_true, y_pred, mask_zero=True)
        return loss(reshape(y_true, (BATCH, HEADS, LENGTH * LENGTH)), y_pred)

    return cells_loss


if __name__ == "__main__":
    np.savez(sys.argv[2], **compute(dict(np.load(sys.argv[1]))))
