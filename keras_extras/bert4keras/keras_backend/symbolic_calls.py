"""Functions on symbolic tensors: how `K` records what it cannot compute yet."""

from __future__ import annotations

import functools

import keras
from keras import ops


class BackendCall(keras.Operation):
    """A function applied to symbolic tensors: a node of the model's graph.

    Args:
        function: takes tensors where `template` has symbolic ones.
        template: a structure ``(args, kwargs)`` of symbolic tensors and anything else.
    """

    def __init__(self, function, template, name=None):
        super().__init__(name=name)
        self.function = function
        self.template = template

    @classmethod
    def apply(cls, function, *args, **kwargs):
        template = (args, kwargs)
        return cls(function, template)(*filter(is_keras_tensor, keras.tree.flatten(template)))

    def call(self, *tensors):
        tensors = iter(tensors)
        flat = keras.tree.flatten(self.template)
        flat = [next(tensors) if is_keras_tensor(x) else x for x in flat]
        args, kwargs = keras.tree.pack_sequence_as(self.template, flat)
        return self.function(*args, **kwargs)

    def get_config(self):
        """Refused: a function cannot be found again by its name.

        Raises:
            NotImplementedError: always, with the way to go.
        """
        name = getattr(self.function, "__name__", "a function")
        raise NotImplementedError(
            f"The model calls {name} on symbolic tensors, outside of a layer, so that it cannot be "
            "saved whole. Save its weights (model.save_weights), or make the call in the `call` of "
            "a layer or in a Lambda."
        )


@keras.saving.register_keras_serializable(package="keras_extras")
class Dimension(keras.Operation):
    """One dynamic dimension of a symbolic tensor, as a symbolic scalar."""

    def __init__(self, axis, name=None):
        super().__init__(name=name)
        self.axis = axis

    def call(self, x):
        return ops.shape(x)[self.axis]

    def compute_output_spec(self, x):
        return keras.KerasTensor((), dtype="int32")


def is_keras_tensor(x) -> bool:
    """Whether `x` is symbolic."""
    return isinstance(x, keras.KerasTensor)


def has_symbolic(*structure) -> bool:
    return any(is_keras_tensor(x) for x in keras.tree.flatten(structure))


def traced(function):
    """Let `function`, which needs real tensors, accept symbolic ones."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if has_symbolic(args, kwargs):
            return BackendCall.apply(function, *args, **kwargs)
        return function(*args, **kwargs)

    return wrapper
