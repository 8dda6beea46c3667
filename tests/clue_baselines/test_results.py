"""What a run says of its scores: each with its standard error and n."""

import json

import pytest

from clue_baselines import results
from clue_baselines.data import Record
from clue_baselines.settings import Settings
from clue_baselines.task import Task

HISTORY = [{"epoch": 1, "loss": 1.0, "dev_f1": 0.5}]
ABOUT = {"seed": 0, "data": "folder"}


class Letters(Task):
    """Answers are sets of letters, scored by F1 of all and of each."""

    name = "letters"
    metric = "f1"
    unit = "letters"

    def texts(self, record):
        return ["text"]

    def size(self, record):
        return 2

    def marks(self, prediction, truth):
        def mark(kind):
            said, right = prediction & set(kind), truth & set(kind)
            return 2 * len(said & right), len(said) + len(right)

        return {"f1": mark("ab"), "f1 a": mark("a"), "f1 b": mark("b")}

    def more_scores(self, predictions, truths):
        return {"more": (0.5, 0.1)}


@pytest.fixture
def reported(tmp_path, capsys):
    """The result of four records, what is written, and what is printed."""
    records = [Record() for _ in range(4)]
    for i, record in enumerate(records):
        record.where = f"dev.json, line {i + 1}"
    said, right = [{"a"}, {"a"}, set(), set()], [{"a"}, {"b"}, {"a"}, set()]
    more = {"test f1": (0.4, 0.2)}
    task = Letters(Settings())
    result = results.report_run(task, tmp_path, HISTORY, records, said, right, ABOUT, more)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    return result, capsys.readouterr().out


def test_every_score_on_dev_has_its_n(reported):
    """F1 of a: right in one row, said and not right in one, missed in one; of b: missed once."""
    result, said = reported
    assert result["n"] == 8
    found = {name: entry.get("n") for name, entry in result["scores"].items()}
    assert found == {"f1": 8, "f1 a": 6, "f1 b": 2, "more": 8, "test f1": None}
    assert result["scores"]["f1 a"]["score"] == pytest.approx(2 / 4)
    assert "letters dev f1 40.00 ± " in said and "(standard error, 8 letters, seed 0)" in said
    assert "letters dev f1 b 0.00 ± 0.00 % (2 letters)" in said
    assert "letters dev more 50.00 ± 10.00 % (8 letters)" in said
    assert "letters test f1 40.00 ± 20.00 %\n" in said


def test_several_seeds_say_n_and_standard_error(tmp_path, capsys):
    run = {"task": "tnews", "metric": "accuracy", "n": 10000, "standard_error": 0.005}
    results.report_seeds(tmp_path, "a", [run | {"score": score} for score in (0.56, 0.58)])
    said = capsys.readouterr().out
    assert "over 2 seeds: 57.00 ± 1.41 % (mean ± standard deviation; " in said
    assert "standard error of each 0.50, n 10000)" in said
