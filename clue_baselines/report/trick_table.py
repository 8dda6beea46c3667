"""What tricks give: runs with them beside equal runs without, seed by seed."""

from collections.abc import Sequence

from clue_baselines import tricks
from clue_baselines.finished import Run
from clue_baselines.report.beside import checksums
from clue_baselines.results import mean_and_deviation
from clue_baselines.settings import OF_NO_MATTER

HEADS = ("task", "trick", "difference")


def table(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Task, trick, and the difference to the same seeds of the same settings without a trick.

    In points of the task's metric: mean ± standard deviation of the differences over the seeds,
    and how many there are; the smallest number of them that says anything is three or so.
    """
    plain = {key(run): run for run in runs if not used(run)}
    found: dict[tuple[str, str], dict[tuple, float]] = {}
    for run in runs:
        base = plain.get(key(run))
        if used(run) and base:
            differences = found.setdefault((run.task, used(run)), {})
            differences[key(run)] = 100 * (run.score - base.score)
    return [(*name, said(list(values.values()))) for name, values in found.items()]


def said(differences: list[float]) -> str:
    """Differences of some seeds as text.

    >>> said([0.5, 0.75, 1.0]), said([-0.25])
    ('+0.75 ± 0.25 (3 seeds)', '-0.25 (1 seed)')
    """
    if len(differences) == 1:
        return f"{differences[0]:+.2f} (1 seed)"
    mean, deviation = mean_and_deviation(differences)
    return f"{mean:+.2f} ± {deviation:.2f} ({len(differences)} seeds)"


def used(run: Run) -> str:
    """The tricks of a run in short."""
    return tricks.label(run.settings["settings"])


def key(run: Run) -> tuple:
    """What two runs must share so that they differ in tricks alone; data may lie anywhere."""
    free = (*OF_NO_MATTER, *tricks.STRENGTHS, "data")
    same = sorted((k, str(v)) for k, v in run.settings["settings"].items() if k not in free)
    files = sorted(checksums(run).items())
    return run.task, run.seed, run.result["data"], tuple(files), tuple(same)


def text(rows: Sequence[tuple[str, str, str]]) -> str:
    """The table as aligned text: a line per trick, a column per task; empty without rows."""
    if not rows:
        return ""
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    names = list(dict.fromkeys(trick for _, trick, _ in rows))
    cells = {(task, trick): value for task, trick, value in rows}
    columns = [["", *names]]
    columns += [[task, *(cells.get((task, trick), "") for trick in names)] for task in tasks]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return "\n".join(["What tricks give, in points, seed by seed:", *lines])
