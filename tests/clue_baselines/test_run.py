"""Many runs by one command: processes of their own, failures, going on, what is done already."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from clue_baselines import data, run
from clue_baselines.data import DataError

ROOT = Path(run.__file__).parent.parent


@pytest.fixture
def flags(tiny, tmp_path):
    """Flags of short runs on the sample."""
    flags = ["--data", "sample", "--model", tiny, "--output", tmp_path / "results"]
    return [str(flag) for flag in (*flags, "--limit", 32, "--maxlen", 40, "--epochs", 1)]


def start(*argv):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "clue_baselines.run", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def make(output, task, folder, score=None, **settings):
    """The files of a run, finished if it has a score."""
    path = output / task / folder
    path.mkdir(parents=True)
    (path / "vocab.txt").write_text("[PAD]\n")
    (path / "settings.json").write_text(json.dumps({"settings": settings}))
    if score is not None:
        result = {"metric": "accuracy", "score": score}
        (path / "result.json").write_text(json.dumps(result))
    return path


def jobs(flags, tasks=("afqmc",), seeds=1, name="", tricks=()):
    asked = Namespace(tasks=list(tasks), seeds=seeds, name=name, tricks=list(tricks))
    return run.make_jobs(asked, flags)


def test_a_table_of_tricks(flags, tmp_path, capsys):
    made = jobs(flags, ["tnews", "c3"], 2, tricks=["none", "r-drop+fgm=0.2", "can"])
    assert [(job.task, job.stem, job.state) for job in made[::2]] == [
        ("tnews", "tiny-seed0", "waiting"), ("tnews", "tiny-r-drop4+fgm0.2-seed0", "waiting"),
        ("tnews", "tiny-can-seed0", "waiting"), ("c3", "tiny-seed0", "waiting"),
        ("c3", "tiny-r-drop4+fgm0.2-seed0", "waiting"), ("c3", "tiny-can-seed0", "left out"),
    ]  # fmt: skip
    assert "--can is not for c3" in made[-1].said
    assert run.command(made[2])[3:] == [
        *flags, "--r-drop", "4", "--fgm", "0.2", "--name", "tiny-r-drop4+fgm0.2", "--seed", "0",
    ]  # fmt: skip
    named = jobs([*flags, "--ema", "0.5"], name="mine", tricks=["none", "can"])
    assert [job.settings.name for job in named] == ["mine-ema0.5", "mine-can+ema0.5"]
    assert jobs([*flags, "--ema", "0.5"], name="mine")[0].settings.name == "mine"
    assert jobs([*flags, "--ema", "0.5"])[0].settings.name == "tiny-ema0.5"
    for job, score in zip(made, (60.0, 61.0, 62.0, 63.5, None), strict=False):
        job.score = score
    run.summarize(made)
    said = capsys.readouterr().out
    assert "tnews     60.50 ± 0.71 over 2 seeds" in said
    assert "tnews     r-drop4+fgm0.2  62.75 ± 1.06 over 2 seeds" in said
    for wrong, problem in [
        (["sam"], "There is no trick 'sam'"), (["fgm=far"], "fgm=far: the strength"),
        (["can=2"], "can has no strength"), (["fgm", "fgm=0.5"], "the same trick twice"),
        (["fgm+gradient-penalty"], "exclude each other"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=problem):
            jobs(flags, tricks=wrong)
    with pytest.raises(DataError, match="--can is not for c3"):
        jobs([*flags, "--can"], ["c3"])


def test_jobs_are_all_tasks_with_all_seeds(flags):
    made = jobs(flags, ["tnews", "cluener"], seeds=2)
    assert [(job.task, job.seed) for job in made] == [
        ("tnews", 0), ("tnews", 1), ("cluener", 0), ("cluener", 1),
    ]  # fmt: skip
    assert made[0].stem == "tiny-seed0" and made[0].settings.epochs == 1
    assert made[2].settings.head == "global_pointer"
    command = run.command(made[1])
    assert command[:3] == [sys.executable, "-m", "clue_baselines.tnews"]
    assert command[3:] == [*flags, "--name", "tiny", "--seed", "1"]
    assert len(jobs(flags, ["all"], seeds=3)) == 33


def test_what_is_finished_is_done(flags, tmp_path):
    make(tmp_path / "results", "afqmc", "tiny-seed1-2", 0.7, epochs=1, limit=32)
    first, second = jobs(flags, seeds=2)
    assert (first.state, second.state) == ("waiting", "done")
    assert second.said == "accuracy 70.00" and second.score == pytest.approx(70)
    with pytest.raises(DataError, match="finished with --epochs 1, not 3; give these runs another"):
        jobs([*flags, "--epochs", "3"], seeds=2)
    assert jobs([*flags, "--epochs", "3"], name="long")[0].state == "waiting"


def test_the_sample_is_not_taken_for_clue(flags, tmp_path, monkeypatch):
    folder = make(tmp_path / "results", "afqmc", "tiny-seed0", 0.7)
    content = {"settings": {}, "data": {"kind": "sample"}}
    (folder / "settings.json").write_text(json.dumps(content))
    without_data = flags[2:]
    monkeypatch.delenv("CLUE_DATA", raising=False)
    assert jobs(without_data)[0].state == "done"
    monkeypatch.setenv("CLUE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="is finished on the invented sample, and now CLUE_DATA"):
        jobs(without_data)


def test_other_data_are_not_done(flags, tmp_path, monkeypatch):
    """Neither data elsewhere nor other data in the same folder; the same data may be moved."""
    folder = make(tmp_path / "results", "afqmc", "tiny-seed0", 0.7)
    (tmp_path / "afqmc").mkdir()
    (tmp_path / "afqmc" / "dev.json").write_text("{}")
    seen = data.Source(tmp_path / "afqmc", "folder").describe()
    (folder / "settings.json").write_text(json.dumps({"settings": {}, "data": seen}))
    without_data = flags[2:]
    monkeypatch.setenv("CLUE_DATA", str(tmp_path))
    assert jobs(without_data)[0].state == "done"
    shutil.copytree(tmp_path / "afqmc", tmp_path / "moved" / "afqmc")
    monkeypatch.setenv("CLUE_DATA", str(tmp_path / "moved"))
    assert jobs(without_data)[0].state == "done"
    monkeypatch.setenv("CLUE_DATA", str(data.SAMPLE))
    with pytest.raises(DataError, match=f"on the data in {tmp_path}/afqmc, and .* holds others"):
        jobs(without_data)
    monkeypatch.delenv("CLUE_DATA")
    with pytest.raises(DataError, match="neither --data nor CLUE_DATA is set; give these runs"):
        jobs(without_data)
    monkeypatch.setenv("CLUE_DATA", str(tmp_path))
    (tmp_path / "afqmc" / "dev.json").write_text("[]")
    run.checksums.cache_clear()  # as in another process
    with pytest.raises(DataError, match="holds others"):
        jobs(without_data)
    (folder / "result.json").unlink()
    monkeypatch.setattr(run, "look_for_result", lambda job: None)
    assert "--resume" not in run.command(jobs(without_data)[0])


def test_an_unknown_flag_is_no_abbreviation(flags, monkeypatch):
    monkeypatch.setattr(run, "work_to_the_end", lambda jobs: pytest.fail(f"{len(jobs)} jobs"))
    for more in (["--seed", "7"], ["--seed=7"]):
        with pytest.raises(SystemExit, match="give --seeds N, not --seed"):
            run.main(["--tasks", "afqmc", *flags, *more])


def test_the_table_fits_the_terminal(flags, monkeypatch, capsys):
    made = jobs(flags, ["all"], seeds=3)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "60")
    table = run.Table(made)
    for number in (0, 15, 32):
        made[number].state = "running"
        table.show()
        lines = capsys.readouterr().out.rstrip("\n").split("\n")
        assert len(lines) == 9 and all(len(line) <= 60 + 10 for line in lines)
        assert sum("running" in line for line in lines) == 1
        assert (run.UP.format(9) in lines[0]) == (number > 0)
        made[number].state = "done"


def test_what_was_interrupted_goes_on(flags, tmp_path):
    (job,) = jobs(flags)
    make(tmp_path / "results", "afqmc", "tiny-seed0", epochs=1, limit=64)  # of other settings
    assert "--resume" not in run.command(job)
    folder = make(tmp_path / "results", "afqmc", "tiny-seed0-2", epochs=1, limit=32)
    assert run.command(job)[-2:] == ["--resume", str(folder)]


def test_progress_is_read_from_the_history(flags, tmp_path):
    (job,) = jobs([*flags, "--epochs", "3"])
    assert run.progress(job) == ""
    folder = make(tmp_path / "results", "afqmc", "tiny-seed0")
    assert run.progress(job) == ""
    history = folder / "history.csv"
    history.write_text("epoch,loss,dev_accuracy,seconds\n1,0.7,0.55,2\n2,0.6,0.6125,2\n")
    assert run.progress(job) == "epoch 2/3, accuracy 61.25"
    history.write_text("epoch,loss,dev_accuracy,seconds\n")
    assert run.progress(job) == ""
    for half in ("epoch,loss,dev_accuracy\n1,0.5", "epoch,lo", "epoch,loss,dev_accuracy\n1,0.5,"):
        history.write_text(half)
        assert run.progress(job) == ""


def test_no_run_goes_on_without_its_scheduler(flags, tmp_path, monkeypatch):
    (job,) = jobs(flags)
    ready = tmp_path / "ready"
    program = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    monkeypatch.setattr(run, "command", lambda job: [sys.executable, "-c", program])
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        run.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )

    def broken(job):
        while not ready.exists():
            time.sleep(0.02)
        raise ZeroDivisionError

    monkeypatch.setattr(run, "progress", broken)
    with pytest.raises(ZeroDivisionError):
        run.work([job])
    assert started[0].poll() is not None


@pytest.mark.parametrize(
    "more, problem",
    [
        (["--seed", "3"], "give --seeds N, not --seed or --resume"),
        (["--epochs", "0"], "--epochs must be at least 1"),
    ],
)
def test_wrong_flags(flags, more, problem):
    with pytest.raises(DataError, match=problem):
        jobs([*flags, *more])
    with pytest.raises(DataError, match="There is no task 'news'"):
        jobs(flags, ["news"])
    with pytest.raises(DataError, match="--seeds must be at least 1"):
        jobs(flags, seeds=0)


@pytest.mark.slow
def test_one_failing_task_does_not_stop_the_others(clue, tiny, tmp_path):
    """afqmc has no data; tnews is trained, stopped, gone on with, and then left alone."""
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path / "results", "--maxlen", 40]
    flags += ["--epochs", 15, "--tasks", "afqmc", "tnews"]
    process = start(*flags)
    history = tmp_path / "results" / "tnews" / "tiny-seed0" / "history.csv"
    while not history.is_file() or len(history.read_text().splitlines()) < 3:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "Stopped; the same command goes on from here." in said

    process = start(*flags)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert re.search(r"afqmc +seed 0 +failed .* ERROR: --data is .*, but there is no folder", said)
    assert re.search(r"tnews +seed 0 +done .* accuracy \d+\.\d\d", said)
    assert "ERROR: 1 of 2 runs failed; their logs say why." in said
    log = history.parent.with_suffix(".log").read_text()
    assert re.search(r"resuming after epoch \d+|all 15 epochs are trained", log), log[-3000:]
    assert len(history.read_text().splitlines()) == 16
    assert [p.name for p in history.parent.parent.iterdir() if p.is_dir()] == ["tiny-seed0"]

    before = history.parent.joinpath("result.json").stat().st_mtime_ns
    process = start(*flags[:-3], "--tasks", "tnews")
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and re.search(r"tnews +\d+\.\d\d\n", said)
    assert history.parent.joinpath("result.json").stat().st_mtime_ns == before
