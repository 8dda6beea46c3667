"""One command per published row: its runs, their estimate, and the scores set beside it."""

import json
import re
import signal

import pytest

from clue_baselines import report, reproduce, run
from clue_baselines.data import OFFICIAL, DataError
from clue_baselines.finished import finished_runs
from clue_baselines.report import beside
from clue_baselines.report.published import NAMES, named, published
from clue_baselines.settings import parse
from clue_baselines.tasks import TASKS, task_class
from tests.clue_baselines import conftest
from tests.clue_baselines.test_report import make_run

# batch of IFLYTEK, from CLUE's README
CLUE_MODELS = {"bert-base": 32, "roberta-wwm-ext": 32, "roberta-wwm-large-ext": 24}
OTHERS = [name for name in NAMES if name.startswith(("clue-", "paddlenlp-"))]


def test_every_row_has_a_published_one_and_flags_that_its_scripts_take():
    for name in NAMES:
        row = reproduce.known(name)
        assert row.row in published("dev") and bool(row.lacking) != bool(row.model)
        for task in TASKS if row.model else ():
            kind = task_class(task)
            settings = parse(kind.options, task, "", kind.defaults, row.command_flags(task))
            kind(settings)
            assert settings.model == row.model


def test_the_recipes_are_the_published_ones():
    def settings(name, task):
        (job,) = reproduce.jobs_of(reproduce.known(name), [task], 1, [])
        assert job.settings.name == name and job.stem == f"{name}-seed0"
        return job.settings

    author = settings("bert-base", "c3")
    assert (author.epochs, author.batch_size * author.accumulate) == (10, 16)
    assert author.optimizer == "adafactor"
    assert author.learning_rate == 0.0 and author.segment_ids == "zero" and author.maxlen == 512
    wsc = settings("paddlenlp-roberta-wwm-ext", "wsc")
    assert (wsc.epochs, wsc.batch_size, wsc.learning_rate) == (50, 32, 3e-5)
    chid = settings("clue-bert-base", "chid")
    assert (chid.batch_size * chid.accumulate, chid.lr_schedule) == (24, "6%:1,100%:0")
    assert not chid.hungarian and chid.segment_ids == "one"
    for name in OTHERS:  # all of whose runners warm up, then decay linearly
        row = reproduce.known(name)
        for task in filter(row.has_recipe, TASKS):
            schedule = f"{6 if task == 'chid' else 10}%:1,100%:0"
            assert row.settings(task).lr_schedule == schedule, (name, task)
    large = reproduce.known("clue-roberta-wwm-large-ext")
    assert large.settings("cmrc2018").learning_rate == 2.5e-5
    c3 = large.settings("c3")
    assert (c3.batch_size * c3.accumulate, c3.learning_rate) == (16, 2e-5)
    tasks = [job.task for job in reproduce.jobs_of(reproduce.known("bert-base"), TASKS, 2, [])]
    assert tasks == [task for task in TASKS for _ in range(2)]
    clue = reproduce.jobs_of(reproduce.known("clue-bert-base"), TASKS, 1, [])
    assert {job.task for job in clue} == set(TASKS) - {"ocnli", "cluener", "wsc"}
    sizes = {name: settings(f"clue-{name}", "iflytek").batch_size for name in CLUE_MODELS}
    assert sizes == CLUE_MODELS
    with pytest.raises(DataError, match="clue-bert-base has no score or no recipe for ocnli"):
        reproduce.jobs_of(reproduce.known("clue-bert-base"), ["ocnli"], 1, [])
    local = reproduce.jobs_of(reproduce.known("bert-base"), ["wsc"], 1, ["--model", "here"])
    assert local[0].settings.model == "here" and run.command(local[0])[-4:-2] == [
        "--name",
        "bert-base",
    ]


def test_hours_by_hand():
    """Of AFQMC: 10 epochs of 34,334 rows, dev after each, test once, 30 tokens, 85 million."""
    operations = (6 * 34334 * 10 + 2 * (4316 * 10 + 3861)) * 30 * 85e6
    assert reproduce.known("bert-base").hours("afqmc") == pytest.approx(operations / 30e12 / 3600)


