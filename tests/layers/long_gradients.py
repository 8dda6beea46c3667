"""Gradients of long attention and of full attention, on the backend that is set.

``python long_gradients.py`` prints, as JSON, the largest difference for each kind of attention,
relative to the largest gradient.
"""

from __future__ import annotations

import json

import keras
import numpy as np

from keras_extras import layers as L

LENGTH, WINDOW = 21, 6
X = np.random.default_rng(0).normal(size=(2, LENGTH, 8)).astype("float32")
VISIBLE = np.arange(LENGTH)[None] < np.array([[LENGTH], [15]])
PAST = np.tri(LENGTH, dtype=bool)
NEAR = PAST & ~np.tri(LENGTH, k=-WINDOW, dtype=bool)
#: name: the layer, and what full attention is shown to be the same
CASES = {
    "chunked": (L.ChunkedAttention, {"causal": True, "chunk_size": 8}, PAST),
    "online": (L.ChunkedAttention, {"causal": True, "chunk_size": 8, "key_chunk_size": 5}, PAST),
    "local": (L.LocalAttention, {"causal": True, "window": WINDOW}, NEAR),
}


def gradients(layer, inputs, call):
    """Of Σ sin(output) with respect to the input and all weights."""
    mask = [keras.ops.convert_to_tensor(VISIBLE)] * 3 + [None] * (len(inputs) - 3)
    backend = keras.backend.backend()
    weights = [w.value for w in layer.trainable_variables]

    def loss(x, weights):
        args = [x, x, x, *inputs[3:]]
        if backend == "jax":
            y, _ = layer.stateless_call(weights, [], args, mask=mask, **call)
        else:
            y = layer(args, mask=mask, **call)
        # rows of padding see nothing in a window, and differ
        return keras.ops.sum(keras.ops.sin(y) * keras.ops.cast(VISIBLE, "float32")[..., None])

    if backend == "jax":
        import jax

        results = jax.jit(jax.grad(loss, (0, 1)))(X, weights)
    elif backend == "torch":
        import torch

        x = torch.tensor(X, requires_grad=True)
        results = torch.autograd.grad(loss(x, None), [x, *weights])
    else:
        import tensorflow as tf

        def tape(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = loss(x, None)
            return tape.gradient(y, [x, *weights])

        x = tf.constant(X)
        ragged = tf.TensorSpec((None, None, 8))
        results = tf.function(tape, input_signature=[ragged])(x)
        compiled = tf.function(tape, jit_compile=True)(x)
        assert close(compiled, results) < 1e-4, "XLA differs"
    return [keras.ops.convert_to_numpy(g) for g in keras.tree.flatten(results)]


def close(ours, theirs):
    """The largest difference; some gradients are zero but for rounding (the bias of the keys)."""
    floor = 0.02 * max(np.abs(b).max() for b in theirs)
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a - b).max() / (floor + np.abs(b).max())) for a, b in pairs)


def differences():
    found = {}
    for name, (cls, options, seen) in CASES.items():
        full = L.MultiHeadAttention(2, 4, position=L.KERPLE())
        layer = cls(2, 4, position=L.KERPLE(), **options)
        full([X, X, X, seen], a_bias=True)
        layer([X, X, X])
        rng = np.random.default_rng(1)
        full.set_weights([rng.normal(0.5, 0.5, w.shape) for w in full.weights])
        layer.set_weights(full.get_weights())
        golden = gradients(full, [X, X, X, seen], {"a_bias": True})
        found[name] = close(gradients(layer, [X, X, X], {}), golden)
    return found


if __name__ == "__main__":
    print(json.dumps(differences()))
