"""The folder of a run, and what is written into it.

settings.json   what was asked for, versions, devices, data and its checksums
history.csv     one row per epoch        curve.png       the same as a picture
classes.txt     scores per class         confusion.png   confusion matrix (classification)
best.weights.h5 weights of the best epoch; vocab.txt is the vocabulary they need
state/          everything that training needs to go on where it was interrupted, twice
mistakes.json   some records of dev that were answered wrongly
result.json     the scores, each with its standard error and n
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clue_baselines import plots
from clue_baselines.data import DataError, Record

MISTAKES = 20

if TYPE_CHECKING:
    from clue_baselines.task import Task


def new_folder(parent: Path, name: str) -> Path:
    """Makes `parent/name`, or `name-2`, `name-3` … where that is taken: nothing is overwritten."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise DataError(f"Cannot make the folder {folder}: {error.strerror}.") from None


def write_json(path: Path, content: dict):
    """Writes JSON under a temporary name, then renames it."""
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_history(path: Path, history: Sequence[dict]):
    """The history as CSV, one row per epoch; as a whole, since `run` reads it at any moment."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    temporary.replace(path)


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float]:
    """A score sum(parts) / sum(wholes) over records, with its standard error.

    The error is the infinitesimal jackknife over records, sqrt(sum((part - score * whole)^2)) /
    sum(wholes); for an accuracy p of n rows that is sqrt(p (1 - p) / n). It holds for F1 as well
    (parts 2 * true positives, wholes predicted + real), and counts what one record holds as
    dependent. Source: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982.

    >>> score, error = ratio([1, 0, 1, 0], [1, 1, 1, 1])
    >>> score, error
    (0.5, 0.25)
    """
    part, whole = np.array(parts, "float64"), np.array(wholes, "float64")
    total = whole.sum()
    if not total:
        return 0.0, 0.0
    score = part.sum() / total
    return float(score), float(np.sqrt(np.square(part - score * whole).sum()) / total)


def scores(task: Task, predictions: Sequence, truths: Sequence) -> dict[str, tuple[float, float]]:
    """The task's scores on dev, each with its standard error."""
    marks = [task.marks(*pair) for pair in zip(predictions, truths, strict=True)]
    found = {name: ratio(*zip(*(mark[name] for mark in marks), strict=True)) for name in marks[0]}
    return found | task.more_scores(predictions, truths)


def counted(task: Task, records: Sequence[Record], marks: Sequence[dict], name: str) -> int:
    """n of a score on dev: how many of the task's `unit` it is about.

    These are all, but for scores of a part of the answers: the F1 of one type of names is about
    the records in which such a name stands or was predicted, whose whole is not 0.
    """
    return sum(
        task.size(record)
        for record, mark in zip(records, marks, strict=True)
        if name == task.metric or mark.get(name, (0, 1))[1]
    )


def mean_and_deviation(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of the scores of several seeds.

    >>> mean_and_deviation([0.5, 0.52, 0.54])
    (0.52, 0.02)
    """
    return round(statistics.mean(scores), 12), round(statistics.stdev(scores), 12)


def report_run(
    task: Task,
    folder: Path,
    history: Sequence[dict],
    records: Sequence[Record],
    predictions: Sequence,
    truths: Sequence,
    about: dict,
    more: dict[str, tuple[float, float]] | None = None,
) -> dict:
    """Prints and writes the dev scores with their standard errors and n, tables and pictures.

    Args:
        records, predictions, truths: the dev set, what was predicted and what is right.
        about: seed, kind of data and recipe, for `result.json`.
        more: scores beside those of the predictions; of those on a test set no n is known.
    """
    found = scores(task, predictions, truths) | (more or {})
    score, error = found[task.metric]
    n = sum(map(task.size, records))
    title = f"{task.name} dev {task.metric} {100 * score:.2f} ± {100 * error:.2f} %"
    task.tables(folder, predictions, truths, title)
    print(f"{title} (standard error, {n} {task.unit}, seed {about['seed']})")
    marks = [task.marks(*pair) for pair in zip(predictions, truths, strict=True)]
    entries = {k: {"score": v, "standard_error": e} for k, (v, e) in found.items()}
    for name, entry in entries.items():
        said = f"{name} {100 * entry['score']:.2f} ± {100 * entry['standard_error']:.2f} %"
        if not name.startswith("test"):
            entry["n"] = counted(task, records, marks, name)
            said = f"dev {said} ({entry['n']} {task.unit})"
        if name != task.metric:
            print(f"{task.name} {said}")
    if about["data"] == "sample":
        print("This is the score on the invented sample, not a CLUE score.")
    plots.plot_curve(folder / "curve.png", history, task.metric, title)
    result = {"task": task.name, "metric": task.metric, "score": score, "standard_error": error}
    best = max(history, key=lambda row: row[f"dev_{task.metric}"])
    result |= {"n": n, "best_epoch": best["epoch"], "epochs": len(history), **about}
    result["scores"] = entries
    write_json(folder / "mistakes.json", mistakes(task, records, predictions, truths))
    write_json(folder / "result.json", result)
    return result


def mistakes(
    task: Task, records: Sequence[Record], predictions: Sequence, truths: Sequence
) -> list[dict]:
    """Records that were not answered fully right, evenly chosen, with both answers in words."""
    wrong = []
    for record, said, right in zip(records, predictions, truths, strict=True):
        part, whole = task.marks(said, right).get(task.metric, (1, 1))
        if part < whole:
            wrong.append((record, said, right))
    step = max(1, len(wrong) // MISTAKES)
    return [
        {
            "where": Path(record.where).name,
            "text": " | ".join(task.texts(record)),
            "said": task.say(record, said),
            "right": task.say(record, right),
        }
        for record, said, right in wrong[::step][:MISTAKES]
    ]


def report_seeds(parent: Path, name: str, runs: Sequence[dict]):
    """Prints and writes mean and standard deviation over the seeds."""
    mean, deviation = mean_and_deviation([run["score"] for run in runs])
    error = statistics.mean(run["standard_error"] for run in runs)
    print(
        f"\n{runs[0]['task']} dev {runs[0]['metric']} over {len(runs)} seeds: "
        f"{100 * mean:.2f} ± {100 * deviation:.2f} % (mean ± standard deviation; "
        f"standard error of each {100 * error:.2f}, n {runs[0]['n']})"
    )
    summary = {"mean": mean, "standard_deviation": deviation, "runs": list(runs)}
    write_json(new_folder(parent, f"{name}-seeds") / "summary.json", summary)
