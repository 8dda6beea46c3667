"""The state that optimizers keep per variable: its precision, and loading it."""

import keras

HALF_PRECISION = ("float16", "bfloat16")


def is_half(variable) -> bool:
    """Whether `variable` is float16 or bfloat16."""
    return keras.backend.standardize_dtype(variable.dtype) in HALF_PRECISION


def working_dtype(variable) -> str:
    """The dtype to compute steps of `variable` in: its own, or float32 if that has few bits."""
    return "float32" if is_half(variable) else keras.backend.standardize_dtype(variable.dtype)


class OptimizerState:
    """Mixin for optimizers: state in float32 for half-precision variables, and strict loading.

    A moving average with momentum 0.999 does not move in bfloat16, which has 8 bits. A saved state
    of another size raises an error, where Keras skips it with a warning.
    """

    def build(self, variables):
        if self.built:
            return
        self._unbuilt_size = len(self.variables)
        super().build(variables)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """A variable of the shape of `reference_variable`, float32 if that is half-precision."""
        if not is_half(reference_variable):
            return super().add_variable_from_reference(reference_variable, name, initializer)
        path = getattr(reference_variable, "path", None) or reference_variable.name
        return self.add_variable(
            shape=reference_variable.shape,
            initializer=initializer,
            dtype=working_dtype(reference_variable),
            layout=getattr(reference_variable, "_layout", None),
            name=f"{path}_{name or 'var'}".replace("/", "_").replace(":", "_"),
        )

    def load_own_variables(self, store):
        """Set the state from `store`; see `keras.optimizers.Optimizer.load_own_variables`.

        Raises:
            ValueError: if the store holds neither the state of this optimizer nor that of one that
                was saved before its first step (which has only the iteration and the rate).
        """
        saved, variables = len(store.keys()), self.variables
        if saved == getattr(self, "_unbuilt_size", None):
            variables = variables[:saved]
        if saved != len(variables):
            raise ValueError(
                f"The saved state of optimizer {self.name!r} has {saved} variables, but this "
                f"{type(self).__name__} has {len(variables)}. It was saved by another optimizer or "
                "for another model; compile with the same classes, or load with compile=False."
            )
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])
