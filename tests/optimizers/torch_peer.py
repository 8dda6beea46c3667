"""Weights after the steps of optimizers on torch; a script for an interpreter with torch.

python torch_peer.py steps.npz weights.npz, as in optax_peer.py.
"""

import sys

import numpy as np
import torch
from transformers.optimization import Adafactor

RATE = 0.0625

CASES = {
    "adam": lambda p: torch.optim.Adam(p, RATE, eps=1e-6),
    "adamw": lambda p: torch.optim.AdamW(p, RATE, eps=1e-6, weight_decay=0.25),
    "torch adafactor": lambda p: torch.optim.Adafactor(p, RATE),
    "adafactor": lambda p: Adafactor(p, RATE, relative_step=False),
    "adafactor absolute": lambda p: Adafactor(
        p, RATE, relative_step=False, scale_parameter=False, clip_threshold=0.5
    ),
    "adafactor without rate": lambda p: Adafactor(p),
    "adafactor without rate, absolute": lambda p: Adafactor(p, scale_parameter=False),
    "adafactor momentum, absolute": lambda p: Adafactor(
        p, RATE, relative_step=False, scale_parameter=False, beta1=0.9
    ),
}


def follow(make, steps, sparse=False):
    """The weights at the end."""
    params = {
        name.split("/")[1]: torch.nn.Parameter(torch.from_numpy(value))
        for name, value in steps.items()
        if name.startswith("start/") and (not sparse or "embeddings" in name)
    }
    optimizer = make(params.values())
    step = 0
    while f"{step}/bias" in steps:
        for name, param in params.items():
            gradient = torch.from_numpy(steps[f"{step}/{name}"])
            param.grad = gradient.to_sparse(1) if sparse else gradient
        optimizer.step()
        step += 1
    return {name: param.detach().numpy() for name, param in params.items()}


def main(source, target):
    found = {}
    for case, make in CASES.items():
        weights = follow(make, {name: array.copy() for name, array in np.load(source).items()})
        found |= {f"{case}/{name}": value for name, value in weights.items()}
    steps = {name: array.copy() for name, array in np.load(source).items()}
    weights = follow(lambda p: torch.optim.SparseAdam(list(p), RATE, eps=1e-7), steps, sparse=True)
    np.savez(target, **found, **{f"sparse adam/{name}": value for name, value in weights.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
