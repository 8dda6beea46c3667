"""The private place of Keras that losses reach into: where a tensor's mask is kept.

Tried with Keras 3.12 and 3.15; `tests/losses/test_common.py` fails when it moves.
"""

from keras.src.backend.common.masking import get_keras_mask


def mask_of(tensor):
    """The mask that Keras has attached to a tensor, or None.

    Keras cannot write on the tensors of JAX and keeps their masks elsewhere.
    """
    return get_keras_mask(tensor)
