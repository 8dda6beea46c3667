"""A tiny classifier of sequences whose regularized losses are known in closed form.

Run as a script, it trains on one device and on two and prints how far the weights differ, and what
VAT does on two.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_extras import training

RNG = np.random.default_rng(0)
TOKENS, LABELS = RNG.integers(0, 7, (6, 3)), np.array([0, 1, 1, 0, 0, 1])
EMBEDDINGS, KERNEL = RNG.normal(size=(7, 4)), RNG.normal(size=(4, 2))


def make_model(regularization, optimizer=None, **kwargs):
    inputs = keras.Input((3,), dtype="int32")
    constant = keras.initializers.Constant
    x = keras.layers.Embedding(7, 4, constant(EMBEDDINGS), name="Embedding-Token")(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    dense = keras.layers.Dense(2, use_bias=False, kernel_initializer=constant(KERNEL))
    model = training.AdversarialModel(
        inputs, keras.layers.Activation("linear", dtype="float32")(dense(x))
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer or keras.optimizers.SGD(1.0), loss, regularization=regularization, **kwargs
    )
    return model


def train(regularization, batch_size=6, optimizer=None, epochs=1, **kwargs):
    """Loss of the last epoch, and how the two weights have moved."""
    model = make_model(regularization, optimizer, **kwargs)
    history = model.fit(
        TOKENS, LABELS, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0
    )
    moved = [w - b for w, b in zip(model.get_weights(), (EMBEDDINGS, KERNEL), strict=True)]
    return history.history["loss"][-1], moved


def main():
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}
    for make in (training.FGM, training.GradientPenalty):
        results = []
        for scope in (tf.distribute.get_strategy().scope(), strategy.scope()):
            with scope:
                accumulating = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
                loss, moved = train(make(), 3, accumulating, jit_compile=False)  # 3 = 2 + 1
                results.append(np.concatenate([[loss], *map(np.ravel, moved)]))
        assert np.abs(results[0][1:]).max() > 1e-2
        found[make.__name__] = float(np.abs(results[0] - results[1]).max())
    with strategy.scope():  # each replica draws its own direction, known up to its sign
        accumulating = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
        vat = training.VAT(weight=2.0, iterations=2, seed=1)
        loss, moved = train(vat, 3, accumulating, jit_compile=False)
        found["VAT"] = loss, [move.tolist() for move in moved]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
