"""Every extension of Adam against its formula in float64 NumPy, with dense and sparse gradients.

The settings are those of the table. Sparse gradients have each row of the embedding twice.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import optimizers as ours
from tests.optimizers.table import EXTENSIONS, make
from tests.optimizers.trajectories import gradients, start, values, variables

RATE = 0.0625  # exact in float32, as Keras keeps rates
STEPS = 12


class Adam:
    """Adam's update of one array, γm̂/(√v̂ + ε)."""

    def __init__(self):
        self.m = self.v = 0.0
        self.t = 0

    def __call__(self, g, touched=True):
        self.t += 1
        self.m = np.where(touched, 0.9 * self.m + 0.1 * g, self.m)
        self.v = np.where(touched, 0.999 * self.v + 0.001 * g * g, self.v)
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return RATE * m / (np.sqrt(v) + 1e-6)


def plain(name, w, grads, change=lambda u, w, g, t: u, gradient=lambda g, t: g):
    """θ ← θ − change(u), u being Adam's update for gradient(g)."""
    adam = Adam()
    for t, g in enumerate(grads):
        w = w - change(adam(gradient(g, t)), w, g, t)
        yield w


def weight_decay(name, w, grads):
    rate = 0.0 if name == "bias" else 0.1 * RATE
    return plain(name, w, grads, lambda u, w, g, t: u + rate * w)


def layer_adaptation(name, w, grads):
    def adapted(u, w, g, t):
        return u if name == "bias" else u * np.linalg.norm(w) / np.linalg.norm(u / RATE)

    return plain(name, w, grads, adapted)


def piecewise_linear_lr(name, w, grads):
    return plain(name, w, grads, lambda u, w, g, t: u * np.interp(t, [0, 2, 6], [0, 1, 0.1]))


def parameter_wise_lr(name, w, grads):
    factor = {"bias": 2.0, "embeddings": 0.5}.get(name, 1.0)
    return plain(name, w, grads, lambda u, w, g, t: factor * u)


def gradient_accumulation(name, w, grads):
    means = [(a + b) / 2 for a, b in zip(grads[::2], grads[1::2], strict=True)]
    for moved in plain(name, w, means):
        yield w
        yield (w := moved)


def lookahead(name, w, grads):
    adam, slow = Adam(), w
    for t, g in enumerate(grads, 1):
        w = w - adam(g)
        if t % 2 == 0:
            w = slow = slow + 0.5 * (w - slow)
        yield w


def touched_rows(name, g):
    return g.any(-1, keepdims=True) if name == "embeddings" else True


def lazy(name, w, grads):
    return plain(name, w, grads, lambda u, w, g, t: u * touched_rows(name, g))


def lazy_moments(name, w, grads):
    adam = Adam()
    for g in grads:
        touched = touched_rows(name, g)
        w = w - adam(g, touched) * touched
        yield w


def ema(name, w, grads):
    return plain(name, w, grads)


def gradient_centralization(name, w, grads):
    def centered(g, t):
        return g - g.mean(0) if name == "kernel" else g

    return plain(name, w, grads, gradient=centered)


def masks():
    """Those of the table's seed: what gradients of 1 leave in SGD."""
    extend, _, settings = EXTENSIONS["child_tuning"]
    optimizer = extend(keras.optimizers.SGD)(1.0, **settings)
    weights, found = variables(), {name: [] for name in start()}
    for _ in range(STEPS):
        for weight in weights:
            weight.assign(np.zeros(weight.shape))
        optimizer.apply([tf.ones(weight.shape) for weight in weights], weights)
        for name, value in zip(found, values(weights), strict=True):
            found[name].append(-value)
    assert {float(x) for mask in found["kernel"] for x in mask.ravel()} == {0.0, 2.0}
    return found


def child_tuning(name, w, grads):
    mask = masks()[name]
    return plain(name, w, grads, gradient=lambda g, t: g * mask[t])


def update_dropout(name, w, grads):
    mask = masks()[name]
    return plain(name, w, grads, lambda u, w, g, t: u * mask[t])


def low_rank(name, w, grads):
    if name != "kernel":
        yield from plain(name, w, grads)
        return
    optimizer = make("Adam", "low_rank")
    optimizer.build(variables("float64"))
    a, b = (v.numpy() for v in optimizer.variables if v.name in ("low_rank_a", "low_rank_b"))
    of_a, of_b, difference = Adam(), Adam(), w - a @ b
    for g in grads:
        a, b = a - of_a(g @ b.T), b - of_b(a.T @ g)
        yield difference + a @ b


FORMULAS = {
    "weight_decay": weight_decay,
    "layer_adaptation": layer_adaptation,
    "piecewise_linear_lr": piecewise_linear_lr,
    "parameter_wise_lr": parameter_wise_lr,
    "gradient_accumulation": gradient_accumulation,
    "lookahead": lookahead,
    "lazy": lazy,
    "lazy_moments": lazy_moments,
    "ema": ema,
    "child_tuning": child_tuning,
    "update_dropout": update_dropout,
    "gradient_centralization": gradient_centralization,
    "low_rank": low_rank,
}


def twice(gradient):
    """A sparse gradient with every row in two parts."""
    rows = np.flatnonzero(gradient.any(-1))
    parts = np.concatenate([0.25 * gradient[rows], 0.75 * gradient[rows]])
    indices = tf.constant(np.concatenate([rows, rows]))
    return tf.IndexedSlices(tf.constant(parts), indices, tf.constant(gradient.shape, "int64"))


def test_all_extensions_are_here():
    assert list(FORMULAS) == [name for name in EXTENSIONS]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("extension", FORMULAS)
def test_twelve_steps(extension, sparse):
    optimizer = make("Adam", extension)
    weights = variables("float64")
    optimizer.build(weights)
    every = gradients(STEPS)
    paths = {
        name: list(FORMULAS[extension](name, w, [one[name] for one in every]))
        for name, w in start().items()
    }
    for t, one in enumerate(every):
        grads = [tf.constant(one[name]) for name in start()]
        if sparse:
            grads[-1] = twice(one["embeddings"])
        optimizer.apply(grads, weights)
        for (name, path), weight in zip(paths.items(), weights, strict=True):
            message = f"{name}, step {t + 1}"
            np.testing.assert_allclose(
                weight.numpy(), path[t], rtol=1e-6, atol=1e-8, err_msg=message
            )
    if extension == "ema":
        optimizer.apply_ema_weights()
        for path, weight in zip(paths.values(), weights, strict=True):
            average = sum(0.5 ** (STEPS - t) * w for t, w in enumerate(path)) / (1 - 0.5**STEPS)
            np.testing.assert_allclose(weight.numpy(), average, rtol=1e-6)
    assert isinstance(optimizer, ours.Adam)
