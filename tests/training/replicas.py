"""What else of keras_extras.Model must not depend on the number of replicas.

Prints, as JSON, the largest difference between one device and two replicas for each of the cases
below. A script of its own, as logical devices must be set before TensorFlow starts.
"""

import json
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_extras import Model
from keras_extras.training import get_strategy, global_mean
from keras_extras.training.replicas import drawing_apart


def aligned(values, dtype):
    """An array whose address is a multiple of 64, as TensorFlow takes without copying."""
    values = np.asarray(values, dtype)
    memory = np.zeros(values.nbytes + 64, "uint8")
    start = -memory.ctypes.data % 64
    array = memory[start : start + values.nbytes].view(dtype).reshape(values.shape)
    array[:] = values
    return array


TWO = get_strategy("mirrored", 2)
RANDOM = np.random.default_rng(5)
X = aligned(RANDOM.normal(size=(19, 3)), "float32")
Y = aligned(RANDOM.normal(size=(19, 2)), "float32")
IDS = aligned(RANDOM.integers(0, 5, (4, 6)), "int32")
LABELS = RANDOM.integers(0, 2, 19)


class OwnStep(Model):
    """A step, a loss and logs of the user's own, as in Keras' guides."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return global_mean(keras.ops.mean(keras.ops.square(y - y_pred), axis=-1), sample_weight)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"part": loss, "two": tf.constant(2.0)}


def build(Class=Model, policy="float32"):
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((3,))
    h = keras.layers.Dense(4, "tanh")(inputs)
    return Class(inputs, keras.layers.Dense(2, dtype="float32")(h))


def own_step(steps):
    model = build(OwnStep)
    adam = keras.optimizers.Adam(0.05, gradient_accumulation_steps=2, global_clipnorm=0.1)
    model.compile(adam, steps_per_execution=steps)
    history = model.fit(X, Y, batch_size=4, shuffle=False, epochs=2, verbose=0).history
    return [*model.get_weights(), history["two"]]


def skipped():
    """The NaN is on one replica only; both leave the step out."""
    model = build()
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"], on_nan="skip")
    x = X.copy()
    x[7] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit(x, Y, batch_size=4, shuffle=False, verbose=0).history
    assert int(model.optimizer.iterations.numpy()) == 4
    assert np.isfinite(history["mae"][0])
    return [*model.get_weights(), history["loss"], history["mae"]]


def shuffled():
    """Class weights, validation, a callback, and the order of the examples."""
    model = build()
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["acc"])
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(
        X, LABELS, batch_size=4, epochs=2, class_weight={0: 1.0, 1: 3.0}, callbacks=[halve],
        validation_data=(X[:5], LABELS[:5]), verbose=0,
    ).history  # fmt: skip
    return [*model.get_weights(), *[history[name] for name in sorted(history)]]


class OwnLoss(keras.losses.Loss):
    """Not registered, and with something that its config does not hold."""

    power = 2

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** self.power, axis=-1)


def one_number(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred))


def own_functions():
    """Of one value a row, and of one for all rows, also where a replica has none."""
    cubes = OwnLoss()
    cubes.power = 3
    results = []
    for loss in (cubes, one_number):
        model = build()
        model.compile(keras.optimizers.SGD(0.05), loss, metrics=[one_number])
        history = model.fit(X[:9], Y[:9], batch_size=4, shuffle=False, verbose=0).history
        scores = model.evaluate(X[:9], Y[:9], batch_size=4, verbose=0)
        results += [*model.get_weights(), history["loss"], history["one_number"], scores]
    exact = np.square(model.predict(X[:9], verbose=0) - Y[:9]).mean()
    assert np.allclose(scores, exact, rtol=1e-5), (scores, exact)
    return results


def on_batch():
    model = build()
    model.compile(keras.optimizers.SGD(0.5), "mse", metrics=["mae"])
    logs = [model.train_on_batch(X[:5], Y[:5], return_dict=True) for _ in range(2)]
    # fewer rows than replicas come first, or the step is one for any number of rows already
    logs += [model.test_on_batch(X[:n], Y[:n], return_dict=True) for n in (1, 5)]
    numbers = [float(log[name]) for log in logs for name in ("loss", "mae")]
    return [*model.get_weights(), model.predict_on_batch(X[:5]), numbers]


def predictions():
    """Of any number of rows, in several steps at once, also none for a replica."""
    model = build()
    model.compile("sgd", "mse", steps_per_execution=2)
    return [model.predict(X[:n], batch_size=4, verbose=0) for n in (1, 5, 19)]


def lengths():
    """Rows of any length, and a layer that cannot take an empty batch."""
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy("float32")
    inputs = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(5, 4)(inputs)
    h = keras.layers.Reshape((-1, 2, 2))(h)
    h = keras.ops.mean(h, axis=(1, 2))
    model = Model(inputs, keras.layers.Dense(2)(h))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    batches = [(IDS[:rows, :length], Y[:rows]) for rows, length in ((4, 3), (4, 6), (1, 2))]
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=(tf.TensorSpec((None, None), "int32"), tf.TensorSpec((None, 2))),
    )
    history = model.fit(data, epochs=2, verbose=0).history
    return [*model.get_weights(), history["loss"], model.predict(data, verbose=0)]


def own_arrays():
    """Parts of arrays of the user's own; the first layer would write over its input."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return X[:16], Y[:16]

    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    model = Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(inputs)))
    model.compile("sgd", "mse")
    before = X.copy(), Y.copy()
    model.fit(Batches(), epochs=4, verbose=0)
    model.predict(Batches(), verbose=0)
    after = X.copy(), Y.copy()
    X[:], Y[:] = before
    return [*model.get_weights(), *after]


