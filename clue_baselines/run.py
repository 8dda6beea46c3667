"""Runs all tasks with several seeds, each in a process of its own; goes on where it stopped.

    python -m clue_baselines.run --tasks all --seeds 3 --model hfl/chinese-roberta-wwm-ext
    python -m clue_baselines.run --tasks tnews afqmc --name quick --epochs 1 --limit 2000
    python -m clue_baselines.run --tasks tnews iflytek --seeds 3 --tricks none r-drop fgm r-drop+fgm

With --tricks everything runs once with each of them: none, r-drop, fgm, gradient-penalty, can,
logit-adjustment, tailr, ema, child-tuning, lookahead, with =VALUE behind it for another strength
than usual, or several joined by +. A task that has no use for a trick is left out of it.
`python -m clue_baselines.report` then shows what each trick gives.

Every other flag is passed on to the tasks' scripts. What is finished is not done again, what was
interrupted goes on after its last finished epoch, and a run that fails does not stop the others:
its output is in <output>/<task>/<name>-seed<n>.log.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from clue_baselines import results, tricks
from clue_baselines.backbone import short_name
from clue_baselines.data import SAMPLE, DataError, Source
from clue_baselines.settings import OF_NO_MATTER, Settings, parse
from clue_baselines.tasks import chosen, task_class

UP, CLEAR = "\033[{}A", "\033[2K"


@dataclass
class Job:
    """One task with one seed, and how far it is."""

    task: str
    seed: int
    settings: Settings
    flags: list[str]
    state: str = "waiting"
    said: str = ""
    score: float | None = None
    started: float = 0.0
    seconds: float = 0.0

    @property
    def stem(self) -> str:
        """Name of the run's folder, but for a number behind it."""
        return f"{self.settings.name}-seed{self.seed}"

    def folders(self) -> list[Path]:
        """All folders of this run, the newest last."""
        parent = Path(self.settings.output) / self.task
        found = [parent / self.stem, *parent.glob(f"{self.stem}-[0-9]*")]
        return sorted((f for f in found if f.is_dir()), key=lambda f: f.stat().st_mtime)


def main(argv: list[str] | None = None):
    """Runs what is not done yet; ends with exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --seed is no --seeds: unknown flags are passed on
    )
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="default: all")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--tricks", nargs="+", default=[], metavar="TRICK", help="see above")
    parser.add_argument("--name", default="", help="of the runs; default: made of the model")
    asked, flags = parser.parse_known_args(argv)
    try:
        jobs = make_jobs(asked, flags)
        failed = work_to_the_end(jobs)
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    if failed:
        raise SystemExit(f"ERROR: {failed} of {len(jobs)} runs failed; their logs say why.")


def make_jobs(asked: argparse.Namespace, flags: list[str]) -> list[Job]:
    """All runs, with the settings that their scripts will read from the flags.

    Raises:
        DataError: no task of that name, a flag that makes no sense, or a run of the same name has
            finished with other settings.
    """
    if asked.seeds < 1:
        raise DataError("--seeds must be at least 1.")
    jobs = []
    for task in chosen(asked.tasks):
        for trick in asked.tricks or [""]:
            more = [*flags, *(tricks.flags_of(trick) if trick else [])]
            jobs += jobs_of(task, asked.seeds, asked.name, bool(trick), more)
    names = [(job.task, job.stem) for job in jobs]
    if len(set(names)) < len(names):
        raise DataError("--tricks names the same trick twice.")
    return jobs


def jobs_of(task: str, seeds: int, name: str, named: bool, flags: list[str]) -> list[Job]:
    """The runs of one task that differ in their seeds; left out if it cannot take a trick.

    Args:
        named: whether the tricks stand in the name of the runs even if a name is given.
    """
    kind = task_class(task)
    settings = parse(kind.options, task, "", kind.defaults, flags)
    if settings.resume or settings.seed != [0]:
        raise DataError("give --seeds N, not --seed or --resume.")
    used = tricks.label(settings) if named or not name else ""
    name = name or short_name(settings.model)
    settings.name = f"{name}-{used}" if used else name
    jobs = [Job(task, seed, settings, flags) for seed in range(seeds)]
    for job in jobs:
        try:
            kind(settings)
            look_for_result(job)
        except tricks.NotForThisTask as refusal:
            if not named:
                raise
            job.state, job.said = "left out", str(refusal)
    return jobs


def look_for_result(job: Job):
    """Marks a job as done if a folder holds its result."""
    for folder in job.folders():
        if (folder / "result.json").is_file():
            if other := difference(job, folder):
                raise DataError(
                    f"{folder} is finished {other}; give these runs another --name or --output."
                )
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            job.state, job.score = "done", 100 * result["score"]
            job.said = f"{result['metric']} {job.score:.2f}"


def difference(job: Job, folder: Path) -> str:
    """In which data or setting a run is not the one that is asked for; empty if it is."""
    content = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    other = other_data(job, content.get("data", {}))
    return other or other_setting(job.settings, content["settings"])


def other_data(job: Job, seen: dict) -> str:
    """Why the data of a run are not those that the job would read; empty if they are.

    The hub is not asked: what was fetched from it is verified whenever it is read.

    Args:
        seen: what `Source.describe` said of the run's data.
    """
    named, kind = job.settings.data or os.environ.get("CLUE_DATA"), seen.get("kind")
    if kind == "sample" and named and not job.settings.data:
        return "on the invented sample, and now CLUE_DATA is set"
    if kind == "folder" and not named:
        return f"on the data in {seen['folder']}, and now neither --data nor CLUE_DATA is set"
    if not named or "sha256" not in seen:
        return ""
    parent = SAMPLE if named == "sample" else Path(named).expanduser()
    if checksums(parent / job.task) != seen["sha256"]:
        return f"on the data in {seen['folder']}, and {parent / job.task} holds others"
    return ""


@lru_cache
def checksums(folder: Path) -> dict[str, str]:
    """The checksums of a task's data, made once for all its runs."""
    return Source(folder, "folder").checksums()


