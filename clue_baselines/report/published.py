"""Published scores on CLUE, each with its source, and what keeps them from being compared.

The numbers are in `published.json`: rows of scores in percent and their sources.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, harmonic_mean

from clue_baselines.data import DataError

CONTENT = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
SOURCES: dict[str, dict] = CONTENT["sources"]
NAMES: dict[str, dict] = json.loads(
    (Path(__file__).parent.parent / "reproduce.json").read_text(encoding="utf-8")
)["rows"]


def geometric_mean(scores: list[float]) -> float:
    """The geometric mean, 0 if a score is 0.

    >>> geometric_mean([1, 4]), geometric_mean([0, 4])
    (2.0, 0.0)
    """
    return math.prod(scores) ** (1 / len(scores))


MEANS = {"arithmetic": fmean, "geometric": geometric_mean, "harmonic": harmonic_mean}


@dataclass
class Cell:
    """A score in percent, and what there is to say of it.

    deviation: over the seeds; of one seed the standard error over dev.
    error, n: standard error of one seed's score, and how much it is scored on.
    notes: why it cannot be compared with the others of its column.
    footnotes: what else is to be known of its data.
    metric: what is measured, if not the task's own metric.
    """

    score: float
    deviation: float | None = None
    seeds: int = 1
    notes: list[str] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    error: float | None = None
    n: int | None = None
    metric: str = ""

    @property
    def marked(self) -> list[str]:
        """All that a mark at it stands for."""
        return self.notes + self.footnotes


@dataclass
class Row:
    """A model's scores by task."""

    model: str
    by: str
    split: str
    source: str
    cells: dict[str, Cell]
    ours: bool = False

    def lacking(self, tasks: Sequence[str]) -> list[str]:
        """Those of the tasks that it has no comparable score of."""
        return [t for t in tasks if t not in self.cells or self.cells[t].notes]

    def means(self, tasks: list[str]) -> dict[str, float] | None:
        """All means over exactly these tasks; None if one is missing or not comparable.

        With one set of tasks for all rows the means are about the models, not about who ran
        which task. Source: "How not to Lie with a Benchmark" (arXiv 2112.01342).

        >>> row = Row("", "", "dev", "", {t: Cell(s) for t, s in zip("abcd", (90, 90, 90, 30))})
        >>> {name: round(mean, 4) for name, mean in row.means(list("abcd")).items()}
        {'arithmetic': 75.0, 'geometric': 68.3852, 'harmonic': 60.0}
        """
        if not tasks or self.lacking(tasks):
            return None
        scores = [self.cells[task].score for task in tasks]
        return {name: mean(scores) for name, mean in MEANS.items()}


def published(split: str) -> list[Row]:
    """The published rows on dev or test.

    Notes stand at cells that measure something else than our scores.
    """
    return [row_of(entry) for entry in CONTENT["rows"] if entry["split"] == split]


def yardsticks() -> list[Row]:
    """People and other rows on test that have no equal on dev, to stand among those on dev.

    Every cell has a note that says so.
    """
    rows = [row_of(entry) for entry in CONTENT["rows"] if entry.get("yardstick")]
    for row in rows:
        for cell in row.cells.values():
            cell.notes = cell.notes or ["on test"]
    return rows


def row_of(entry: dict) -> Row:
    """A row of `published.json`."""
    notes, metrics = entry.get("notes", {}), entry.get("metric", {})
    cells = {
        task: Cell(
            score, notes=[notes[task]] if task in notes else [], metric=metrics.get(task, "")
        )
        for task, score in entry["scores"].items()
    }
    return Row(entry["model"], entry["by"], entry["split"], entry["source"], cells)


def named(name: str) -> Row:
    """The row on dev that `reproduce.json` calls by that name.

    Raises:
        DataError: there is none.
    """
    if name not in NAMES:
        raise DataError(f"There is no row {name!r}; the rows are {', '.join(NAMES)}.")
    return next(r for r in published("dev") if [r.model, r.by] == NAMES[name]["published"])


def ranks(values: list[float | None]) -> list[int | None]:
    """Places from 1 for the greatest value; equal values share a place, None has none.

    >>> ranks([71.35, None, 71.27, 73.7, 71.27])
    [2, None, 3, 1, 3]
    """
    known = [value for value in values if value is not None]
    return [
        None if value is None else 1 + sum(other > value for other in known) for value in values
    ]
