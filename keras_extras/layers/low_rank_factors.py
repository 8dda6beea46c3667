"""The two thin factors of a matrix: what LoRA trains in its place."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

MODES = ("zero_b", "additive")


def check_settings(rank: int, mode: str, dropout: float = 0.0, shape=None) -> None:
    """Whether factors can be as they are asked to be, for a matrix of this shape.

    Raises:
        ValueError: they cannot.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, but got {rank}.")
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {MODES}, but got {mode!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), but got {dropout}.")
    if shape is not None and mode == "additive" and (shape[0] % rank or shape[1] % rank):
        raise ValueError(
            "The additive low rank mode needs a rank that divides both sides of a matrix, "
            f"but this one is {shape[0]}×{shape[1]} and the rank {rank}."
        )


class LowRankFactors(keras.layers.Layer):
    """The factors of one matrix: the part `low_rank` of a layer.

    ``ΔW = (alpha/rank)·A·B``, or ``(alpha/rank)·(A[I…I] + [I;…;I]B)`` in the additive mode. ΔW
    itself is built only to merge it. All of it is multiplied by `strength`, a weight that is 1, or
    0 while W holds ΔW: so a function that was compiled before is right afterwards.

    Args:
        matrix: W, a variable; it is frozen here, and stays a weight of its layer alone.
        random: the factor that starts at random, "a" or "b"; the other starts at zero.
        rank, alpha, mode, seed, dropout: as in `LowRankDense`.
    """

    def __init__(self, matrix, random, rank, alpha, mode, seed, dropout=0.0, **kwargs):
        super().__init__(name="low_rank", **kwargs)
        self.shape = tuple(matrix.shape)
        check_settings(rank, mode, dropout, self.shape)
        matrix.trainable = False
        self.matrix = lambda: matrix  # out of sight of Keras
        self.settings = {"rank": rank, "alpha": alpha, "mode": mode, "dropout": dropout}
        self.scale = (rank if alpha is None else alpha) / rank
        self.additive = mode == "additive"
        self.random = None if self.additive else random
        self.dropout = (
            keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy) if dropout else None
        )
        self.rank, self.seed = rank, seed

    def build(self, input_shape=None):
        rows, columns = self.shape
        # as in peft: A like a Dense layer of torch; or, for a table of vectors, B normal
        start = {
            "a": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=self.seed),
            "b": keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
        }
        for name, shape in (("a", (rows, self.rank)), ("b", (self.rank, columns))):
            initializer = start[name] if name == self.random else "zeros"
            # float32 in every precision: the steps of the optimizer are small
            weight = self.add_weight(
                name=name, shape=shape, initializer=initializer, dtype="float32"
            )
            setattr(self, name, weight)
        self.strength = self.add_weight(
            name="strength", shape=(), initializer="ones", dtype="float32", trainable=False
        )

    def frozen(self):
        """W without a gradient, which would be as large as W; unless W was made trainable."""
        tensor = ops.convert_to_tensor(self.matrix())
        return tensor if self.matrix().trainable else ops.stop_gradient(tensor)

    def _read(self, x):
        scale = self.scale * self.strength
        return [ops.cast(value, x.dtype) for value in (self.a, self.b, scale)]

    def _tile(self, x, size):
        return ops.tile(x, [1] * (len(x.shape) - 1) + [size // self.rank])

    def _fold(self, x):
        parts = ops.reshape(x, (*ops.shape(x)[:-1], x.shape[-1] // self.rank, self.rank))
        return ops.sum(parts, axis=-2)

    def project(self, x, training=None):
        """``x·ΔW`` for ``x`` of shape ``(…, rows)``."""
        if self.dropout is not None:
            x = self.dropout(x, training=training)
        a, b, scale = self._read(x)
        if self.additive:
            y = self._tile(ops.matmul(x, a), self.shape[1]) + ops.matmul(self._fold(x), b)
        else:
            y = ops.matmul(ops.matmul(x, a), b)
        return y * scale

    def project_back(self, x):
        """``x·ΔWᵀ`` for ``x`` of shape ``(…, columns)``."""
        a, b, scale = self._read(x)
        a, b = ops.transpose(a), ops.transpose(b)
        if self.additive:
            y = ops.matmul(self._fold(x), a) + self._tile(ops.matmul(x, b), self.shape[0])
        else:
            y = ops.matmul(ops.matmul(x, b), a)
        return y * scale

    def look_up(self, ids, like):
        """The rows `ids` of ΔW, in the dtype of the tensor `like`."""
        a, b, scale = self._read(like)
        a = ops.take(a, ids, axis=0)
        if self.additive:
            y = self._tile(a, self.shape[1]) + ops.take(b, ids % self.rank, axis=0)
        else:
            y = ops.matmul(a, b)
        return y * scale

    def product(self) -> np.ndarray:
        """ΔW in float64, whatever the strength."""
        a, b = (np.asarray(ops.convert_to_numpy(x), "float64") for x in (self.a, self.b))
        if not self.additive:
            return self.scale * (a @ b)
        rows, columns = self.shape
        tiled = np.tile(a, (1, columns // self.rank)) + np.tile(b, (rows // self.rank, 1))
        return self.scale * tiled

    def save_own_variables(self, store):
        for name in ("a", "b"):
            store[name] = ops.convert_to_numpy(getattr(self, name))

    def load_own_variables(self, store):
        for name in ("a", "b"):
            factor = getattr(self, name)
            if len(store.keys()):
                factor.assign(store[name])
            elif name != self.random:  # a file of the layer without factors
                factor.assign(ops.zeros_like(factor))
        if not self.merged:  # the matrix of the file holds ΔW
            self._shift(-1)

    @property
    def merged(self) -> bool:
        return not float(ops.convert_to_numpy(self.strength))

    def shifted(self, sign) -> np.ndarray:
        """W + ΔW or W − ΔW, rounded once."""
        matrix = ops.convert_to_numpy(ops.cast(self.matrix(), "float32")).astype("float64")
        return (matrix + sign * self.product()).astype("float32")

    def _shift(self, sign):
        self.matrix().assign(self.shifted(sign))

    def _set_merged(self, merged):
        self.strength.assign(0.0 if merged else 1.0)
        self.a.trainable = self.b.trainable = not merged

    def merge(self):
        """W becomes W + ΔW and the factors rest; nothing happens if that is so already."""
        if not self.merged:
            self._shift(1)
            self._set_merged(True)

    def unmerge(self):
        """W becomes W − ΔW and the factors work again, if they were merged."""
        if self.merged:
            self._shift(-1)
            self._set_merged(False)
