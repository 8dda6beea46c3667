"""keras_extras.Model under MirroredStrategy: what does not concern the final weights alone."""

import json
import sys

from tests.conftest import ROOT


def test_two_replicas_equal_one_device(run_python):
    script = ROOT / "tests" / "training" / "replicas.py"
    found = json.loads(run_python(sys.executable, script, timeout=600).splitlines()[-1])
    assert "this model has 2 replicas" in found.pop("jit_compile")
    half = found.pop("loss scale")
    assert len(found) == 12
    assert {case: value for case, value in found.items() if not value <= 1e-6} == {}
    assert half <= 2e-3
