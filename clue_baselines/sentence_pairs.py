"""Pairs of sentences with a similarity: five Chinese sets in one format, and CLUE's tasks of pairs.

STS-B, ATEC, BQ, LCQMC and PAWSX lie in the folder `sts` beside CLUE's, as the files that
Chinese SimCSE and CoSENT were measured on: `STS-B.train.data`, `STS-B.valid.data`,
`STS-B.test.data`, one "sentence TAB sentence TAB similarity" per line. Their similarities are
integers, 0 to 5 in STS-B and 0 or 1 in the others.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clue_baselines import data
from clue_baselines.data import SAMPLE, DataError, Record, Source
from keras_extras.losses import NLI_ORDER

#: name -> labels from the least to the most similar
STS = {
    "STS-B": "012345",
    "ATEC": "01",
    "BQ": "01",
    "LCQMC": "01",
    "PAWSX": "01",
}
CLUE = {
    "afqmc": "01",
    "ocnli": sorted(NLI_ORDER, key=NLI_ORDER.get),
    "cmnli": sorted(NLI_ORDER, key=NLI_ORDER.get),
}
LABELS: dict[str, Sequence[str]] = {**STS, **CLUE}
UNDECIDED = "-"


@dataclass(frozen=True)
class PairSource(Source):
    """The files of one set of pairs."""

    name: str

    def path(self, split):
        if self.name in CLUE:
            return super().path(split)
        return self.folder / f"{self.name}.{'valid' if split == 'dev' else split}.data"

    def checksums(self):
        paths = [self.path(split) for split in ("train", "dev", "test")]
        return {path.name: data.sha256(path) for path in paths if path.is_file()}


@dataclass(frozen=True)
class TransferSource(PairSource):
    """Dev and test set of one name, training set of another."""

    training: PairSource

    def path(self, split):
        return self.training.path(split) if split == "train" else super().path(split)


def find(name: str, given: str = "", training: str = "") -> PairSource:
    """The files of a set of pairs, and those of another one to train on.

    Args:
        name: one of `LABELS`.
        given: a data folder, as from `--data`; "" takes CLUE_DATA; "sample", or neither: the
            invented sample, which has STS-B.
        training: name of the set to train on; "" is `name`.

    Raises:
        DataError: the folder is not there, or the sample has no such set.
    """
    if training and training != name:
        own, other = find(name, given), find(training, given)
        if own.kind != other.kind:
            raise DataError(
                f"{name} would come from the {own.kind} and {training} from the {other.kind}; give "
                "one folder with both by --data or CLUE_DATA."
            )
        return TransferSource(own.folder, own.kind, name, other)
    if name in CLUE:
        source = data.find(name, given)
        return PairSource(source.folder, source.kind, name)
    folder = os.environ.get("CLUE_DATA") if not given else given
    if folder and folder != "sample":
        path = Path(folder).expanduser() / "sts"
        if not path.is_dir():
            raise DataError(
                f"{'--data' if given else 'CLUE_DATA'} is {folder}, but there is no folder {path}."
            )
        return PairSource(path, "folder", name)
    source = PairSource(SAMPLE / "sts", "sample", name)
    if not source.has("dev"):
        raise DataError(
            f"The sample has STS-B, and no {name}; give the real data with --data or CLUE_DATA."
        )
    return source


def read(path: Path, labels: Sequence[str], limit: int | None = None) -> list[Record]:
    """Pairs with "sentence1", "sentence2", "id", and "label", a place in `labels`, if it is known.

    Of the tasks of inference, pairs without an agreed label are left out.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is no pair.
    """
    if path.suffix == ".json":
        records = data.read_records(path, None)
    else:
        records = read_table(path)
    records = [record for record in records if record.get("label") != UNDECIDED][:limit]
    for number, record in enumerate(records):
        record.setdefault("id", number)
        if "label" in record:
            record["label"] = record.index("label", labels)
    return records


def read_table(path: Path) -> list[Record]:
    """The lines of a file of "sentence TAB sentence TAB similarity"."""
    if not path.is_file():
        raise DataError(f"{path} is missing; expected lines of 'sentence TAB sentence TAB number'.")
    records = []
    for number, line in data.numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            columns = line.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            raise DataError(f"{where}: not UTF-8.") from None
        if len(columns) != 3:
            raise DataError(
                f"{where}: expected sentence TAB sentence TAB similarity, "
                f"but the line has {len(columns)} columns."
            )
        record = Record(zip(("sentence1", "sentence2", "label"), columns, strict=True))
        record.where = where
        records.append(record)
    if not records:
        raise DataError(f"{path} is empty.")
    return records
