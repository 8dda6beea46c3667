"""Weights after some steps with given gradients; as a script, of the whole table on any backend.

KERAS_BACKEND=jax python -m tests.optimizers.trajectories out.npz
"""

import sys
import warnings

import keras
import numpy as np

STEPS = 6
# An optimizer for `run_with_gaps`: the base and extensions that look at more than gradients.
GAPS = ("KerasAdam", ("weight_decay", "lookahead", "ema", "gradient_accumulation"))


def start() -> dict[str, np.ndarray]:
    """Initial weights: a scalar, a vector, a matrix and an embedding."""
    random = np.random.default_rng(1)
    shapes = {"scale": (), "bias": (4,), "kernel": (4, 6), "embeddings": (6, 4)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def gradients(steps: int = STEPS) -> list[dict[str, np.ndarray]]:
    """Gradients of each step; the embedding's have rows of zeros, the last row always."""
    random = np.random.default_rng(2)
    result = []
    for step in range(steps):
        one = {name: random.normal(size=np.shape(w)) for name, w in start().items()}
        one["embeddings"][step % 3 :: 3] = 0
        one["embeddings"][-1] = 0
        result.append(one)
    return result


def variables(dtype: str = "float32") -> list[keras.Variable]:
    return [keras.Variable(value, name=name, dtype=dtype) for name, value in start().items()]


def run(optimizer, steps: int = STEPS, dtype: str = "float32", apply=None) -> list[np.ndarray]:
    """The weights after `steps` steps of `optimizer`, as float64.

    `apply` (by default `optimizer.apply`) takes a list of gradients and a list of variables.
    """
    weights = variables(dtype)
    optimizer.build(weights)
    apply = apply or apply_of(optimizer)
    for one in gradients(steps):
        apply([keras.ops.convert_to_tensor(g, dtype) for g in one.values()], weights)
    return values(weights)


def run_with_gaps(optimizer, apply=None) -> list[np.ndarray]:
    """The averaged weights after 8 steps; only the first variable always has a gradient.

    The second has one in even steps, the third in odd ones, the last never.
    """
    weights = variables()
    optimizer.build(weights)
    apply = apply or apply_of(optimizer)
    for step, one in enumerate(gradients(8)):
        grads = [keras.ops.convert_to_tensor(g, "float32") for g in one.values()]
        present = (True, step % 2 == 0, step % 2 == 1, False)
        apply([g if there else None for g, there in zip(grads, present, strict=True)], weights)
    optimizer.apply_ema_weights()
    return values(weights)


def values(weights) -> list[np.ndarray]:
    """The weights as float64 arrays."""
    return [keras.ops.convert_to_numpy(keras.ops.cast(w, "float64")) for w in weights]


def apply_of(optimizer):
    """How the backend applies gradients."""
    return pure_apply(optimizer) if keras.backend.backend() == "jax" else optimizer.apply


def pure_apply(optimizer):
    """How Keras' JAX trainer applies gradients: a compiled function of values."""
    import jax

    step = jax.jit(optimizer.stateless_apply)

    def apply(grads, weights):
        state = [v.value for v in optimizer.variables]
        new_weights, new_state = step(state, grads, [w.value for w in weights])
        pairs = zip([*weights, *optimizer.variables], [*new_weights, *new_state], strict=True)
        for variable, value in pairs:
            variable.assign(value)

    return apply


if __name__ == "__main__":
    from keras_extras.optimizers.fisher import fisher_information
    from tests.optimizers.table import BASES, PAIRS, TOWERS, make
    from tests.optimizers.test_child_tuning import model_and_data, with_an_unused_head

    eager = keras.backend.backend() == "torch"  # compiling costs a second for each case
    ours = ("Adam", "Lion", "AdaFactor", "AdaX", "Tiger")
    cases = {base: (base, ()) for base in BASES if eager or base in ours}
    compiled = [pair for pair in PAIRS if eager or pair[0] == "KerasAdam"]
    compiled.append(("Nadam", "gradient_accumulation"))  # which changes its state in another place
    cases |= {f"{b}+{e}": (b, e) for b, e in compiled}
    cases |= {name: ("Adam", tower) for name, tower in TOWERS.items()}
    results = {}
    for name, (base, extensions) in cases.items():
        arrays = run(make(base, extensions))
        results[name] = np.concatenate([array.ravel() for array in arrays])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says which variables have no gradient
        arrays = run_with_gaps(make(*GAPS))
    results["gaps"] = np.concatenate([array.ravel() for array in arrays])
    model, x, y = model_and_data()
    fisher = fisher_information(with_an_unused_head(model), [(x, {"output": y})])
    np.savez(sys.argv[1], fisher=np.concatenate([f.ravel() for f in fisher]), **results)