def test_the_list(tmp_path, capsys):
    make_run(tmp_path, "tnews", "bert-base-seed0", 0.57, n=10000, train_rows=53360, epochs=10)
    make_run(tmp_path, "wsc", "bert-base-seed0", 0.9, n=304, train_rows=100)  # does not count
    reproduce.main(["--list", "--output", str(tmp_path)])
    said = capsys.readouterr().out
    assert "hours of one GPU are estimated, none was measured" in said
    blocks = dict(re.findall(r"\n([\w-]+): (.*?)(?=\n\n|$)", said, re.DOTALL))
    assert set(blocks) == set(NAMES)
    assert f"1 of 33 runs in {tmp_path}" in blocks["bert-base"]
    assert "state     not run" in blocks["roberta-wwm-ext"]
    assert "weights   hfl/chinese-roberta-wwm-ext" in blocks["roberta-wwm-ext"]
    for name in OTHERS:
        row = reproduce.known(name)
        for task in [t for t in TASKS if t in row.row.cells and row.has_recipe(t)]:
            settings, lines = row.settings(task), blocks[name].split("\n")
            (line,) = (line for line in lines if line.split()[:2] == [task, "--batch-size"])
            assert f" --batch-size {settings.batch_size} " in line
            assert f" --epochs {settings.epochs} --learning-rate " in line
    (large,) = re.findall("iflytek +--.*", blocks["clue-roberta-wwm-large-ext"])
    assert large.split()[1:3] == ["--batch-size", "24"] and large.count("--batch-size") == 1
    own = [line for line in said.split("\n") if str(tmp_path) not in line]
    assert max(map(len, own)) <= 100
    assert "not here: bert4keras 0.11.5 has no such architecture" in blocks["gau-alpha"]
    with pytest.raises(SystemExit, match="gau-alpha cannot be reproduced here"):
        reproduce.main(["gau-alpha"])
    with pytest.raises(SystemExit, match="There is no row 'bert'"):
        reproduce.main(["bert"])


@pytest.fixture
def results(tmp_path):
    """Scores beside BERT-base of the author: tnews 56.80, afqmc 72.41, wsc 78.62, cmrc 56.17."""
    for seed, score in enumerate((0.56, 0.58)):
        name = f"bert-base-seed{seed}"
        make_run(tmp_path, "tnews", name, score, seed, 10000, train_rows=53360, epochs=10)
    make_run(tmp_path, "afqmc", "bert-base-seed0", 0.75, n=4316, train_rows=34334, epochs=10)
    make_run(tmp_path, "wsc", "bert-base-seed0", 0.70, n=304, train_rows=100, epochs=30)
    make_run(tmp_path, "cmrc2018", "bert-base-seed0", 0.6, n=3219, train_rows=10142, epochs=10)
    make_run(tmp_path, "tnews", "other-seed0", 0.50, n=10000, train_rows=53360)
    return tmp_path


def change(path, part=None, **changed):
    """Other values in a JSON file, or in one part of it."""
    content = json.loads(path.read_text())
    (content[part] if part else content).update(changed)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changed, epochs, said",
    [
        ({}, 10, ""),
        ({"model": "some/folder", "data": "CLUE", "strategy": "mirrored"}, 10, ""),
        ({"batch_size": 8}, 10, "trained with --batch-size 8, not 32"),
        ({"optimizer": "adamw"}, 10, "trained with --optimizer adamw, not adafactor"),
        ({"r_drop": 4.0}, 10, "trained with --r-drop 4.0, not 0.0"),
        ({"model": "tiny.json"}, 10, "from tiny.json, not from google-bert/bert-base-chinese"),
        ({}, 12, "trained for 12 epochs, not 10"),
    ],
)
def test_only_runs_of_the_recipe_are_the_rows(results, changed, epochs, said, capsys):
    """One seed that does not follow it is enough; beside another row a name promises nothing."""
    folder = results / "tnews" / "bert-base-seed1"
    change(folder / "settings.json", "settings", **changed)
    change(folder / "result.json", epochs=epochs)
    runs = [r for r in finished_runs(results) if r.name == "bert-base"]
    tnews = beside.compare(runs, named("bert-base"))[0]
    assert said in tnews.verdict and bool(tnews.notes) == bool(said)
    assert not beside.compare(runs, named("roberta-wwm-ext"))[0].notes
    reproduce.main(["--list", "--output", str(results)])
    assert f"{3 if said else 4} of 33 runs" in capsys.readouterr().out


