"""Trained from scratch, our BERT's loss curve is that of original bert4keras on tf_keras."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("training.py")


@pytest.mark.parametrize("data", ["random", "tnews"])
def test_same_losses(data, request, run_python, legacy_python, tmp_path, monkeypatch):
    if data == "tnews":
        monkeypatch.setenv("CLUE_DATA", str(request.getfixturevalue("clue_data")))
    else:
        monkeypatch.delenv("CLUE_DATA", raising=False)
    run_python(legacy_python, SCRIPT, tmp_path / "legacy.npz", TF_KERAS=1, TF_USE_LEGACY_KERAS=1)
    run_python(sys.executable, SCRIPT, tmp_path / "ours.npz", KERAS_BACKEND="tensorflow")
    with np.load(tmp_path / "legacy.npz") as legacy, np.load(tmp_path / "ours.npz") as ours:
        for optimizer in ("sgd", "adamw"):
            assert ours[optimizer].shape == (50,)
            assert ours[optimizer][-10:].mean() < ours[optimizer][:10].mean()  # it learns
            np.testing.assert_allclose(
                ours[optimizer], legacy[optimizer], rtol=1e-4, err_msg=optimizer
            )
