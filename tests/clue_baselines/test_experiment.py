"""Whole runs of TNEWS on a tiny model: what they write, how they learn, stop and go on."""

import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from clue_baselines import experiment
from clue_baselines.tnews import SECTIONS, Tnews
from keras_extras.training import Resume

SCRIPT = Path(experiment.__file__).parent / "tnews.py"


@pytest.fixture
def tnews(clue, tiny, tmp_path):
    """Runs the script's main in this process; returns the folder of results."""

    def run(*flags, data=clue, model=tiny):
        output = tmp_path / "results"
        common = ["--data", data, "--model", model, "--output", output, "--maxlen", 48]
        experiment.main(Tnews, [str(flag) for flag in (*common, *flags)])
        return output / "tnews"

    return run


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_everything(tnews, clue, capsys):
    results = tnews("--epochs", 2, "--seed", 1, 2)
    said = capsys.readouterr().out
    assert "Keras" in said and "CPU:0" in said
    assert "Recipe: AdamW 0.0002" in said and "(for a model from scratch)" in said

    scores = []
    for seed in (1, 2):
        folder = results / f"tiny-folder-seed{seed}"
        settings = read(folder / "settings.json")
        assert settings["settings"]["seed"] == [seed]
        assert settings["settings"]["epochs"] == 2
        assert settings["machine"]["backend"] == keras.backend.backend()
        assert settings["machine"]["versions"]["keras"] == keras.__version__
        assert len(settings["data"]["sha256"]["train.json"]) == 64
        rows = history(folder)
        assert [row["epoch"] for row in rows] == ["1", "2"]
        result = read(folder / "result.json")
        scores.append(result["score"])
        assert result["score"] == max(float(row["dev_accuracy"]) for row in rows)
        assert result["n"] == 45
        share = result["score"]
        assert result["standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / 45))
        for picture in ("curve.png", "confusion.png"):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        table = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
        assert len(table) == 16 and sum(int(line.split()[1]) for line in table[1:]) == 45
        for name, size in (("tnews10_predict.json", 10), ("tnews11_predict.json", 12)):
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["id"] for line in lines] == [str(i) for i in range(size)]
            assert all(set(json.loads(line)) == {"id", "label"} for line in lines)
            assert all(json.loads(line)["label"] in SECTIONS for line in lines)
        assert not list(folder.glob("*tmp*"))
    summary = read(results / "tiny-folder-seeds" / "summary.json")
    assert summary["mean"] == pytest.approx(statistics.mean(scores))
    assert summary["standard_deviation"] == pytest.approx(statistics.stdev(scores))

    before = (results / "tiny-folder-seed1" / "result.json").read_bytes()
    tnews("--epochs", 1, "--seed", 1)
    assert (results / "tiny-folder-seed1" / "result.json").read_bytes() == before
    # an equal seed gives an equal first epoch
    again, first = (history(results / f"tiny-folder-seed1{end}")[0] for end in ("-2", ""))
    assert {k: again[k] for k in again if k not in TIMES} == {
        k: first[k] for k in first if k not in TIMES
    }


TIMES = ("seconds", "examples_per_second")


def test_sixteen_rows_are_learned_by_heart(tnews, clue, capsys):
    lines = (clue / "tnews" / "train.json").read_bytes().split(b"\n")[:16]
    for split in ("train", "dev"):
        (clue / "tnews" / f"{split}.json").write_bytes(b"\n".join(lines))
    for split in ("test", "test1.0"):
        (clue / "tnews" / f"{split}.json").unlink()
    results = tnews("--epochs", 40, "--learning-rate", 0.01, "--batch-size", 16)
    result = read(results / "tiny-folder-seed0" / "result.json")
    assert result["score"] == 1.0 and result["standard_error"] == 0.0
    said = capsys.readouterr().out
    assert "No test set for tnews10_predict.json, tnews11_predict.json: not written." in said
    assert not list(results.glob("*/*_predict.json"))


def test_resumed_training_equals_uninterrupted_training(tnews):
    whole = tnews("--epochs", 3, "--name", "whole") / "whole-seed0"
    parts = tnews("--epochs", 1, "--name", "parts") / "parts-seed0"
    experiment.main(Tnews, ["--resume", str(parts), "--epochs", "3"])
    (parts / "tnews11_predict.json").unlink()
    experiment.main(Tnews, ["--resume", str(parts)])  # nothing left to train: only the report
    assert (parts / "tnews11_predict.json").is_file()
    for a, b in zip(history(whole), history(parts), strict=True):
        for key in set(a) - set(TIMES):
            # dropout, order, optimizer state: all as if nothing had happened
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-5), (a["epoch"], key)
    assert read(parts / "result.json")["best_epoch"] == read(whole / "result.json")["best_epoch"]


@pytest.mark.parametrize("devices", ["--jit", "TPU"])
def test_a_run_goes_on_where_batches_are_padded_otherwise(tnews, devices, monkeypatch, capsys):
    """As XLA and a TPU want it; here they are the same CPU."""
    folder = tnews("--epochs", 1, "--save-every", 1) / "tiny-folder-seed0"
    for path in (folder / "state").glob("state-00001-*"):
        path.unlink()  # within the first epoch
    if devices == "TPU":
        monkeypatch.setattr(experiment.machine, "is_tpu", lambda strategy: True)
    flags = ["--jit"] if devices == "--jit" else []
    experiment.main(Tnews, ["--resume", str(folder), "--epochs", "2", *flags])
    assert "resuming after epoch 0 and step 1" in capsys.readouterr().out
    assert [row["epoch"] for row in history(folder)] == ["1", "2"]


