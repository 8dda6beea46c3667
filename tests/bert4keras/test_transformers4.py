"""What only transformers 4 has: TensorFlow classes, TF checkpoints, NEZHA; and RoFormerV2.

Needs an interpreter of its own, named by KERAS_EXTRAS_TRANSFORMERS4_PYTHON, with
``transformers==4.48.3 roformer==0.4.3 torch tensorflow tf-keras``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model
from tests.bert4keras.test_huggingface import MODELS, compute, softmax

PEER = Path(__file__).with_name("transformers4_peer.py")
TF_MODELS = ("bert", "albert", "roformer", "electra", "gpt2", "t5.1.0")
OTHERS = {
    "nezha": ("NEZHA", {"with_mlm": "linear", "with_nsp": True}),
    "roformer_v2": ("RoFormerV2", {"with_mlm": "linear"}),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def transformers4() -> str:
    python = os.environ.get("KERAS_EXTRAS_TRANSFORMERS4_PYTHON")
    if not python:
        pytest.skip("KERAS_EXTRAS_TRANSFORMERS4_PYTHON names no interpreter with transformers 4")
    return python


@pytest.fixture(scope="module")
def models(transformers4, run_python, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("transformers4")
    run_python(transformers4, PEER, "make", folder)
    return folder


@pytest.mark.parametrize("name", [*TF_MODELS, *OTHERS])
def test_outputs_equal_those_of_transformers(name, models):
    """From a real tf_model.h5; NEZHA and RoFormerV2 from pytorch_model.bin."""
    if name in TF_MODELS:
        assert (models / name / "tf_model.h5").is_file()
        assert not (models / name / "model.safetensors").exists()
    kind, options = {**MODELS, **OTHERS}[name]
    transformer = build_transformer_model(models / name, return_keras_model=False, **options)
    assert type(transformer).__name__ == kind
    found, used = compute(name, transformer)
    theirs = np.load(models / name / "outputs.npz")
    tokens = theirs["tokens"]
    np.testing.assert_allclose(found["tokens"].reshape(tokens.shape)[used], tokens[used], atol=2e-5)
    if "pair" in found:
        np.testing.assert_allclose(found["pair"], softmax(theirs["pair"]), atol=1e-6)


def test_transformers_loads_our_tensorflow_checkpoint(models, transformers4, run_python, tmp_path):
    names = ("bert", "albert")
    for name in names:
        kind, options = MODELS[name]
        transformer = build_transformer_model(models / name, return_keras_model=False, **options)
        (tmp_path / name).mkdir()
        transformer.save_weights_as_checkpoint(str(tmp_path / name / "bert_model.ckpt"))
    run_python(transformers4, PEER, "check", tmp_path)
    for name in names:
        before, after = (np.load(f / name / "outputs.npz") for f in (models, tmp_path))
        for key in before.files:
            np.testing.assert_allclose(after[key], before[key], atol=2e-6, err_msg=name)