def test_rows_without_a_recipe_are_nobodys(tmp_path):
    make_run(tmp_path, "wsc", "gau-alpha-seed0", 0.7, n=304, train_rows=1244)
    make_run(tmp_path, "wsc", "clue-bert-base-seed0", 0.7, n=304, train_rows=1244)
    said = {r.name: beside.notes_beside(r, named(r.name)) for r in finished_runs(tmp_path)}
    assert said == {
        "gau-alpha": ["bert4keras 0.11.5 has no such architecture"],
        "clue-bert-base": ["clue-bert-base has no recipe for wsc"],
    }


def test_an_unknown_flag_is_no_abbreviation(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "work_to_the_end", lambda jobs: pytest.fail(f"{len(jobs)} jobs"))
    with pytest.raises(SystemExit, match="give --seeds N, not --seed"):
        reproduce.main(["bert-base", "--tasks", "wsc", "--output", str(tmp_path), "--seed", "7"])


@pytest.fixture
def signals():
    """Leaves the signals as they were."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.slow
def test_a_row_is_run(clue, pretrained, signals, tmp_path, monkeypatch, capsys):
    """By the author's recipe, on 48 rows as if these were all, with random weights."""
    monkeypatch.setitem(conftest.CONFIG, "max_position_embeddings", 128)
    flags = ["--tasks", "tnews", "--seeds", "1", "--output", str(tmp_path / "results")]
    more = ["--model", str(pretrained()), "--data", str(clue)]
    reproduce.main(["bert-base", *flags, *more])
    said = capsys.readouterr().out
    assert re.search(r"tnews +seed 0 +done .* accuracy \d+\.\d\d", said), said
    assert "trained on 48 instead of 53,360 rows; scored on 45 instead of 10,000" in said
    monkeypatch.setitem(OFFICIAL, "tnews", conftest.SIZES)
    reproduce.main(["bert-base", *flags, *more])  # nothing is left to do
    assert re.search(r"\ntnews +\d+\.\d\d +56\.80 .* (agrees|DIFFERS)\n", capsys.readouterr().out)
    reproduce.main(["--list", *flags])
    assert f"1 of 11 runs in {tmp_path / 'results'}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is finished with --batch-size 32, not 16"):
        reproduce.main(["bert-base", *flags, *more, "--batch-size", "16"])
    change(tmp_path / "results/tnews/bert-base-seed0/settings.json", "settings", batch_size=16)
    reproduce.main(["bert-base", *flags, *more, "--batch-size", "16"])
    assert "not comparable: trained with --batch-size 16, not 32" in capsys.readouterr().out
    reproduce.main(["--list", *flags])
    assert "1 of 11 runs" not in capsys.readouterr().out


def test_more_than_two_standard_errors_differ(results):
    runs = [r for r in finished_runs(results) if r.name == "bert-base"]
    found = {b.task: b for b in beside.compare(runs, named("bert-base"))}
    assert found["tnews"].ours == "57.00 ± 1.41" and found["tnews"].verdict == "agrees"
    assert found["tnews"].difference == pytest.approx(0.2)
    assert found["afqmc"].difference == pytest.approx(2.59)  # more than 2 x 1.00
    assert found["afqmc"].verdict == "DIFFERS"
    assert found["wsc"].verdict == "not comparable: trained on 100 instead of 1,244 rows"
    assert "not the official EM" in found["cmrc2018"].verdict
    assert beside.text(beside.compare(runs, named("bert-base"))).split("\n")[1].split() == [
        "tnews", "57.00", "±", "1.41", "56.80", "+0.20", "2.00", "agrees",
    ]  # fmt: skip


def test_the_report_sets_rows_beside_their_own_or_another(results, capsys):
    page = results / "report.html"
    flags = ["--results", str(results), "--output", str(page)]
    report.main(flags)
    said = capsys.readouterr().out
    assert "bert-base beside BERT-base, the author (bert4keras)" in said
    assert "other beside" not in said and "DIFFERS" in page.read_text(encoding="utf-8")
    report.main([*flags, "--beside", "roberta-wwm-ext"])
    said = capsys.readouterr().out
    assert "other beside RoBERTa-wwm-ext, the author" in said and "-8.06" in said
    with pytest.raises(SystemExit, match="There is no row 'x'"):
        report.main([*flags, "--beside", "x"])