def test_resume_refuses_what_cannot_go_on(tnews, clue, tmp_path):
    folder = tnews("--epochs", 1) / "tiny-folder-seed0"
    for flags, message in [
        (["--resume", folder, "--batch-size", 4], "--batch-size cannot change"),
        (["--resume", tmp_path], "no run there"),
    ]:
        with pytest.raises(SystemExit, match=message):
            experiment.main(Tnews, [str(flag) for flag in flags])
    # the data is found again without --data, and must be the same
    content = (clue / "tnews" / "dev.json").read_bytes()
    (clue / "tnews" / "dev.json").write_bytes(content.replace(b"news_story", b"news_tale"))
    with pytest.raises(SystemExit, match="is not what .* was trained on"):
        experiment.main(Tnews, ["--resume", str(folder), "--epochs", "2"])
    (clue / "tnews" / "dev.json").write_bytes(content)
    (state,) = (folder / "state").iterdir()
    state.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(SystemExit, match="state-00001-00000000.npz: it is damaged"):
        experiment.main(Tnews, ["--resume", str(folder), "--epochs", "2"])


def test_ctrl_c_keeps_the_best_weights_and_says_how_to_resume(clue, tiny, tmp_path):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path / "results"]
    flags += ["--epochs", 500, "--maxlen", 48]
    command = [sys.executable, "-u", SCRIPT, *flags]
    environment = {"PYTHONPATH": str(SCRIPT.parent.parent), "CUDA_VISIBLE_DEVICES": "-1"}
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("Epoch 2: dev accuracy"):
                    break
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, errors[-2000:]
    swallowed = errors.count("Exception ignored in")  # by Python; raised again at the next batch
    assert errors.count("Traceback") == swallowed
    folder = tmp_path / "results" / "tnews" / "tiny-folder-seed0"
    assert f"--resume {folder}" in errors and "best.weights.h5" in errors
    assert (folder / "best.weights.h5").is_file()
    done = len(history(folder))
    assert done >= 2
    experiment.main(Tnews, ["--resume", str(folder), "--epochs", str(done + 1)])
    assert len(history(folder)) == done + 1
    assert read(folder / "result.json")["epochs"] == done + 1


def test_ctrl_c_between_history_and_state_counts_what_can_be_gone_on_with(
    tnews, tmp_path, monkeypatch, capsys
):
    """The second epoch is in the history and its state is not: one epoch is kept."""
    save = Resume.save

    def interrupted(resume):
        if resume.epoch == 2:
            raise KeyboardInterrupt
        return save(resume)

    monkeypatch.setattr(Resume, "save", interrupted)
    with pytest.raises(SystemExit):
        tnews("--epochs", 3)
    folder = tmp_path / "results" / "tnews" / "tiny-folder-seed0"
    assert len(history(folder)) == 2
    assert "Stopped after 1 finished epochs" in capsys.readouterr().err
    monkeypatch.setattr(Resume, "save", save)
    experiment.main(Tnews, ["--resume", str(folder)])
    assert "resuming after epoch 1" in capsys.readouterr().out
    assert len(history(folder)) == 3


def test_pretrained_weights_get_the_authors_recipe(tnews, pretrained, capsys):
    folder = tnews("--epochs", 1, model=pretrained()) / "pretrained-folder-seed0"
    recipe = "AdaFactor 0.0005, beta1 0.9, not factored (the author's recipe)"
    assert recipe in capsys.readouterr().out
    assert read(folder / "settings.json")["recipe"] == recipe


def test_precision_limit_and_own_vocabulary(tnews, clue, capsys):
    (clue / "vocab.txt").unlink()
    folder = tnews("--epochs", 1, "--precision", "mixed_bfloat16", "--limit", 20)
    assert "Rows: 20 train, 45 dev, 22 test" in capsys.readouterr().out
    vocab = (folder / "tiny-folder-seed0" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    rows = (clue / "tnews" / "train.json").read_text(encoding="utf-8").split("\n")[:20]
    text = "".join(json.loads(row)["sentence"] for row in rows)
    chinese = {c for c in vocab if len(c) == 1 and "\u4e00" <= c <= "\u9fff"}
    assert chinese == {c for c in text if text.count(c) > 1 and "\u4e00" <= c <= "\u9fff"}
    assert np.isfinite(float(history(folder / "tiny-folder-seed0")[0]["loss"]))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
@pytest.mark.slow
def test_two_devices(clue, tiny, tmp_path, run_python):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path, "--epochs", 1, "--maxlen", 48]
    said = run_python(sys.executable, SCRIPT, *flags, "--strategy", "mirrored", "--devices", 2)
    assert "tnews11_predict.json (12 answers)" in said


def test_jax(jax_python, clue, tiny, tmp_path, run_python):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path, "--epochs", 1, "--maxlen", 48]
    said = run_python(jax_python, SCRIPT, *flags, KERAS_BACKEND="jax")
    assert "on jax" in said and "tnews11_predict.json (12 answers)" in said
