"""Softmax cross entropy for any number of right classes at once."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.ops import masking_value


def read_logits(y_pred):
    """Finite logits in float32 (or float64, if they came so)."""
    y_pred = ops.convert_to_tensor(y_pred)
    logits = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, "float32"))
    return ops.maximum(logits, masking_value(logits.dtype))


def is_masked(logits):
    """At or below float16's masking value: that of any precision, and ``-inf``."""
    return logits <= masking_value("float16")


@keras.saving.register_keras_serializable(package="keras_extras")
def multilabel_categorical_crossentropy(y_true, y_pred):
    """Cross entropy of a softmax that may have any number of right classes.

    ``log(1 + Σ_i (1 - y_i) exp(s_i)) + log(1 + Σ_i y_i exp(-s_i))``: every right class is pushed
    above 0 and every other below, so predictions are the classes with ``s > 0``.

    Masked logits (``-inf`` or a dtype's masking value) are left out. Computed in float32.

    Args:
        y_true: ``(…, classes)``, between 0 and 1: the probability that a class is right.
        y_pred: ``(…, classes)``, logits without activation.

    Returns:
        Loss of shape ``(…)``.

    Source: kexue.fm/archives/7359; soft labels: kexue.fm/archives/9064; masking in half
    precision: kexue.fm/archives/9059.

    >>> loss = multilabel_categorical_crossentropy([[1.0, 0.0]], [[2.0, -2.0]])
    >>> print(f"{float(loss[0]):.4f}")
    0.2539
    """
    logits = read_logits(y_pred)
    masked = is_masked(logits)
    y_true = ops.cast(y_true, logits.dtype)
    wrong = weighted(logits, 1 - y_true, masked)
    right = weighted(-logits, y_true, masked)
    return one_more(wrong) + one_more(right)


def weighted(logits, weight, left_out):
    """``logits + log(weight)``, with the masking value for the log of 0 and where left out."""
    out = ops.logical_or(left_out, weight <= 0)
    safe = ops.where(out, ops.ones_like(weight), weight)
    value = ops.cast(masking_value(logits.dtype), logits.dtype)
    return ops.where(out, value, logits + ops.log(safe))


def one_more(logits):
    """``log(1 + Σ exp(logits))`` over the last axis."""
    return ops.softplus(ops.logsumexp(logits, axis=-1))


@keras.saving.register_keras_serializable(package="keras_extras")
def sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero: bool = False):
    """`multilabel_categorical_crossentropy` for labels given as the right classes' numbers.

    The wrong classes' sum is the whole sum less the right classes', so no array of labels as
    large as the logits is needed; the difference is kept above Keras' epsilon.

    Masked logits (``-inf`` or a dtype's masking value) are left out. Computed in float32.

    Args:
        y_true: ``(…, n)``, numbers of the right classes, each once.
        y_pred: ``(…, classes)``, logits without activation.
        mask_zero: class 0 is no class but the padding of `y_true`; False by default.

    Returns:
        Loss of shape ``(…)``.

    Source: kexue.fm/archives/7359.

    >>> loss = sparse_multilabel_categorical_crossentropy([[0]], [[2.0, -2.0]])
    >>> print(f"{float(loss[0]):.4f}")
    0.2539
    """
    logits = read_logits(y_pred)
    y_true = ops.cast(y_true, "int32")
    value = ops.cast(masking_value(logits.dtype), logits.dtype)
    right = ops.take_along_axis(logits, y_true, axis=-1)
    left_out = is_masked(right)
    if mask_zero:
        left_out = ops.logical_or(left_out, y_true == 0)
        logits = logits[..., 1:]
    every = one_more(logits)
    right_share = ops.logsumexp(ops.where(left_out, value, right), axis=-1) - every
    wrong_share = ops.clip(1 - ops.exp(right_share), keras.config.epsilon(), 1)
    return one_more(ops.where(left_out, value, -right)) + every + ops.log(wrong_share)


@keras.saving.register_keras_serializable(package="keras_extras")
class MultilabelCategoricalCrossentropy(keras.losses.Loss):
    """`multilabel_categorical_crossentropy` as a Keras loss.

    Args:
        reduction, name, dtype: as in `keras.losses.Loss`.

    >>> loss = MultilabelCategoricalCrossentropy()([[1.0, 0.0]], [[2.0, -2.0]])
    >>> print(f"{float(loss):.4f}")
    0.2539
    """

    def __init__(
        self,
        reduction="sum_over_batch_size",
        name="multilabel_categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return multilabel_categorical_crossentropy(y_true, y_pred)


@keras.saving.register_keras_serializable(package="keras_extras")
class SparseMultilabelCategoricalCrossentropy(keras.losses.Loss):
    """`sparse_multilabel_categorical_crossentropy` as a Keras loss.

    Args:
        mask_zero: class 0 is the padding of the labels; False by default.
        reduction, name, dtype: as in `keras.losses.Loss`.

    >>> loss = SparseMultilabelCategoricalCrossentropy()([[0]], [[2.0, -2.0]])
    >>> print(f"{float(loss):.4f}")
    0.2539
    """

    def __init__(
        self,
        mask_zero: bool = False,
        reduction="sum_over_batch_size",
        name="sparse_multilabel_categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mask_zero = mask_zero

    def call(self, y_true, y_pred):
        return sparse_multilabel_categorical_crossentropy(y_true, y_pred, self.mask_zero)

    def get_config(self):
        return {**super().get_config(), "mask_zero": self.mask_zero}
