"""The private names of Keras that extensions rest on are still there, and still called."""

import keras
import tensorflow as tf

from keras_extras import optimizers as ours
from keras_extras.optimizers.keras_seams import PRIVATE_NAMES


def test_private_names():
    optimizer = keras.optimizers.Adam()
    assert [name for name in PRIVATE_NAMES if not hasattr(optimizer, name)] == []


def test_seams_are_called(monkeypatch):
    """A step of Keras passes through each method that extensions replace."""
    SGD = ours.extend_with_gradient_accumulation(keras.optimizers.SGD)
    names = [
        "_clip_gradients",
        "_apply_weight_decay",
        "_backend_update_step",
        "_distributed_tf_update_step",
        "_get_current_learning_rate",
        "update_step",
    ]
    called = []
    for name in names:
        method = getattr(SGD, name)

        def record(self, *args, name=name, method=method, **kwargs):
            called.append(name)
            return method(self, *args, **kwargs)

        monkeypatch.setattr(SGD, name, record)
    weight = keras.Variable(1.0)
    SGD(1.0, grad_accum_steps=1).apply([tf.constant(1.0)], [weight])
    assert sorted(set(called)) == sorted(names)
