"""Su Jianlin's toolbox (kexue.fm, bert4keras) for Keras 3.

Importing this package registers everything that saved models may need; it imports neither
TensorFlow (beyond the Keras backend) nor bert4keras, whose bridge is `keras_extras.bert4keras`.
"""

from keras_extras import (
    activations,
    categorical,
    initializers,
    layers,
    losses,
    low_rank,
    ops,
    optimizers,
    postprocess,
    similarity,
    smooth,
    tokenization,
    training,
)
from keras_extras.training.model import Model

__version__ = "0.1.0"

__all__ = [
    "Model",
    "activations",
    "categorical",
    "initializers",
    "layers",
    "losses",
    "low_rank",
    "ops",
    "optimizers",
    "postprocess",
    "similarity",
    "smooth",
    "tokenization",
    "training",
]
