"""get_strategy: every name, and a clear error where it cannot be had."""

import os
import sys

import keras
import pytest

from keras_extras.training import get_strategy, strategy_scope

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


def test_one_is_no_strategy():
    assert get_strategy("one") is None
    with strategy_scope(None):
        assert keras.layers.Dense(2)(keras.ops.ones((1, 3))).shape == (1, 2)


@pytest.mark.parametrize("name", ["two", "cpu", "cpu:0", "cpu:x", "one:2", ""])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match="choose one of auto, one, mirrored, multiworker, tpu"):
        get_strategy(name)


@on_tensorflow
def test_auto_without_several_gpus_is_one_device():
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) > 1:
        assert isinstance(get_strategy("auto"), tf.distribute.MirroredStrategy)
    else:
        assert get_strategy("auto") is None


@on_tensorflow
def test_what_is_not_there_is_said():
    import tensorflow as tf

    tf.constant(1)  # TensorFlow has started: the CPU cannot be split any more
    if not tf.config.list_logical_devices("GPU"):
        with pytest.raises(RuntimeError, match="'mirrored' needs a GPU"):
            get_strategy("mirrored")
    with pytest.raises(RuntimeError, match="before TensorFlow runs its first operation"):
        get_strategy("cpu:7")


TWO_CPUS = """
import keras, numpy as np
from keras_extras.training import LengthBatches, get_strategy, strategy_scope
strategy = get_strategy("cpu:2")
assert strategy.num_replicas_in_sync == 2
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


@on_tensorflow
def test_two_logical_cpus_train_and_predict(run_python):
    assert run_python(sys.executable, TWO_CPUS).strip() == "True"


def test_jax_is_told_that_tf_distribute_is_not_for_it(jax_python, run_python):
    script = (
        "from keras_extras.training import get_strategy\n"
        "assert get_strategy('auto') is None and get_strategy('one') is None\n"
        "try: get_strategy('mirrored')\n"
        "except ValueError as error: print(error)\n"
    )
    answer = run_python(jax_python, script, **{**os.environ, "KERAS_BACKEND": "jax"})
    assert "needs the TensorFlow backend, but Keras runs on jax" in answer
