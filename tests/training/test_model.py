"""keras_extras.Model on one device: every kind of model, files, NaN, steps of one's own."""

import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_extras
from keras_extras import Model
from keras_extras.training import LengthBatches, global_mean
from keras_extras.training.adversarial import FGM, AdversarialModel
from keras_extras.training.non_finite import NonFiniteLoss

X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(10, 2)).astype("float32")


def functional(Model=Model):
    inputs = keras.Input((3,))
    return Model(inputs, keras.layers.Dense(2)(inputs))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


class FunctionalStyle(Model):
    def __init__(self):
        inputs = keras.Input((3,))
        super().__init__(inputs=inputs, outputs=keras.layers.Dense(2)(inputs))


def trains(model):
    assert isinstance(model, Model) and isinstance(model, keras.Model)
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(X, Y, epochs=2, verbose=0, validation_split=0.2).history
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    assert history["loss"][1] < history["loss"][0]
    assert model.predict(X, verbose=0).shape == (10, 2)


def test_kinds_of_models_in_any_order():
    class Later(Subclassed):
        pass

    for make in (functional, FunctionalStyle, Subclassed, functional, Later, FunctionalStyle):
        trains(make())
    assert Model.__bases__[-1] is keras.Model  # no class of this package was rewritten
    trains(keras.models.clone_model(functional()))
    assert isinstance(keras.models.clone_model(functional()), Model)
    trains(style := FunctionalStyle())
    assert "on_nan" not in style.get_compile_config()  # Keras may clone it as a keras.Model


@keras.saving.register_keras_serializable(package="tests")
class Shared(Model):
    """What models of both kinds are derived from."""


@keras.saving.register_keras_serializable(package="tests")
class SharedSubclassed(Shared):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


@keras.saving.register_keras_serializable(package="tests")
class SharedStyle(Shared):
    def __init__(self):
        inputs = keras.Input((3,))
        super().__init__(inputs=inputs, outputs=keras.layers.Dense(2)(inputs))

    def get_config(self):
        return {}


def test_kinds_of_models_that_share_a_base_class(tmp_path):
    """Each kind is first once, and again after the others."""
    kinds = (lambda: functional(Shared), SharedStyle, SharedSubclassed)
    for make in (*kinds, *kinds[::-1]):
        model = make()
        trains(model)
        assert isinstance(model, Shared)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert type(loaded).__name__ == type(model).__name__ and isinstance(loaded, Shared)
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert isinstance(keras.models.clone_model(functional(Shared)), Shared)
    assert isinstance(keras.models.clone_model(SharedSubclassed()), SharedSubclassed)
    assert Shared.__bases__ == (Model,)  # no class of the user's was rewritten


def test_adversarial_models_of_both_kinds():
    """A functional one first, then a subclassed one."""
    functional(AdversarialModel)

    class Own(AdversarialModel):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(2, 3, name="Embedding-Token")
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(keras.ops.mean(self.embedding(inputs), axis=1))

    model, tokens = Own(), (X > 0).astype("int32")
    model(tokens)  # builds it
    model.compile("sgd", "mse", regularization=FGM())
    model.fit(tokens, Y, verbose=0)
    trains(functional(AdversarialModel))


