"""Our dev scores beside a published row: which differ by more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from clue_baselines.data import OFFICIAL
from clue_baselines.data.footnotes import footnotes
from clue_baselines.finished import Run
from clue_baselines.report.known import known
from clue_baselines.report.published import NAMES, Row
from clue_baselines.results import mean_and_deviation
from clue_baselines.tasks import TASKS


@dataclass(frozen=True)
class Beside:
    """A task's scores in points, and why they cannot be compared, if so.

    error: standard error of one dev score, from the finite number of its rows.
    metric: what is compared, if not the task's own metric.
    """

    task: str
    ours: str
    published: float
    difference: float
    error: float
    notes: tuple[str, ...] = ()
    metric: str = ""

    @property
    def name(self) -> str:
        """The task, and the metric if it is another."""
        return f"{self.task} ({self.metric.replace('_', ' ')})" if self.metric else self.task

    @property
    def verdict(self) -> str:
        """In words; more than two standard errors are no chance."""
        if self.notes:
            return "not comparable: " + "; ".join(self.notes)
        return "DIFFERS" if abs(self.difference) > 2 * self.error else "agrees"


def compare(runs: Sequence[Run], row: Row) -> list[Beside]:
    """Every task of the runs that the row has, seeds averaged.

    Where the row has another metric than the task, our scores of that metric are compared; if a
    run has none, the task's own are shown with the row's note.

    Args:
        runs: of one name.
    """
    found = []
    for task in TASKS:
        of_task = list({r.seed: r for r in runs if r.task == task}.values())
        cell = row.cells.get(task)
        if not of_task or not cell:
            continue
        notes = [note for run in of_task for note in notes_beside(run, row)]
        metric = cell.metric
        if metric and all(metric in run.result.get("scores", {}) for run in of_task):
            entries = [run.result["scores"][metric] for run in of_task]
        else:
            entries, metric, notes = [run.result for run in of_task], "", notes + cell.notes
        scores = [100 * entry["score"] for entry in entries]
        ours = f"{scores[0]:.2f}"
        if len(scores) > 1:
            ours = "{:.2f} ± {:.2f}".format(*mean_and_deviation(scores))
        error = 100 * fmean(entry["standard_error"] for entry in entries)
        notes = tuple(dict.fromkeys(notes))  # each once, though all seeds have it
        gap = fmean(scores) - cell.score
        found.append(Beside(task, ours, cell.score, gap, error, notes, metric))
    return found


def notes_beside(run: Run, row: Row) -> list[str]:
    """Why a run cannot be compared with a row; one under the row's name must follow its recipe."""
    notes = notes_on(run)
    own = known(run.name) if run.name in NAMES and run.result["data"] != "sample" else None
    if own and own.row == row and (departure := own.departure(run)):
        notes.append(departure)
    return notes


def notes_on(run: Run) -> list[str]:
    """Why a run of ours cannot be compared with published scores."""
    if run.result["data"] == "sample":
        return ["trained and scored on the invented sample: no CLUE score"]
    official, notes = OFFICIAL[run.task], []
    trained = run.result.get("train_rows")
    if trained is not None and trained != official["train"]:
        notes.append(f"trained on {trained:,} instead of {official['train']:,} rows")
    if run.task != "chid" and run.result["n"] != official["dev"]:  # which counts blanks
        notes.append(f"scored on {run.result['n']:,} instead of {official['dev']:,}")
    return notes


def footnotes_on(run: Run) -> list[str]:
    """What else is to be known of the data of a run of ours."""
    real = run.result["data"] != "sample"
    return footnotes(run.task, checksums(run).values()) if real else []


def checksums(run: Run) -> dict[str, str]:
    """SHA-256 of the files that a run saw, wherever they lay; empty if it did not keep them."""
    return run.settings.get("data", {}).get("sha256", {})


HEADS = ("task", "here", "published", "difference", "two standard errors", "")


def cells(found: Sequence[Beside]) -> list[tuple[str, ...]]:
    """The rows of a table under `HEADS`."""
    return [
        (
            b.name,
            b.ours,
            f"{b.published:.2f}",
            f"{b.difference:+.2f}",
            f"{2 * b.error:.2f}",
            b.verdict,
        )
        for b in found
    ]


def text(found: Sequence[Beside]) -> str:
    """The comparison as aligned text."""
    lines = [HEADS, *cells(found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )
