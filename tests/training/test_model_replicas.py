"""keras_extras.Model under MirroredStrategy: what does not concern the final weights alone."""

import json
import sys

import pytest

from tests.conftest import ROOT


def test_two_replicas_equal_one_device(run_python):
    script = ROOT / "tests" / "training" / "replicas.py"
    found = json.loads(run_python(sys.executable, script, timeout=600).splitlines()[-1])
    assert "this model has 2 replicas" in found.pop("jit_compile")
    half = found.pop("loss scale")
    assert len(found) == 7
    found.pop("lengths")  # in some processes it differs: see below
    assert {case: value for case, value in found.items() if not value <= 1e-6} == {}
    assert half <= 2e-3


@pytest.mark.slow
def test_rows_of_any_length(run_python):
    """Known to fail in some processes, and in others never; the cause is not found yet."""
    script = ROOT / "tests" / "training" / "replicas.py"
    for _ in range(5):
        found = json.loads(run_python(sys.executable, script, "lengths").splitlines()[-1])
        assert found["lengths"] <= 1e-6
