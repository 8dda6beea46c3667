"""Runs what a published row of dev scores was made by, and sets the scores beside it.

    python -m clue_baselines.reproduce --list
    python -m clue_baselines.reproduce roberta-wwm-ext
    python -m clue_baselines.reproduce bert-base --tasks tnews wsc --seeds 5 --data CLUE_FOLDER

A row (in `reproduce.json`) is a model of the Hugging Face hub and a recipe: the author's, that of
CLUE's own baselines, or the best settings of PaddleNLP's search. Other flags are passed on to the
scripts, so `--model FOLDER` takes weights that are already here. What is finished is not done
again. Heads and decoding are always those of our scripts; what else cannot be compared stands in
the notes of `report`. GPU hours are estimates, not measured.
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from clue_baselines import run
from clue_baselines.data import OFFICIAL, DataError
from clue_baselines.finished import finished_runs
from clue_baselines.report import beside
from clue_baselines.report.published import Row, named
from clue_baselines.settings import parse
from clue_baselines.tasks import TASKS, chosen, task_class

CONTENT = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
USEFUL_FLOPS = 30e12  # per second: about what one card of 24 to 40 GB gives in mixed precision


@dataclass(frozen=True)
class Known:
    """A published row that can be reproduced, or why it cannot.

    model, flags, tasks: weights, and the flags of all tasks and of each.
    millions: parameters of the layers, without embeddings.
    """

    name: str
    row: Row
    lacking: str = ""
    model: str = ""
    flags: tuple[str, ...] = ()
    tasks: dict[str, list[str]] | None = None
    millions: int = 0

    def command_flags(self, task: str) -> list[str]:
        """The flags of a task's script."""
        own = self.tasks.get(task, []) if self.tasks else []
        return ["--model", self.model, *self.flags, *own]

    def hours(self, task: str) -> float:
        """GPU hours of one seed, estimated.

        Training takes 6 floating-point operations per parameter and token, predicting dev after
        every epoch and the tests 2; a card does `USEFUL_FLOPS` of them per second.
        """
        kind = task_class(task)
        settings = parse(kind.options, task, "", kind.defaults, self.command_flags(task))
        rows, tokens = CONTENT["tokens"][task]
        counts = OFFICIAL[task]
        read = sum(n for split, n in counts.items() if split not in ("train", "dev"))
        passes = 6 * counts["train"] * settings.epochs + 2 * (
            counts["dev"] * settings.epochs + read
        )
        return passes * rows * tokens * self.millions * 1e6 / USEFUL_FLOPS / 3600


def known(name: str) -> Known:
    """The row of that name.

    Raises:
        DataError: there is none.
    """
    row, entry = named(name), CONTENT["rows"].get(name)
    if "lacking" in entry:
        return Known(name, row, entry["lacking"])
    recipe = CONTENT["recipes"][entry["recipe"]]
    tasks = recipe.get("tasks")
    tasks = tasks and {task: shlex.split(flags) for task, flags in tasks.items()}
    return Known(name, row, "", entry["model"], tuple(recipe["flags"]), tasks, entry["millions"])


def main(argv: list[str] | None = None):
    """Runs a row, or lists all."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        if task in row.row.cells and (row.tasks is None or task in row.tasks):
            flags = [*row.command_flags(task), *more]
            jobs += run.jobs_of(task, seeds, row.name, False, flags)
    if not jobs:
        raise DataError(f"{row.name} has no score or no recipe for {', '.join(tasks)}.")
    return jobs


def listing(seeds: int, output: Path) -> str:
    """All rows: weights, published scores, estimated GPU hours, and runs on the official data."""
    lines = [f"Rows for {seeds} seeds; hours of one GPU are estimated, none was measured."]
    runs = [run for run in finished_runs(output) if run.task in TASKS]
    for name in CONTENT["rows"]:
        row = known(name)
        lines.append(f"\n{name}: {row.row.model}, {row.row.by} (source {row.row.source})")
        scores = [f"{t} {row.row.cells[t].score:g}" for t in TASKS if t in row.row.cells]
        lines.append("  dev       " + ", ".join(scores))
        lines.append("            one run each, no deviation published")
        if row.lacking:
            lines.append(f"  not here: {row.lacking}")
            continue
        tasks = [t for t in TASKS if t in row.row.cells and (not row.tasks or t in row.tasks)]
        hours = {task: seeds * row.hours(task) for task in tasks}
        lines.append(f"  weights   {row.model}")
        lines.append(f"  recipe    {' '.join(row.flags)}")
        lines.append(
            f"  estimate  {sum(hours.values()):.0f} GPU hours: "
            + ", ".join(f"{task} {h:.1f}" for task, h in hours.items())
        )
        done = {(r.task, r.seed) for r in runs if r.name == name and not beside.notes_on(r)}
        done = {(task, seed) for task, seed in done if task in tasks and seed < seeds}
        of_all = f"{len(done)} of {len(tasks) * seeds} runs in {output}"
        lines.append(f"  state     {of_all}" if done else "  state     not run")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
