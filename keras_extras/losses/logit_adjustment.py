"""Logit-adjusted softmax cross entropy for classes of very unequal size."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_extras.losses.multilabel import is_masked, read_logits


def class_prior(counts, smoothing: float = 0.0) -> np.ndarray:
    """The share of each class, ``(n_i + smoothing) / Σ (n_j + smoothing)``.

    Args:
        counts: how often each class occurs in the training data.
        smoothing: added to each count (1 is Laplace's rule); 0 by default.

    Raises:
        ValueError: a negative count, or nothing to count.

    >>> class_prior([3, 1])
    array([0.75, 0.25])
    """
    counts = np.asarray(counts, "float64") + smoothing
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.sum():
        raise ValueError(
            "class_prior needs one count per class, none negative and not all 0; got "
            f"{counts.tolist()}."
        )
    return counts / counts.sum()


def log_prior(prior, tau: float) -> np.ndarray:
    """``τ log p`` of class shares or counts, in float32."""
    prior = class_prior(prior)
    if tau and not prior.all():
        missing = np.flatnonzero(prior == 0).tolist()
        raise ValueError(
            f"The prior of classes {missing} is 0, and its logarithm infinite. Count them with "
            "class_prior(counts, smoothing=1), or leave them out of the model."
        )
    return (tau * np.log(prior) if tau else np.zeros_like(prior)).astype("float32")


def adjust_logits(logits, prior, tau: float = 1.0):
    """``f - τ log p``: post-hoc adjustment of an ordinary model, for balanced accuracy.

    A model trained with plain cross entropy predicts ``argmax f`` for the highest overall accuracy
    and ``argmax (f - log p)`` for the highest mean of the classes' accuracies. (With a
    model trained with `LogitAdjustedCategoricalCrossentropy` it is the other way round: ``argmax
    f`` is balanced, and ``tau=-1`` here gives the overall prediction.)

    Args:
        logits: ``(…, classes)``, or logarithms of probabilities.
        prior: shares or counts of the classes in the training data, each above 0.
        tau: strength; 1 by default.

    Source: Menon et al., arXiv:2007.07314; kexue.fm/archives/7615.

    >>> adjusted = adjust_logits([[1.0, 0.0]], prior=[9, 1])
    >>> print([round(float(x), 4) for x in adjusted[0]])
    [1.1054, 2.3026]
    """
    logits = read_logits(logits)
    return logits - ops.cast(log_prior(prior, tau), logits.dtype)


@keras.saving.register_keras_serializable(package="keras_extras")
def logit_adjusted_categorical_crossentropy(
    y_true, y_pred, prior=None, tau: float = 1.0, label_smoothing: float = 0.0
):
    """Softmax cross entropy of the logits ``f + τ log p``.

    ``-log softmax(f + τ log p)_y = log(1 + Σ_{i≠y} (p_i / p_y)^τ exp(f_i - f_y))``

    So f learns ``log p(y|x) / p(y)``, the mutual information, and ``argmax f`` is the prediction
    of highest balanced accuracy. Computed in float32; masked logits are left out.

    Args:
        y_true: ``(…, classes)``, probabilities of the classes.
        y_pred: ``(…, classes)``, logits without activation.
        prior: shares or counts of the classes in the training data; None (default): equal ones,
            so that this is plain cross entropy.
        tau: strength of the prior; 1 by default, 0 is plain cross entropy.
        label_smoothing: share ε of the target that is spread evenly over the classes:
            ``(1 - ε) y + ε / classes``; 0 by default.

    Returns:
        Loss of shape ``(…)``.

    Source: Menon et al., arXiv:2007.07314; kexue.fm/archives/7615.

    >>> loss = logit_adjusted_categorical_crossentropy([[0.0, 1.0]], [[0.0, 0.0]], prior=[9, 1])
    >>> print(f"{float(loss[0]):.4f}")
    2.3026
    """
    log_probabilities, masked = adjusted_log_softmax(y_pred, prior, tau)
    y_true = ops.cast(y_true, log_probabilities.dtype)
    seen = ops.where(masked, ops.zeros_like(log_probabilities), log_probabilities)
    loss = -ops.sum(y_true * seen, axis=-1)
    return smoothed(loss, seen, masked, label_smoothing)


@keras.saving.register_keras_serializable(package="keras_extras")
def sparse_logit_adjusted_categorical_crossentropy(
    y_true, y_pred, prior=None, tau: float = 1.0, label_smoothing: float = 0.0
):
    """`logit_adjusted_categorical_crossentropy` for labels given as numbers of classes.

    Args:
        y_true: ``(…)`` or ``(…, 1)``, numbers of the right classes.
        y_pred, prior, tau, label_smoothing: as there.

    Returns:
        Loss of shape ``(…)``.

    >>> loss = sparse_logit_adjusted_categorical_crossentropy([1], [[0.0, 0.0]], prior=[9, 1])
    >>> print(f"{float(loss[0]):.4f}")
    2.3026
    """
    log_probabilities, masked = adjusted_log_softmax(y_pred, prior, tau)
    loss = -pick(log_probabilities, y_true)
    seen = ops.where(masked, ops.zeros_like(log_probabilities), log_probabilities)
    return smoothed(loss, seen, masked, label_smoothing)


def adjusted_log_softmax(y_pred, prior, tau):
    logits = read_logits(y_pred)
    masked = is_masked(logits)
    if prior is not None:
        logits = logits + ops.cast(log_prior(prior, tau), logits.dtype)
    return ops.log_softmax(logits, axis=-1), masked


def pick(values, y_true):
    """``values[…, y]``: of ``(…, classes)`` the entry of each row's class ``(…)``."""
    y_true = ops.cast(y_true, "int32")
    if len(y_true.shape) < len(values.shape):
        y_true = ops.expand_dims(y_true, -1)
    return ops.take_along_axis(values, y_true, axis=-1)[..., 0]


