"""Compiled models in a file: towers come back in another process and go on as if nothing was."""

import json
import sys

import keras
import numpy as np
import pytest

import keras_extras  # noqa: F401
from keras_extras import optimizers as ours
from tests.optimizers.table import EXTENSIONS, TOWERS, make

CONTINUE = """
import sys, json
import keras, numpy as np
import keras_extras
folder = sys.argv[1]
data = np.load(folder + "/data.npz")
found = {}
for name in json.loads(sys.argv[2]):
    model = keras.models.load_model(f"{folder}/{name}.keras")
    found[name] = [type(model.optimizer).__name__, model.optimizer.get_config()]
    model.fit(data["x"], data["y"], batch_size=4, shuffle=False, verbose=0)
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    np.save(f"{folder}/{name}.npy", weights)
print(json.dumps(found))
"""


def build(optimizer, run_eagerly=False):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(8, 4, name="embed"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="dense"),
        ]
    )
    model.compile(optimizer, "mse", run_eagerly=run_eagerly, jit_compile=False)
    return model


@pytest.fixture
def data(tmp_path):
    random = np.random.default_rng(5)
    x, y = random.integers(0, 8, (12, 3)), random.normal(size=(12, 4)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return x, y


def train(model, data, samples=12):
    model.fit(data[0][:samples], data[1][:samples], batch_size=4, shuffle=False, verbose=0)


def test_training_goes_on_in_a_fresh_process(data, tmp_path, run_python):
    """Saved after 3 micro-batches, so in the middle of an accumulation, then 3 more."""
    parts = {extension for tower in TOWERS.values() for extension in tower}
    cases = {**{name: name for name in EXTENSIONS if name not in parts}, **TOWERS}
    wanted = {}
    for name, extensions in cases.items():
        model = build(make("AdaFactor" if name in TOWERS else "Adam", extensions))
        train(model, data)
        model.save(tmp_path / f"{name}.keras")
        wanted[name] = json.loads(json.dumps(model.optimizer.get_config()))
        train(model, data)
        cases[name] = np.concatenate([w.ravel() for w in model.get_weights()])
    found = run_python(sys.executable, CONTINUE, tmp_path, json.dumps(list(cases)))
    found = json.loads(found.splitlines()[-1])
    for name, weights in cases.items():
        assert found[name][1] == wanted[name]
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), weights, err_msg=name)


def test_two_towers_of_one_name(data, tmp_path):
    first = ours.extend_with_weight_decay(keras.optimizers.Adam, name="AdamW")
    second = ours.extend_with_lookahead(ours.AdaFactor, name="AdamW")
    for Optimizer in (first, second):
        model = build(Optimizer(0.01))
        train(model, data)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
        assert type(loaded) is Optimizer
        for got, want in zip(loaded.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_names_do_not_shadow_those_of_keras():
    """`AdaFactor` is Keras' Adafactor to `keras.optimizers.get`; ours has its full name."""
    assert type(keras.optimizers.get("AdaFactor")) is keras.optimizers.Adafactor
    assert type(keras.optimizers.get("keras_extras>AdaFactor")) is ours.AdaFactor
    assert type(keras.optimizers.get("Adam")) is keras.optimizers.Adam
    assert type(keras.optimizers.get("keras_extras>Adam")) is ours.Adam
    AdamW = ours.extend_with_weight_decay(keras.optimizers.Adam, name="AdamW")
    assert type(keras.optimizers.get("AdamW")) is keras.optimizers.AdamW
    for optimizer in (AdamW(), ours.AdaFactor(), ours.Adam(), ours.Lion()):
        config = keras.optimizers.serialize(optimizer)
        assert type(keras.optimizers.get(config)) is type(optimizer)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ("Adam", "lookahead"),
            "has 8 variables .*velocity ×3.*, but this LookaheadAdam has 11 .*slow ×3",
        ),
        (("AdaX", ()), "has 8 variables .*, but this AdaX has 8 .*corrected_velocity ×3"),
        (("Lion", "ema"), "has 8 variables .*velocity ×3.*, but this .*Lion has 8 .*average ×3"),
    ],
)
def test_state_of_another_optimizer_is_an_error(data, other, message):
    """Also where it has the same number of variables of the same shapes."""
    store = {}
    model = build(ours.Adam(0.01))
    train(model, data)
    model.optimizer.save_own_variables(store)
    other = build(make(*other))
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match=message):
        other.optimizer.load_own_variables(store)


def test_state_of_other_layers_of_the_same_shapes(data):
    """Names of layers change from one model to the next in a process; the state fits anyway."""
    store = {}
    model = build(make("Adam", TOWERS["everything"]))
    train(model, data)
    model.optimizer.save_own_variables(store)
    other = build(make("Adam", TOWERS["everything"]))
    other.layers[-1].name = "another"
    other.optimizer.build(other.trainable_variables)
    for written in (store, {key: value for key, value in store.items() if key != "kinds"}):
        other.optimizer.load_own_variables(written)
        for got, want in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_saved_before_training(data, tmp_path):
    """Such a file holds no state but the rate; loading it is no error."""
    model = build(make("Adam", TOWERS["accumulated_scheduled_decay"]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    train(model, data)
    train(loaded, data)
    for got, want in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("base", "extensions"), [("Adam", ()), ("Adam", TOWERS["everything"])])
def test_weights_for_a_model_that_is_compiled_but_not_built(data, tmp_path, base, extensions):
    """As in Keras, the weights are loaded and the optimizer's state is left out, with a warning."""
    model = build(make(base, extensions))
    train(model, data)
    model.save_weights(tmp_path / "some.weights.h5")
    for builds in (False, True):
        other = build(make(base, extensions))
        if builds:
            other.optimizer.build(other.trainable_variables)
            other.load_weights(tmp_path / "some.weights.h5")
        else:
            with pytest.warns(UserWarning, match="not loaded.* call optimizer.build"):
                other.load_weights(tmp_path / "some.weights.h5")
        for got, want in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(got, want)
    for got, want in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), want.numpy())


class Unregistered(keras.optimizers.SGD):
    pass


def test_base_must_be_known():
    optimizer = ours.extend_with_lookahead(Unregistered)(0.1)
    with pytest.raises(ValueError, match="register_keras_serializable"):
        optimizer.get_config()
    config = make("SGD", "lookahead").get_config()
    config["tower"]["base"] = "elsewhere>Mine"
    with pytest.raises(ValueError, match="elsewhere>Mine"):
        type(optimizer).from_config(config)


def test_what_cannot_be_extended():
    with pytest.raises(TypeError, match="Extend the class first"):
        ours.extend_with_lookahead(keras.optimizers.Adam())
    with pytest.raises(TypeError, match="inner one"):
        ours.extend_with_lookahead(keras.optimizers.LossScaleOptimizer)
    with pytest.raises(ValueError, match="only once"):
        ours.extend_with_lookahead(ours.extend_with_lookahead(keras.optimizers.Adam))
    with pytest.raises(ValueError, match="grad_accum_steps"):
        ours.extend_with_lookahead(keras.optimizers.Adam)(gradient_accumulation_steps=2)