def other_setting(settings: Settings, stored: dict) -> str:
    """In which setting a run is not the one that is asked for; empty if it is."""
    for key, wanted in asdict(settings).items():
        seen = stored.get(key, 0 if key in tricks.STRENGTHS else wanted)  # of older runs
        if key not in OF_NO_MATTER and seen != wanted:
            return f"with --{key.replace('_', '-')} {seen}, not {wanted}"
    return ""


def work_to_the_end(jobs: list[Job]) -> int:
    """Runs the jobs and summarizes them; returns how many failed. Ctrl-C says how to go on."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a closed terminal stops the run as Ctrl-C does
        number = getattr(signal, name, None)
        if number and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            signal.signal(number, signal.default_int_handler)
    try:
        failed = work(jobs)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
    summarize(jobs)
    return failed


def work(jobs: list[Job]) -> int:
    """Runs the jobs one after the other; returns how many failed."""
    table = Table(jobs)
    for job in jobs:
        if job.state in ("done", "left out"):
            continue
        job.state, job.started = "running", time.monotonic()
        log = Path(job.settings.output) / job.task / f"{job.stem}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                command(job), stdout=file, stderr=file, start_new_session=True
            )
            try:
                while process.poll() is None:
                    job.said = progress(job)
                    table.show()
                    time.sleep(0.5)
            except BaseException:  # whatever it is, no run goes on unseen
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            finally:
                job.seconds = time.monotonic() - job.started
        job.state, job.said = "failed", last_line(log)
        if process.returncode == 0:
            look_for_result(job)
        table.show()
    table.show()
    return sum(job.state == "failed" for job in jobs)


def command(job: Job) -> list[str]:
    """The command of a run, or that which goes on with its newest unfinished folder."""
    script = [sys.executable, "-m", f"clue_baselines.{job.task}"]
    for folder in reversed(job.folders()):
        begun = (folder / "vocab.txt").is_file() and not (folder / "result.json").is_file()
        if begun and not difference(job, folder):
            return [*script, "--resume", str(folder)]
    return [*script, *job.flags, "--name", job.settings.name, "--seed", str(job.seed)]


def progress(job: Job) -> str:
    """The last finished epoch of the newest folder and its score."""
    for path in (folder / "history.csv" for folder in job.folders()[-1:]):
        # not there yet, or damaged
        with contextlib.suppress(OSError, IndexError, StopIteration, TypeError, ValueError):
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            key = next(key for key in rows[-1] if key.startswith("dev_"))
            value = 100 * float(rows[-1][key])
            return f"epoch {len(rows)}/{job.settings.epochs}, {key[4:]} {value:.2f}"
    return ""


def last_line(log: Path) -> str:
    """The last line of a log, where errors stand."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:300]


class Table:
    """The state of all runs: redrawn in a terminal, elsewhere a line for each change."""

    def __init__(self, jobs: list[Job]):
        self.jobs, self.drawn, self.states = jobs, 0, {}
        self.tricks = any(tricks.label(job.settings) for job in jobs)

    def show(self):
        """Draws the table, or prints the runs whose state has changed."""
        lines = [self.line(job) for job in self.jobs]
        if sys.stdout.isatty():
            columns, rows = shutil.get_terminal_size()
            at = next((i for i, job in enumerate(self.jobs) if job.state == "running"), len(lines))
            top = max(0, min(at - rows // 2, len(lines) - rows + 1))  # the running one is seen
            shown = [CLEAR + line[: columns - 1] for line in lines[top : top + rows - 1]]
            print((UP.format(self.drawn) if self.drawn else "") + "\n".join(shown), flush=True)
            self.drawn = len(shown)
            return
        for job, line in zip(self.jobs, lines, strict=True):
            if self.states.get(job.stem + job.task) != job.state and job.state != "waiting":
                print(line, flush=True)
            self.states[job.stem + job.task] = job.state

    def line(self, job: Job) -> str:
        """One run as aligned text."""
        seconds = time.monotonic() - job.started if job.state == "running" else job.seconds
        minutes = f"{seconds / 60:.1f} min" if seconds else ""
        used = f"{tricks.label(job.settings):<22}" if self.tricks else ""
        return f"{job.task:<10}{used}seed {job.seed:<4}{job.state:<9}{minutes:>10}  {job.said}"


def summarize(jobs: list[Job]):
    """Prints mean and deviation of the seeds of every task and trick."""
    print()
    groups: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if job.score is not None:
            groups.setdefault((job.task, tricks.label(job.settings)), []).append(job.score)
    for (task, used), scores in groups.items():
        head = f"{task:<10}{used + '  ' if used else ''}"
        if len(scores) > 1:
            mean, deviation = results.mean_and_deviation(scores)
            print(f"{head}{mean:.2f} ± {deviation:.2f} over {len(scores)} seeds")
        else:
            print(f"{head}{scores[0]:.2f}")


if __name__ == "__main__":
    main()
