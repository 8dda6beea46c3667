"""keras_extras.Model on two replicas and on two workers ends in the weights of one device."""

import json
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.training.matrix import CUT, ROWS, differences

SCRIPT = ROOT / "tests" / "training" / "matrix.py"
WORKERS = """
import sys
from keras_extras.training.launch import launch
sys.exit(launch(sys.argv[1:], workers=2))
"""


def results(printed: str, prefix: str = "") -> dict:
    """The results of each row, from what the script printed."""
    lines = [line.removeprefix(prefix) for line in printed.splitlines()]
    found = [json.loads(line[4:]) for line in lines if line.startswith("ROW ")]
    return {result["row"]: result for result in found}


def compare(one: dict, many: dict, rows) -> None:
    assert set(one) == set(many) == set(rows)
    wrong = {}
    for name in rows:
        assert all(np.isfinite(np.ravel(w)).all() for w in one[name]["weights"])
        found = differences(one[name], many[name])
        scale, tolerance = found.pop("scale"), ROWS[name].tolerance
        weights_agree = found["weights"] <= tolerance
        if not (weights_agree and max(found.values()) <= max(2e-6, tolerance * scale)):
            wrong[name] = found
    assert wrong == {}


@pytest.fixture(scope="module")
def cut(run_python):
    return results(run_python(sys.executable, SCRIPT, "ours", "one_device", *CUT))


def test_two_replicas(cut, run_python):
    printed = run_python(sys.executable, SCRIPT, "ours", "mirrored", *CUT, timeout=600)
    compare(cut, results(printed), CUT)


def test_two_workers(cut, run_python):
    rows = CUT[:1] + CUT[-2:]
    arguments = [SCRIPT, "ours", "multi_worker", *rows]
    printed = run_python(sys.executable, WORKERS, *arguments, timeout=600)
    for worker in ("[0] ", "[1] "):
        compare({name: cut[name] for name in rows}, results(printed, worker), rows)


@pytest.fixture(scope="module")
def whole(run_python):
    return results(run_python(sys.executable, SCRIPT, "ours", "one_device", timeout=2400))


@pytest.mark.slow
def test_every_row_on_two_replicas(whole, run_python):
    printed = run_python(sys.executable, SCRIPT, "ours", "mirrored", timeout=2400)
    compare(whole, results(printed), ROWS)


@pytest.mark.slow
def test_every_row_on_two_workers(whole, run_python):
    rows = [name for name in ROWS if ROWS[name].by_workers]
    arguments = [SCRIPT, "ours", "multi_worker", *rows]
    printed = run_python(sys.executable, WORKERS, *arguments, timeout=2400)
    compare({name: whole[name] for name in rows}, results(printed, "[0] "), rows)
