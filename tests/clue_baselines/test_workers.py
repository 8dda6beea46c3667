"""TNEWS by two workers: the numbers of one device, and what happens when a worker is killed."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from clue_baselines import experiment
from clue_baselines.tnews import Tnews

SCRIPT = Path(experiment.__file__).parent / "tnews.py"


@pytest.fixture
def launch(clue, tiny):
    """Starts two workers of the script."""
    config = json.loads(tiny.read_text())  # without dropout: replicas draw other numbers
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tiny.write_text(json.dumps(config))

    def run(*flags):
        command = [sys.executable, "-m", "keras_extras.training.launch", "--workers", 2, SCRIPT]
        return subprocess.Popen(
            [str(word) for word in (*command, *flags, "--strategy", "multi_worker")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(SCRIPT.parent.parent), "CUDA_VISIBLE_DEVICES": "-1"},
        )

    return run


def children(process):
    """Processes that a process has started, in that order."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [
            {key: float(row[key]) for key in ("loss", "accuracy", "dev_accuracy")}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_worker_ends_the_job_which_goes_on_later(launch, clue, tiny, tmp_path):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path / "out", "--maxlen", 48]
    flags += ["--epochs", 5, "--batch-size", 8, "--learning-rate", 0.01, "--save-every", 2]
    process = launch(*flags, "--name", "two")
    for line in process.stdout:
        if line.startswith("[0] Epoch 2: dev accuracy"):
            break
    os.kill(children(process)[1], signal.SIGKILL)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 137
    assert "Worker 1 was killed by SIGKILL; the other is ended too." in errors
    folder = tmp_path / "out" / "tnews" / "two-seed0"
    assert not (folder / "result.json").exists()

    process = launch("--resume", folder)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert re.search(r"^\[0\] Run: .*, resuming after epoch [2-4]", said, re.MULTILINE)
    assert "[1] Run:" not in said and "[1] Wrote" not in said  # only the chief speaks and writes
    assert said.count("answers)") == 2

    flags = [str(flag) for flag in (*flags, "--name", "one", "--strategy", "one_device")]
    experiment.main(Tnews, flags)
    one = history(tmp_path / "out" / "tnews" / "one-seed0")
    for ours, theirs in zip(history(folder), one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert len(one) == 5
    assert sorted(p.name for p in (tmp_path / "out" / "tnews").iterdir()) == [
        "one-seed0",
        "two-seed0",
    ]
