"""Which optimizer a run uses, and why."""

import keras

from clue_baselines.settings import Settings
from keras_extras.optimizers import AdaFactor, extend_with_weight_decay

ADAFACTOR_RATE, ADAMW_RATE = 5e-4, 2e-4
NOT_DECAYED = ("bias", "beta", "gamma")

# Not `keras.optimizers.AdamW`: on TensorFlow, Keras 3.15 squares an embedding's gradient before it
# adds up the rows of a token that occurs several times, and so takes too large a step there.
AdamW = extend_with_weight_decay(keras.optimizers.Adam, name="AdamW")


def make_optimizer(settings: Settings, pretrained: bool) -> tuple[keras.optimizers.Optimizer, str]:
    """The optimizer and a line that says which one it is.

    `auto` is the author's recipe for pretrained weights: AdaFactor with first moment .9 and
    without factorisation, rate 5e-4. Its step is relative to the weights' size and barely moves a
    fresh model, so training from scratch takes AdamW with 2e-4.
    """
    name = settings.optimizer
    why = "as asked"
    if name == "auto":
        name = "adafactor" if pretrained else "adamw"
        why = "the author's recipe" if pretrained else "for a model from scratch"
    if name == "adafactor":
        rate = settings.learning_rate or ADAFACTOR_RATE
        optimizer = AdaFactor(learning_rate=rate, beta1=0.9, min_dim_size_to_factor=10**6)
        return optimizer, f"AdaFactor {rate:g}, beta1 0.9, not factored ({why})"
    rate = settings.learning_rate or ADAMW_RATE
    optimizer = AdamW(
        learning_rate=rate, weight_decay_rate=0.01, exclude_from_weight_decay=list(NOT_DECAYED)
    )
    return optimizer, f"AdamW {rate:g}, weight decay 0.01 ({why})"
