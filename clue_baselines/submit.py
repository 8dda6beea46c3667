"""Collects prediction files into a zip for cluebenchmarks.com, if they are what it takes.

    python -m clue_baselines.submit
    python -m clue_baselines.submit --tasks afqmc tnews --run tnews=results/tnews/roberta-seed2
    python -m clue_baselines.submit --version 1.0 --output submit_us_1221.zip

Of every task it takes the run with the best dev score, or the one named by --run. Each file is
checked: that it is there under its name, in its format, with every id of the test set once and in
the test set's order, and with answers that the task allows. Where the data is gone, the number of
ids and their hash, which the run wrote down, stand for it. Whatever is wrong with any file is
listed, and no zip is written. The site also takes parts: name the tasks.

If --data or CLUE_DATA names the data, only runs on these count: those whose dev and test files had
the same checksums. Runs on the invented sample count only if it is named: that is a trial.
"""

import argparse
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

from clue_baselines import data, predictions
from clue_baselines.data import SAMPLE, DataError, Source
from clue_baselines.finished import Run, finished_runs, read_run
from clue_baselines.task import Task
from clue_baselines.tasks import chosen, task_class

COMMON = ("afqmc", "tnews", "iflytek", "wsc", "csl", "cmrc2018", "chid", "c3")
BOARDS = {"1.1": (*COMMON, "ocnli"), "1.0": (*COMMON, "cmnli")}
DATE = (2020, 1, 1, 0, 0, 0)  # of the files in the zip: equal files make an equal zip


def main(argv: list[str] | None = None):
    """Checks the files and writes the zip, or ends with exit code 1 and a list of problems."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.submit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results")
    parser.add_argument("--output", type=Path, default=Path("submission.zip"), help="the zip")
    parser.add_argument("--version", choices=BOARDS, default="1.1", help="of the leaderboard")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: all of the board")
    parser.add_argument(
        "--run", nargs="+", default=[], metavar="TASK=FOLDER", help="instead of the best run"
    )
    parser.add_argument("--data", default="", help="folder with CLUE's data; default: CLUE_DATA")
    asked = parser.parse_args(argv)
    try:
        if asked.output.exists():
            raise DataError(f"{asked.output} exists; move it away or give another --output.")
        names = chosen(asked.tasks) if asked.tasks else list(BOARDS[asked.version])
        named = dict(run.split("=", 1) for run in asked.run if "=" in run)
        if len(named) < len(asked.run) or not set(named) <= set(names):
            raise DataError("--run takes TASK=FOLDER, with a task of this submission.")
        files, problems = [], []
        for name in names:
            path, found = collect(name, asked.results, named.get(name), asked)
            files += [path] if path else []
            problems += found
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    if problems:
        print("\n".join(problems), file=sys.stderr)
        raise SystemExit(f"ERROR: {asked.output} is not written: {len(problems)} problems.")
    write_zip(asked.output, files)
    print(f"Wrote {asked.output} ({len(files)} files)")


def collect(name: str, results: Path, folder: str | None, asked) -> tuple[Path | None, list[str]]:
    """A task's prediction file and what is wrong with it."""
    kind = task_class(name)
    task = kind(kind.options(**kind.defaults))
    split, file = submission(task, asked.version)
    try:
        is_named = asked.data or os.environ.get("CLUE_DATA")
        source = data.find(name, asked.data) if is_named else None
        run = read_run(Path(folder)) if folder else best_run(results, name, file, source)
    except DataError as error:
        return None, [f"{name}: {error}"]
    if problem := foreign(run, source):
        return None, [f"{name}: {run.folder} was {problem}."]
    path = run.folder / file
    if not path.is_file():
        return None, [f"{name}: {path} is missing; the run saw no {split}.json."]
    ids = expected_ids(task, run, split, source)
    known = run.result.get("submissions", {}).get(file)  # older runs wrote nothing down
    score = f"dev {run.result['metric']} {100 * run.score:.2f} %"
    against = "" if ids or known else ", not compared with the test set: its file is not there"
    print(f"{name}: {path} ({score}{against})")
    if on_sample(run):
        print(f"NOTE: {file} answers the invented sample: a trial, and no submission to CLUE.")
    return path, [f"{path}: {problem}" for problem in check(task, path, ids, known)]


def submission(task: Task, version: str) -> tuple[str, str]:
    """Test split and file name of a task for a version of the leaderboard."""
    other = {"1.0": "11_", "1.1": "10_"}[version]
    return next(pair for pair in task.submissions.items() if other not in pair[1])


