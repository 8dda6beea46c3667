"""On JAX and torch the models give what original bert4keras gives on tf_keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from . import cases

HERE = Path(__file__).parent


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backend(backend, request, run_python, tmp_path):
    python = request.getfixturevalue(f"{backend}_python")
    path = tmp_path / "results.npz"
    fast = {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": 1}  # to compile
    run_python(python, HERE / "ours.py", path, *cases.ON_BACKENDS, **fast)
    with np.load(path) as ours, np.load(HERE / "goldens.npz") as goldens:
        names = {key.split("|")[0] for key in ours}
        assert names == set(cases.ON_BACKENDS)
        for key in ours:
            np.testing.assert_allclose(
                ours[key], goldens[key], rtol=0, atol=1e-5, err_msg=f"{key} on {backend}"
            )
