"""Token ids that are kept for the next run are those that would be made anew."""

import dataclasses

import keras
import numpy as np
import pytest

from clue_baselines import backbone, data, encoding
from clue_baselines.preparation import Preparation
from clue_baselines.tasks import TASKS, task_class

WITH_PLACES = ("cluener", "cmrc2018")  # their examples say where in the text they are


@pytest.fixture(autouse=True)
def keep_few(monkeypatch):
    monkeypatch.setattr(encoding, "FEWEST", 1)


def prepared(name: str, folder, **settings):
    """A task that writes into the folder, its training records and its tokenizer."""
    kind = task_class(name)
    options = {**kind.defaults, "maxlen": 64, "output": str(folder), **settings}
    task = kind(kind.options(**options))
    source = data.find(name, "sample")
    tokenizer = backbone.tokenizer_for("scratch", source, [], task.tokens)
    return task, task.read(source, "train", 40), tokenizer


def forbid(task, monkeypatch):
    """From now on the task must not encode."""

    def refuse(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(task, "examples", refuse)


def files(folder) -> list:
    return sorted((folder / encoding.FOLDER).glob("*"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", TASKS)
def test_the_next_run_reads_the_same_examples(name, training, tmp_path, monkeypatch):
    task, records, tokenizer = prepared(name, tmp_path)
    made = encoding.examples_of(task, records, tokenizer, training)
    if name in WITH_PLACES and not training:
        assert not files(tmp_path)
        return
    assert len(files(tmp_path)) == 1
    forbid(task, monkeypatch)
    read = encoding.examples_of(task, records, tokenizer, training)
    assert list(map(len, read)) == list(map(len, made))
    pairs = [pair for groups in zip(made, read, strict=True) for pair in zip(*groups, strict=True)]
    for one, other in pairs:
        assert lists(other.inputs) == lists(one.inputs)
        assert lists(other.target) == lists(one.target)


def lists(value):
    """Arrays, and tuples and lists of them, as nested lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(map(lists, value)) if isinstance(value, list | tuple) else value


def test_lists_of_a_training_split_are_not_kept(tmp_path):
    task, records, tokenizer = prepared("tnews", tmp_path)
    prepare = Preparation(task, tokenizer, seed=0)
    assert prepare(records, training=True).examples is None
    assert len(prepare(records).examples) == len(records)


@pytest.mark.parametrize("name", ["tnews", "cluener", "c3"])
def test_batches_are_the_same(name, tmp_path, monkeypatch):
    task, records, tokenizer = prepared(name, tmp_path)
    prepare = Preparation(task, tokenizer, seed=0)
    made = prepare(records, training=True).batches
    forbid(task, monkeypatch)
    read = prepare(records, training=True).batches
    assert len(read) == len(made)
    for i in range(len(made)):
        keras.tree.map_structure(np.testing.assert_array_equal, made[i], read[i])


def test_what_examples_are_made_of_makes_another_file(tmp_path):
    task, records, tokenizer = prepared("afqmc", tmp_path)
    same = encoding.fingerprint(task, records, tokenizer, True)

    def other(task=task, records=records, tokenizer=tokenizer, training=True) -> bool:
        return encoding.fingerprint(task, records, tokenizer, training) != same

    def changed(**settings):
        return type(task)(dataclasses.replace(task.settings, **settings))

    assert other(training=False)
    assert other(records=records[:-1])
    assert other(task=changed(maxlen=65))
    assert other(task=changed(segment_ids="one"))
    vocab = {**tokenizer.token_dict, "[new]": tokenizer.vocab_size}
    assert other(tokenizer=type(tokenizer)(vocab, do_lower_case=True))
    free = {"seed": [1], "batch_size": 8, "epochs": 3, "model": "elsewhere", "r_drop": 4.0}
    assert not other(task=changed(**free))


def test_code_of_the_task_counts(tmp_path, monkeypatch):
    task, records, tokenizer = prepared("afqmc", tmp_path)
    before = encoding.fingerprint(task, records, tokenizer, True)
    (tmp_path / "mine.py").write_text("# a task of somebody's own\n")
    monkeypatch.setattr(encoding.inspect, "getfile", lambda kind: str(tmp_path / "mine.py"))
    mine = encoding.fingerprint(task, records, tokenizer, True)
    (tmp_path / "mine.py").write_text("# a task of somebody's own, changed\n")
    assert len({before, mine, encoding.fingerprint(task, records, tokenizer, True)}) == 3


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_is_made_anew(damage, tmp_path):
    task, records, tokenizer = prepared("tnews", tmp_path)
    encoding.examples_of(task, records, tokenizer, True)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert len(encoding.examples_of(task, records, tokenizer, True)) == len(records)
    assert path.read_bytes() == whole and files(tmp_path) == [path]


def test_nothing_is_kept_where_it_cannot_or_shall_not_be(tmp_path, capsys, monkeypatch):
    task, records, tokenizer = prepared("tnews", tmp_path, cache=False)
    encoding.examples_of(task, records, tokenizer, True)
    task, records, tokenizer = prepared("tnews", tmp_path)
    monkeypatch.setattr(encoding, "FEWEST", 1000)
    encoding.examples_of(task, records, tokenizer, True)
    assert not files(tmp_path)
    monkeypatch.setattr(encoding, "FEWEST", 1)
    (tmp_path / encoding.FOLDER).write_text("a file where the folder should be")
    assert len(encoding.examples_of(task, records, tokenizer, True)) == len(records)
    assert "are not kept for the next run" in capsys.readouterr().out


@pytest.mark.parametrize("name, split", [("tnews", "train"), ("csl", "dev"), ("c3", "dev")])
def test_real_data(name, split, clue_data, tmp_path, monkeypatch):
    task, _, tokenizer = prepared(name, tmp_path)
    records = task.read(data.find(name, str(clue_data)), split, 2000)
    made = encoding.examples_of(task, records, tokenizer, True)
    forbid(task, monkeypatch)
    read = encoding.examples_of(task, records, tokenizer, True)
    for one, other in zip(made, read, strict=True):
        assert lists(other[0].inputs) == lists(one[0].inputs)
        assert other[0].target == one[0].target
