"""bert4keras' models on Keras 3: installing, building, options of the process, saving."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.bert4keras import build_transformer_model, data_parallel
from keras_extras.bert4keras.backend import K, set_gelu
from keras_extras.bert4keras.models import original

from ..parity import cases

HERE = Path(__file__).parent
SMALL = cases.SMALL
IDS = np.array([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]], "float32")


# --- install -------------------------------------------------------------------------------------


def test_bert4keras_imports_ours():
    import bert4keras.layers
    import bert4keras.models

    import keras_extras.bert4keras.layers as ours

    assert bert4keras.layers is ours is sys.modules["bert4keras.layers"]
    assert bert4keras.models.MultiHeadAttention is keras_extras_layer("MultiHeadAttention")
    assert bert4keras.models.build_transformer_model is build_transformer_model


def keras_extras_layer(name):
    import keras_extras

    return getattr(keras_extras.layers, name)


def test_install_twice_changes_nothing():
    from keras_extras.bert4keras import install

    before = {name: module for name, module in sys.modules.items() if "bert4keras" in name}
    install()
    assert before == {name: module for name, module in sys.modules.items() if "bert4keras" in name}


def test_install_without_bert4keras(monkeypatch):
    from keras_extras.bert4keras import install

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match=r"pip install --no-deps bert4keras==0\.11\.5"):
        install()


def test_install_over_another_version(monkeypatch):
    from keras_extras.bert4keras import install

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.0")
    with pytest.raises(ImportError, match=r"0\.10\.0 is installed.*pip install --no-deps"):
        install()


LATE = """
import sys, types
# what `import bert4keras.snippets` leaves behind where it works
for name in ("bert4keras.backend", "bert4keras.snippets"):
    sys.modules[name] = types.ModuleType(name)
try:
    import keras_extras.bert4keras
except ImportError as error:
    print(error)
"""

IN_A_WORKER = """
import multiprocessing

def layer(_):
    import keras_extras.bert4keras
    import bert4keras.layers
    return bert4keras.layers.MultiHeadAttention.__module__

if __name__ == "__main__":
    import keras_extras.bert4keras
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(layer, [0])[0])
"""


def test_install_too_late(run_python):
    message = run_python(sys.executable, LATE, KERAS_BACKEND="numpy")
    assert "bert4keras.backend, bert4keras.snippets was imported before" in message
    assert "import keras_extras.bert4keras (or call its install()) first" in message


def test_spawned_worker(run_python, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(IN_A_WORKER)
    printed = run_python(sys.executable, script, KERAS_BACKEND="numpy")
    assert printed.strip() == "keras_extras.layers.attention"


REGISTRY = """
import keras
before = set(keras.saving.get_custom_objects())
import keras_extras
middle = set(keras.saving.get_custom_objects())
import keras_extras.bert4keras
from bert4keras import snippets, tokenizers
after = set(keras.saving.get_custom_objects())
assert middle - before, "nothing is registered"
print(sorted(name for name in after - before if not name.startswith("keras_extras>")))
print(keras.activations.get("gelu") is keras.activations.gelu, hasattr(keras, "bert4keras"))
"""


def test_no_bare_name_in_the_registry(run_python):
    """Other people's "gelu" or "Embedding" mean what they meant."""
    printed = run_python(sys.executable, REGISTRY, KERAS_BACKEND="numpy").split("\n")
    assert printed[:2] == ["[]", "True False"]


def test_names_that_scripts_import():
    names = {}
    exec("from bert4keras.models import *\nfrom bert4keras.layers import custom_objects", names)
    assert names["custom_objects"]["GlobalPointer"] is keras_extras_layer("GlobalPointer")
    bert = build_transformer_model(**SMALL)

    class Mine(names["Model"]):
        pass

    assert isinstance(bert, names["Model"])
    assert isinstance(Mine(bert.inputs, bert.output), names["Model"])


# --- build ---------------------------------------------------------------------------------------


