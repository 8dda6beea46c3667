"""Sets finished runs beside published scores: a table in the terminal and a page.

    python -m clue_baselines.report
    python -m clue_baselines.report --results results --output report.html --average tnews afqmc
    python -m clue_baselines.report --beside roberta-wwm-ext

A cell is the mean dev score in percent over the seeds of a run, ± their standard deviation, and
for one seed ± the standard error over dev. Runs of other settings under one name are a row of
their own, whose name says in what they differ. A letter (a, b …) means that a cell cannot be
compared with the others of its column; the notes say why. A number is a footnote on the data of a
cell that can. Means over tasks take the same tasks for all rows, by default those of which the
fullest of our rows has comparable scores, and leave out rows that lack one. --beside sets our rows
beside a published one of `reproduce --list` and says which scores differ by more than two standard
errors; runs of `reproduce` are set beside their own. Tricks are set beside runs without. Curves and
mistakes are those of the runs that can be compared, if there are any.
"""

import argparse
import csv
import hashlib
import json
from pathlib import Path
from statistics import fmean

from clue_baselines import tricks
from clue_baselines.data import DataError
from clue_baselines.finished import Run, finished_runs
from clue_baselines.report import beside, page, trick_table
from clue_baselines.report.beside import checksums, footnotes_on, notes_on
from clue_baselines.report.published import (
    MEANS,
    NAMES,
    Cell,
    Row,
    named,
    published,
    ranks,
    yardsticks,
)
from clue_baselines.results import mean_and_deviation
from clue_baselines.settings import OF_NO_MATTER
from clue_baselines.tasks import TASKS, chosen


