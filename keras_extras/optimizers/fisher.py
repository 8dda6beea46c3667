"""The diagonal of the empirical Fisher information of a model's weights."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops


def fisher_information(model: keras.Model, dataset: Iterable) -> list[np.ndarray]:
    r"""F_i = (1/n) Σ_j (∂ log p(y_j|x_j; θ)/∂θ_i)², for every trainable variable.

    Args:
        model: a compiled model; its loss must be the negative log-likelihood −log p(y|x).
        dataset: iterable of batches `(x, y)`; x and y are arrays or (nested) tuples or dicts of
            arrays whose first axis is the batch. Gradients are taken sample by sample.

    Returns:
        An array for each of `model.trainable_variables`; zeros where the loss does not reach.

    Raises:
        ValueError: if the dataset is empty.
    """
    gradients = _gradient_function(model)
    totals = [np.zeros(tuple(v.shape), "float64") for v in model.trainable_variables]
    samples = 0
    for x, y in dataset:
        size = len(keras.tree.flatten(y)[0])
        for i in range(size):
            one_x, one_y = keras.tree.map_structure(
                lambda t, i=i: ops.convert_to_tensor(t[i : i + 1]), (x, y)
            )
            for total, gradient in zip(totals, gradients(one_x, one_y), strict=True):
                total += np.square(gradient, dtype="float64")
        samples += size
    if samples == 0:
        raise ValueError("The dataset for the Fisher information has no samples.")
    return [total / samples for total in totals]


def largest(values: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
    """Boolean masks of the ⌈share·N⌉ largest of all N numbers in the arrays.

    >>> largest([np.array([1.0, 4.0]), np.array([[3.0, 2.0]])], 0.5)
    [array([False,  True]), array([[ True, False]])]
    """
    flat = np.concatenate([v.ravel() for v in values])
    count = int(np.ceil(round(share * flat.size, 9)))  # 0.07·100 is 7.000000000000001
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[:count]] = True
    parts = np.split(mask, np.cumsum([v.size for v in values])[:-1])
    return [part.reshape(v.shape) for part, v in zip(parts, values, strict=True)]


def _gradient_function(model):
    """A function of (x, y) that gives the loss's gradients as arrays."""
    variables = model.trainable_variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(reduce_retracing=True)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = model.compute_loss(x, y, model(x, training=False))
            values = [v.value for v in variables]
            gradients = tape.gradient(loss, values, unconnected_gradients="zero")
            return [tf.convert_to_tensor(g) for g in gradients]

        return lambda x, y: [g.numpy() for g in step(x, y)]
    if backend == "jax":
        import jax

        def loss(values, x, y):
            others = [v.value for v in model.non_trainable_variables]
            predictions, _ = model.stateless_call(values, others, x, training=False)
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return model.compute_loss(x, y, predictions)

        step = jax.jit(jax.grad(loss))
        return lambda x, y: [np.asarray(g) for g in step([v.value for v in variables], x, y)]

    def step(x, y):
        model.zero_grad()
        model.compute_loss(x, y, model(x, training=False)).backward()
        grads = [v.value.grad for v in variables]
        pairs = zip(variables, grads, strict=True)
        return [np.zeros(v.shape) if g is None else g.detach().cpu().numpy() for v, g in pairs]

    return step
