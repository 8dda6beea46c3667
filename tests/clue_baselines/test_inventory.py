"""`python -m clue_baselines.data`: what is there, what is wrong, and the form of every task."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clue_baselines import data
from clue_baselines.data import DataError, Source, hub, inventory
from clue_baselines.tasks import TASKS, task_class

LINES = ("tnews", "iflytek", "afqmc", "ocnli", "cmnli", "wsc", "csl", "cluener", "chid")


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample as a data folder."""
    for task in TASKS:
        shutil.copytree(data.SAMPLE / task, tmp_path / "clue" / task)
    return tmp_path / "clue"


def counts(folder):
    """Numbers of records in the sample, as if they were official."""
    found = {}
    for name in TASKS:
        kind = task_class(name)
        task = kind(kind.options(**kind.defaults))
        source = Source(folder / name, "folder")
        known = [split for split in data.OFFICIAL[name] if split in ("train", "dev")]
        splits = [*known, *(split for split in task.submissions if source.has(split))]
        found[name] = {split: len(task.read(source, split)) for split in splits}
    return found


def test_official_numbers_cover_every_task_and_submission():
    for name in TASKS:
        kind = task_class(name)
        assert {"train", "dev", *kind.submissions} == set(data.OFFICIAL[name]), name


def test_what_is_right_and_what_is_not(folder, monkeypatch, capsys):
    official = counts(folder)
    monkeypatch.setattr(inventory, "OFFICIAL", official)
    names = ["afqmc", "chid", "c3", "cmrc2018", "cluener", "wsc"]
    inventory.main(["--data", str(folder), "--tasks", *names])
    said = capsys.readouterr().out
    assert "6 of 6 tasks are complete, counts as official." in said
    assert "train         80 records, count as official; 2 of 2 labels" in said
    official["afqmc"]["train"] = 34334
    row = (folder / "wsc" / "test.json").read_bytes().split(b"\n")[0]
    with (folder / "wsc" / "test.json").open("ab") as file:
        file.write(row + b"\n")
    (folder / "c3" / "d-dev.json").unlink()
    shutil.rmtree(folder / "cluener")
    with pytest.raises(SystemExit) as end:
        inventory.main(["--data", str(folder), "--tasks", *names])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "80 records, official are 34,334" in said
    assert "13 records, official are 12; 1 ids stand twice" in said
    assert "d-dev.json is missing" in said and "missing: --data is" in said
    assert "2 of 6 tasks are complete" in said


def test_the_sample_is_never_official(monkeypatch, capsys):
    monkeypatch.setattr(inventory, "OFFICIAL", {"afqmc": {"train": 80, "dev": 40, "test": 12}})
    with pytest.raises(SystemExit):
        inventory.main(["--data", "sample", "--tasks", "afqmc"])
    assert "0 of 1 tasks" in capsys.readouterr().out


def test_missing_tasks_are_fetched_into_the_folder(folder, monkeypatch, capsys):
    """What the hub's copy lacks is said, then and later, and not of the tasks that were there."""
    shutil.rmtree(folder / "cmnli")
    monkeypatch.setattr(inventory, "OFFICIAL", dict.fromkeys(["cmnli", "afqmc"], {"train": 80}))
    monkeypatch.setattr(hub, "fetch", lambda task: data.SAMPLE / task)
    for flags in (["--fetch"], []):
        inventory.main(["--data", str(folder), "--tasks", "cmnli", "afqmc", *flags])
        cmnli, afqmc = capsys.readouterr().out.split("\nafqmc\n")
        assert "lacks    rows labelled '-' are gone" in cmnli and "lacks" not in afqmc
    assert (folder / "cmnli" / "test.json").is_file()
    assert data.find("cmnli", str(folder)).lacks() and not data.find("afqmc", str(folder)).lacks()
    with pytest.raises(SystemExit, match="--fetch is for a folder"):
        monkeypatch.delenv("CLUE_DATA", raising=False)
        inventory.main(["--fetch"])


def test_missing_files_are_fetched_and_no_other_is_touched(folder, monkeypatch, capsys):
    official = {"train": 80, "dev": 40, "test": 12}
    monkeypatch.setattr(inventory, "OFFICIAL", dict.fromkeys(["cmnli", "cluener"], official))
    monkeypatch.setattr(hub, "fetch", lambda task: data.SAMPLE / task)
    (folder / "cmnli" / "dev.json").unlink()
    (folder / "cmnli" / "train.json").write_text("damaged")
    flags = ["--data", str(folder), "--tasks", "cmnli", "--fetch"]
    for fetched in (["dev"], ["dev", "test"]):
        with pytest.raises(SystemExit):  # for the damaged file
            inventory.main(flags)
        said = capsys.readouterr().out
        assert f"from the Hugging Face hub: {fetched[-1]}.json\n" in said
        names = [f"{name}.json" for name in fetched]
        assert f"lacks    rows labelled '-' are gone (from the hub: {', '.join(names)})" in said
        assert "train.json, line 1: not a JSON object" in said
        lines = (folder / "cmnli" / data.FETCHED).read_text().splitlines()
        assert [line for line in lines if line.endswith(".json")] == names
        (folder / "cmnli" / "test.json").unlink()
    assert (folder / "cmnli" / "train.json").read_text() == "damaged"
    sample = (data.SAMPLE / "cmnli" / "dev.json").read_bytes()
    assert (folder / "cmnli" / "dev.json").read_bytes() == sample
    assert not list(folder.rglob("*.part"))