def smoothed(loss, seen, masked, label_smoothing: float):
    """``(1 - ε) loss - ε · mean log p`` over the classes that are not masked."""
    if not label_smoothing:
        return loss
    count = ops.sum(ops.cast(ops.logical_not(masked), seen.dtype), axis=-1)
    mean = ops.sum(seen, axis=-1) / ops.maximum(count, 1)
    return (1 - label_smoothing) * loss - label_smoothing * mean


class LogitAdjusted(keras.losses.Loss):
    """What the dense and the sparse loss share: their arguments."""

    def __init__(
        self,
        prior=None,
        tau: float = 1.0,
        label_smoothing: float = 0.0,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if prior is not None:
            log_prior(prior, tau)  # raises
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is the share of the target spread over the classes, from 0 to "
                f"below 1; got {label_smoothing}."
            )
        self.prior = None if prior is None else [float(share) for share in prior]
        self.tau, self.label_smoothing = tau, label_smoothing

    def get_config(self):
        return {
            **super().get_config(),
            "prior": self.prior,
            "tau": self.tau,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class LogitAdjustedCategoricalCrossentropy(LogitAdjusted):
    """`logit_adjusted_categorical_crossentropy` as a Keras loss.

    Args:
        prior, tau, label_smoothing: as there.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: a share or count of `prior` is not above 0.

    >>> loss = LogitAdjustedCategoricalCrossentropy(prior=[0.9, 0.1])
    >>> print(f"{float(loss([[0.0, 1.0]], [[0.0, 0.0]])):.4f}")
    2.3026
    """

    def call(self, y_true, y_pred):
        return logit_adjusted_categorical_crossentropy(
            y_true, y_pred, self.prior, self.tau, self.label_smoothing
        )


@keras.saving.register_keras_serializable(package="keras_extras")
class SparseLogitAdjustedCategoricalCrossentropy(LogitAdjusted):
    """`sparse_logit_adjusted_categorical_crossentropy` as a Keras loss.

    Args:
        prior, tau, label_smoothing: as there.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: a share or count of `prior` is not above 0.

    >>> loss = SparseLogitAdjustedCategoricalCrossentropy(prior=[0.9, 0.1])
    >>> print(f"{float(loss([1], [[0.0, 0.0]])):.4f}")
    2.3026
    """

    def call(self, y_true, y_pred):
        return sparse_logit_adjusted_categorical_crossentropy(
            y_true, y_pred, self.prior, self.tau, self.label_smoothing
        )
