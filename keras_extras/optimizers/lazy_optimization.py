"""Lazy updates: rows of an embedding move only when the batch touched them, for any optimizer."""

import contextlib
from collections.abc import Sequence

import keras
from keras import ops

from keras_extras.optimizers.extending import Extension, extend
from keras_extras.optimizers.selecting import check_patterns, path_of, select
from keras_extras.optimizers.sparse import is_sparse, rows_of, sparse_like


@keras.saving.register_keras_serializable(package="keras_extras")
class LazyOptimization(Extension):
    """updates only of the rows whose gradient is not zero.

    Args:
        include_in_lazy_optimization: regular expressions; variables whose path one of them is found
            in are updated lazily.
        lazy_moments: whether the base optimizer's state of the other rows stays as it is, too.
    """

    def __init__(
        self,
        *args,
        include_in_lazy_optimization: Sequence[str] | None = None,
        lazy_moments: bool = False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self._lazy_patterns = check_patterns(
            include_in_lazy_optimization, "include_in_lazy_optimization"
        )
        self.lazy_moments = lazy_moments
        self._rows_of = {}  # the state of each variable
        self._row_step = None

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        made = super().add_variable_from_reference(reference_variable, name, initializer)
        self._rows_of.setdefault(path_of(reference_variable), []).append(made)
        return made

    def add_variable_for(self, reference_variable, shape, name, initializer="zeros"):
        made = super().add_variable_for(reference_variable, shape, name, initializer)
        self._rows_of.setdefault(path_of(reference_variable), []).append(made)
        return made

    def build(self, variables):
        if self.built:
            return
        size = len(self.variables)
        super().build(variables)
        self._lazy = select(variables, self._lazy_patterns, "include_in_lazy_optimization")
        self._rows = [self._rows_of.get(path_of(variable), []) for variable in variables]
        if not (self.lazy_moments and any(self._lazy)):
            return
        # State of another shape than its variable, or of nobody knows which.
        known = {id(v) for rows in self._rows_of.values() for v in rows}
        others = [v for v in self.variables[size:] if len(v.shape) and id(v) not in known]
        for variable, rows, lazy in zip(variables, self._rows, self._lazy, strict=True):
            others += [v for v in rows if lazy and v.shape != variable.shape]
        if others:
            raise ValueError(
                "`lazy_moments` needs a base whose state has the shape of its variables, but this "
                f"{type(self).__name__} also keeps {others[0].path!r} of shape "
                f"{tuple(others[0].shape)}."
            )

    def base_update(self, gradient, variable, learning_rate):
        index = self.index_of(variable)
        if not (self.lazy_moments and self._lazy[index]):
            return super().base_update(gradient, variable, learning_rate)
        if not is_sparse(gradient):
            with self._stepping(DenseRows(self._rows[index], gradient)):
                return super().base_update(gradient, variable, learning_rate)
        step = SparseRows(self._rows[index], gradient)
        step.stand_in = rows_of(variable, gradient)
        step.key = self._var_key(variable)
        with self._stepping(step), step.scope:
            update = super().base_update(gradient.values, step.stand_in, learning_rate)
        for state, rows in step.results():
            self.assign(state, rows)
        return sparse_like(gradient, update)

    @contextlib.contextmanager
    def _stepping(self, step):
        self._row_step = step
        try:
            yield
        finally:
            self._row_step = None

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        if not self._lazy[self.index_of(variable)]:
            return update
        if not is_sparse(gradient):
            return update * ops.cast(touched_rows(gradient), update.dtype)
        values = update.values if is_sparse(update) else ops.take(update, gradient.indices, axis=0)
        touched = ops.cast(touched_rows(gradient.values), values.dtype)
        return sparse_like(gradient, values * touched)

    def assign(self, variable, value):
        step = self._row_step
        if step is not None and step.holds(variable):
            value = step.new_value(variable, value)
        if value is not None:
            super().assign(variable, value)

    def assign_add(self, variable, value):
        if self._row_step is not None and self._row_step.holds(variable):
            self.assign(variable, variable + value)
        else:
            super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        if self._row_step is not None and self._row_step.holds(variable):
            self.assign(variable, variable - value)
        else:
            super().assign_sub(variable, value)

    def _var_key(self, variable):
        step = self._row_step
        if step is not None and variable is step.stand_in:
            return step.key
        return super()._var_key(variable)

    def get_config(self):
        return {
            **super().get_config(),
            "include_in_lazy_optimization": list(self._lazy_patterns),
            "lazy_moments": self.lazy_moments,
        }


def touched_rows(gradient):
    """Which rows of the gradient are not zero, with axes of size 1 behind."""
    axes = tuple(range(1, len(gradient.shape)))
    return ops.any(ops.not_equal(gradient, 0), axis=axes, keepdims=True)


class DenseRows:
    """A step of the base whose assignments to `states` hold in the touched rows only."""

    stand_in = None

    def __init__(self, states, gradient):
        self.states = states
        self.touched = touched_rows(gradient)

    def holds(self, variable) -> bool:
        return any(variable is state for state in self.states)

    def new_value(self, state, value):
        kept = ops.convert_to_tensor(state)
        return ops.where(self.touched, ops.cast(value, kept.dtype), kept)


class SparseRows:
    """A step of the base that reads and writes the rows of a sparse gradient only.

    In `scope` the states have the values of those rows; assignments stay there until `results`.
    """

    def __init__(self, states, gradient):
        self.states = states
        self.gradient = gradient
        self.touched = touched_rows(gradient.values)
        self.old = [rows_of(state, gradient) for state in states]
        self.scope = keras.StatelessScope()
        for pair in zip(states, self.old, strict=True):
            self.scope.add_update(pair)

    def holds(self, variable) -> bool:
        return any(variable is state for state in self.states)

    def new_value(self, state, value):
        self.scope.add_update((state, ops.cast(value, state.dtype)))

    def results(self):
        """Pairs of a state that was assigned to and its new rows."""
        for state, old in zip(self.states, self.old, strict=True):
            new = self.scope.get_current_value(state)
            if new is not old:
                yield state, sparse_like(self.gradient, ops.where(self.touched, new, old))


def extend_with_lazy_optimization(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Move a row only if its gradient is not zero: θ_r ← θ_r − [g_r ≠ 0]·u_r.

    With momentum, an optimizer goes on moving embeddings of tokens that the batch does not hold.
    The new class takes `include_in_lazy_optimization` (regular expressions searched in the
    variables' paths, default none) and `lazy_moments`. As in bert4keras, the moments of all rows
    are updated by default; with `lazy_moments=True` those of untouched rows stay as they are, as in
    LazyAdam, and for sparse gradients (`tf.IndexedSlices`) only the touched rows are computed. The
    base then sees these rows as its whole variable; its state must have the shape of its variables.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: kexue.fm/archives/6869.

    Example:

    >>> import keras
    >>> LazyAdam = extend_with_lazy_optimization(keras.optimizers.Adam, name="LazyAdam")
    >>> optimizer = LazyAdam(1e-3, include_in_lazy_optimization=["embedding"], lazy_moments=True)
    """
    return extend(LazyOptimization, BaseOptimizer, name)
