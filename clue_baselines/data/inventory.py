"""Shows which CLUE data is there, fetches what is missing and verifies all of it.

    python -m clue_baselines.data
    python -m clue_baselines.data --data CLUE_FOLDER --tasks tnews c3
    python -m clue_baselines.data --data CLUE_FOLDER --fetch

Without --data or CLUE_DATA the data is that of earlier downloads, and what is missing is fetched
from the Hugging Face hub (which `HF_HUB_OFFLINE=1` forbids). With a folder, --fetch puts tasks and
files that it has not into it and names them in `from_hub.txt` there; what is there stays as it is,
even if it is damaged. Every file is read whole, with its labels and texts, and its records are
counted against the official numbers (`official.json`); a known copy with other texts has a
footnote. The exit code is 0 if all counts are as official.
"""

import argparse
import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clue_baselines import data
from clue_baselines.data import OFFICIAL, DataError, Source, hub
from clue_baselines.data.footnotes import footnotes
from clue_baselines.data.hub_formats import FORMATS
from clue_baselines.tasks import chosen, task_class

KINDS = {
    "folder": "a folder",
    "hub": "converted from the Hugging Face hub",
    "sample": "the invented sample",
}
FROM_HUB = (
    f"Converted from the dataset {hub.DATASET} of the Hugging Face hub, commit {hub.COMMIT}.\n"
    "Where an official file takes the place of one, delete its line; after the last, this file.\n"
)
UNREAD = "trial"  # CMRC2018's, which no script reads


@dataclass(frozen=True)
class Split:
    """What was found of a split: a line of the table, and whether its count is official."""

    name: str
    said: str
    right: bool


def main(argv: list[str] | None = None):
    """Prints a table per task; ends with exit code 1 if something is missing or not official."""
    parser = argparse.ArgumentParser(
        prog="python -m clue_baselines.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="", help="CLUE's folder; 'sample': the invented sample")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="default: all")
    parser.add_argument("--fetch", action="store_true", help="missing files into the folder")
    asked = parser.parse_args(argv)
    try:
        names = chosen(asked.tasks)
        folder = asked.data or os.environ.get("CLUE_DATA", "")
        if asked.fetch and (not folder or folder == "sample"):
            raise DataError("--fetch is for a folder; name it with --data or CLUE_DATA.")
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    right = [report(name, folder, asked.fetch) for name in names]
    print(f"\n{sum(right)} of {len(right)} tasks are complete, counts as official.")
    if not all(right):
        raise SystemExit(1)


def report(name: str, folder: str, fetch: bool) -> bool:
    """Prints what there is of a task; returns whether it is all of the official data."""
    print(f"\n{name}")
    try:
        if fetch:
            fill(name, Source(Path(folder).expanduser() / name, "folder"))
    except (DataError, OSError, hub.Unavailable) as error:
        print(f"  not fetched from the Hugging Face hub: {error}")
    try:
        source = data.find(name, folder)
    except DataError as error:
        print(f"  missing: {error}")
        return False
    print(f"  {KINDS[source.kind]}: {source.folder}")
    found = list(splits(name, source))
    for split in found:
        print(f"  {split.name:<8} {split.said}")
    if lacking := source.lacks():
        print(f"  lacks    {lacking}")
    if source.kind != "sample":
        for footnote in footnotes(name, source.checksums().values()):
            print(f"  footnote {footnote}")
    return all(split.right for split in found) and source.kind != "sample"


def fill(name: str, source: Source):
    """Puts the files of a task that a folder lacks into it, and their names into `FETCHED`.

    Raises:
        DataError, hub.Unavailable: something is missing that the hub does not have, or of which
            another half is there.
    """
    files = FORMATS[name].files if name in FORMATS else OFFICIAL[name]
    for file in files:
        answers = f"{file}_answer"
        if answers in files and source.has(file) != source.has(answers):
            raise DataError(
                f"of {file}.json and {answers}.json, which belong together, only one is in "
                f"{source.folder}; add the other yourself, or move it away and fetch both."
            )
    missing = [f"{file}.json" for file in files if file != UNREAD and not source.has(file)]
    if not missing:
        return
    fetched = hub.fetch(name)
    source.folder.mkdir(parents=True, exist_ok=True)
    marked = "".join(f"{file}\n" for file in dict.fromkeys([*source.fetched(), *missing]))
    hub.replace_text(source.folder / data.FETCHED, FROM_HUB + marked)
    for file in missing:
        shutil.copyfile(fetched / file, source.folder / f"{file}.part")
    for file in missing:
        (source.folder / f"{file}.part").replace(source.folder / file)
    print(f"  from the Hugging Face hub: {', '.join(missing)}")


def splits(name: str, source: Source) -> Iterator[Split]:
    """Reads every split of a task."""
    kind = task_class(name)
    task = kind(kind.options(**kind.defaults))
    for split, official in OFFICIAL[name].items():
        try:
            with contextlib.redirect_stdout(io.StringIO()) as remarks:  # rows that are left out
                records = task.read(source, split)
            for record in records:
                task.texts(record)
            answers = ids = []
            if split in ("train", "dev"):
                answers = [task.truth(record) for record in records]
            else:
                ids = [i for record in records for i in task.ids(record)]
        except DataError as error:
            yield Split(split, str(error), False)
            continue
        said, right = f"{len(records):>7,} records", len(records) == official
        said += ", count as official" if right else f", official are {official:,}"
        labels = getattr(task, "labels", ())
        if answers and labels:
            said += f"; {len(set(answers))} of {len(labels)} labels"
            right = right and (split == "dev" or len(set(answers)) == len(labels))
        if len(set(ids)) < len(ids):
            said, right = said + f"; {len(ids) - len(set(ids))} ids stand twice", False
        if remarks.getvalue():
            said += "; " + " ".join(remarks.getvalue().split())
        yield Split(split, said, right)
