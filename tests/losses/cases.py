"""The table of losses that pass the common test, with their formulas in float64 NumPy.

`main` writes value and gradient of every case on the backend of the process (on JAX in one compiled
step) to a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_extras import losses as L

RNG = np.random.default_rng(7)
COUNTS = [60, 25, 10, 5]
LOGITS = np.round(RNG.normal(size=(12, 4)) * 4) / 2  # exact in half precision
EMBEDDINGS = np.round(RNG.normal(size=(12, 5)) * 8) / 8
SPARSE = np.array([0, 0, 3, 3, 1, 1, 2, 2, 0, 0, 1, 1])
UNLABELLED = np.where(np.arange(12) // 2 == 2, -1, SPARSE)
DENSE = np.eye(4)[SPARSE]
BINARY = (RNG.random((12, 4)) < 0.4).astype("float64")
GRADED = np.repeat([3.0, 1.0, 4.5, 1.0, 0.0, 3.0], 2)
TWINS, TRIPLETS = np.repeat(np.arange(6), 2), np.repeat(np.arange(4), 3)
SHOWN = np.repeat([True, False, True, True, False, True], 2)
WEIGHTS = np.repeat([1.0, 2.0, 0.0, 1.0, 0.5, 3.0], 2)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def adjusted(tau, smoothing):
    def formula(y, f):
        p = np.array(COUNTS) / np.sum(COUNTS)
        target = np.eye(4)[y] if y.ndim == 1 else y
        target = (1 - smoothing) * target + smoothing / 4
        return -(target * log_softmax(f + tau * np.log(p))).sum(-1)

    return formula


def tailr(gamma, floor=None):
    def formula(y, f):
        p = np.exp(log_softmax(f))[np.arange(12), y]
        if floor is not None:
            return -np.maximum(floor, p / (gamma + (1 - gamma) * p)) * np.log(p)
        return 1 - p if gamma == 1 else -np.log(gamma + (1 - gamma) * p) / (1 - gamma)

    return formula


def smooth_f1(average):
    def formula(y, f, w=None):
        w = np.ones(12) if w is None else w
        p = 1 / (1 + np.exp(-f))
        axis = None if average == "micro" else 0
        w = w[:, None]
        return np.mean(1 - 2 * (w * y * p).sum(axis) / (w * (y + p)).sum(axis))

    return formula


def multilabel(y, f):
    return np.log(1 + ((1 - y) * np.exp(f)).sum(-1)) + np.log(1 + (y * np.exp(-f)).sum(-1))


def mean_of_shown(formula):
    return lambda y, f: formula(y, f)[SHOWN].mean()


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def cosines(x, y):
    return unit(x) @ unit(y).T


def cosent(y, s, scale, w=None):
    w = np.ones(len(y)) if w is None else w
    total = 1.0
    for i in range(len(y)):
        for j in range(len(y)):
            if y[i] > y[j]:
                total += w[i] * w[j] * np.exp(scale * (s[j] - s[i]))
    return np.log(total)


def cosent_of_pairs(y, x, w=None):
    s = np.diagonal(cosines(x[::2], x[1::2]))
    return cosent(y[::2], s, 20, None if w is None else w[::2])


def simcse(y, x):
    scaled = cosines(x, x) / 0.05
    np.fill_diagonal(scaled, -np.inf)
    return -log_softmax(scaled)[np.arange(12), np.arange(12) ^ 1]


def supervised_simcse(size):
    def formula(y, x):
        groups = x.reshape(-1, size, 5)
        n = len(groups)
        scaled = cosines(groups[:, 0], groups[:, 1:].reshape(-1, 5)) / 0.05
        loss = -log_softmax(scaled)[np.arange(n), np.arange(n) * (size - 1)]
        return np.repeat(loss, size)

    return formula


def cosine_contrast(form):
    def formula(y, x):
        t, c = y[::2], np.diagonal(cosines(x[::2], x[1::2]))
        negative = {"linear": 1 + c, "square": c**2, "margin": np.maximum(c, 0.3)}[form]
        positive = (1 - c) ** 2 if form == "square" else 1 - c
        return np.repeat(t * positive + (1 - t) * negative, 2)

    return formula


def r_drop(alpha, base):
    def formula(y, f):
        p, log_p = np.exp(log_softmax(f)), log_softmax(f)
        one = (p[::2] * (log_p[::2] - log_p[1::2])).sum(-1)
        other = (p[1::2] * (log_p[1::2] - log_p[::2])).sum(-1)
        return (y >= 0) * base(np.maximum(y, 0), f) + alpha / 4 * np.repeat(one + other, 2)

    return formula


@dataclass
class Case:
    """A loss, its targets and predictions, and its formula: one value per row or per batch.

    Where `masked`, rows of zeros carry Keras' mask.
    """

    loss: keras.losses.Loss
    y_true: np.ndarray
    y_pred: np.ndarray
    formula: Callable
    masked: bool = False

    @property
    def of_rows(self) -> bool:
        return np.ndim(self.formula(self.y_true, self.y_pred)) == 1

    def expected(self, y_pred=None, weights=None) -> float:
        y_pred = self.y_pred if y_pred is None else y_pred
        if weights is None:
            return np.mean(self.formula(self.y_true, y_pred))
        if self.of_rows:
            return np.mean(self.formula(self.y_true, y_pred) * weights)
        return self.formula(self.y_true, y_pred, weights[: len(y_pred)])

    def expected_gradient(self, step=1e-6) -> np.ndarray:
        gradient = np.zeros_like(self.y_pred)
        for index in np.ndindex(self.y_pred.shape):
            h = np.zeros_like(self.y_pred)
            h[index] = step
            change = self.expected(self.y_pred + h) - self.expected(self.y_pred - h)
            gradient[index] = change / (2 * step)
        return gradient


PLAIN = adjusted(0, 0)
SCORES, ORDER = EMBEDDINGS[:, :1], np.array([2, 0, 1, 1, 2, 0, 0, 1, 2, 2, 0, 1])
CASES = {
    "adjusted": Case(L.LogitAdjustedCategoricalCrossentropy(COUNTS), DENSE, LOGITS, adjusted(1, 0)),
    "adjusted-sparse": Case(
        L.SparseLogitAdjustedCategoricalCrossentropy(COUNTS, 0.5), SPARSE, LOGITS, adjusted(0.5, 0)
    ),
    "adjusted-smoothed": Case(
        L.LogitAdjustedCategoricalCrossentropy(COUNTS, label_smoothing=0.1),
        DENSE,
        LOGITS,
        adjusted(1, 0.1),
    ),
    "adjusted-sparse-smoothed": Case(
        L.SparseLogitAdjustedCategoricalCrossentropy(COUNTS, label_smoothing=0.1),
        SPARSE,
        LOGITS,
        adjusted(1, 0.1),
    ),
    "adjusted-no-prior": Case(L.LogitAdjustedCategoricalCrossentropy(), DENSE, LOGITS, PLAIN),
    "tailr-0": Case(L.TaiLr(0), SPARSE, LOGITS, tailr(0)),
    "tailr-small": Case(L.TaiLr(1e-7), SPARSE, LOGITS, tailr(1e-7)),
    "tailr": Case(L.TaiLr(0.1), SPARSE, LOGITS, tailr(0.1)),
    "tailr-large": Case(L.TaiLr(0.8), SPARSE, LOGITS, tailr(0.8)),
    "tailr-1": Case(L.TaiLr(1), SPARSE, LOGITS, tailr(1)),
    "tailr-weighted": Case(L.TaiLr(0.3, floor=0.2), SPARSE, LOGITS, tailr(0.3, 0.2)),
    "accuracy": Case(L.SmoothAccuracy(), SPARSE, LOGITS, tailr(1)),
    "f1": Case(L.SmoothF1(), BINARY, LOGITS, smooth_f1("micro")),
    "f1-macro": Case(L.SmoothF1("macro"), BINARY, LOGITS, smooth_f1("macro")),
    "cosent": Case(L.CoSENT(), GRADED, EMBEDDINGS, cosent_of_pairs),
    "cosent-interactive": Case(
        L.InteractiveCoSENT(2.0), ORDER, SCORES, lambda y, s, w=None: cosent(y, s[:, 0], 2, w)
    ),
    "simcse": Case(L.SimCSE(), TWINS, EMBEDDINGS, simcse),
    "simcse-pairs": Case(L.SupervisedSimCSE(2), TWINS, EMBEDDINGS, supervised_simcse(2)),
    "simcse-triplets": Case(L.SupervisedSimCSE(), TRIPLETS, EMBEDDINGS, supervised_simcse(3)),
    "cosine-linear": Case(
        L.CosineContrast("linear"), SPARSE % 2, EMBEDDINGS, cosine_contrast("linear")
    ),
    "cosine-square": Case(L.CosineContrast(), SPARSE % 2, EMBEDDINGS, cosine_contrast("square")),
    "cosine-margin": Case(
        L.CosineContrast("margin", 0.3), SPARSE % 2, EMBEDDINGS, cosine_contrast("margin")
    ),
    "r_drop": Case(L.RDrop(), SPARSE, LOGITS, r_drop(4, PLAIN)),
    "r_drop-unlabelled": Case(L.RDrop(alpha=1.0), UNLABELLED, LOGITS, r_drop(1, PLAIN)),
    "r_drop-adjusted": Case(
        L.RDrop(L.SparseLogitAdjustedCategoricalCrossentropy(COUNTS, label_smoothing=0.1)),
        SPARSE,
        LOGITS,
        r_drop(4, adjusted(1, 0.1)),
    ),
}


HIDING = np.where(SHOWN[:, None], LOGITS, 0)
MASKED = {
    "masked-f1": Case(
        L.SmoothF1("macro"), BINARY, HIDING, lambda y, f: smooth_f1("macro")(y, f, SHOWN), True
    ),
    "masked-r_drop": Case(L.RDrop(), SPARSE, HIDING, mean_of_shown(r_drop(4, PLAIN)), True),
    "masked-adjusted": Case(
        L.LogitAdjustedCategoricalCrossentropy(COUNTS),
        DENSE,
        HIDING,
        mean_of_shown(adjusted(1, 0)),
        True,
    ),
    "masked-multilabel": Case(
        L.MultilabelCategoricalCrossentropy(), BINARY, HIDING, mean_of_shown(multilabel), True
    ),
}
ZEROS = {  # which have no direction
    f"{name}-{zeros}": replace(CASES[name], y_pred=CASES[name].y_pred * kept)
    for name in ("cosent", "simcse", "simcse-triplets", "cosine-square")
    for zeros, kept in (("zero-row", np.arange(12)[:, None] != 3), ("all-zeros", 0.0))
}
EVERY = {**CASES, **MASKED, **ZEROS}


def value_and_gradient(case: Case, y_pred):
    """Of a case's loss, as NumPy arrays, on whatever backend there is."""
    y_true = keras.ops.convert_to_tensor(case.y_true.astype("float32"))
    y_pred = keras.ops.convert_to_tensor(y_pred)
    masking = keras.layers.Masking() if case.masked else lambda y: y
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = case.loss(y_true, masking(y_pred))
        gradient = tape.gradient(value, y_pred)
    elif keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda y: case.loss(y_true, masking(y)))(y_pred)
    else:
        y_pred = y_pred.clone().requires_grad_(True)
        value = case.loss(y_true, masking(y_pred))
        value.backward()
        value, gradient = value.detach(), y_pred.grad
    gradient = keras.ops.cast(gradient, "float32")
    return value, gradient


def main(file):
    def every(predictions):
        return {name: value_and_gradient(EVERY[name], y) for name, y in predictions.items()}

    if keras.backend.backend() == "jax":
        import jax

        every = jax.jit(every)
    results = every({name: case.y_pred.astype("float32") for name, case in EVERY.items()})
    arrays = {}
    for name, (value, gradient) in results.items():
        arrays[f"{name}|value"] = keras.ops.convert_to_numpy(value)
        arrays[f"{name}|gradient"] = keras.ops.convert_to_numpy(gradient)
    np.savez(file, **arrays)
