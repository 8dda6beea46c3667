"""LoRA for models that exist: their matrices stay, thin factors are trained, saved and merged.

>>> import keras
>>> import numpy as np
>>> from keras_extras.low_rank import add_low_rank, load_low_rank, merge_low_rank, save_low_rank
>>> x = keras.Input((6,))
>>> hidden = keras.layers.Dense(4, name="hidden")(x)
>>> model = keras.Model(x, keras.layers.Dense(2, name="head")(hidden))
>>> add_low_rank(model, ["hidden"], rank=2, train=["head"])
['hidden']
>>> sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)  # 6·2 + 2·4 + 4·2 + 2
30

After training, `save_low_rank(model, "task.npz")` writes these 30 numbers; `load_low_rank` puts
them into the model, with or without factors. `merge_low_rank(model)` adds the products to the
matrices, `unmerge_low_rank(model)` takes them out again, and `remove_low_rank(model)` leaves plain
layers with what was learned.

``model.save`` writes the model as if it had been merged and made plain, and loads it so;
``model.save_weights`` writes the factors beside, so that the file fits the model with factors
(exactly as it was) and the plain one. Functions that another model compiled before
`add_low_rank` do not know of the factors: compile that model again.

As an optimizer, for any layer and without a change to the model: `extend_with_low_rank`.
"""

from keras_extras.low_rank.adapting import (
    add_low_rank,
    merge_low_rank,
    remove_low_rank,
    unmerge_low_rank,
)
from keras_extras.low_rank.files import load_low_rank, save_low_rank

__all__ = [
    "add_low_rank",
    "load_low_rank",
    "merge_low_rank",
    "remove_low_rank",
    "save_low_rank",
    "unmerge_low_rank",
]
