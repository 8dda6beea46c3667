"""Values and gradients of smooth functions, and LoRA in a model, on the backend of this process.

Run as a script, ``smooth_cases.py file``, it writes them to ``file``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_extras import activations, categorical, initializers, smooth
from keras_extras.layers import Embedding, MultiHeadAttention
from keras_extras.low_rank import (
    add_low_rank,
    load_low_rank,
    merge_low_rank,
    remove_low_rank,
    save_low_rank,
    unmerge_low_rank,
)

LINE = np.array([-30, -5, -2.3, -1, -0.4, 0, 0.3, 1, 1.7, 6, 40], "float32")
SCORES = np.array([[2, 1, 4, 5, 3], [0.3, 0.1, 0.2, 0.5, -2], [0, 0, 1, 1, -60]], "float32")
NOISES = ("gumbel", "normal", "logistic", "laplace", "cauchy", "uniform", "exponential")

ON_LINE = {
    "softplus": lambda x: activations.softplus(x, beta=2.0),
    "gaussian_relu": lambda x: activations.gaussian_relu(x, sigma=0.7),
    "swish": lambda x: activations.swish(x, beta=1.5),
    "gelu": lambda x: activations.gelu_erf(x, sigma=0.6),
    "sau": lambda x: activations.sau(x, alpha=0.1, sigma=0.8),
    "smooth_floor": lambda x: activations.smooth_floor(x, beta=4.0),
    "smooth_floor-normal": lambda x: activations.smooth_floor(x, beta=3.0, kernel="normal"),
    "smooth_abs": lambda x: smooth.smooth_abs(x, beta=2.0),
}
ON_SCORES = {
    "smooth_max": lambda x: smooth.smooth_max(x, beta=2.0),
    "smooth_max-min": lambda x: smooth.smooth_max(x, beta=-2.0, axis=0),
    "smooth_max-all": lambda x: smooth.smooth_max(x, axis=None, keepdims=True),
    "soft_argmax": lambda x: smooth.soft_argmax(x, beta=2.0),
    "soft_k_max": lambda x: smooth.soft_k_max(x, 2),
    "soft_top_k": lambda x: smooth.soft_top_k(x, 2),
    "soft_top_k-axis": lambda x: smooth.soft_top_k(x, 1, axis=0),
    **{
        noise: (lambda x, noise=noise: categorical.noisy_argmax_probabilities(x, noise))
        for noise in NOISES
    },
}
FUNCTIONS = {**ON_LINE, **ON_SCORES}


def weights_of(shape):
    """Numbers that make one of all outputs, so that one gradient tells of each."""
    return np.cos(np.arange(int(np.prod(shape)), dtype="float32")).reshape(shape)


def value_and_gradient(function, x):
    """``function(x)`` and the gradient of its weighted sum with respect to x."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            total = tf.reduce_sum(y * weights_of(y.shape))
        return y.numpy(), tape.gradient(total, x).numpy()
    if backend == "jax":
        import jax

        y, back = jax.vjp(jax.jit(function), x)  # in one piece: each operation alone takes longer
        return y, back(jax.numpy.asarray(weights_of(y.shape), y.dtype))[0]
    import torch

    x = torch.tensor(x, requires_grad=True)
    y = function(x)
    (y * torch.tensor(weights_of(tuple(y.shape)))).sum().backward()
    return y.detach().numpy(), x.grad.numpy()


def small_model():
    keras.utils.set_random_seed(3)
    ids = keras.Input((4,), dtype="int32")
    x = Embedding(9, 8, name="table")(ids)
    x = MultiHeadAttention(2, 4, name="attention")([x, x, x])
    return keras.Model(ids, keras.layers.Dense(3, name="head")(x[:, 0]))


def low_rank_results():
    """The same numbers in the same factors on every backend, through the life of a model."""
    model, rng = small_model(), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    frozen = model.get_weights()
    ids = rng.integers(0, 9, (5, 4)).astype("int32")
    results = {"before": model.predict_on_batch(ids)}
    add_low_rank(model, ["q_dense", "^table$"], rank=2, alpha=3.0, train=["^head"], seed=1)
    factors = [layer.low_rank for layer in (model.get_layer("attention").q_dense,)]
    factors.append(model.get_layer("table").low_rank)
    for factor in factors:
        for weight in (factor.a, factor.b):
            weight.assign(rng.normal(0, 0.5, weight.shape))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    losses = []
    for _ in range(3):
        model.reset_metrics()  # Keras 3.12 goes on with the mean
        losses.append(model.train_on_batch(ids, results["before"]))
    results["loss"] = np.array(losses)
    results["trained"] = model.predict_on_batch(ids)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "factors.npz"
        save_low_rank(model, path)
        twin = small_model()
        twin.set_weights(frozen)
        load_low_rank(twin, path)
    results["loaded"] = twin.predict_on_batch(ids)
    for name, change in (
        ("merged", merge_low_rank),
        ("unmerged", unmerge_low_rank),
        ("removed", remove_low_rank),
    ):
        change(model)
        results[name] = model.predict_on_batch(ids)
    return {f"low_rank/{name}": np.asarray(value) for name, value in results.items()}


def compute() -> dict[str, np.ndarray]:
    results = low_rank_results()
    for name, function in FUNCTIONS.items():
        x = LINE if name in ON_LINE else SCORES
        results[name], results[f"{name}/gradient"] = value_and_gradient(function, x)
    for noise in NOISES:
        sample = categorical.relaxed_one_hot(np.zeros((2000, 3), "float32"), 0.5, noise, seed=2)
        results[f"sample/{noise}"] = ops.convert_to_numpy(ops.mean(sample, axis=0))
    for name, initializer in {
        "truncated": initializers.CorrectedTruncatedNormal(seed=1),
        "averaging": initializers.DimensionAveraging(distribution="uniform", seed=1),
        "nearly": initializers.NearlyOrthogonal(seed=1),
    }.items():
        results[f"deviation/{name}"] = np.std(ops.convert_to_numpy(initializer((300, 200))))
    return {name: np.asarray(value) for name, value in results.items()}


if __name__ == "__main__":
    np.savez(sys.argv[1], **compute())