def test_files(tmp_path, run_python):
    """A fresh process needs only `import keras_extras`, and goes on with the same settings."""
    model = functional()
    model.compile(keras.optimizers.Adam(0.1), "mse", on_nan="skip")
    model.fit(X, Y, verbose=0)
    outer = keras.Input((3,))
    nested = Model(outer, keras.layers.Dense(1)(model(outer)))
    model.save(tmp_path / "model.keras")
    nested.save(tmp_path / "nested.keras")
    np.save(tmp_path / "x.npy", X)
    script = """
import sys
import warnings
import keras, keras_extras, numpy as np
model, nested = (keras.models.load_model(f"{sys.argv[1]}/{n}.keras") for n in ("model", "nested"))
assert isinstance(model, keras_extras.Model) and isinstance(nested.layers[1], keras_extras.Model)
assert model.on_nan == "skip" and int(model.optimizer.iterations.numpy()) == 1
print(model.predict(np.load(sys.argv[1] + "/x.npy"), verbose=0).tolist())
"""
    printed = run_python(sys.executable, script, tmp_path)
    loaded = np.array(eval(printed.splitlines()[-1]))
    np.testing.assert_allclose(loaded, model.predict(X, verbose=0), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_trains_as_keras_does(steps):
    """On one device, with what a batch holds once: keras.Model's weights and history."""
    results = []
    for Class in (Model, keras.Model):
        keras.utils.set_random_seed(1)
        model = functional(Class)
        optimizer = keras.optimizers.Adam(0.1, gradient_accumulation_steps=2, global_clipnorm=0.1)
        model.compile(
            optimizer, "mse", metrics=["mae"], weighted_metrics=["mse"], steps_per_execution=steps
        )
        history = model.fit(
            X, Y, batch_size=4, epochs=2, verbose=0, sample_weight=np.arange(10.0), shuffle=False
        )
        results.append([*model.get_weights(), *history.history.values(), model.evaluate(X, Y)])
    for ours, keras_own in zip(*results, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-6, atol=1e-7)


def test_gradients_of_repeated_rows_are_added():
    """Adam's first step is the rate, whatever the gradient: also for a token that stands twice."""
    inputs = keras.Input((2,), dtype="int32")
    embedding = keras.layers.Embedding(3, 1, embeddings_initializer="zeros")
    model = Model(inputs, keras.ops.sum(embedding(inputs), axis=1))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(np.array([[1, 1]]), np.array([[1.0]]), verbose=0)
    np.testing.assert_allclose(embedding.get_weights()[0], [[0], [0.1], [0]], atol=1e-5)


def poisoned():
    x = X.copy()
    x[5] = np.nan  # the second of five batches of two would be 2, 3; the third holds it
    return x


def test_nan_stops_with_its_place():
    model = functional()
    model.compile(keras.optimizers.SGD(0.25), "mse")
    message = r"loss became nan in step 3 of epoch 1 \(batch 2 .*rate 0.25, precision float32"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(poisoned(), Y, batch_size=2, shuffle=False, verbose=0)
    model = functional()
    model.compile(keras.optimizers.SGD(0.25), "mse", steps_per_execution=2)
    with pytest.raises(FloatingPointError, match="in one of steps 3-4 of epoch 1"):
        model.fit(poisoned(), Y, batch_size=2, shuffle=False, verbose=0)


def test_nan_names_the_examples():
    """Those of the batch of that step, where the order of the batches is known."""
    targets = np.zeros(120)
    targets[45] = np.nan

    def message(**options):
        tokens = keras.Input((None,), dtype="int32")
        vectors = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(2, 2)(tokens))
        model = Model([tokens], keras.layers.Dense(1)(vectors))
        model.compile("sgd", "mse")
        with pytest.raises(FloatingPointError) as stopped:
            model.fit(LengthBatches([[[1]] * 120], targets, 40), verbose=0, **options)
        return str(stopped.value)

    shown = ", ".join(map(str, range(40, 72)))
    place = f"step 2 of epoch 1 (batch 1 of the epoch, counted from 0, with the examples {shown}"
    assert f"{place} and 8 more; learning rate" in message(shuffle=False)
    assert "with the examples" not in message()


def test_advice_is_not_what_is_done_already():
    model = functional()
    for on_nan in ("stop", "skip"):
        model.compile("sgd", "mse", on_nan=on_nan)
        watch = NonFiniteLoss()
        watch.set_model(model)
        watch.on_epoch_begin(0)
        with pytest.raises(FloatingPointError) as stopped:
            watch.on_train_batch_end(0, {"loss": np.inf})
        assert ("or on_nan='skip'" in str(stopped.value)) == (on_nan == "stop")


def test_a_list_of_callbacks():
    model = functional()
    model.compile("sgd", "mse", on_nan="skip")
    callbacks = keras.callbacks.CallbackList(add_history=True, model=model, epochs=1)
    model.fit(X, Y, callbacks=callbacks, verbose=0)
    with pytest.raises(FloatingPointError, match="Every step of epoch 1"):
        model.fit(np.full_like(X, np.nan), Y, callbacks=callbacks, verbose=0)


def test_nan_steps_are_skipped():
    """As if the batch had not been there; and an error where nothing else is left."""
    model, other = functional(), functional()
    other.set_weights(model.get_weights())
    for each in (model, other):
        each.compile(keras.optimizers.Adam(0.1), "mse", on_nan="skip")
    with pytest.warns(UserWarning, match="1 of 5 steps of epoch 1 .* were left out"):
        history = model.fit(poisoned(), Y, batch_size=2, shuffle=False, verbose=0).history
    kept = np.r_[0:4, 6:10]
    expected = other.fit(X[kept], Y[kept], batch_size=2, shuffle=False, verbose=0).history
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)
    with pytest.raises(FloatingPointError, match="Every step of epoch 1"):
        model.fit(np.full_like(X, np.nan), Y, verbose=0)


def normalized(inputs):
    h = keras.layers.BatchNormalization(momentum=0.5)(inputs)
    return {"a": keras.layers.Dense(2, name="a")(h), "b": keras.layers.Dense(2, name="b")(h)}


class Normalized(Model):
    """Not built before the first step."""

    def __init__(self):
        super().__init__()
        self.normalization = keras.layers.BatchNormalization(momentum=0.5)
        self.heads = {name: keras.layers.Dense(2, name=name) for name in "ab"}

    def call(self, inputs, training=False):
        h = self.normalization(inputs, training=training)
        return {name: head(h) for name, head in self.heads.items()}


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_skipped_steps_leave_no_trace(kind):
    """Neither in what batch normalization notes nor in the losses of several outputs."""
    results = []
    for x, rows in ((poisoned(), np.arange(10)), (X, np.r_[0:4, 6:10])):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((X.shape[1],))
        model = Normalized() if kind == "subclassed" else Model(inputs, normalized(inputs))
        model.compile("sgd", "mse", on_nan="skip")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = {"a": Y[rows], "b": -Y[rows]}
            history = model.fit(x[rows], y, batch_size=2, shuffle=False, verbose=0).history
        results.append([*model.get_weights(), *[history[name] for name in sorted(history)]])
        assert np.isfinite(model.evaluate(X, {"a": Y, "b": -Y}, verbose=0)).all()
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_steps_left_out_are_those_of_the_epoch():
    """Not those of a `fit` that an error ended."""
    model = functional()
    model.compile("sgd", "mse", on_nan="skip")

    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise RuntimeError("as a full disk does")

    with pytest.raises(RuntimeError, match="full disk"):
        model.fit(poisoned(), Y, batch_size=2, shuffle=False, verbose=0, callbacks=[Fails()])
    model.fit(X, Y, batch_size=2, verbose=0)  # a warning is an error here


