"""Runs what a published row of dev scores was made by, and sets the scores beside it.

    python -m clue_baselines.reproduce --list
    python -m clue_baselines.reproduce roberta-wwm-ext
    python -m clue_baselines.reproduce bert-base --tasks tnews wsc --seeds 5 --data CLUE_FOLDER

A row (in `reproduce.json`) is a model of the Hugging Face hub and a recipe: the author's, that of
CLUE's own baselines (the numbers beside its scores; those in its scripts differ), or the best
settings of PaddleNLP's search. Both decay the rate linearly to 0 after a warm-up, over 10 % of the
updates where nothing else is said. Other flags are passed on to the scripts, so `--model FOLDER`
takes weights that are already here. A run that another flag parts from the recipe is shown with a
note and does not count as the row's. What is finished is not done again. Heads and decoding are
always those of our scripts; what else cannot be compared stands in the notes of `report`. GPU hours
are estimates, not measured.
"""

import argparse
import sys
import textwrap
from pathlib import Path

from clue_baselines import run
from clue_baselines.data import DataError
from clue_baselines.finished import finished_runs
from clue_baselines.report import beside
from clue_baselines.report.known import Known, known
from clue_baselines.report.published import NAMES
from clue_baselines.tasks import TASKS, chosen


def main(argv: list[str] | None = None):
    """Runs a row, or lists all."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --seed is no --seeds: unknown flags are passed on
    )
    parser.add_argument("row", nargs="?", help="its name, from --list")
    parser.add_argument("--list", action="store_true", help="all rows, and which of them are run")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="default: all")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--output", default="results", help="folder of results")
    asked, more = parser.parse_known_args(argv)
    try:
        if asked.list or not asked.row:
            print(listing(asked.seeds, Path(asked.output)))
            return
        row = known(asked.row)
        if row.lacking:
            raise DataError(f"{row.name} cannot be reproduced here: {row.lacking}.")
        jobs = jobs_of(row, chosen(asked.tasks), asked.seeds, ["--output", asked.output, *more])
        failed = run.work_to_the_end(jobs)
        runs = [r for r in finished_runs(Path(asked.output)) if r.name == row.name]
        print("\n" + beside.text(beside.compare(runs, row.row)))
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    if failed:
        raise SystemExit(f"ERROR: {failed} of {len(jobs)} runs failed; their logs say why.")


def jobs_of(row: Known, tasks: list[str], seeds: int, more: list[str]) -> list[run.Job]:
    """The runs of a row, on those tasks that it was published for; later flags win."""
    jobs = []
    for task in tasks:
        if task in row.row.cells and row.has_recipe(task):
            flags = [*row.command_flags(task), *more]
            jobs += run.jobs_of(task, seeds, row.name, False, flags)
    if not jobs:
        raise DataError(f"{row.name} has no score or no recipe for {', '.join(tasks)}.")
    return jobs


def listing(seeds: int, output: Path) -> str:
    """All rows: weights, published scores, estimated GPU hours, and runs on the official data."""
    lines = [f"Rows for {seeds} seeds; hours of one GPU are estimated, none was measured."]
    runs = [run for run in finished_runs(output) if run.task in TASKS]
    for name in NAMES:
        row = known(name)
        lines.append(f"\n{name}: {row.row.model}, {row.row.by} (source {row.row.source})")
        scores = [f"{t} {row.row.cells[t].score:g}" for t in TASKS if t in row.row.cells]
        lines += wrapped("  dev       ", ", ".join(scores))
        lines.append("            one run each, no deviation published")
        if row.lacking:
            lines.append(f"  not here: {row.lacking}")
            continue
        tasks = [t for t in TASKS if t in row.row.cells and row.has_recipe(t)]
        hours = {task: seeds * row.hours(task) for task in tasks}
        lines.append(f"  weights   {row.model}")
        lines += wrapped("  recipe    ", " ".join(row.flags))
        for task in tasks if row.tasks else ():
            lines += wrapped(f"    {task:<9}", own_flags(row.tasks[task]))
        of_tasks = ", ".join(f"{task} {h:.1f}" for task, h in hours.items())
        lines += wrapped("  estimate  ", f"{sum(hours.values()):.0f} GPU hours: {of_tasks}")
        own = [r for r in runs if r.name == name and r.task in tasks and r.seed < seeds]
        done = {(r.task, r.seed) for r in own if not beside.notes_beside(r, row.row)}
        of_all = f"{len(done)} of {len(tasks) * seeds} runs in {output}"
        lines.append(f"  state     {of_all}" if done else "  state     not run")
    return "\n".join(lines)


def own_flags(flags: list[str]) -> str:
    """Flags in which the last of each name wins.

    >>> own_flags(["--batch-size", "32", "--no-hungarian", "--batch-size", "24"])
    '--batch-size 24 --no-hungarian'
    """
    found: dict[str, list[str]] = {}
    for word in flags:
        if word.startswith("--"):
            name = word
            found[name] = []
        else:
            found[name].append(word)
    return " ".join(" ".join([name, *values]) for name, values in found.items())


def wrapped(head: str, text: str) -> list[str]:
    """Lines of at most 100 columns, the text beside its head."""
    return textwrap.wrap(
        text,
        100,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.exit(main())