def best_run(results: Path, task: str, file: str, source: Source | None) -> Run:
    """The run on this data with the best dev score; with the file, if one has it.

    Args:
        source: the data; None means any but the invented sample.
    """
    runs = [run for run in finished_runs(results, task) if not foreign(run, source)]
    if not runs:
        where = f"the data in {source.folder}" if source else "real data"
        raise DataError(f"no finished run on {where} in {results / task}.")
    return max(runs, key=lambda run: ((run.folder / file).is_file(), run.score))


def foreign(run: Run, source: Source | None) -> str:
    """Why a run cannot answer for this data, or for CLUE where none is named; empty if it can."""
    if source is None:
        return "trained on the invented sample" if on_sample(run) else ""
    return "" if is_on(run, source) else f"not trained on the data in {source.folder}"


def on_sample(run: Run) -> bool:
    """Whether a run's data were the invented sample, be it by its folder's name."""
    return run.result["data"] == "sample" or is_on(run, Source(SAMPLE / run.task, "sample"))


def is_on(run: Run, source: Source) -> bool:
    """Whether the dev and test files of a run's data were those that are in a folder now."""
    then, now = run.settings["data"].get("sha256", {}), source.checksums()
    shared = [name for name in then.keys() & now.keys() if "train" not in name]
    return bool(shared) and all(then[name] == now[name] for name in shared)


def expected_ids(task: Task, run: Run, split: str, source: Source | None) -> list[str]:
    """The ids of the test set that the run answered; none if its file is not there."""
    seen = run.settings["data"]
    source = source or Source(Path(seen["folder"]), seen["kind"])
    if not source.has(split):
        return []
    return predictions.test_ids(task, task.read(source, split))


def check(task: Task, path: Path, ids: list[str], known: dict | None = None) -> list[str]:
    """What is wrong with a prediction file; nothing if the list is empty.

    Args:
        ids: of the test set; none if its file is not there.
        known: what `predictions.identity` said of them when the file was written.
    """
    try:
        answers = read_answers(path, task.one_object)
    except (ValueError, TypeError, KeyError) as error:
        return [f"not in the leaderboard's format ({error!r})."]
    if not answers:
        return ["it holds no answer."]
    problems = []
    found = [i for i, _ in answers]
    if len(set(found)) < len(found):
        problems.append("an id is answered twice.")
    if ids and set(found) != set(ids):
        missing, foreign = len(set(ids) - set(found)), len(set(found) - set(ids))
        problems.append(
            f"{len(found)} answers for {len(ids)} test ids: "
            f"{missing} are missing, {foreign} belong to no test id."
        )
    elif ids and found != ids and not task.one_object:
        problems.append("the answers are not in the order of the test set.")
    elif not ids and known and known["answers"] != len(found):
        problems.append(f"{len(found)} answers; the test set had {known['answers']} ids.")
    elif not ids and known and known != predictions.identity(found, task.one_object):
        problems.append("the ids, or their order, are not those of the test set.")
    wrong = [(i, answer) for i, answer in answers if not allowed(task, answer)]
    if wrong:
        i, answer = wrong[0]
        problems.append(f"{len(wrong)} answers are not allowed, such as {answer!r} of id {i}.")
    return problems


def read_answers(path: Path, one_object: bool) -> list[tuple[str, Any]]:
    """Ids and answers of a prediction file, in its order."""
    text = path.read_text(encoding="utf-8")
    if one_object:
        if not text.lstrip().startswith("{"):
            raise ValueError("not one JSON object")
        return json.loads(text, object_pairs_hook=list)
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [(str(line["id"]), line["label"]) for line in lines]


def allowed(task: Task, answer: Any) -> bool:
    """Whether the leaderboard takes an answer of that form."""
    if task.name == "cmrc2018":
        return isinstance(answer, str) and bool(answer.strip())
    if task.name == "chid":
        return type(answer) is int and 0 <= answer < 10
    if task.name == "cluener":
        return are_names(task, answer)
    labels = [str(i) for i in range(4)] if task.name == "c3" else task.labels
    return isinstance(answer, str) and answer in labels


def are_names(task: Task, label: Any) -> bool:
    """Whether a label of CLUENER is {type: {name: [[first, last], …]}}."""
    try:
        return all(
            kind in task.types and name and last - first + 1 == len(name) and first >= 0
            for kind, names in label.items()
            for name, places in names.items()
            for first, last in places
        )
    except (AttributeError, TypeError, ValueError):
        return False


def write_zip(output: Path, files: list[Path]):
    """Writes the files into a zip, without folders, in one go."""
    temporary = output.with_name(output.name + ".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files, key=lambda path: path.name):
            info = zipfile.ZipInfo(path.name, DATE)
            archive.writestr(info, path.read_bytes(), compress_type=zipfile.ZIP_DEFLATED)
    temporary.replace(output)


if __name__ == "__main__":
    main()