def test_nothing_is_skipped_by_a_step_of_ones_own():
    model = OwnStep(inputs := keras.Input((X.shape[1],)), keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", on_nan="skip")
    with pytest.raises(ValueError, match="that of OwnStep does not call it"):
        model.fit(X, Y, verbose=0)


def test_nan_shrinks_where_the_optimizer_does():
    model = functional()
    model.compile(keras_extras.optimizers.Tiger(0.0), "mse", on_nan="shrink")
    before = model.get_weights()[0]
    with pytest.warns(UserWarning, match="1 of 5 steps .* were used to shrink the weights"):
        model.fit(poisoned(), Y, batch_size=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], 0.99 * before, rtol=1e-6)


def test_bad_settings():
    model = functional()
    with pytest.raises(ValueError, match="must be one of stop, skip, shrink, but got 'ignore'"):
        model.compile("sgd", "mse", on_nan="ignore")
    with pytest.raises(ValueError, match="such as keras_extras.optimizers.Tiger, but got SGD"):
        model.compile("sgd", "mse", on_nan="shrink")


class OwnStep(Model):
    """A step and a loss of the user's own, as in Keras' guides."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return global_mean(keras.ops.mean(keras.ops.square(y - y_pred), axis=-1), sample_weight)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "norm": tf.linalg.global_norm(gradients)}


def test_own_step():
    model, plain = functional(OwnStep), functional()
    plain.set_weights(model.get_weights())
    for each in (model, plain):
        each.compile("sgd", "mse", steps_per_execution=2)
        each.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    for one, two in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    assert set(model.history.history) == {"loss", "norm"}


def test_several_devices_of_jax(jax_python, run_python):
    """`keras.distribution` divides batches that can be divided, and says which cannot."""
    script = """
import keras, keras_extras, numpy as np
from keras_extras.training import LengthBatches
x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")

def train(rows, batch_size):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    h = keras.layers.Dense(4, activation="tanh")(inputs)
    model = keras_extras.Model(inputs, keras.layers.Dense(1)(h))
    model.compile(keras.optimizers.Adam(0.1, global_clipnorm=0.1), "mse", metrics=["mae"])
    y = x[:, :1] ** 2
    options = dict(batch_size=batch_size, shuffle=False, epochs=3, verbose=0)
    history = model.fit(x[:rows], y[:rows], **options).history
    return model, [*model.get_weights(), *history.values(), model.predict(x, verbose=0)]

def train_on_lengths():
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32")
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8, 2)(tokens))
    model = keras_extras.Model([tokens], keras.layers.Dense(1)(h))
    model.compile("sgd", "mse")
    rows = [[i + 1] * (i + 1) for i in range(7)]
    batches = LengthBatches([rows], np.arange(7.0), 4, full_batches=True, shuffle=True)
    model.fit(batches, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()

one_device = [*train(16, 4)[1], *train_on_lengths()]
keras.distribution.set_distribution(keras.distribution.DataParallel())
model, found = train(16, 4)
assert len(model.weights[0].value.devices()) == 2
for one, two in zip(one_device, [*found, *train_on_lengths()], strict=True):
    np.testing.assert_allclose(one, two, atol=1e-6)
try:
    train(15, 4)
except Exception as error:
    print(type(error).__name__)
"""
    flags = "--xla_force_host_platform_device_count=2"
    said = run_python(jax_python, script, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    assert said.splitlines()[-1] == "IndivisibleError"


def test_other_backends(jax_python, run_python):
    script = """
import sys
import warnings
import keras_extras
assert "tensorflow" not in sys.modules
import keras, numpy as np
inputs = keras.Input((3,))
model = keras_extras.Model(inputs, keras.layers.Dense(2)(inputs))
model.compile("sgd", "mse")
model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
assert float(keras_extras.training.global_mean(np.array([1.0, 3.0], "float32"))) == 2.0
try:
    model.fit(np.full((4, 3), np.nan), np.ones((4, 2)), verbose=0)
except FloatingPointError as error:
    print(error)
try:
    model.compile("sgd", "mse", on_nan="skip")
except ValueError as error:
    print(error)
"""
    printed = run_python(jax_python, script, KERAS_BACKEND="jax")
    assert "The loss became nan in step 1 of epoch 1" in printed
    assert "on_nan='skip' needs the TensorFlow backend, but Keras runs on jax" in printed
