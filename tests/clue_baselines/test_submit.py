"""What a submission takes and refuses; the names and formats are the leaderboard's."""

import itertools
import json
import shutil
import zipfile

import pytest

from clue_baselines import experiment, predictions, submit
from clue_baselines.data import SAMPLE, Source, read_records
from clue_baselines.task import Task
from clue_baselines.tasks import TASKS, chosen, task_class

# github.com/CLUEbenchmark/CLUE: the files of the two versions of the board
FILES = {
    "1.0": "afqmc c310 chid10 cluewsc10 cmnli cmrc2018 csl iflytek tnews10".split(),
    "1.1": "afqmc c311 chid11 cluewsc11 cmrc2018 csl iflytek ocnli_50k tnews11".split(),
}


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def clue(tmp_path):
    """Test sets of three tasks in their official formats."""
    folder = tmp_path / "clue"
    write_lines(folder / "afqmc" / "test.json", [{"id": i, "sentence1": "一"} for i in range(3)])
    write_lines(folder / "cluener" / "test.json", [{"id": i, "text": "一二三"} for i in range(2)])
    answers = [{"text": "FAKE_ANSWER_1", "answer_start": -1}]
    asked = [{"id": f"TEST_0_QUERY_{i}", "question": "谁？", "answers": answers} for i in range(2)]
    document = {"data": [{"paragraphs": [{"context": "一二三", "qas": asked}]}]}
    write_lines(folder / "cmrc2018" / "test.json", [document])
    return folder


RIGHT = {
    "afqmc": '{"id": "0", "label": "0"}\n{"id": "1", "label": "1"}\n{"id": "2", "label": "1"}\n',
    "cluener": '{"id": 0, "label": {"name": {"一二": [[0, 1]]}}}\n{"id": 1, "label": {}}\n',
    "cmrc2018": '{\n    "TEST_0_QUERY_0": "一",\n    "TEST_0_QUERY_1": "二三"\n}',
}