def test_output_is_a_tensor():
    bert = build_transformer_model(**SMALL)
    output = keras.layers.Dense(3)(keras.layers.Dropout(0.1)(bert.output))
    model = keras.Model(bert.input, output)
    assert model([IDS, 0 * IDS]).shape == (2, 5, 3)
    assert isinstance(build_transformer_model(model="gpt2", **SMALL).input, keras.KerasTensor)


def test_several_outputs_stay_a_list():
    bert = build_transformer_model(with_pool=True, with_mlm=True, **SMALL)
    assert [tuple(x.shape) for x in bert.output] == [(None, 16), (None, None, cases.VOCABULARY)]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"model": "robert"}, "no model 'robert'; did you mean roberta or bert"),
        ({"application": "seq2seq"}, "'encoder', 'lm' or 'unilm', not 'seq2seq'"),
        ({"hidden_size": 15}, "hidden_size=15 cannot be divided among num_attention_heads=2"),
    ],
)
def test_what_bert4keras_does_not_have_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build_transformer_model(**{**SMALL, **options})


def test_mask_reaches_the_output():
    """Padding in a row changes nothing for the other tokens of it."""
    bert = build_transformer_model(**SMALL)
    short = bert([IDS[1:, :3], 0 * IDS[1:, :3]])
    long = bert([IDS[1:], 0 * IDS[1:]])
    np.testing.assert_allclose(long[:, :3], short, atol=1e-5)


def test_set_gelu():
    x = np.linspace(-3, 3, 16, dtype="float32")[None, None]

    def activation():
        transformer = build_transformer_model(return_keras_model=False, **SMALL)
        return transformer.layers["Transformer-0-FeedForward"].activation[0](tf.constant(x))

    erf = x * 0.5 * (1 + tf.math.erf(x / 2**0.5))
    tanh = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(activation(), erf, atol=1e-6)
    try:
        set_gelu("tanh")
        np.testing.assert_allclose(activation(), tanh, atol=1e-6)
    finally:
        set_gelu("erf")
    np.testing.assert_allclose(activation(), erf, atol=1e-6)
    assert np.abs(tanh - erf).max() > 1e-4
    with pytest.raises(ValueError, match="'relu'"):
        set_gelu("relu")


def test_data_parallel_points_to_strategies():
    with pytest.raises(RuntimeError, match="get_strategy"):
        data_parallel(build_transformer_model(**SMALL))


def test_dropout_acts_in_training_only():
    bert = build_transformer_model(dropout_rate=0.5, attention_dropout_rate=0.5, **SMALL)
    inputs = [IDS, 0 * IDS]
    first = bert(inputs)
    np.testing.assert_array_equal(first, bert(inputs))
    assert np.abs(bert(inputs, training=True) - bert(inputs, training=True)).max() > 0.1


def test_kernels_differ():
    """Keras 3 gives the same numbers at every call of an unseeded initialiser."""
    for model in ("bert", "roformer_v2"):
        transformer = build_transformer_model(model=model, return_keras_model=False, **SMALL)
        layers = [transformer.layers[f"Transformer-{i}-MultiHeadSelfAttention"] for i in (0, 1)]
        kernels = [w.numpy() for layer in layers for w in layer.weights if len(w.shape) == 2]
        assert len(kernels) == 8
        for i, a in enumerate(kernels):
            assert all(np.abs(a - b).max() > 1e-3 for b in kernels[:i])


