"""Bad input ends a run with one sentence and an exit code, before anything is trained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clue_baselines import experiment, machine
from clue_baselines.data import DataError, Record
from clue_baselines.predictions import test_ids as ids_of
from clue_baselines.predictions import write_predictions
from clue_baselines.settings import Settings
from clue_baselines.tnews import Tnews

SCRIPT = Path(experiment.__file__).parent / "tnews.py"


def fail(*flags):
    """Runs main, which must end the program; returns its message."""
    with pytest.raises(SystemExit) as end:
        experiment.main(Tnews, [str(flag) for flag in flags])
    message = str(end.value.code)
    assert message.startswith("ERROR: ") and "\n" not in message  # printed to stderr, code 1
    return message


def replace_line(path, number, text):
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[number - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


GOOD = {"label": "100", "label_desc": "news_story", "sentence": "井边的哭声", "keywords": ""}


@pytest.mark.parametrize(
    "split, line, message",
    [
        ("train", '{"label": "100", ', "train.json, line 5: not a JSON object"),
        ("dev", json.dumps(GOOD | {"label": "111"}), "dev.json, line 5: unknown label '111'"),
        ("train", json.dumps(GOOD | {"label": 99}), "train.json, line 5: unknown label '99'"),
        ("dev", json.dumps(GOOD | {"sentence": " "}), "dev.json, line 5: the text under"),
        ("test", json.dumps({"id": 4, "sentence": ""}), "test.json, line 5: the text under"),
        ("test", json.dumps({"id": 3, "sentence": "x"}), "test.json: the id 3 stands twice"),
        ("test1.0", json.dumps({"sentence": "x"}), "test1.0.json, line 5: .* needs an 'id'"),
    ],
)
def test_bad_lines(clue, tiny, tmp_path, split, line, message):
    replace_line(clue / "tnews" / f"{split}.json", 5, line)
    output = tmp_path / "results"
    said = fail("--data", clue, "--model", tiny, "--output", output)
    assert re.search(message, said), said
    assert not output.exists()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_missing_files(clue, tiny, split):
    (clue / "tnews" / f"{split}.json").unlink()
    assert f"{split}.json is missing" in fail("--data", clue, "--model", tiny)


def test_wrong_vocabulary(clue, pretrained):
    folder = pretrained()
    with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("龘靐\n")
    assert "do not belong together" in fail("--data", clue, "--model", folder)
    (folder / "vocab.txt").unlink()
    assert "has no vocab.txt" in fail("--data", clue, "--model", folder)


def test_checkpoint_of_another_shape(clue, pretrained):
    folder = pretrained(hidden_size=32)
    said = fail("--data", clue, "--model", folder)
    assert "24" in said and "32" in said


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model", "/nowhere/model"], "/nowhere/model"),
        (["--model", "/nowhere/config.json"], "/nowhere/config.json"),
        (["--maxlen", 4097], "give --maxlen 4096 or less"),
        (["--maxlen", 3], "--maxlen must be at least 4"),
        (["--epochs", 0], "--epochs must be at least 1"),
        (["--limit", -1], "--limit must be a number, and not negative"),
        (["--seed", 1, 1], "--seed lists a seed twice"),
        (["--strategy", "everything"], "Unknown strategy 'everything'"),
        (["--data", "/nowhere"], "no folder /nowhere/tnews"),
    ],
)
def test_bad_settings(clue, tiny, flags, message):
    assert message in fail("--data", clue, "--model", tiny, "--maxlen", 32, *flags)


def test_training_that_diverges_is_stopped(clue, tiny, tmp_path):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path, "--maxlen", 48]
    assert "The loss became nan in step" in fail(*flags, "--learning-rate", 1e30)
    assert "'shrink' needs an optimizer" in fail(*flags, "--on-nan", "shrink")


def test_predictions_must_fit_the_test_set(tmp_path):
    path = tmp_path / "tnews11_predict.json"
    good = [{"id": "0", "label": "100"}, {"id": "1", "label": "101"}]
    for rows in (good[:1], good + good[:1], [good[0], {"id": "7", "label": "100"}]):
        with pytest.raises(DataError, match="tnews11_predict.json is not written"):
            write_predictions(path, rows, ["0", "1"])
        assert not list(tmp_path.iterdir())
    write_predictions(path, good, ["1", "0"])
    assert path.read_bytes() == b'{"id": "0", "label": "100"}\n{"id": "1", "label": "101"}\n'
    assert ids_of(Tnews(Settings()), [Record(id=3), Record(id="4")]) == ["3", "4"]
    path = tmp_path / "chid10_predict.json"
    with pytest.raises(DataError, match="chid10_predict.json is not written: 1 test ids"):
        write_predictions(path, [{"#idiom000000#": 3}], ["#idiom000000#", "#idiom000001#"], True)
    answers = [{"#idiom000000#": 3}, {"#idiom000001#": 0}]
    write_predictions(path, answers, ["#idiom000000#", "#idiom000001#"], True)
    assert path.read_bytes() == b'{\n    "#idiom000000#": 3,\n    "#idiom000001#": 0\n}'


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        experiment.main(Tnews, ["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for flag in ("model", "data", "epochs", "batch-size", "maxlen", "learning-rate", "optimizer",
                 "seed", "precision", "output", "limit", "resume", "strategy", "jit"):  # fmt: skip
        assert f"--{flag} " in said or f"--{flag}," in said
    assert "TNEWS" in said


def test_without_the_project_one_line_says_how_to_install_it(tmp_path):
    script = tmp_path / "tnews.py"
    script.write_bytes(SCRIPT.read_bytes())
    command = [sys.executable, "-I", "-S", str(script)]  # no installed packages at all
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "uv run clue_baselines/tnews.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_gpu_that_this_build_does_not_see_is_named(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "does not see it" in machine.invisible_gpu(["CPU:0"])
    assert machine.invisible_gpu(["CPU:0", "GPU:0"]) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine.invisible_gpu(["CPU:0"]) is None
