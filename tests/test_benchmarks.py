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


@pytest.mark.slow
def test_quick_comparison_of_optimizers(run_python, tmp_path):
    """Every row is measured; the sizes of the state are those of the formulas."""
    output = tmp_path / "optimizers.json"
    script = SPEED.with_name("optimizers.py")
    options = ("--quick", "--rounds", 2, "--seconds", 0.01, "--output", output)
    printed = run_python(sys.executable, script, *options)
    report = json.loads(output.read_text())
    rows = {row["name"]: row for row in report["matrices"]}
    assert len(rows) > 25 and len(report["embedding"]) == 5
    for row in [*rows.values(), *report["embedding"]]:
        assert len(row["wall"]) == 2 and min(row["wall"]) > 0
        assert f"| {row['name']} |" in printed
    numbers = 2 * 64 * 64
    assert rows["keras Adam"]["state"] == pytest.approx(8 + 8 / numbers, rel=0.01)
    assert rows["lookahead"]["state"] == pytest.approx(12, rel=0.01)
