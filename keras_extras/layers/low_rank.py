"""LoRA: frozen matrices that are trained through two thin factors.

Keras has `Dense.enable_lora` and `Embedding.enable_lora`. They are not used here: they add the
product A·B to the matrix in every call, so that a matrix as large as W is built forwards and
its gradient backwards, for an embedding over the whole vocabulary; they have no dropout; a saved
model forgets its factors; and nothing undoes them.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.layers.embedding import Embedding
from keras_extras.layers.low_rank_factors import LowRankFactors, check_settings


def make_factors(layer, **settings) -> LowRankFactors:
    """The factors of a built Dense or Embedding layer, whose matrix they freeze."""
    is_table = isinstance(layer, keras.layers.Embedding)
    matrix = layer.embeddings if is_table else layer.kernel
    random = "b" if is_table else "a"
    factors = LowRankFactors(matrix, random, dtype=layer.dtype_policy, **settings)
    factors.build()
    return factors


def dense_call(layer, inputs, training=None):
    """The `call` of a Dense layer with factors."""
    x = ops.matmul(inputs, layer.low_rank.frozen()) + layer.low_rank.project(inputs, training)
    if layer.bias is not None:
        x = ops.add(x, layer.bias)
    return x if layer.activation is None else layer.activation(x)


def embedding_call(layer, inputs, mode: str = "embedding"):
    """The `call` of an Embedding layer with factors."""
    if mode not in ("embedding", "dense"):
        return Embedding.call(layer, inputs, mode)  # which says what is wrong
    table = ops.cast(layer.low_rank.frozen(), layer.compute_dtype)
    if mode == "embedding":
        ids = ops.cast(inputs, "int32")
        y = ops.take(table, ids, axis=0)
        return y + layer.low_rank.look_up(ids, y)
    x = ops.cast(inputs, layer.compute_dtype)
    return ops.matmul(x, ops.transpose(table)) + layer.low_rank.project_back(x)


def save_merged(layer, store):
    """The `save_own_variables` of both: as without factors, W + ΔW in the place of W."""
    factors = layer.low_rank
    store["0"] = factors.shifted(0 if factors.merged else 1)
    if getattr(layer, "bias", None) is not None:
        store["1"] = ops.convert_to_numpy(layer.bias)


@keras.saving.register_keras_serializable(package="keras_extras")
class LowRankDense(keras.layers.Dense):
    """A Dense layer with a frozen kernel that learns through two thin factors: LoRA.

    ``y = activation(x·W + (alpha/rank)·(dropout(x)·A)·B + bias)``, W ``(n, m)`` frozen, A
    ``(n, r)`` uniform within ±1/√n, B ``(r, m)`` zero. Neither A·B nor a gradient of its size is
    ever built.

    To train the Dense layers of a model that exists, see `keras_extras.low_rank`.

    A saved model holds W + ΔW in the place of W, and beside it the factors: it loads into
    the same layer, whose factors go on as they were, and into a Dense layer of the same name.

    Args:
        units: m.
        rank: r.
        alpha: ΔW is multiplied by ``alpha/rank``; None (default) means ``alpha = rank``.
        mode: "zero_b" (default): ``ΔW = A·B``. "additive": ``ΔW = A[I…I] + [I;…;I]B``, whose rank
            is up to 2r and both of whose factors start at zero; r has to divide n and m.
        dropout: rate of dropout on the x that A sees.
        seed: of A and of the dropout.
        **kwargs: those of `keras.layers.Dense`. The bias trains.

    Raises:
        ValueError: `rank`, `mode` or `dropout` is out of range.

    Source: Hu et al., arXiv:2106.09685; kexue.fm/archives/9590.

    >>> layer = LowRankDense(6, rank=2)
    >>> tuple(layer(keras.ops.ones((3, 4))).shape)
    (3, 6)
    >>> [tuple(weight.shape) for weight in layer.trainable_weights]
    [(6,), (4, 2), (2, 6)]
    """

    def __init__(
        self,
        units: int,
        rank: int = 8,
        alpha: float | None = None,
        mode: str = "zero_b",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(units, **kwargs)
        check_settings(rank, mode, dropout)
        self.settings = {
            "rank": rank,
            "alpha": alpha,
            "mode": mode,
            "dropout": dropout,
            "seed": seed,
        }

    def build(self, input_shape):
        super().build(input_shape)
        self.low_rank = make_factors(self, **self.settings)

    def call(self, inputs, training=None):
        return dense_call(self, inputs, training)

    def save_own_variables(self, store):
        save_merged(self, store)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="keras_extras")
class LowRankEmbedding(Embedding):
    """`keras_extras.layers.Embedding` with a frozen table that learns through two factors: LoRA.

    ``layer(ids)`` is ``E[ids] + (alpha/rank)·A[ids]·B``; ``layer(x, mode="dense")`` is
    ``x·Eᵀ + (alpha/rank)·(x·Bᵀ)·Aᵀ``. Here A starts at zero and B as a standard normal, as in the
    authors' code: a token that is never seen keeps its vector.

    Saving as in `LowRankDense`.

    Args:
        input_dim, output_dim: shape of the table.
        rank, alpha, mode, seed: as in `LowRankDense`, seed of B.
        **kwargs: those of `keras.layers.Embedding`.

    Raises:
        ValueError: `rank` or `mode` is out of range.

    Source: Hu et al., arXiv:2106.09685; kexue.fm/archives/9590.

    >>> layer = LowRankEmbedding(10, 4, rank=2)
    >>> tuple(layer(layer(keras.ops.ones((2, 3))), mode="dense").shape)
    (2, 3, 10)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        rank: int = 8,
        alpha: float | None = None,
        mode: str = "zero_b",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(input_dim, output_dim, **kwargs)
        check_settings(rank, mode)
        self.settings = {"rank": rank, "alpha": alpha, "mode": mode, "seed": seed}

    def build(self, input_shape=None):
        if not self.built:
            super().build(input_shape)
            self.low_rank = make_factors(self, **self.settings)

    def call(self, inputs, mode: str = "embedding"):
        return embedding_call(self, inputs, mode)

    def save_own_variables(self, store):
        save_merged(self, store)

    def get_config(self):
        return {**super().get_config(), **self.settings}
