"""The state that optimizers keep per variable: its precision, and loading it."""

import json
import re
import warnings
from collections import Counter

import keras
import numpy as np

HALF_PRECISION = ("float16", "bfloat16")
KINDS = "kinds"


def is_half(variable) -> bool:
    """Whether `variable` is float16 or bfloat16."""
    return keras.backend.standardize_dtype(variable.dtype) in HALF_PRECISION


def working_dtype(variable) -> str:
    """The dtype to compute steps of `variable` in: its own, or float32 if that has few bits."""
    return "float32" if is_half(variable) else keras.backend.standardize_dtype(variable.dtype)


class OptimizerState:
    """Mixin for optimizers: state in float32 for half-precision variables, and strict loading.

    A moving average with momentum 0.999 does not move in bfloat16, which has 8 bits. A saved state
    of another size raises an error, where Keras skips it with a warning; so does one of other
    kinds, say of momenta where this optimizer has slow weights, which Keras does not notice. An
    optimizer that is not built yet skips it with a warning, too.
    """

    def build(self, variables):
        if self.built:
            return
        self._unbuilt_size = len(self.variables)
        super().build(variables)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """A variable of the shape of `reference_variable`, float32 if that is half-precision."""
        name = name or "var"
        if not is_half(reference_variable):
            made = super().add_variable_from_reference(reference_variable, name, initializer)
        else:
            path = getattr(reference_variable, "path", None) or reference_variable.name
            made = self.add_variable(
                shape=reference_variable.shape,
                initializer=initializer,
                dtype=working_dtype(reference_variable),
                layout=getattr(reference_variable, "_layout", None),
                name=f"{path}_{name}".replace("/", "_").replace(":", "_"),
            )
        self.__dict__.setdefault("_kinds", {})[made.name] = name
        return made

    def add_variable_for(self, reference_variable, shape, name, initializer="zeros"):
        """A variable of the state of `reference_variable` that has another shape."""
        return self.add_variable(shape, initializer, working_dtype(reference_variable), name=name)

    def state_kinds(self) -> list[str]:
        """What each variable of the state is: `iteration`, `momentum` …, whatever the model."""
        kinds = self.__dict__.get("_kinds", {})
        return [kinds.get(v.name, re.sub(r"(_\d+)+$", "", v.name)) for v in self.variables]

    def save_own_variables(self, store):
        """Put the state into `store`, and what each of its variables is."""
        super().save_own_variables(store)
        store[KINDS] = np.frombuffer(json.dumps(self.state_kinds()).encode(), "uint8")

    def load_own_variables(self, store):
        """Set the state from `store`; see `keras.optimizers.Optimizer.load_own_variables`.

        Raises:
            ValueError: if the store holds neither the state of this optimizer nor that of one that
                was saved before its first step (which has only the iteration and the rate).
        """
        saved, variables, kinds = len(store.keys()), self.variables, self.state_kinds()
        found = None
        if KINDS in store.keys():  # files of other writers have no kinds
            saved, found = saved - 1, json.loads(np.asarray(store[KINDS]).tobytes())
        if saved == getattr(self, "_unbuilt_size", None):
            variables, kinds = variables[:saved], kinds[:saved]
        if not self.built and saved != len(variables):
            warnings.warn(
                f"The saved state of optimizer {self.name!r} is not loaded, as this "
                f"{type(self).__name__} has no variables to hold it yet. If you want it, call "
                "optimizer.build(model.trainable_variables) before you load.",
                stacklevel=2,
            )
            return
        if saved != len(variables) or found not in (None, kinds):
            holds = f" ({in_words(found)})" if found else ""
            raise ValueError(
                f"The saved state of optimizer {self.name!r} has {saved} variables{holds}, but "
                f"this {type(self).__name__} has {len(variables)} ({in_words(kinds)}). "
                "It was saved by another optimizer or for another model; compile with the same "
                "classes, or load with compile=False."
            )
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])


def in_words(kinds: list[str]) -> str:
    """`iteration, momentum ×3` and the like."""
    counts = Counter(kinds).items()
    return ", ".join(kind if number == 1 else f"{kind} ×{number}" for kind, number in counts)
