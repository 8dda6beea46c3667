"""Every architecture × application and option equals original bert4keras on tf_keras.

`goldens.npz` holds what the original computes (made by `legacy.py`); for BERT, RoFormer and T5 it
is computed anew here, and so are the checkpoints of all architectures.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.bert4keras import build_transformer_model

from . import cases

HERE = Path(__file__).parent
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def goldens():
    with np.load(HERE / "goldens.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def legacy(run_python, legacy_python, tmp_path_factory):
    """The folder with what original bert4keras computes now."""
    folder = tmp_path_factory.mktemp("legacy")
    run_python(legacy_python, HERE / "legacy.py", folder, TF_KERAS=1, TF_USE_LEGACY_KERAS=1)
    return folder


def built(case):
    return cases.build(case, build_transformer_model, keras.Input)


def outputs_of(name, case, transformer):
    inputs = cases.feed(name, case, transformer.inputs)
    outputs = transformer.model([tf.constant(x) for x in inputs] if len(inputs) > 1 else inputs[0])
    return outputs if isinstance(outputs, list) else [outputs]


def of(results, name, kind="output") -> dict:
    """The arrays of one case, by the rest of their keys."""
    start = f"{name}|{kind}|"
    return {key[len(start) :]: value for key, value in results.items() if key.startswith(start)}


def assert_equal(outputs, expected):
    assert len(outputs) == len(expected) > 0
    for i, output in enumerate(outputs):
        assert tuple(output.shape) == expected[str(i)].shape
        np.testing.assert_allclose(output, expected[str(i)], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", [n for n in cases.CASES if n not in cases.WITH_GRADIENTS])
def test_outputs(name, goldens):
    transformer = built(cases.CASES[name])
    cases.randomize(name, transformer)
    outputs = outputs_of(name, cases.CASES[name], transformer)
    assert_equal(outputs, of(goldens, name))


@pytest.mark.parametrize("name", cases.WITH_GRADIENTS)
def test_outputs_and_gradients(name, goldens):
    transformer = built(cases.CASES[name])
    cases.randomize(name, transformer)
    with tf.GradientTape(persistent=True) as tape:
        outputs = outputs_of(name, cases.CASES[name], transformer)
        total = sum(
            tf.reduce_sum(output * cases.cotangent(name, i, output.shape))
            for i, output in enumerate(outputs)
        )
    assert_equal(outputs, of(goldens, name))
    expected = of(goldens, name, "gradient")
    for layer_name, layer in cases.layers_of(transformer).items():
        for i, weight in enumerate(layer.trainable_weights):
            gradient = tf.convert_to_tensor(tape.gradient(total, weight.value))
            golden = expected.pop(f"{layer_name}|{i}")
            scale = max(1, np.abs(golden).max())
            np.testing.assert_allclose(
                gradient,
                golden,
                rtol=0,
                atol=TOLERANCE * scale,
                err_msg=f"{layer_name} {weight.name}",
            )
    assert not expected


@pytest.mark.parametrize("name", cases.REFUSED)
def test_refused_as_by_the_original(name, goldens):
    """A name that bert4keras does not know, its KeyError, is a sentence here."""
    with pytest.raises(Exception) as caught:
        built(cases.REFUSED[name])
    theirs = str(goldens[f"{name}|refused"])
    assert caught.type.__name__ == theirs.replace("KeyError", "ValueError")


def test_goldens_are_what_the_original_computes_now(legacy, goldens):
    with np.load(legacy / "goldens.npz") as file:
        live = dict(file)
    assert {name for key in live for name in [key.split("|")[0]]} >= set(cases.LIVE)
    for key, value in live.items():
        if value.dtype.kind == "U":
            assert value == goldens[key]
        else:
            scale = max(1, np.abs(value).max())
            np.testing.assert_allclose(goldens[key], value, rtol=0, atol=2e-6 * scale, err_msg=key)


@pytest.mark.parametrize("name", cases.FROM_CHECKPOINT)
def test_same_checkpoint(name, legacy):
    """Both load one TensorFlow checkpoint; a weight left out would be random here."""
    transformer = built(cases.FROM_CHECKPOINT[name])
    transformer.load_weights_from_checkpoint(str(legacy / f"{name}.ckpt"))
    outputs = outputs_of(name, cases.FROM_CHECKPOINT[name], transformer)
    with np.load(legacy / "loaded.npz") as file:
        assert_equal(outputs, of(dict(file), name))
