"""Trains through each loss on one device and on two, and prints how far the weights differ.

The last batch is smaller; where rows stand alone, it is divided unevenly (5 = 3 + 2).
"""

import json

import keras
import numpy as np
import tensorflow as tf

import keras_extras
from tests.losses.cases import CASES, WEIGHTS

NAMES = ["cosent", "cosent-interactive", "simcse", "simcse-triplets", "f1-macro", "r_drop"]


def train(name, weighted):
    case = CASES[name]
    x = np.concatenate([case.y_pred, case.y_pred[::-1]]).astype("float32")
    y, w = np.concatenate([case.y_true] * 2).astype("float32"), np.concatenate([WEIGHTS] * 2)
    rows = {"cosent-interactive": 17, "f1-macro": 17, "simcse-triplets": 18}.get(name, 20)
    arrays = (x[:rows], y[:rows], w[:rows].astype("float32")) if weighted else (x[:rows], y[:rows])
    kernel = keras.initializers.Constant(np.eye(x.shape[1]) + 0.1)
    dense = keras.layers.Dense(x.shape[1], use_bias=False, kernel_initializer=kernel)
    model = keras_extras.training.Model(inputs := keras.Input(x.shape[1:]), dense(inputs))
    loss = type(case.loss).from_config(case.loss.get_config())
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    history = model.fit(tf.data.Dataset.from_tensor_slices(arrays).batch(12), verbose=0)
    moved = model.get_weights()[0] - kernel.value
    assert np.abs(moved).max() > 1e-3
    return np.append(moved, history.history["loss"])


def main():
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    errors = {}
    for name in NAMES:
        weighted = name in ("cosent", "f1-macro", "simcse-triplets")
        alone = train(name, weighted)
        with strategy.scope():
            errors[name] = float(np.abs(train(name, weighted) - alone).max())
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
