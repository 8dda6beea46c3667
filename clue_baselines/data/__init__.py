"""Where the CLUE data comes from, and how its files are read.

A data folder holds one folder per task with CLUE's official files (`tnews/train.json` …). It is
looked for in this order: `--data`, the environment variable `CLUE_DATA`, an earlier download, a
download from the Hugging Face hub (`hub.py`), and last the small invented sample that ships with
the project. `python -m clue_baselines.data` shows what is there and verifies it (`inventory.py`).

Texts reach the tokenizer as they stand in the files, as in the author's scripts and in what the
models were pretrained on; only TNEWS' are normalised (see `tnews.py`).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parent.parent / "sample"
#: How many records each official file has: of c3 and cmrc2018 questions, of chid groups of
#: passages; rows without an agreed label are not counted.
OFFICIAL: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("official.json").read_text(encoding="utf-8")
)
SAMPLE_WARNING = (
    "NOTE: no CLUE data here, so this runs on the small INVENTED SAMPLE that ships with the "
    "project. Its scores are not CLUE scores. Give the real data with --data FOLDER or CLUE_DATA."
)

# Files that the official archives call otherwise than by their split: OCNLI's has training sets of
# several sizes.
OTHER_NAMES = {("ocnli", "train"): "train.50k.json"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FETCHED = "from_hub.txt"  # stands in a folder with files from the hub, and names them
# What a source lacks beside the official archives, task by task. Runs say it and go on.
LACKING = {
    "hub": {
        "tnews": "no test1.0.json (so no tnews10_predict.json) and empty keywords",
        "wsc": "no test1.0.json",
        "c3": "no test1.0.json; its one test set is written as test1.1.json",
        "chid": "no test1.0.json; its one test set is written as test1.1.json",
        "cmrc2018": "the titles of passages",
        "iflytek": "the names of labels",
        "cmnli": "rows labelled '-' are gone",
        "ocnli": "rows labelled '-' are gone",
        "cluener": "the whole task",  # so the sample takes its place
    },
}


class DataError(Exception):
    """Input that cannot be used; the message says what, where, and what to do."""


@dataclass(frozen=True)
class Source:
    """A task's data folder: where it is, and whether it is `folder`, `hub` or `sample`."""

    folder: Path
    kind: str

    def path(self, split: str) -> Path:
        """File of a split: `train`, `dev`, `test` …; by its other name if only that is there."""
        path = self.folder / f"{split}.json"
        other = OTHER_NAMES.get((self.folder.name, split))
        if other and not path.is_file() and (self.folder / other).is_file():
            return self.folder / other
        return path

    def has(self, split: str) -> bool:
        """Whether the file of a split is there."""
        return self.path(split).is_file()

    def vocab(self) -> Path | None:
        """The `vocab.txt` beside the tasks' folders, if there is one."""
        path = self.folder.parent / "vocab.txt"
        return path if path.is_file() else None

    def lacks(self) -> str:
        """What it lacks beside the official archives; of a folder, what its files from the hub do.

        >>> Source(Path("cache/cmnli"), "hub").lacks()
        "rows labelled '-' are gone"
        """
        fetched = self.fetched()
        lacking = LACKING.get("hub" if fetched else self.kind, {}).get(self.folder.name, "")
        return f"{lacking} (from the hub: {', '.join(fetched)})" if lacking and fetched else lacking

    def fetched(self) -> list[str]:
        """The files of a folder that are the hub's: all, if `FETCHED` is there and names none."""
        try:
            lines = (self.folder / FETCHED).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        named = [line for line in lines if line.endswith(".json")]
        return named or [path.name for path in sorted(self.folder.glob("*.json"))]

    def describe(self) -> dict:
        """Kind, place and checksums, for the record and for a resumed run."""
        place = str(self.folder.resolve())
        return {"kind": self.kind, "folder": place, "sha256": self.checksums()}

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file of the task, for the record."""
        return {path.name: sha256(path) for path in sorted(self.folder.glob("*.json"))}


def find(task: str, given: str = "") -> Source:
    """The source of a task's data, in the order described above.

    Args:
        task: name of the task's folder.
        given: a data folder, as from `--data`; `"sample"` takes the shipped sample at once.

    Raises:
        DataError: a folder was asked for and is not there, or a download is not what it was.
    """
    if given == "sample":
        return Source(SAMPLE / task, "sample")
    named, origin = (given, "--data") if given else (os.environ.get("CLUE_DATA"), "CLUE_DATA")
    if named:
        folder = Path(named).expanduser() / task
        if not folder.is_dir():
            raise DataError(f"{origin} is {named}, but there is no folder {folder}.")
        return Source(folder, "folder")

    from clue_baselines.data import hub

    try:
        return Source(hub.fetch(task), "hub")
    except hub.Unavailable as reason:
        print(f"Could not fetch CLUE from the Hugging Face hub: {reason}")
        return Source(SAMPLE / task, "sample")


class Record(dict):
    """One line of a data file; its accessors complain with file and line."""

    where: str

    def raw_text(self, key: str) -> str:
        """A text with the blanks around it, so that indices into it hold."""
        value = self.get(key)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: no text under {key!r}.")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty, without the blanks around it."""
        value = self.raw_text(key).strip()
        if not value:
            raise DataError(f"{self.where}: the text under {key!r} is empty.")
        return value

    def list_of_texts(self, key: str) -> list[str]:
        """A list of texts that is not empty, without the blanks around them."""
        values = self.get(key)
        if not (isinstance(values, list) and values and all(isinstance(v, str) for v in values)):
            raise DataError(f"{self.where}: no list of texts under {key!r}.")
        return [value.strip() for value in values]

    def index(self, key: str, choices: Sequence[str]) -> int:
        """Position of the value among the choices."""
        if key not in self:
            raise DataError(f"{self.where}: no {key!r}.")
        value = str(self[key])
        if value not in choices:
            known = ", ".join(choices[:20])
            raise DataError(f"{self.where}: unknown {key} {value!r}; it should be one of {known}.")
        return choices.index(value)


def read_records(path: Path, limit: int | None = None) -> list[Record]:
    """Reads a file of one JSON object per line.

    Lines end at a line feed only: Unicode line separators inside strings are text.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is no JSON object.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; expected CLUE's official file of that name.")
    records = []
    for number, line in numbered_lines(path):
        if limit is not None and len(records) >= limit:
            break
        where = f"{path}, line {number}"
        try:
            record = Record(json.loads(line.decode("utf-8")))
        except UnicodeDecodeError:
            raise DataError(f"{where}: not UTF-8.") from None
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: not a JSON object ({error}).") from None
        record.where = where
        records.append(record)
    if not records:
        raise DataError(f"{path} is empty.")
    return records


def read_document(path: Path, kind: type) -> Any:
    """Reads a file that is one JSON document.

    Args:
        kind: `list` or `dict`, whichever the document must be.

    Raises:
        DataError: the file is missing, not UTF-8, or no JSON document of that kind; with the line
            where one can be named.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; expected CLUE's official file of that name.")
    content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    try:
        document = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise DataError(f"{path}, line {line}: not UTF-8.") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}).") from None
    if not isinstance(document, kind):
        raise DataError(f"{path}: a JSON {kind.__name__} is expected.")
    return document


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Non-blank lines with their numbers, without a byte order mark."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if line.strip():
                yield number, line


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
