"""Footnotes on the data, and whether `data` shows them."""

import re
import shutil

from clue_baselines import data
from clue_baselines.data import footnotes, inventory
from clue_baselines.tasks import TASKS


def test_every_footnote_is_of_a_task_and_of_files_or_any_copy():
    assert set(footnotes.SENTENCES) <= set(TASKS)
    for about in footnotes.SENTENCES.values():
        assert all(which == "any copy" or re.fullmatch("[0-9a-f]{64}", which) for which in about)


def test_data_shows_a_footnote_that_excludes_nothing(tmp_path, monkeypatch, capsys):
    official = {"train": 80, "dev": 40}
    monkeypatch.setattr(inventory, "OFFICIAL", {"afqmc": official, "csl": official})
    for task in ("afqmc", "csl"):
        shutil.copytree(data.SAMPLE / task, tmp_path / task)
    known = data.sha256(tmp_path / "afqmc" / "train.json")
    altered = {known: "an altered copy", "0" * 64: "another one"}
    monkeypatch.setattr(footnotes, "SENTENCES", {"afqmc": altered, "csl": {"any copy": "small"}})
    inventory.main(["--data", str(tmp_path), "--tasks", "afqmc", "csl"])
    afqmc, csl = capsys.readouterr().out.split("\ncsl\n")
    assert "  footnote an altered copy\n" in afqmc and "another one" not in afqmc
    assert "80 records, count as official" in afqmc
    assert "  footnote small\n" in csl and "2 of 2 tasks are complete" in csl
    with (tmp_path / "afqmc" / "train.json").open("ab") as file:
        file.write(b"\n")
    inventory.main(["--data", str(tmp_path), "--tasks", "afqmc"])
    assert "  footnote " not in capsys.readouterr().out


def test_the_sample_has_no_footnotes(monkeypatch, capsys):
    monkeypatch.setattr(footnotes, "SENTENCES", {"wsc": {"any copy": "small"}})
    monkeypatch.setattr(inventory, "OFFICIAL", {"wsc": {"dev": 1}})
    assert not inventory.report("wsc", "sample", fetch=False)
    assert "  footnote " not in capsys.readouterr().out
