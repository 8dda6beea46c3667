"""Training on two replicas and on one device; prints the largest difference of the weights.

One of the weights has no gradient; of averaged weights it is the averages that are compared.
Extensions that stand in no tower have a case of their own.

A script of its own, as logical devices must be set before TensorFlow starts.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_extras.optimizers import child_tuning
from tests.optimizers.table import EXTENSIONS, TOWERS, make

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
RANDOM = np.random.default_rng(5)
X, Y = RANDOM.integers(0, 8, (48, 3)), RANDOM.normal(size=(48, 4)).astype("float32")
TOWER_PARTS = {extension for tower in TOWERS.values() for extension in tower}
CASES = {
    **{name: ("KerasAdam", name, {}) for name in EXTENSIONS if name not in TOWER_PARTS},
    **{name: ("AdaFactor", tower, {}) for name, tower in TOWERS.items()},
    "Tiger": ("Tiger", (), {"grad_accum_steps": 2}),
    "Nadam": ("Nadam", "gradient_accumulation", {}),
    "global_clipnorm": ("SGD", "gradient_accumulation", {"global_clipnorm": 0.1}),
    "decay": ("AdamW", "gradient_accumulation", {}),
    "masks of pieces": ("KerasAdam", "child_tuning", {}),
}


class Unused(keras.layers.Layer):
    """Has a weight that the loss does not depend on."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(3,), initializer="ones", name="unused")

    def call(self, inputs):
        return inputs


def weights(model):
    """The model's weights, or averages of them."""
    if hasattr(model.optimizer, "apply_ema_weights"):
        model.optimizer.apply_ema_weights()
    return model.get_weights()


def build(case):
    base, extensions, settings = CASES[case]
    keras.utils.set_random_seed(3)
    child_tuning.ROWS, child_tuning.WIDTH = (3, 4) if case == "masks of pieces" else (512, 64)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(8, 4, name="embed"),
            keras.layers.Flatten(),
            Unused(),
            keras.layers.Dense(4, name="dense"),
        ]
    )
    optimizer = make(base, extensions, **settings)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def fit(case, strategy):
    with strategy.scope():
        model = build(case)
    model.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), epochs=1, verbose=0)
    return weights(model)


def loop(case, strategy):
    """A loop of the user's own: `apply_gradients` in `strategy.run`."""
    with strategy.scope():
        model = build(case)
        model.optimizer.build(model.trainable_variables)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)

    def step(batch):
        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / (8 * 4)
        variables = model.trainable_variables
        grads = tape.gradient(loss, [v.value for v in variables])
        model.optimizer.apply_gradients(zip(grads, variables, strict=True))

    run = tf.function(lambda batch: strategy.run(step, args=(batch,)))
    for batch in strategy.experimental_distribute_dataset(data):
        run(batch)
    return weights(model)


def difference(train, case):
    one = train(case, tf.distribute.get_strategy())
    two = train(case, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


if __name__ == "__main__":
    found = {f"fit {case}": difference(fit, case) for case in CASES}
    found |= {f"loop {case}": difference(loop, case) for case in ("everything", "decay")}
    print(json.dumps(found))