@pytest.fixture
def make(tmp_path, clue):
    """Makes a finished run with a prediction file."""

    def make(task, text=None, folder="a-seed0", score=0.5, data="folder", where=clue, ids=None):
        path = tmp_path / "results" / task / folder
        path.mkdir(parents=True, exist_ok=True)
        result = {"task": task, "score": score, "metric": "accuracy", "data": data, "seed": 0}
        if ids:
            known = predictions.identity(ids, task_class(task).one_object)
            result["submissions"] = {f"{task}_predict.json": known}
        (path / "result.json").write_text(json.dumps(result))
        source = Source(where / task, data).describe()
        (path / "settings.json").write_text(json.dumps({"data": source, "settings": {}}))
        if text is not None:
            (path / f"{task}_predict.json").write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Runs the command; returns the zip and what was said."""
    monkeypatch.delenv("CLUE_DATA", raising=False)

    numbers = itertools.count()

    def run(*flags):
        output = tmp_path / f"submission{next(numbers)}.zip"
        common = ["--results", tmp_path / "results", "--output", output]
        try:
            submit.main([str(flag) for flag in (*common, *flags)])
        except SystemExit as end:
            assert not output.exists()
            said = capsys.readouterr()
            return None, f"{said.err}\n{end}"
        return output, capsys.readouterr().out

    return run


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_names_are_those_of_the_leaderboard(version):
    files = []
    for name in submit.BOARDS[version]:
        kind = task_class(name)
        files.append(submit.submission(kind(kind.options(**kind.defaults)), version)[1])
    assert sorted(files) == [f"{name}_predict.json" for name in FILES[version]]


def test_every_task_has_its_script():
    for name in TASKS:
        kind = task_class(name)
        assert issubclass(kind, Task) and kind.name == name and kind.submissions
    assert chosen(["all"]) == list(TASKS)


def test_files_are_zipped_as_they_are(make, run):
    paths = {task: make(task, text) for task, text in RIGHT.items()}
    output, said = run("--tasks", *RIGHT)
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == [f"{task}_predict.json" for task in RIGHT]
        for task, path in paths.items():
            file = f"{task}_predict.json"
            assert archive.read(file) == (path / file).read_bytes()
    assert "Wrote" in said and "(3 files)" in said and "not compared" not in said
    again, _ = run("--tasks", *RIGHT)
    assert again != output and again.read_bytes() == output.read_bytes()
    with pytest.raises(SystemExit, match="submission0.zip exists; move it away"):
        submit.main(["--results", str(output.parent / "results"), "--output", str(output)])


def test_the_best_run_or_the_named_one(make, run):
    make("afqmc", RIGHT["afqmc"], "a-seed0", 0.5)
    best = make("afqmc", RIGHT["afqmc"], "a-seed1", 0.7)
    make("afqmc", None, "b-seed0", 0.9)  # without a file
    make("afqmc", RIGHT["afqmc"], "c-seed0", 0.99, data="sample")
    assert f"afqmc: {best}" in run("--tasks", "afqmc")[1]
    other = best.with_name("a-seed0")
    assert f"afqmc: {other}" in run("--tasks", "afqmc", "--run", f"afqmc={other}")[1]


def test_only_runs_on_the_named_data_count(make, run, clue, tmp_path, monkeypatch):
    """Equal files elsewhere are the same data; of the invented sample nothing is submitted."""
    mine = make("afqmc", RIGHT["afqmc"], "a-seed0", 0.5)
    ids = [record["id"] for record in read_records(SAMPLE / "afqmc" / "test.json")]
    text = "".join(json.dumps({"id": str(i), "label": "0"}) + "\n" for i in ids)
    trial = make("afqmc", text, "trial-seed0", 0.9, where=SAMPLE)
    assert f"afqmc: {mine}" in run("--tasks", "afqmc")[1]
    assert (
        "was trained on the invented sample"
        in run("--tasks", "afqmc", "--run", f"afqmc={trial}")[1]
    )
    shutil.copytree(clue, tmp_path / "moved")
    monkeypatch.setenv("CLUE_DATA", str(tmp_path / "moved"))
    said = run("--tasks", "afqmc")[1]
    assert f"afqmc: {mine}" in said and "NOTE" not in said
    output, said = run("--tasks", "afqmc", "--run", f"afqmc={trial}")
    assert output is None and f"{trial} was not trained on the data in {tmp_path}/moved" in said

    monkeypatch.setenv("CLUE_DATA", str(SAMPLE))
    output, said = run("--tasks", "afqmc")
    assert output and f"afqmc: {trial}" in said and "not compared" not in said
    assert "NOTE: afqmc_predict.json answers the invented sample: a trial" in said
    write_lines(tmp_path / "other" / "afqmc" / "test.json", [{"id": 0, "sentence1": "二"}])
    said = run("--tasks", "afqmc", "--data", tmp_path / "other")[1]  # before CLUE_DATA
    assert f"afqmc: no finished run on the data in {tmp_path}/other/afqmc" in said
    monkeypatch.setenv("CLUE_DATA", "nowhere")
    assert "CLUE_DATA is nowhere, but there is no folder" in run("--tasks", "afqmc")[1]


def test_all_that_is_missing_is_listed(make, run):
    make("afqmc", RIGHT["afqmc"])
    make("csl", None)
    make("tnews", "", data="sample")
    output, said = run()
    assert output is None
    assert "csl: " in said and "csl_predict.json is missing; the run saw no test.json" in said
    for task in ("iflytek", "wsc", "chid", "c3", "cmrc2018", "ocnli", "tnews"):
        assert f"{task}: no finished run on real data" in said
    assert "afqmc:" not in said and "is not written: 8 problems" in said


def test_without_data_the_ids_are_not_compared(make, run, tmp_path):
    make("afqmc", RIGHT["afqmc"], where=tmp_path / "gone")
    output, said = run("--tasks", "afqmc")
    assert output and "not compared with the test set" in said


LINE = '{"id": "0", "label": "0"}\n'
QUERY = [f"TEST_0_QUERY_{i}" for i in range(2)]


@pytest.mark.parametrize(
    "task, ids, text, problem",
    [
        ("afqmc", "012", RIGHT["afqmc"], ""),
        ("afqmc", "012", RIGHT["afqmc"].replace(LINE, ""), "2 answers; the test set had 3 ids"),
        (
            "afqmc",
            "012",
            RIGHT["afqmc"].replace(LINE, "") + LINE,
            "the ids, or their order, are not",
        ),
        ("afqmc", "013", RIGHT["afqmc"], "the ids, or their order, are not those of the test set"),
        ("cmrc2018", QUERY, RIGHT["cmrc2018"], ""),
        ("cmrc2018", QUERY[::-1], RIGHT["cmrc2018"], ""),
        ("cmrc2018", [*QUERY, "TEST_1"], RIGHT["cmrc2018"], "2 answers; the test set had 3 ids"),
        ("cmrc2018", ["TEST_1", "TEST_2"], RIGHT["cmrc2018"], "the ids, or their order, are not"),
    ],
)
def test_without_data_the_ids_are_those_that_the_run_wrote_down(
    make, run, tmp_path, task, ids, text, problem
):
    make(task, text, where=tmp_path / "gone", ids=ids)
    output, said = run("--tasks", task)
    assert bool(output) == (not problem) and problem in said and "not compared" not in said


@pytest.mark.parametrize("ids", [None, "012"])
@pytest.mark.parametrize("where", ["gone", "clue"])
@pytest.mark.parametrize("task, text", [("afqmc", ""), ("afqmc", "\n"), ("cmrc2018", "{}")])
def test_a_file_without_answers_is_refused(make, run, tmp_path, task, text, where, ids):
    path = make(task, text, where=tmp_path / where, ids=ids)
    output, said = run("--tasks", task)
    assert output is None and f"{path / task}_predict.json: it holds no answer." in said


def test_runs_write_down_the_ids_that_they_answer(clue, tiny, tmp_path, run):
    """A file cut after whole lines is refused, though the data has gone since."""
    shutil.copytree(SAMPLE / "afqmc", tmp_path / "sample" / "afqmc")
    flags = ["--data", tmp_path / "sample", "--model", tiny, "--output", tmp_path / "results"]
    flags += ["--maxlen", 24, "--epochs", 1, "--limit", 8]
    experiment.main(task_class("afqmc"), [str(flag) for flag in flags])
    (folder,) = (tmp_path / "results" / "afqmc").iterdir()
    content = json.loads((folder / "settings.json").read_text())  # no trial, but real data
    content["data"] = {"kind": "folder", "folder": str(tmp_path / "gone"), "sha256": {}}
    (folder / "settings.json").write_text(json.dumps(content))
    assert json.loads((folder / "result.json").read_text())["submissions"] == {
        "afqmc_predict.json": predictions.identity([str(i) for i in range(12)])
    }
    assert run("--tasks", "afqmc")[0]
    path = folder / "afqmc_predict.json"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    output, said = run("--tasks", "afqmc")
    assert output is None and "11 answers; the test set had 12 ids" in said


DAMAGED = [
    ("afqmc", '"label": "0"', '"label": "2"', "1 answers are not allowed, such as '2' of id 0"),
    ("afqmc", '"label": "0"', '"label": 0', "1 answers are not allowed, such as 0 of id 0"),
    ("afqmc", LINE, "", "2 answers for 3 test ids: 1 are missing, 0 belong to no test id"),
    ("afqmc", '"id": "2"', '"id": "7"', "1 are missing, 1 belong to no test id"),
    ("afqmc", '"id": "2"', '"id": "1"', "an id is answered twice"),
    ("afqmc", '"label": "0"}', '"label": "0"', "not in the leaderboard's format"),
    ("afqmc", '{"id": "0", "label": "0"}', "[0, 0]", "not in the leaderboard's format"),
    ("cmrc2018", '"一"', '""', "1 answers are not allowed, such as ''"),
    ("cmrc2018", "QUERY_1", "QUERY_0", "an id is answered twice"),
    ("cmrc2018", '    "TEST_0_QUERY_0": "一",\n', "", "1 answers for 2 test ids"),
    ("cmrc2018", RIGHT["cmrc2018"], "[]", "not one JSON object"),
    ("cluener", '"name"', '"planet"', "1 answers are not allowed"),
    ("cluener", "[0, 1]", "[0, 2]", "1 answers are not allowed"),
    ("cluener", "[[0, 1]]", "[0, 1]", "1 answers are not allowed"),
]


@pytest.mark.parametrize("task, old, new, problem", DAMAGED)
def test_malformed_files_are_refused(make, run, task, old, new, problem):
    assert old in RIGHT[task]
    path = make(task, RIGHT[task].replace(old, new))
    output, said = run("--tasks", task)
    assert output is None
    assert f"{path / task}_predict.json: " in said and problem in said


def test_the_order_is_that_of_the_test_set(make, run):
    make("afqmc", RIGHT["afqmc"].replace(LINE, "") + LINE)
    output, said = run("--tasks", "afqmc")
    assert output is None and "not in the order of the test set" in said


@pytest.mark.parametrize(
    "task, answer, right",
    [
        ("chid", 9, True), ("chid", 10, False), ("chid", "3", False), ("chid", True, False),
        ("c3", "3", True), ("c3", "4", False), ("c3", 3, False),
        ("wsc", "true", True), ("wsc", "True", False),
        ("iflytek", "118", True), ("iflytek", "119", False),
        ("tnews", "116", True), ("tnews", "105", False),
        ("cmnli", "neutral", True), ("ocnli", "-", False),
    ],
)  # fmt: skip
def test_allowed_answers(task, answer, right):
    kind = task_class(task)
    assert submit.allowed(kind(kind.options(**kind.defaults)), answer) is right


def test_wrong_flags(run, make):
    make("afqmc", RIGHT["afqmc"])
    assert "There is no task 'news'" in run("--tasks", "news")[1]
    assert "--run takes TASK=FOLDER" in run("--tasks", "afqmc", "--run", "csl=x")[1]
    assert "holds no finished run" in run("--tasks", "afqmc", "--run", "afqmc=nowhere")[1]
