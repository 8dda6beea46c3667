"""optax for `optimizers.py`: a process that makes steps when it is told to.

Started as ``python optax_side.py SIDE NUMBER`` for NUMBER matrices of SIDE × SIDE. It answers each
line ``NAME STEPS`` with a line of JSON: the seconds of a step and the bytes of state per parameter.
"""

from __future__ import annotations

import json
import sys
import time

import jax
import numpy as np
import optax

RATE = 1e-4


def adam_with_average():
    """Adam, and an average of the weights beside it."""
    adam = optax.adam(RATE)

    def init(params):
        return adam.init(params), jax.tree.map(lambda p: 0 * p, params)

    def step(params, state, grads):
        state, average = state
        updates, state = adam.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, (state, optax.incremental_update(params, average, 0.001))

    return init, step


def plain(optimizer):
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return optimizer.init, step


def lookahead():
    optimizer = optax.lookahead(optax.adam(RATE), sync_period=5, slow_step_size=0.5)

    def init(params):
        return optimizer.init(optax.LookaheadParams.init_synced(params))

    def step(params, state, grads):
        if not isinstance(params, optax.LookaheadParams):
            params = optax.LookaheadParams.init_synced(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return init, step


def accumulation():
    return plain(optax.MultiSteps(optax.adam(RATE), every_k_schedule=4))


OPTIMIZERS = {
    "adam": lambda: plain(optax.adam(RATE)),
    "adamw": lambda: plain(optax.adamw(RATE)),
    "lion": lambda: plain(optax.lion(RATE)),
    "adafactor": lambda: plain(optax.adafactor(RATE)),
    "lamb": lambda: plain(optax.lamb(RATE)),
    "lookahead": lookahead,
    "accumulation": accumulation,
    "ema": adam_with_average,
}


def size(tree) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))


def main(side: int, number: int) -> None:
    random = np.random.default_rng(0)

    def arrays(scale):
        shape = (side, side)
        return [
            jax.numpy.array(scale * random.normal(size=shape), "float32") for _ in range(number)
        ]

    grads, parameters = arrays(1e-3), number * side * side
    versions = {"jax": jax.__version__, "optax": optax.__version__}
    print(json.dumps(versions), flush=True)
    running = None
    for line in sys.stdin:
        name, steps = line.split()
        if running != name:
            running, params = name, arrays(0.02)
            init, step = OPTIMIZERS[name]()
            state = init(params)
            step = jax.jit(step, donate_argnums=(0, 1))
            params, state = jax.block_until_ready(step(params, state, grads))
        start = time.perf_counter()
        for _ in range(int(steps)):
            params, state = step(params, state, grads)
        jax.block_until_ready((params, state))
        wall = (time.perf_counter() - start) / int(steps)
        kept = size(state) + (size(params.slow) if hasattr(params, "slow") else 0)
        print(json.dumps({"wall": wall, "state": kept / parameters}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