def test_what_the_hub_cannot_give_is_said_and_the_rest_verified(folder, monkeypatch, capsys):
    monkeypatch.setattr(hub, "list_files", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (folder / "cluener" / "dev.json").unlink()
    (folder / "chid" / "dev_answer.json").unlink()
    (folder / "ocnli" / "train.json").rename(folder / "ocnli" / "train.50k.json")
    (folder / "afqmc" / "test.json").unlink()
    (folder / "csl").rename(folder / "gone")
    names = ["cluener", "chid", "ocnli", "afqmc", "csl", "cmrc2018"]
    with pytest.raises(SystemExit):
        inventory.main(["--data", str(folder), "--tasks", *names, "--fetch"])
    said = dict(zip(names, capsys.readouterr().out.split("\n\n"), strict=False))
    not_fetched = "not fetched from the Hugging Face hub: "
    assert not_fetched + "it has no usable copy of cluener" in said["cluener"]
    assert "dev.json is missing" in said["cluener"] and "train  " in said["cluener"]
    assert not_fetched + "of dev.json and dev_answer.json, which belong" in said["chid"]
    assert "not fetched" not in said["ocnli"] and "79 records" in said["ocnli"]
    assert not_fetched + "HF_HUB_OFFLINE forbids it" in said["afqmc"]
    assert not_fetched in said["csl"] and "missing: --data is" in said["csl"]
    assert "not fetched" not in said["cmrc2018"]  # which only lacks trial.json
    assert not (folder / "csl").exists()


def test_offline_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CLUE_DATA", raising=False)
    with pytest.raises(SystemExit):
        inventory.main(["--tasks", "cmnli"])
    said = capsys.readouterr().out
    assert "from the Hugging Face hub: HF_HUB_OFFLINE forbids it" in said
    assert "0 of 1 tasks are complete, counts as official." in said


def test_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "clue_baselines.data", "--tasks", "news"],
        capture_output=True,
        text=True,
        cwd=Path(data.__file__).parent.parent.parent,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: There is no task 'news'; the tasks are tnews, ")


def read(name, folder, split="train"):
    kind = task_class(name)
    task = kind(kind.options(**kind.defaults))
    return task, task.read(Source(folder / name, "folder"), split)


@pytest.mark.parametrize("name", TASKS)
def test_broken_files_are_named_with_file_and_line(name, folder):
    split = {"c3": "m-train"}.get(name, "train")
    path = folder / name / f"{split}.json"
    whole = path.read_bytes()
    line = "" if name not in LINES else ", line 2"
    breaks = {
        "not UTF-8": whole.decode().encode("gb18030"),
        "not( a)? JSON": whole.decode()[: len(whole.decode()) // 2].rstrip("}\n").encode(),
        "is missing": None,
    }
    if name in LINES:
        rows = whole.split(b"\n")
        breaks["not UTF-8"] = b"\n".join([rows[0], rows[1].decode().encode("gb18030")])
        breaks["not( a)? JSON"] = b"\n".join([rows[0], rows[1].decode()[:-20].encode()])
        breaks["is empty"] = b"\n\n"
    for message, content in breaks.items():
        path.unlink() if content is None else path.write_bytes(content)
        at = line if message in ("not UTF-8", "not( a)? JSON") else ""
        with pytest.raises(DataError, match=f"{split}.json{at}.*{message}"):
            read(name, folder)


@pytest.mark.parametrize("name", TASKS)
def test_line_separators_inside_texts_are_text(name, folder):
    """U+2028, U+0085 and U+001C split lines for str.splitlines, and must not here."""
    separators = "\u2028\u0085\u2029"
    split = {"c3": "m-train"}.get(name, "train")
    path = folder / name / f"{split}.json"
    before = len(read(name, folder)[1])
    if name in LINES:
        rows = [json.loads(row) for row in path.read_text(encoding="utf-8").split("\n")[:-1]]
        key = next(k for k in ("sentence", "sentence1", "text", "abst", "content") if k in rows[0])
        added = rows[0][key]
        rows[0][key] = [t + separators for t in added] if key == "content" else added + separators
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        if name == "c3":
            content[0][0][0] += separators
        else:
            content["data"][0]["paragraphs"][0]["context"] += separators
        text = json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8"))
    task, records = read(name, folder)
    assert len(records) == before
    assert any("\u2028" in json.dumps(record, ensure_ascii=False) for record in records)
    task.texts(records[0])
