"""TaiLr: between cross entropy and accuracy, for targets that are not to be trusted wholly."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

from keras_extras.losses.logit_adjustment import pick
from keras_extras.losses.multilabel import read_logits


@keras.saving.register_keras_serializable(package="keras_extras")
def tailr(y_true, y_pred, gamma: float = 0.1, floor: float | None = None):
    """Cross entropy that presses less where the right class is improbable.

    ``L = -log(γ + (1 - γ) p) / (1 - γ)``, with p the probability of the right class. Its derivative
    ``-1 / (γ + (1 - γ) p)`` lies between that of cross entropy (γ = 0) and that of the error
    ``1 - p`` (γ = 1; kexue.fm has ``-p`` there, which differs by a constant). It never exceeds
    ``-log γ / (1 - γ)``.

    The paper writes it with a weight that is not differentiated, and which `floor` keeps from
    vanishing: ``L = -max(b, p / (γ + (1 - γ) p)) · log p``. With b = 0 both have the same gradient.

    Computed in float32.

    Args:
        y_true: ``(…)`` or ``(…, 1)``, numbers of the right classes.
        y_pred: ``(…, classes)``, logits without activation.
        gamma: γ from 0 to 1; 0.1 by default. In the paper 1e-7 for language models, 0.1 for
            translation, 0.8 for summarisation: small from scratch, larger for fine-tuning.
        floor: b of the weighted form; None (default) is the closed form.

    Returns:
        Loss of shape ``(…)``.

    Source: Ji et al., ICLR 2023, arXiv:2302.13344; kexue.fm/archives/9526.

    >>> print(f"{float(tailr([0], [[0.0, 0.0]], gamma=0.5)[0]):.4f}")
    0.5754
    """
    log_p = pick(ops.log_softmax(read_logits(y_pred), axis=-1), y_true)
    if floor is not None:
        p = ops.exp(log_p)
        weight = ops.ones_like(p) if gamma == 0 else p / (gamma + (1 - gamma) * p)
        return -ops.stop_gradient(ops.maximum(weight, floor)) * log_p
    if gamma == 0:
        return -log_p
    error = -ops.expm1(log_p)
    if gamma == 1:
        return error
    if gamma > 0.5:  # log(1 - small)
        return -ops.log1p((gamma - 1) * error) / (1 - gamma)
    log_share = log_p + ops.log(ops.cast(1 - gamma, log_p.dtype))
    return -ops.logaddexp(ops.log(ops.cast(gamma, log_p.dtype)), log_share) / (1 - gamma)


@keras.saving.register_keras_serializable(package="keras_extras")
class TaiLr(keras.losses.Loss):
    """`tailr` as a Keras loss.

    Args:
        gamma, floor: as there. `GammaSchedule` changes `gamma` between epochs.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: gamma or floor is not from 0 to 1.

    >>> print(f"{float(TaiLr(gamma=0.5)([0], [[0.0, 0.0]])):.4f}")
    0.5754
    """

    def __init__(
        self,
        gamma: float = 0.1,
        floor: float | None = None,
        reduction="sum_over_batch_size",
        name="tailr",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        for argument, value in (("gamma", gamma), ("floor", floor or 0)):
            if not 0 <= value <= 1:
                raise ValueError(f"TaiLr's {argument} lies between 0 and 1; got {value}.")
        self.gamma, self.floor = gamma, floor

    def call(self, y_true, y_pred):
        return tailr(y_true, y_pred, self.gamma, self.floor)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "floor": self.floor}


class GammaSchedule(keras.callbacks.Callback):
    """Sets the γ of a `TaiLr` loss at the beginning of every epoch.

    The article suggests a γ that grows from 0 to 1 as the model learns to trust itself. γ is a
    constant of the compiled steps, which are compiled anew when γ changes; validation takes the
    epoch's γ as well.

    Args:
        loss: the loss that `compile` was given.
        schedule: γ as a function of the epoch (from 0).

    >>> loss = TaiLr(gamma=0.0)
    >>> anneal = GammaSchedule(loss, lambda epoch: min(1.0, epoch / 10))
    """

    def __init__(self, loss: TaiLr, schedule: Callable[[int], float]):
        super().__init__()
        self.loss, self.schedule = loss, schedule

    def on_epoch_begin(self, epoch, logs=None):
        gamma = TaiLr(float(self.schedule(epoch))).gamma  # raises
        if gamma != self.loss.gamma:
            self.loss.gamma = gamma
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)
