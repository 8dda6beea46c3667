"""Pictures and tables of a run: learning curve, confusion matrix, scores per class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, row = true class, column = predicted class.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def class_table(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Precision, recall and F1 of every class as aligned text, from a confusion matrix."""
    counts = np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)], axis=1)
    return count_table("class", names, "rows", counts)


def count_table(kind: str, names: Sequence[str], unit: str, counts: np.ndarray) -> str:
    """Precision, recall and F1 as aligned text; a dash where nothing is defined.

    Args:
        kind, unit: what the lines are, and what is counted.
        names, counts: a line's name, and how many are right, predicted and true.
    """
    lines = [f"{kind:<22}{unit:>7}{'precision':>11}{'recall':>9}{'F1':>8}"]
    for name, (right, predicted, true) in zip(names, counts, strict=True):
        shares = [(right, predicted), (right, true), (2 * right, true + predicted)]
        cells = [f"{100 * part / whole:.1f}" if whole else "-" for part, whole in shares]
        lines.append(f"{name:<22}{true:>7}{cells[0]:>11}{cells[1]:>9}{cells[2]:>8}")
    return "\n".join(lines) + "\n"


def plot_confusion(path: Path, matrix: np.ndarray, names: Sequence[str], title: str):
    """The confusion matrix as PNG, each row scaled to shares of its true class."""
    cell, size = (0.45, 10) if len(names) <= 40 else (0.12, 5)
    figure = new_figure(max(5, 2.5 + cell * len(names)), max(3, 2 + cell * len(names)))
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(names) <= 20:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, label="share of the true class")
    figure.savefig(path, dpi=120)


def plot_curve(path: Path, history: Sequence[dict], metric: str, title: str):
    """Training loss and the dev metric by epoch, as PNG."""
    figure = new_figure(7, 4)
    left = figure.subplots()
    right = left.twinx()
    epochs = [row["epoch"] for row in history]
    left.plot(epochs, [row["loss"] for row in history], "o-", color="tab:orange", label="loss")
    for key, color in ((metric, "tab:green"), (f"dev_{metric}", "tab:blue")):
        if key in history[0]:
            label = key.replace("_", " ")
            right.plot(epochs, [100 * row[key] for row in history], "o-", color=color, label=label)
    left.set(xlabel="epoch", ylabel="training loss", title=title)
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set_ylabel(f"{metric} (%)")
    handles = [*left.get_lines(), *right.get_lines()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def new_figure(width: float, height: float):
    """An empty figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
