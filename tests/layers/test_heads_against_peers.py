"""CRF, MEMM, pointers and their losses against original bert4keras, JAX and torch, and on disk."""

import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_extras.layers

HERE = Path(__file__).parent
CASE = runpy.run_path(str(HERE / "heads_case.py"))

LOAD = """
import sys
import numpy as np
import keras
import keras_extras

case = dict(np.load(sys.argv[1]))
results = {}
for path in sys.argv[3:]:
    model = keras.models.load_model(path, compile=False)
    results[path] = model.predict(case["tokens"], verbose=0)
    if hasattr(model.layers[-1], "decode"):
        results[path + "/path"] = keras.ops.convert_to_numpy(model.layers[-1].decode(results[path]))
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module")
def case():
    return CASE["make_inputs"]()


@pytest.fixture(scope="module")
def case_file(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "case.npz"
    np.savez(path, **case)
    return path


@pytest.fixture(scope="module")
def ours(case):
    return CASE["compute"](case)


def assert_same(ours, theirs):
    """Equal within float32; where the original has -inf we have the masking value."""
    for key, expected in theirs.items():
        masked = np.isneginf(expected)
        assert ours[key].shape == expected.shape, key
        assert (ours[key][masked] == np.float32(-1e12)).all(), key
        scale = 1 + np.abs(expected[~masked]).max()
        error = np.abs(ours[key][~masked] - expected[~masked]).max() / scale
        assert error < 2e-6, f"{key} differs by {error} of its largest value"


def test_original_bert4keras(ours, case_file, tmp_path, legacy_python, run_python):
    """Outputs, losses, accuracies, Viterbi paths and all gradients."""
    out = tmp_path / "legacy.npz"
    script = HERE / "heads_legacy.py"
    run_python(legacy_python, script, case_file, out, TF_KERAS=1, TF_USE_LEGACY_KERAS=1)
    theirs = dict(np.load(out))
    # the original has no decoder for MEMM
    assert set(ours) - set(theirs) == {"memm/path", "memm_low/path"}
    assert_same(ours, theirs)


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_other_backends(ours, case_file, tmp_path, backend, request, run_python):
    python = request.getfixturevalue(f"{backend}_python")
    out = tmp_path / f"{backend}.npz"
    run_python(python, HERE / "heads_case.py", case_file, out, KERAS_BACKEND=backend)
    theirs = dict(np.load(out))
    assert set(ours) == set(theirs)
    assert_same(ours, theirs)


def test_saved_models_load_in_a_fresh_process(case, case_file, tmp_path, run_python):
    expected, paths = {}, []
    for name, (kind, arguments, _) in CASE["LAYERS"].items():
        tokens = keras.Input((None,), dtype="int32")
        dim = CASE["LABELS"] if CASE["is_tagger"](name) else CASE["DIM"]
        x = keras.layers.Embedding(len(case[f"{name}/0"]), dim, mask_zero=True)(tokens)
        layer = getattr(keras_extras.layers, kind)(**arguments)
        model = keras.Model(tokens, layer(x))
        path = str(tmp_path / f"{name}.keras")
        model.save(path)
        paths.append(path)
        expected[path] = model.predict(case["tokens"], verbose=0)
        if CASE["is_tagger"](name):
            expected[path + "/path"] = ops.convert_to_numpy(layer.decode(expected[path]))
    out = tmp_path / "loaded.npz"
    run_python(sys.executable, LOAD, case_file, out, *paths)
    loaded = dict(np.load(out))
    assert set(loaded) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(loaded[key], value)
