"""Losses of cosines against fixed targets: the baselines that CoSENT is compared with."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.cosent import unit_vectors
from keras_extras.losses.layouts import split_groups, targets_of_groups

FORMS = ("linear", "square", "margin")


@keras.saving.register_keras_serializable(package="keras_extras")
class CosineContrast(keras.losses.Loss):
    """Cosines of pairs towards 1 where the label t is 1, and away from it where it is 0.

    - "linear": ``t (1 - cos) + (1 - t) (1 + cos)``
    - "square": ``t (1 - cos)² + (1 - t) cos²``
    - "margin": ``t (1 - cos) + (1 - t) max(cos, margin)``

    The article shows why they fail: most negative pairs are similar sentences too, and such targets
    press them further apart than the data wants. `CoSENT` asks for an order only.

    Rows ``2i`` and ``2i + 1`` of the predictions ``(2n, dim)`` are a pair, and the targets
    ``(2n,)`` repeat its label; the loss of a pair stands on both rows. Under `tf.distribute`
    nothing is gathered, so that a pair has to lie on one replica. Computed in float32.

    Args:
        form: one of the names above; "square" by default.
        margin: of the form "margin"; 0.7 by default.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown `form`; odd number of rows; or (in eager execution; in a compiled step
            the loss is NaN) a pair with two labels.

    Source: kexue.fm/archives/8847.

    >>> pairs = [[1.0, 0.0], [0.6, 0.8]]
    >>> print(f"{float(CosineContrast()([0, 0], pairs)):.4f}")
    0.3600
    """

    def __init__(
        self,
        form: str = "square",
        margin: float = 0.7,
        reduction="sum_over_batch_size",
        name="cosine_contrast",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if form not in FORMS:
            raise ValueError(f"CosineContrast's form is one of {', '.join(FORMS)}; got {form!r}.")
        self.form, self.margin = form, margin

    def call(self, y_true, y_pred):
        pairs = split_groups(unit_vectors(y_pred), 2, self.name)
        t, valid = targets_of_groups(ops.reshape(y_true, (-1,)), 2, self.name, pairs.dtype)
        t = ops.cast(t, pairs.dtype)
        cosine = ops.sum(pairs[:, 0] * pairs[:, 1], axis=-1)
        apart, together = {
            "linear": (1 + cosine, 1 - cosine),
            "square": (ops.square(cosine), ops.square(1 - cosine)),
            "margin": (ops.maximum(cosine, self.margin), 1 - cosine),
        }[self.form]
        return ops.repeat((t * together + (1 - t) * apart) * valid, 2, axis=0)

    def get_config(self):
        return {**super().get_config(), "form": self.form, "margin": self.margin}
