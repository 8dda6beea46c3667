"""The folder of a run, and what is written into it.

settings.json   what was asked for, versions, devices, data and its checksums
history.csv     one row per epoch        curve.png       the same as a picture
classes.txt     scores per class         confusion.png   confusion matrix
best.weights.h5 weights of the best epoch; vocab.txt is the vocabulary they need
resume.npz      everything that training needs to go on after the last finished epoch
result.json     the score with its standard error
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clue_baselines import plots
from clue_baselines.data import DataError

if TYPE_CHECKING:
    from clue_baselines.experiment import Task


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
    """The history as CSV, one row per epoch."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def standard_error(share: float, n: int) -> float:
    """Standard error of a share of n independent rows, sqrt(p (1 - p) / n).

    >>> round(standard_error(0.5, 10000), 4)
    0.005
    """
    return math.sqrt(share * (1 - share) / n)


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
    predicted: np.ndarray,
    truth: np.ndarray,
    about: dict,
) -> dict:
    """Prints and writes the dev score with its standard error, tables and pictures.

    Args:
        about: seed, kind of data and recipe, for `result.json`.
    """
    score, n = float(task.score(predicted, truth)), len(truth)
    error = standard_error(score, n)
    title = f"{task.name} dev {task.metric} {100 * score:.2f} ± {100 * error:.2f} %"
    matrix = plots.confusion_matrix(truth, predicted, len(task.classes))
    table = plots.class_table(matrix, task.classes)
    print(f"\n{table}\n{title} (standard error, {n} rows, seed {about['seed']})")
    if about["data"] == "sample":
        print("This is the score on the invented sample, not a CLUE score.")
    (folder / "classes.txt").write_text(table, encoding="utf-8")
    plots.plot_confusion(folder / "confusion.png", matrix, task.classes, title)
    plots.plot_curve(folder / "curve.png", history, task.metric, title)
    result = {"task": task.name, "metric": task.metric, "score": score, "standard_error": error}
    best = max(history, key=lambda row: row[f"dev_{task.metric}"])
    result |= {"n": n, "best_epoch": best["epoch"], "epochs": len(history), **about}
    write_json(folder / "result.json", result)
    return result


def report_seeds(parent: Path, name: str, runs: Sequence[dict]):
    """Prints and writes mean and standard deviation over the seeds."""
    mean, deviation = mean_and_deviation([run["score"] for run in runs])
    print(
        f"\n{runs[0]['task']} dev {runs[0]['metric']} over {len(runs)} seeds: "
        f"{100 * mean:.2f} ± {100 * deviation:.2f} % (mean ± standard deviation)"
    )
    summary = {"mean": mean, "standard_deviation": deviation, "runs": list(runs)}
    write_json(new_folder(parent, f"{name}-seeds") / "summary.json", summary)
