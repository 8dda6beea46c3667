"""ChildTuning: fine-tune a part of the weights, drawn anew each step or chosen once."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.draws import integers, uniform
from keras_extras.optimizers.extending import Extension, dense, extend
from keras_extras.optimizers.fisher import fisher_information, largest
from keras_extras.optimizers.keras_seams import stored_value
from keras_extras.optimizers.selecting import check_patterns, select
from keras_extras.optimizers.sparse import to_dense

MODES = ("F", "D", "update")
ROWS, WIDTH = 512, 64  # how many weights a draw decides at once, and in what pieces


@keras.saving.register_keras_serializable(package="keras_extras")
class ChildTuning(Extension):
    """gradients or updates of a child network only.

    Args:
        child_tuning_mode: `"F"`, `"D"` or `"update"`.
        reserve_p: p, the share of weights that a step changes.
        include_in_child_tuning: regular expressions; only variables whose path one of them is found
            in are masked; `None` means all.
        child_tuning_seed: seed of the masks of `"F"` and `"update"`.
    """

    def __init__(
        self,
        *args,
        child_tuning_mode: str = "F",
        reserve_p: float = 0.3,
        include_in_child_tuning: Sequence[str] | None = None,
        child_tuning_seed: int | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if child_tuning_mode not in MODES:
            raise ValueError(
                f"`child_tuning_mode` must be one of {MODES}, but got {child_tuning_mode!r}."
            )
        require(0 < reserve_p <= 1, "`reserve_p`", "in (0, 1]", reserve_p)
        self.child_tuning_mode = child_tuning_mode
        self.reserve_p = reserve_p
        self._child_patterns = (
            None
            if include_in_child_tuning is None
            else check_patterns(include_in_child_tuning, "include_in_child_tuning")
        )
        self._child_seeds = keras.random.SeedGenerator(child_tuning_seed)
        self._track_variable(self._child_seeds.state)
        self._child_known = False

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if self._child_patterns is None:
            self._masked = [True] * len(variables)
        else:
            self._masked = select(variables, self._child_patterns, "include_in_child_tuning")
        if self.child_tuning_mode == "D":
            self._child_masks = [
                self.add_variable(v.shape, dtype="bool", name="child") if masked else None
                for v, masked in zip(variables, self._masked, strict=True)
            ]

    def find_child_network(self, model, dataset) -> None:
        """Choose the weights that mode `"D"` changes, those with the largest Fisher information.

        Args:
            model: the compiled model; its loss must be the negative log-likelihood.
            dataset: iterable of batches `(x, y)`, such as a `tf.data.Dataset`; its samples are
                taken one by one.
        """
        self.build(model.trainable_variables)
        self.set_child_network(fisher_information(model, dataset))

    def set_child_network(self, importance: Sequence) -> None:
        """Choose the weights that mode `"D"` changes by given numbers, largest first.

        Args:
            importance: an array for each variable that the optimizer was built with.

        Raises:
            ValueError: if the mode is not `"D"`, or the optimizer is not built.
        """
        if self.child_tuning_mode != "D":
            raise ValueError("Only child_tuning_mode='D' has a fixed child network.")
        if not self.built:
            raise ValueError(
                "Call optimizer.build(model.trainable_variables) before set_child_network()."
            )
        pairs = zip(importance, self._child_masks, strict=True)
        chosen = [(np.asarray(values), mask) for values, mask in pairs if mask is not None]
        masks = largest([values for values, _ in chosen], self.reserve_p)
        for (_, variable), mask in zip(chosen, masks, strict=True):
            variable.assign(mask)
        self._child_known = True

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self._child_known = self._has_child()

    def set_weights(self, weights):
        super().set_weights(weights)
        self._child_known = self._has_child()

    def _has_child(self) -> bool:
        """Whether the masks choose a weight; `False` where they cannot be read."""
        if self.child_tuning_mode != "D" or not self.built:
            return False
        values = [stored_value(mask) for mask in self._child_masks if mask is not None]
        return any(value is not None and value.any() for value in values)

    def transform_gradient(self, gradient, variable):
        if self.child_tuning_mode != "update" and self._masked[self.index_of(variable)]:
            gradient = to_dense(gradient)
            gradient = gradient * self._scaled_mask(variable, gradient.dtype)
        return super().transform_gradient(gradient, variable)

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        if self.child_tuning_mode == "update" and self._masked[self.index_of(variable)]:
            update = dense(update)
            update = update * self._scaled_mask(variable, update.dtype)
        return update

    def _scaled_mask(self, variable, dtype):
        if self.child_tuning_mode == "D":
            self._child_known = self._child_known or self._has_child()
            if not self._child_known:
                raise ValueError(
                    "child_tuning_mode='D' needs to know which weights to change: call "
                    "optimizer.find_child_network(model, dataset) before training."
                )
            mask = self._child_masks[self.index_of(variable)]
            return ops.cast(mask, dtype) / self.reserve_p
        size = math.prod(variable.shape)
        if size <= ROWS * WIDTH:
            mask = self._draw(tuple(variable.shape), dtype)
        else:
            # Drawing a number costs more than Adam's whole step of a weight, copying one little.
            pieces = math.ceil(size / WIDTH)
            rows = integers((pieces,), ROWS, self._child_seeds)
            mask = ops.take(self._draw((ROWS, WIDTH), dtype), rows, axis=0)
            mask = ops.reshape(mask, (-1,))
            mask = mask if pieces * WIDTH == size else mask[:size]
        return ops.reshape(mask, variable.shape)

    def _draw(self, shape, dtype):
        """1/p with probability p, else 0."""
        draws = uniform(shape, self._child_seeds)
        return ops.cast(draws < self.reserve_p, dtype) / self.reserve_p

    def get_config(self):
        patterns = self._child_patterns
        return {
            **super().get_config(),
            "child_tuning_mode": self.child_tuning_mode,
            "reserve_p": self.reserve_p,
            "include_in_child_tuning": None if patterns is None else list(patterns),
            "child_tuning_seed": self._child_seeds.get_config()["seed"],
        }


def extend_with_child_tuning(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Let each step change only a share p of the weights.

    Mode `"F"` draws M ∈ {0, 1}, P(M = 1) = p, in each step and uses g⊙M/p for g. Mode `"D"` uses
    the fixed mask of the weights with the largest Fisher information, which
    `optimizer.find_child_network(model, dataset)` determines before training. Mode `"update"` draws
    as F does but masks the update (update dropout). In SGD, F leaves the expected step as it is and
    adds (1 − p)/p·(μ² + σ²) to its variance; Adam's steps become √p times as long.

    The entries of a mask of up to 32768 weights are independent. A larger mask is put together of
    pieces of 64, each of them chosen at random from 512 that are drawn anew in every step: so two
    of its entries are independent unless 64 divides their distance, and then they are the same
    draw with probability 1/512.

    The new class takes `child_tuning_mode` (default `"F"`), `reserve_p` (p, default 0.3),
    `include_in_child_tuning` (regular expressions searched in the variables' paths, default all;
    the authors leave the classifier out) and `child_tuning_seed`. The state of the draws is saved.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: Xu et al., EMNLP 2021, arXiv 2109.05687; kexue.fm/archives/8764.

    Example:

    >>> import keras
    >>> ChildAdam = extend_with_child_tuning(keras.optimizers.Adam, name="ChildAdam")
    >>> optimizer = ChildAdam(2e-5, reserve_p=0.3, child_tuning_seed=1)
    """
    return extend(ChildTuning, BaseOptimizer, name)
