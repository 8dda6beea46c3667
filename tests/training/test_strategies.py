"""get_strategy: every name, and a clear error where it cannot be had."""

import os
import sys

import keras
import pytest

from keras_extras.training import get_strategy, is_chief, strategies, strategy_scope

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Nothing of the machine's own description of a cluster."""
    for variable in ("TF_CONFIG", *strategies.TPU_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(strategies, "TPU_FILES", ("/nowhere/*", "/nowhere/*"))


def test_one_device_is_no_strategy():
    assert get_strategy("one_device") is None
    assert is_chief(None)
    with strategy_scope(None):
        assert keras.layers.Dense(2)(keras.ops.ones((1, 3))).shape == (1, 2)


@pytest.mark.parametrize("name", ["two", "cpu", "cpu:0", "cpu:x", "cpu:N", "one_device:2", ""])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match="choose one of auto, one_device, mirrored, multi_worker"):
        get_strategy(name)


@pytest.mark.parametrize("name", ["one_device", "cpu:2", "multi_worker", "tpu"])
def test_a_number_of_devices_goes_with_mirrored_only(name):
    with pytest.raises(ValueError, match="devices=2 goes with 'mirrored' only"):
        get_strategy(name, devices=2)
    with pytest.raises(ValueError, match="devices=-1"):
        get_strategy("mirrored", devices=-1)


@on_tensorflow
def test_auto_says_what_it_picks_and_why(monkeypatch, capsys, tmp_path):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("with a GPU the answers are others")
    assert get_strategy("auto") is None
    assert "Strategy: one_device (TensorFlow sees no GPU and no TPU)" in capsys.readouterr().out
    assert get_strategy("auto", devices=1) is None
    assert "Strategy: one_device (1 device is asked for)" in capsys.readouterr().out
    assert strategies.choose(2) == ("mirrored", "2 devices are asked for")
    monkeypatch.setenv("COLAB_TPU_ADDR", "10.0.0.2:8470")  # of machines that are no more
    assert strategies.choose(0)[0] == "one_device"
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert strategies.choose(0) == ("multi_worker", "TF_CONFIG describes workers")
    for devices in (1, 2):
        with pytest.raises(ValueError, match=f"devices={devices} under TF_CONFIG: each worker"):
            get_strategy("auto", devices)
    monkeypatch.setenv("TPU_NAME", "local")
    assert strategies.choose(0) == ("tpu", "the environment variable TPU_NAME shows a TPU")
    monkeypatch.delenv("TPU_NAME")
    (tmp_path / "accel0").touch()
    monkeypatch.setattr(strategies, "TPU_FILES", (f"{tmp_path}/accel[0-9]*", "/nowhere/*"))
    assert strategies.choose(0) == ("tpu", f"{tmp_path}/accel0 shows a TPU")


@on_tensorflow
def test_what_is_not_there_is_said():
    import tensorflow as tf

    tf.constant(1)  # TensorFlow has started: the CPU cannot be split any more
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(RuntimeError, match="'mirrored' needs a GPU"):
            get_strategy("mirrored")
    with pytest.raises(RuntimeError, match="before TensorFlow runs its first operation"):
        get_strategy("cpu:7")
    with pytest.raises(RuntimeError, match="found no TPU"):
        get_strategy("tpu")


@on_tensorflow
@pytest.mark.parametrize(
    "config, complaint",
    [
        ("", "needs TF_CONFIG, which is not set"),
        ("{", "TF_CONFIG is broken"),
        ('{"cluster": {}, "task": {"type": "worker", "index": 0}}', "broken .*'worker'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "names 1 workers, but index 1",
        ),
    ],
)
def test_a_broken_tf_config_is_explained(monkeypatch, config, complaint):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=complaint):
        get_strategy("multi_worker")


TWO_CPUS = """
import keras, numpy as np
from keras_extras.training import LengthBatches, get_strategy, is_chief, strategy_scope
strategy = get_strategy("mirrored", devices=2)
assert strategy.num_replicas_in_sync == 2 and is_chief(strategy)
keras.utils.set_random_seed(0)
rows = [[i % 7 + 1] * (3 + i % 9) for i in range(96)]
with strategy_scope(strategy):
    x = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(8, 4, mask_zero=True)(x)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(h)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
before = [w.copy() for w in model.get_weights()]
batches = LengthBatches([rows], [i % 2 for i in range(96)], 32, shuffle=True)
model.fit(batches, epochs=1, verbose=0)
assert any((a != b).any() for a, b in zip(before, model.get_weights()))
test = LengthBatches([rows], batch_size=32)
outputs = test.restore(model.predict(test, verbose=0))
alone = model(np.array([rows[5]])).numpy()[0]
print(abs(outputs[5] - alone).max() < 1e-5)
"""


@pytest.mark.slow
@on_tensorflow
def test_two_logical_cpus_train_and_predict(run_python):
    assert run_python(sys.executable, TWO_CPUS).strip() == "True"


def test_jax_is_told_that_tf_distribute_is_not_for_it(jax_python, run_python):
    script = (
        "from keras_extras.training import get_strategy\n"
        "assert get_strategy('auto') is None and get_strategy('one_device') is None\n"
        "try: get_strategy('mirrored')\n"
        "except ValueError as error: print(error)\n"
    )
    answer = run_python(jax_python, script, **{**os.environ, "KERAS_BACKEND": "jax"})
    assert "needs the TensorFlow backend, but Keras runs on jax" in answer
