"""Random numbers of optimizers: from one seed the same, eager, in a graph, and compiled by XLA.

All of them are made of integers. TensorFlow and XLA draw the same ones, but make floats of them,
for `keras.random.uniform` and `normal`, in different ways.
"""

import math

import keras
from keras import ops

BITS = 24  # all that the mantissa of a float32 holds


def integers(shape: tuple, number: int, seeds: keras.random.SeedGenerator):
    """int32 numbers, uniform in 0, …, number − 1."""
    return keras.random.randint(shape, 0, number, "int32", seed=seeds)


def uniform(shape: tuple, seeds: keras.random.SeedGenerator):
    """float32 numbers, uniform in [0, 1): multiples of 2⁻²⁴."""
    return ops.cast(integers(shape, 2**BITS, seeds), "float32") * 2.0**-BITS


def normal(shape: tuple, seeds: keras.random.SeedGenerator):
    """float32 numbers of the standard normal distribution, by Box and Muller's method."""
    radius = ops.sqrt(-2.0 * ops.log(1.0 - uniform(shape, seeds)))
    return radius * ops.cos(2 * math.pi * uniform(shape, seeds))
