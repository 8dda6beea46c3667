"""LoRA as an optimizer: matrices move through two thin factors, the model stays as it is."""

import random
from collections.abc import Sequence

import keras
from keras import ops

from keras_extras.optimizers.checking import whole_number
from keras_extras.optimizers.draws import normal
from keras_extras.optimizers.extending import Extension, extend_base
from keras_extras.optimizers.selecting import check_patterns, path_of, select
from keras_extras.optimizers.sparse import to_dense

MODES = ("zero_b", "symmetric", "frozen_a", "random", "additive")


@keras.saving.register_keras_serializable(package="keras_extras")
class LowRank(Extension):
    """updates of matrices through factors of low rank.

    Args:
        rank: r.
        low_rank_mode: `"zero_b"`, `"symmetric"`, `"frozen_a"`, `"random"` or `"additive"`.
        include_in_low_rank: regular expressions; only matrices whose path one of them is found in
            are factored; `None` means all matrices.
        low_rank_seed: seed of the factors.
    """

    def __init__(
        self,
        *args,
        rank: int = 8,
        low_rank_mode: str = "zero_b",
        include_in_low_rank: Sequence[str] | None = None,
        low_rank_seed: int | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if self.use_ema:
            raise ValueError(
                "Keras' `use_ema` would average the factors; "
                "use extend_with_exponential_moving_average instead."
            )
        if isinstance(self, keras.optimizers.Adafactor):
            raise ValueError(
                "The steps of keras.optimizers.Adafactor are relative to the factors, which start "
                "at zero; use keras_extras.optimizers.AdaFactor, whose steps are relative to the "
                "matrix."
            )
        if low_rank_mode not in MODES:
            raise ValueError(f"`low_rank_mode` must be one of {MODES}, but got {low_rank_mode!r}.")
        self.rank = whole_number(rank, "`rank`")
        self.low_rank_mode = low_rank_mode
        self._low_rank_patterns = (
            None
            if include_in_low_rank is None
            else check_patterns(include_in_low_rank, "include_in_low_rank")
        )
        if low_rank_seed is None:
            low_rank_seed = random.randint(1, 10**9)  # as Keras does, after its set_random_seed
        self.low_rank_seed = low_rank_seed
        self._low_rank_seeds = keras.random.SeedGenerator(low_rank_seed)
        self._track_variable(self._low_rank_seeds.state)
        self._factor_indices = {}

    def build(self, variables):
        if self.built:
            return
        patterns = self._low_rank_patterns
        chosen = (
            [True] * len(variables)
            if patterns is None
            else select(variables, patterns, "include_in_low_rank")
        )
        self._factors = [
            self._add_factors(i, v) if take and len(v.shape) == 2 else None
            for i, (v, take) in enumerate(zip(variables, chosen, strict=True))
        ]
        # The base keeps its state for the factors: A stands at the place of W, the B follow.
        seen = [f[0] if f else v for v, f in zip(variables, self._factors, strict=True)]
        seen += [f[1] for f in self._factors if f]
        super().build(seen)
        self._factor_indices = {self._var_key(v): i for i, v in enumerate(seen)}
        indices = self._trainable_variables_indices
        indices.clear()
        for i, variable in enumerate(variables):
            indices[self._var_key(variable)] = i
        vars(self)["_trainable_variables"] = list(variables)  # not state of the optimizer

    def _add_factors(self, index, variable):
        rows, columns = variable.shape
        rank = min(self.rank, rows, columns)
        if self.low_rank_mode == "additive" and (rows % rank or columns % rank):
            raise ValueError(
                "The additive low rank mode needs a rank that divides both sides of a matrix, "
                f"but {path_of(variable)!r} is {rows}×{columns} and the rank {rank}."
            )
        seed = self.low_rank_seed + 2 * index
        one = keras.initializers.RandomNormal(stddev=rank**-0.5, seed=seed)
        other = keras.initializers.RandomNormal(stddev=rank**-0.5, seed=seed + 1)
        first, second = {
            "zero_b": (one, "zeros"),
            "symmetric": (one, other),
            "frozen_a": (keras.initializers.Orthogonal(seed=seed), "zeros"),
        }.get(self.low_rank_mode, ("zeros", "zeros"))
        a = self.add_variable_for(variable, (rows, rank), "low_rank_a", first)
        b = self.add_variable_for(variable, (rank, columns), "low_rank_b", second)
        a.factor_of = b.factor_of = variable  # see selecting.matrix_of
        return a, b

    def _get_variable_index(self, variable):
        index = self._factor_indices.get(self._var_key(variable))
        return super()._get_variable_index(variable) if index is None else index

    def base_update(self, gradient, variable, learning_rate):
        factors = self._factors[self.index_of(variable)]
        if factors is None:
            return super().base_update(gradient, variable, learning_rate)
        a, b = factors
        gradient = ops.cast(to_dense(gradient), a.dtype)
        if self.low_rank_mode == "additive":
            return self._additive(gradient, a, b, learning_rate)
        if self.low_rank_mode == "random":
            for factor in factors:
                self.assign(factor, self._draw(factor))
        step_b = super().base_update(ops.matmul(ops.transpose(a), gradient), b, learning_rate)
        if self.low_rank_mode == "frozen_a":
            self.assign_sub(b, step_b)
            return ops.matmul(a, step_b)
        step_a = super().base_update(ops.matmul(gradient, ops.transpose(b)), a, learning_rate)
        if self.low_rank_mode == "random":
            return ops.matmul(step_a, b) + ops.matmul(a, step_b)
        # AB − (A − ΔA)(B − ΔB) without the difference of two large products
        update = ops.matmul(step_a, b) + ops.matmul(a, step_b) - ops.matmul(step_a, step_b)
        self.assign_sub(a, step_a)
        self.assign_sub(b, step_b)
        return update

    def _additive(self, gradient, a, b, learning_rate):
        (rows, rank), columns = a.shape, b.shape[1]
        of_a = ops.sum(ops.reshape(gradient, (rows, columns // rank, rank)), axis=1)
        of_b = ops.sum(ops.reshape(gradient, (rows // rank, rank, columns)), axis=0)
        step_a = super().base_update(of_a, a, learning_rate)
        step_b = super().base_update(of_b, b, learning_rate)
        return ops.tile(step_a, (1, columns // rank)) + ops.tile(step_b, (rows // rank, 1))

    def _draw(self, factor):
        rank = min(factor.shape)
        return rank**-0.5 * normal(tuple(factor.shape), self._low_rank_seeds)

    def get_config(self):
        patterns = self._low_rank_patterns
        return {
            **super().get_config(),
            "rank": self.rank,
            "low_rank_mode": self.low_rank_mode,
            "include_in_low_rank": None if patterns is None else list(patterns),
            "low_rank_seed": self.low_rank_seed,
        }


def extend_with_low_rank(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Move a matrix W (n×m) through factors A (n×r) and B (r×m): W ← W + A′B′ − AB.

    The gradient G of W is projected, ∂A = GBᵀ and ∂B = AᵀG; the base optimizer makes A′ and B′ from
    these and keeps its state for them alone. In SGD, ΔW = −γ(GBᵀB + AAᵀG) + γ²GBᵀAᵀG.

    Modes: `"zero_b"` starts with A normal and B zero, as LoRA does; `"symmetric"` with both normal
    (W₀ − A₀B₀ + AB); `"frozen_a"` never changes an orthonormal A, so with r = n and SGD it is SGD;
    `"random"` draws A and B anew in each step and uses ΔW = ΔA·B + A·ΔB, in expectation twice a
    step of SGD; `"additive"` has W₀ + A[I…I] + [I;…;I]B. Normal factors have variance 1/r, so that
    E[AAᵀ] = I. The rank is at most the shorter side; in the additive mode it must divide both.

    The new class takes `rank` (r, default 8), `low_rank_mode`, `include_in_low_rank` (regular
    expressions searched in the variables' paths, default all matrices) and `low_rank_seed`. Keras'
    own `weight_decay`, and Tiger's, decays A and B. Rules of the base by a variable's path decide
    for A and B as for W. Where `AdaFactor` and `Tiger` take a rate relative to the weights' RMS, it
    is that of W (B starts at zero, and a product with A, of variance 1/r, is as large as B).

    Low rank always acts directly on the base optimizer, as it changes what that keeps its state
    for; other extensions change the update of W. So of an extended class the tower is made anew:
    `extend_with_low_rank(W(Adam))` is `W(LowRank(Adam))`, under the name given here.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Raises:
        TypeError: if `BaseOptimizer` is derived from an extended class.
        ValueError: if the optimizer is a `keras.optimizers.Adafactor` or has Keras' `use_ema`.

    Source: Hu et al., arXiv 2106.09685; kexue.fm/archives/9590.

    Example:

    >>> import keras
    >>> LoRA = extend_with_low_rank(keras.optimizers.Adam, name="LoRAAdam")
    >>> optimizer = LoRA(1e-3, rank=8, include_in_low_rank=["query", "value"], low_rank_seed=1)
    """
    return extend_base(LowRank, BaseOptimizer, name)
