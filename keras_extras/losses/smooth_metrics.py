"""Accuracy and F1 made differentiable: probabilities in the place of decisions."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.gathering import gather_rows
from keras_extras.losses.keras_seams import mask_of
from keras_extras.losses.logit_adjustment import pick
from keras_extras.losses.multilabel import read_logits


@keras.saving.register_keras_serializable(package="keras_extras")
class SmoothAccuracy(keras.losses.Loss):
    """``1 - softmax(f)_y``: one minus the expected accuracy of classes drawn from the model.

    Where the model is sure of a wrong class the gradient vanishes: train with cross entropy first,
    then with this. It is `TaiLr` with γ = 1.

    Targets are ``(…)`` or ``(…, 1)``, numbers of the right classes; predictions ``(…, classes)``,
    logits. Computed in float32.

    Args:
        reduction, name, dtype: as in `keras.losses.Loss`.

    Source: kexue.fm/archives/6620.

    >>> float(SmoothAccuracy()([0], [[0.0, 0.0]]))
    0.5
    """

    def __init__(self, reduction="sum_over_batch_size", name="smooth_accuracy", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return -ops.expm1(pick(ops.log_softmax(read_logits(y_pred), axis=-1), y_true))


@keras.saving.register_keras_serializable(package="keras_extras")
class SmoothF1(keras.losses.Loss):
    """``1 - 2 Σ y p / Σ (y + p)``: one minus F1, with probabilities p in the place of decisions.

    The sums run over the whole batch (under `tf.distribute` over the rows of all replicas), so
    it wants large batches, and a model that was trained with cross entropy first. A batch
    without a right class in which none is predicted has loss 0. As there is one number per batch,
    there is no `reduction`.

    Targets and predictions are ``(batch, …)`` and, for ``average="macro"``, ``(batch, …,
    classes)``, of equal shape. Sample weights and masks weigh the terms of the sums. Computed in
    float32.

    Args:
        average: "micro" (default): one F1 of all entries; "macro": the mean of the classes' F1.
        from_logits: predictions are logits, to be put through a sigmoid; True by default.
        name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown `average`.

    Source: kexue.fm/archives/6620.

    >>> loss = SmoothF1(from_logits=False)
    >>> print(f"{float(loss([[1.0, 0.0]], [[0.5, 0.5]])):.4f}")
    0.5000
    """

    def __init__(
        self, average: str = "micro", from_logits: bool = True, name="smooth_f1", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in ("micro", "macro"):
            raise ValueError(f"SmoothF1's average is 'micro' or 'macro', not {average!r}.")
        self.average, self.from_logits = average, from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        weights = [w for w in (sample_weight, mask_of(y_pred)) if w is not None]
        y_true = ops.convert_to_tensor(y_true)
        return super().__call__([y_true, *weights], ops.copy(y_pred))  # without its mask

    def call(self, y_true, y_pred):
        y_true, *weights = y_true if isinstance(y_true, list) else [y_true]
        p = ops.convert_to_tensor(y_pred)
        p = ops.cast(p, keras.backend.result_type(p.dtype, "float32"))
        p = ops.sigmoid(p) if self.from_logits else p
        both = ops.cast(y_true, p.dtype) * p
        every = ops.cast(y_true, p.dtype) + p
        for weight in weights:
            weight = ops.cast(weight, p.dtype)
            while len(weight.shape) < len(p.shape):
                weight = ops.expand_dims(weight, -1)
            both, every = both * weight, every * weight
        axes = list(range(len(p.shape) - (self.average == "macro")))
        sums = ops.stack([2 * ops.sum(both, axis=axes), ops.sum(every, axis=axes)])
        twice, total = ops.unstack(ops.sum(gather_rows(sums[None]), axis=0), 2)
        small = keras.config.epsilon()
        loss = 1 - ops.mean((twice + small) / (total + small))
        return ops.broadcast_to(loss, ops.shape(y_pred)[:1])

    def get_config(self):
        return {
            "name": self.name,
            "dtype": self.dtype,
            "average": self.average,
            "from_logits": self.from_logits,
        }
