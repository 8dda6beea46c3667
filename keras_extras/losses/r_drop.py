"""R-Drop: two passes of one example through dropout agree."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.layouts import split_groups, targets_of_groups
from keras_extras.losses.multilabel import read_logits


@keras.saving.register_keras_serializable(package="keras_extras")
def symmetric_divergence(first, second):
    """``KL(P‖Q) + KL(Q‖P) = Σ (p - q) (log p - log q)`` of two softmaxes, in float32.

    Args:
        first, second: ``(…, classes)``, logits without activation.

    Returns:
        Divergence of shape ``(…)``.

    >>> print(f"{float(symmetric_divergence([[0.0, 0.0]], [[1.0, 0.0]])[0]):.4f}")
    0.2311
    """
    first = ops.log_softmax(read_logits(first), axis=-1)
    second = ops.log_softmax(read_logits(second), axis=-1)
    return ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1)


@keras.saving.register_keras_serializable(package="keras_extras")
class RDrop(keras.losses.Loss):
    """A loss on logits, plus the divergence between two passes of each example through dropout.

    ``L(y, f_i) + α/4 · [KL(P₁‖P₂) + KL(P₂‖P₁)]`` on each of the two rows i of an example. Their
    mean is the author's loss, half of the paper's ``L(y, f₁) + L(y, f₂) + α/2 · [KL + KL]``.

    Rows ``2i`` and ``2i + 1`` of the predictions ``(2n, …, classes)`` are one example, and the
    targets are twice in a row as well: `twice_in_a_row` makes such batches. Examples whose target
    is -1 have no label: only the divergence counts for them. Of a batch without any label the
    layout cannot be checked. Under `tf.distribute` nothing is gathered, so that an example has to
    lie on one replica with both of its rows. Computed in float32.

    Args:
        loss: a Keras loss on logits that gives one value per row; its reduction is not used. None
            (default) is sparse categorical cross entropy.
        alpha: α; 4 by default.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: odd number of rows, or (in eager execution; in a compiled step the loss is NaN)
            two rows of an example with different targets.

    Source: Liang et al., arXiv:2106.14448; kexue.fm/archives/8496.

    >>> print(f"{float(RDrop()([0, 0], [[0.0, 0.0], [1.0, 0.0]])):.4f}")
    0.7343
    """

    def __init__(
        self,
        loss: keras.losses.Loss | None = None,
        alpha: float = 4.0,
        reduction="sum_over_batch_size",
        name="r_drop",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.alpha = alpha

    def call(self, y_true, y_pred):
        y_true, logits = ops.convert_to_tensor(y_true), read_logits(y_pred)
        passes = split_groups(logits, 2, self.name)
        _, valid = targets_of_groups(y_true, 2, self.name, logits.dtype)
        known = y_true >= 0
        losses = self.loss.call(ops.where(known, y_true, ops.zeros_like(y_true)), logits)
        if len(known.shape) > len(losses.shape):
            known = ops.all(known, axis=-1)
        losses = losses * ops.cast(known, losses.dtype)
        apart = symmetric_divergence(passes[:, 0], passes[:, 1])
        return (losses + self.alpha / 4 * ops.repeat(apart, 2, axis=0)) * valid

    def get_config(self):
        return {
            **super().get_config(),
            "loss": keras.saving.serialize_keras_object(self.loss),
            "alpha": self.alpha,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
