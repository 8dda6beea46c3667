"""Weights after the steps of optax' optimizers; a script for an interpreter with optax.

python optax_peer.py steps.npz weights.npz: the file of steps holds the initial weights, `start/…`,
and the gradients of each step, `0/…`, `1/…`; the answer has the weights at the end, `case/…`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)
RATE = 0.0625
ADAM = {"learning_rate": RATE, "eps": 1e-6}
FACTORED = {"learning_rate": RATE, "min_dim_size_to_factor": 2}

CASES = {
    "adam": optax.adam(**ADAM),
    "adamw": optax.adamw(**ADAM, weight_decay=0.25),
    "lion": optax.lion(RATE, b1=0.95, b2=0.98, weight_decay=0.0),
    "adafactor": optax.adafactor(**FACTORED),
    "adafactor not factored": optax.adafactor(RATE, factored=False, clipping_threshold=0.5),
    "adafactor momentum": optax.adafactor(**FACTORED, momentum=0.9),
    "adafactor momentum, absolute": optax.adafactor(
        **FACTORED, momentum=0.9, multiply_by_parameter_scale=False
    ),
    "lamb": optax.lamb(**ADAM, weight_decay=0.25),
    "lookahead": optax.lookahead(optax.adam(**ADAM), sync_period=5, slow_step_size=0.5),
    "multi steps": optax.MultiSteps(optax.adam(**ADAM), every_k_schedule=3),
    "centralize": optax.chain(optax.centralize(), optax.sgd(RATE)),
}


def read(steps, key):
    return {name.split("/")[1]: jnp.array(steps[name]) for name in steps if name.startswith(key)}


def follow(case, optimizer, params, gradients):
    """The weights after each step."""
    if case == "lookahead":
        params = optax.LookaheadParams.init_synced(params)
    if case == "centralize":  # optax takes the first axis for the outputs
        params = {name: w.T for name, w in params.items()}
        gradients = [{name: g.T for name, g in one.items()} for one in gradients]
    state = optimizer.init(params)
    for one in gradients:
        updates, state = optimizer.update(one, state, params)
        params = optax.apply_updates(params, updates)
        weights = params.fast if case == "lookahead" else params
        if case == "centralize":
            weights = {name: w.T for name, w in weights.items()}
        yield weights


def main(source, target):
    steps = dict(np.load(source))
    params = read(steps, "start/")
    gradients, found = [], {}
    while one := read(steps, f"{len(gradients)}/"):
        gradients.append(one)
    for case, optimizer in CASES.items():
        *_, weights = follow(case, optimizer, params, gradients)
        found |= {f"{case}/{name}": np.asarray(value) for name, value in weights.items()}
    average = optax.ema(0.9, debias=True)
    state = average.init(params)
    for weights in follow("adam", CASES["adam"], params, gradients):
        averaged, state = average.update(weights, state)
    found |= {f"ema/{name}": np.asarray(value) for name, value in averaged.items()}
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