RECOMPUTED = """
import os, sys
import keras, numpy as np, tensorflow as tf
from keras import Input
from keras_extras.bert4keras import build_transformer_model
sys.path.insert(0, sys.argv[1])
import cases

results = {}
for name in sys.argv[3:]:
    case = cases.CASES[name]
    case["options"]["attention_dropout_rate"] = 0.3
    keras.utils.set_random_seed(0)
    transformer = cases.build(case, build_transformer_model, Input)
    cases.randomize(name, transformer)
    inputs = [tf.constant(x) for x in cases.feed(name, case, transformer.inputs)]

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            output = transformer.model(inputs if len(inputs) > 1 else inputs[0], training=True)
            loss = tf.reduce_sum(output * cases.cotangent(name, 0, output.shape))
        weights = [w.value for w in transformer.model.trainable_weights]
        return [tf.convert_to_tensor(x) for x in tape.gradient(loss, weights)]

    for i, gradient in enumerate(gradients()):
        results[f"{name}|{i}"] = gradient.numpy()
    operations = gradients.get_concrete_function().graph.get_operations()
    results[f"{name}|operations"] = np.array(len(operations))
np.savez(sys.argv[2], **results)
"""


@pytest.mark.parametrize(
    "names",
    [("bert-encoder",), pytest.param(("roformer-encoder", "t5.1.0"), marks=pytest.mark.slow)],
)
def test_recompute(names, run_python, tmp_path):
    """RECOMPUTE=1 gives the same gradients, dropout included, from more operations."""
    for flag in (0, 1):
        run_python(
            sys.executable,
            RECOMPUTED,
            HERE.parent / "parity",
            tmp_path / f"{flag}.npz",
            *names,
            RECOMPUTE=flag,
            KERAS_BACKEND="tensorflow",
        )
    with np.load(tmp_path / "0.npz") as plain, np.load(tmp_path / "1.npz") as recomputed:
        assert plain.files == recomputed.files
        for key in plain:
            if key.endswith("operations"):
                assert recomputed[key] > plain[key]
            else:
                np.testing.assert_allclose(recomputed[key], plain[key], rtol=1e-4, atol=1e-4)


# --- save ----------------------------------------------------------------------------------------


def test_an_initializer_that_is_a_method_of_the_users_class(tmp_path):
    """As GAU-alpha has it; only its values can be saved."""

    class Halves(original.RoFormerV2):
        def initializer(self, shape, dtype=None, order=3, gain=1.0):
            return keras.ops.full(shape, 0.5, dtype)

    model = build_transformer_model(model=Halves, **SMALL)
    kernels = [w for w in model.weights if w.name in ("kernel", "embeddings")]
    assert kernels and all((K.eval(w) == 0.5).all() for w in kernels)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([IDS, 0 * IDS]), model([IDS, 0 * IDS]))


SAVED = [
    name
    for name, case in cases.CASES.items()
    if name.endswith(("-encoder", "-lm", "-unilm", "-hidden", "-discriminator", "-ids"))
    or name in ("bert-nsp-mlm", "bert-caches", "bert-residual", "roformer_v2-mlm", "bert-prefix")
    or case["model"].startswith(("t5", "mt5"))
    and "-" not in name
]


ONE_EACH = list({cases.CASES[name]["model"]: name for name in SAVED}.values())


@pytest.mark.parametrize(
    "names", [ONE_EACH, pytest.param(SAVED, marks=pytest.mark.slow)], ids=["one each", "all"]
)
def test_saved_models_load_in_a_fresh_process(names, run_python, tmp_path):
    """Every architecture (× application), in safe mode, with only `import keras_extras`."""
    inputs, expected = {}, {}
    for name in names:
        transformer = cases.build(cases.CASES[name], build_transformer_model, keras.Input)
        cases.randomize(name, transformer)
        arrays = cases.feed(name, cases.CASES[name], transformer.inputs)
        outputs = transformer.model(arrays if len(arrays) > 1 else arrays[0])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        transformer.model.save(tmp_path / f"{name}.keras")
        inputs.update({f"{name}|{i}": x for i, x in enumerate(arrays)})
        expected.update({f"{name}|{i}": np.asarray(x) for i, x in enumerate(outputs)})
    np.savez(tmp_path / "inputs.npz", **inputs)
    run_python(sys.executable, HERE / "load_saved_models.py", tmp_path, KERAS_BACKEND="tensorflow")
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert set(outputs) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(outputs[key], value, rtol=0, atol=1e-6, err_msg=key)
