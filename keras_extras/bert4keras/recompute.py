"""``RECOMPUTE=1``: trade time for memory by computing activations twice (arXiv:1604.06174)."""

from __future__ import annotations

import contextlib
import functools

import keras


def recompute(layer) -> None:
    """Let `layer` forget its activations and compute them again for the gradient.

    Not `keras.RematScope`: in a graph, TensorFlow's recomputation takes no keyword arguments, which
    attention has, and no booleans, which its masks are; and a dropout inside would drop other
    values the second time. Here the function that is recomputed gets numbers alone, and the seed
    of the layer's dropout is drawn once, outside.
    """
    if "call" not in vars(layer):
        layer.call = _recomputed(layer, layer.call)


def _recomputed(layer, call):
    @functools.wraps(call)
    def inner(inputs, **kwargs):
        flat = keras.tree.flatten(inputs)
        numbers = [i for i, x in enumerate(flat) if keras.backend.is_float_dtype(x.dtype)]
        dropout = getattr(layer, "dropout", None) if kwargs.get("training") else None
        seed = dropout.seed_generator.next() if dropout is not None else None

        def of_numbers(*values):
            everything = list(flat)
            for i, value in zip(numbers, values, strict=True):
                everything[i] = value
            with _seeded(dropout, seed):
                return call(keras.tree.pack_sequence_as(inputs, everything), **kwargs)

        return keras.remat(of_numbers)(*[flat[i] for i in numbers])

    return inner


class _OneSeed(keras.random.SeedGenerator):
    """A generator that always gives the seed it was made with."""

    def __init__(self, seed):
        self.drawn = seed

    def next(self, ordered=True):
        return self.drawn


@contextlib.contextmanager
def _seeded(dropout, seed):
    """`dropout` draws `seed` inside."""
    if dropout is None:
        yield
        return
    generator = dropout.seed_generator
    # past Keras' tracking of attributes, which does not allow new state in a built layer
    object.__setattr__(dropout, "seed_generator", _OneSeed(seed))
    try:
        yield
    finally:
        object.__setattr__(dropout, "seed_generator", generator)