def scale_after_overflow():
    """An overflow on one replica halves the loss scale for all; training goes on."""
    model = build(policy="mixed_float16")
    y = Y.copy()
    y[6] = 3e4
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, "mse")
    model.fit(X, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    keras.config.set_dtype_policy("float32")
    scale = float(model.optimizer.dynamic_scale.numpy())
    assert scale < 2**15
    return [[np.log2(scale)], [float(model.optimizer.iterations.numpy())], *model.get_weights()]


def statistics():
    """Batch normalization notes the mean of all rows, the same on all replicas and in files."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    normalization = keras.layers.BatchNormalization(momentum=0.5)
    model = Model(inputs, keras.layers.Dense(2)(normalization(inputs)))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(X[:9], Y[:9], batch_size=4, shuffle=False, verbose=0)  # a replica has no ninth row
    scores = [model.evaluate(X[:8], Y[:8], batch_size=size, verbose=0) for size in (8, 4)]
    with tf.distribute.get_strategy().scope():
        copies = tf.distribute.get_strategy().experimental_local_results(
            normalization.moving_variance.value
        )
        apart = [copy.numpy() - copies[0].numpy() for copy in copies]
    return [normalization.moving_mean.numpy(), scores[0] - scores[1], np.abs(apart).max()]


def synchronized():
    """Batch normalization with the statistics of all replicas, in a ragged batch of 4 and 3."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    normalization = keras.layers.BatchNormalization(momentum=0.5, synchronized=True)
    model = Model(inputs, keras.layers.Dense(2)(normalization(inputs)))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    history = model.fit(X[:15], Y[:15], batch_size=8, shuffle=False, verbose=0).history
    return [*model.get_weights(), history["loss"]]


def draws():
    """Replicas drop other units than each other; the first those that one device drops."""
    layer = keras.layers.Dropout(0.5, seed=3)
    strategy = tf.distribute.get_strategy()
    with drawing_apart():
        outputs = strategy.run(lambda: [layer(tf.ones((2, 16)), training=True) for _ in range(2)])
    first, second = map(strategy.experimental_local_results, outputs)
    for one, other in zip(second, first[1:], strict=False):
        assert (one.numpy() != other.numpy()).any()
    copies = strategy.experimental_local_results(layer.seed_generator.state.value)
    assert all((copy.numpy() == copies[0].numpy()).all() for copy in copies)
    if len(first) > 1:
        assert (first[0].numpy() != first[1].numpy()).mean() > 0.2
    return [first[0].numpy(), second[0].numpy()]


CASES = {
    "own step": lambda: own_step(1),
    "own step, several per execution": lambda: own_step(2),
    "skipped": skipped,
    "shuffled": shuffled,
    "own functions": own_functions,
    "on batch": on_batch,
    "predictions": predictions,
    "lengths": lengths,
    "own arrays": own_arrays,
    "statistics": statistics,
    "synchronized": synchronized,
    "draws": draws,
    "loss scale": scale_after_overflow,
}


def difference(case) -> float:
    one = case()
    with TWO.scope():
        two = case()
    assert [np.shape(a) for a in one] == [np.shape(b) for b in two]
    pairs = zip(one, two, strict=True)
    return max(float(np.abs(np.subtract(a, b, dtype="float64")).max()) for a, b in pairs)


if __name__ == "__main__":
    found = {name: difference(CASES[name]) for name in sys.argv[1:] or CASES}
    with TWO.scope():
        model = build()
        try:
            model.compile("sgd", "mse", jit_compile=True)
        except ValueError as error:
            found["jit_compile"] = str(error)
    print(json.dumps(found))
