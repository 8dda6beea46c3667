"""The benchmark runs and reports what its README says."""

import json
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).resolve().parent.parent / "benchmarks" / "speed.py"


@pytest.mark.slow
def test_quick_comparison(run_python, legacy_python, torch_python, tmp_path):
    output = tmp_path / "speed.json"
    printed = run_python(
        sys.executable,
        SPEED,
        "--quick",
        *("--legacy-python", legacy_python, "--torch-python", torch_python),
        *("--output", output),
        timeout=600,
    )
    cases = json.loads(output.read_text())["cases"]
    assert [case["what"] for case in cases] == ["train", "infer"]
    for case in cases:
        assert list(case["sides"]) == ["tensorflow", "xla", "jax", "bert4keras", "transformers"]
        for side in case["sides"].values():
            assert side["wall_ms"] > 0 and side["cpu_ms"] > 0 and len(side["rounds"]) == 2
    assert "| tensorflow (default) |" in printed