def main(argv: list[str] | None = None):
    """Prints the table and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="the page")
    parser.add_argument("--average", nargs="+", metavar="TASK", help="tasks to take means over")
    parser.add_argument("--beside", default="", metavar="ROW", help="a row to compare with")
    asked = parser.parse_args(argv)
    try:
        runs = [run for run in finished_runs(asked.results) if run.task in TASKS]
        if not runs:
            raise DataError(f"no finished run in {asked.results}; train one first.")
        ours = rows_of(runs)
        average = chosen(asked.average) if asked.average else shared_tasks(ours)
        compared = comparisons(runs, asked.beside)
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    rows = ours + published("dev") + yardsticks()
    print(text_table(rows, average))
    differences = trick_table.table(runs)
    if differences:
        print("\n" + trick_table.text(differences))
    tables = [(title, beside.HEADS, beside.cells(found)) for title, found in compared]
    for title, found in compared:
        print(f"\n{title}\n{beside.text(found)}")
    if differences:
        tables.append(("Tricks: points more than without", trick_table.HEADS, differences))
    shown = {task: preferred([run for run in runs if run.task == task]) for task in TASKS}
    curves = {task: curves_of(of_task) for task, of_task in shown.items()}
    examples = {task: mistakes_of(of_task) for task, of_task in shown.items()}
    content = page.html(rows, published("test"), average, curves, examples, tables)
    temporary = asked.output.with_name(asked.output.name + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(asked.output)
    print(f"\nWrote {asked.output}")


def rows_of(runs: list[Run]) -> list[Row]:
    """One row per name and settings of runs, with a cell per task."""
    rows: dict[str, Row] = {}
    for name, group in alike(runs).items():
        row = rows.setdefault(name, Row(name, "here", "dev", "", {}, ours=True))
        for task in dict.fromkeys(run.task for run in group):
            row.cells[task] = cell_of([run for run in group if run.task == task])
    return list(rows.values())


def alike(runs: list[Run]) -> dict[str, list[Run]]:
    """The runs that make up each row: of a name, task and settings the newest of each seed.

    The first settings of a name and task have the name alone, others also say in what they differ.
    """
    rows: dict[str, dict[tuple, Run]] = {}
    first: dict[tuple, dict] = {}
    for run in runs:
        made = made_by(run)
        base = first.setdefault((run.name, run.task), made)
        other = [said(key, made[key]) for key in made if made[key] != base.get(key, made[key])]
        name = f"{run.name} ({', '.join(other)})" if other else run.name
        rows.setdefault(name, {})[run.task, run.seed] = run
    return {name: list(group.values()) for name, group in rows.items()}


def made_by(run: Run) -> dict:
    """All that runs must share to be one row: settings, epochs and data."""
    stored = dict.fromkeys(tricks.STRENGTHS, 0) | run.settings["settings"]  # of older runs
    matter = {k: v for k, v in stored.items() if k not in (*OF_NO_MATTER, "data")}
    data = (run.result["data"], checksums(run))
    return matter | {"epochs": run.result["epochs"], "data": data}


def said(key: str, value) -> str:
    """A setting as text, for the name of a row."""
    if key == "data":
        kind, files = value
        whole = json.dumps([kind, files], sort_keys=True)
        return f"{kind} data {hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    return f"{key.replace('_', '-')} {value}"


def comparisons(runs: list[Run], asked: str) -> list[tuple[str, list[beside.Beside]]]:
    """Titles and tables of our rows beside the row asked for, or beside their own."""
    found = []
    for name, group in alike(runs).items():
        own = group[0].name
        other = asked or (own if own in NAMES else "")
        if other:
            row = named(other)
            title = f"{name} beside {row.model}, {row.by}"
            found.append((title, beside.compare(group, row)))
    return found


def cell_of(runs: list[Run]) -> Cell:
    """Mean and deviation of the seeds of one task."""
    scores = [100 * run.score for run in runs]
    error = 100 * fmean(run.result["standard_error"] for run in runs)
    mean, deviation = mean_and_deviation(scores) if len(runs) > 1 else (scores[0], error)
    notes = dict.fromkeys(note for run in runs for note in notes_on(run))  # each once
    footnotes = dict.fromkeys(note for run in runs for note in footnotes_on(run))
    n = runs[0].result["n"]  # of one task, on the same data
    return Cell(mean, deviation, len(runs), list(notes), list(footnotes), error, n)


def shared_tasks(ours: list[Row]) -> list[str]:
    """The tasks that the fullest of our rows has comparable scores of; none if none has any."""
    lacking = min((row.lacking(TASKS) for row in ours), key=len)
    return [task for task in TASKS if task not in lacking]


def text_table(rows: list[Row], average: list[str]) -> str:
    """All rows as aligned text, with the notes and what the means are over."""
    shown = [task for task in TASKS if any(row.ours and task in row.cells for row in rows)]
    rows = [row for row in rows if any(task in row.cells for task in shown)]
    marks = page.note_marks(rows, shown)
    means = [row.means(average) for row in rows]
    columns = [[f"{row.model}, {row.by}" for row in rows]]
    columns += [[text_cell(row.cells.get(task), marks) for row in rows] for task in shown]
    heads = ["", *shown]
    if average:
        for name in MEANS:
            values = [mean and mean[name] for mean in means]
            heads += [name, "rank"]
            columns.append(["–" if value is None else f"{value:.2f}" for value in values])
            columns.append([str(rank or "–") for rank in ranks(values)])
    widths = [max(map(len, [h, *c])) for h, c in zip(heads, columns, strict=True)]
    lines = ["  ".join(h.rjust(w) for h, w in zip(heads, widths, strict=True))]
    for cells in zip(*columns, strict=True):
        line = [cells[0].ljust(widths[0])]
        line += [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        lines.append("  ".join(line).rstrip())
    lines += [f"({mark}) {note}" for note, mark in marks.items()]
    lines.append(sizes_line(rows, shown))
    lines.append(page.average_line(average, rows))
    return "\n".join(lines)


def sizes_line(rows: list[Row], tasks: list[str]) -> str:
    """How much our scores of each task are made of."""
    sizes = {}
    for task in tasks:
        found = {row.cells[task].n for row in rows if row.ours and task in row.cells}
        sizes[task] = " or ".join(f"{n:,}" for n in sorted(found))
    return "n of our scores: " + "; ".join(f"{task} {said}" for task, said in sizes.items()) + "."


def text_cell(cell: Cell | None, marks: dict[str, str]) -> str:
    """A cell as text."""
    if cell is None:
        return ""
    deviation = f" ± {cell.deviation:.2f}" if cell.deviation is not None else ""
    return f"{cell.score:.2f}{deviation}" + "".join(f" ({marks[note]})" for note in cell.marked)


def preferred(runs: list[Run]) -> list[Run]:
    """Of a task's runs those without notes; else those on real data; else all."""
    clean = [run for run in runs if not notes_on(run)]
    return clean or [run for run in runs if run.result["data"] != "sample"] or runs


def curves_of(runs: list[Run]) -> list[page.Curve]:
    """The dev scores by epoch of some runs of one task."""
    curves = []
    for run in runs:
        path = run.folder / "history.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                history = list(csv.DictReader(file))
            scores = [100 * float(epoch[f"dev_{run.result['metric']}"]) for epoch in history]
            curves.append(page.Curve(run.name, run.seed, run.result["metric"], scores))
    return curves


def mistakes_of(runs: list[Run]) -> tuple[str, list[dict]]:
    """Name of the best of some runs of one task, and its examples of mistakes."""
    if not runs:
        return "", []
    best = max(runs, key=lambda run: run.score)
    path = best.folder / "mistakes.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return best.folder.name, found
