"""`heads_case.compute` by original bert4keras on tf_keras: ``heads_legacy.py IN.npz OUT.npz``."""

import sys

import numpy as np


def compute(case):
    # here, not above: collecting doctests imports this file where there is no tf_keras
    import bert4keras.layers
    import heads_case
    import tensorflow as tf
    from bert4keras import backend
    from bert4keras.backend import keras
    from bert4keras.snippets import ViterbiDecoder

    results = {}
    for name, (kind, arguments, shapes) in heads_case.LAYERS.items():
        weights = [case[f"{name}/{i}"] for i in range(len(shapes) + 1)]
        tokens = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(*weights[0].shape, mask_zero=True)(tokens)
        layer = getattr(bert4keras.layers, kind)(**arguments)
        model = keras.Model(tokens, layer(x))
        model.set_weights(weights)
        results[f"{name}/outputs"] = outputs = model(tf.constant(case["tokens"])).numpy()
        if heads_case.is_tagger(name):
            labels = case["labels"]
            one_hot = np.eye(heads_case.LABELS, dtype="float32")[labels]
            for what in ("loss", "accuracy"):
                for form, y in (("sparse", labels), ("dense", one_hot)):
                    value = getattr(layer, f"{form}_{what}")(y, tf.constant(outputs))
                    results[f"{name}/{form}_{what}"] = value.numpy()
            if name.startswith("crf"):
                decoder = ViterbiDecoder(trans=tf.convert_to_tensor(layer.trans).numpy())
                path = np.zeros_like(labels)
                for row, nodes, length in zip(path, outputs, heads_case.LENGTHS, strict=True):
                    row[:length] = decoder.decode(nodes[:length].copy())
                results[f"{name}/path"] = path
            y, loss = labels, layer.sparse_loss
        else:
            y, loss = case["spans"], backend.multilabel_categorical_crossentropy
            if heads_case.is_sparse(name):
                y, loss = case["cells"], backend.sparse_multilabel_categorical_crossentropy
            y, loss = tf.constant(y), heads_case.over_cells(loss, tf.reshape)
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(tf.constant(case["tokens"]))))
        results[f"{name}/train_loss"] = value.numpy()
        gradients = tape.gradient(value, model.trainable_weights)
        for i, gradient in enumerate(gradients):
            results[f"{name}/gradient_{i}"] = tf.convert_to_tensor(gradient).numpy()
    return results


if __name__ == "__main__":
    np.savez(sys.argv[2], **compute(dict(np.load(sys.argv[1]))))
