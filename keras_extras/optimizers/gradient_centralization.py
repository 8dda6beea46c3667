"""Gradient centralization for any optimizer."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_extras.optimizers.extending import Extension, extend
from keras_extras.optimizers.selecting import check_patterns, select
from keras_extras.optimizers.sparse import to_dense


@keras.saving.register_keras_serializable(package="keras_extras")
class GradientCentralization(Extension):
    """gradients of kernels with mean zero for each output.

    Args:
        exclude_from_gradient_centralization: regular expressions; variables whose path one of them
            is found in keep their gradient.
    """

    def __init__(
        self, *args, exclude_from_gradient_centralization: Sequence[str] | None = None, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self._not_centered_patterns = check_patterns(
            exclude_from_gradient_centralization, "exclude_from_gradient_centralization"
        )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._not_centered = select(
            variables, self._not_centered_patterns, "exclude_from_gradient_centralization"
        )

    def transform_gradient(self, gradient, variable):
        if len(variable.shape) > 1 and not self._not_centered[self.index_of(variable)]:
            gradient = to_dense(gradient)
            axes = tuple(range(len(variable.shape) - 1))
            gradient = gradient - ops.mean(gradient, axis=axes, keepdims=True)
        return super().transform_gradient(gradient, variable)

    def get_config(self):
        return {
            **super().get_config(),
            "exclude_from_gradient_centralization": list(self._not_centered_patterns),
        }


def extend_with_gradient_centralization(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Subtract from a kernel's gradient its mean over all axes but the last, the outputs.

    g ← g − mean_in(g), for variables with two axes or more; the sum of the weights that lead to an
    output then stays what it was (under SGD). An embedding's rows are no inputs of a sum: exclude
    it, which also keeps its gradient sparse. Kernels of `EinsumDense`, and so those of query, key
    and value in Keras' `MultiHeadAttention`, may have several axes of outputs, of which only the
    last is seen as such: exclude them, too. The new class takes
    `exclude_from_gradient_centralization` (regular expressions searched in the variables' paths,
    default none).

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: Yong et al., arXiv 2004.01461.

    Example:

    >>> import keras
    >>> SGDGC = extend_with_gradient_centralization(keras.optimizers.SGD, name="SGDGC")
    >>> optimizer = SGDGC(0.1, exclude_from_gradient_centralization=["embedding"])
    """
    return extend(GradientCentralization, BaseOptimizer, name)
