"""The finished runs in a folder of results."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from clue_baselines.data import DataError

SEED = re.compile(r"-seed\d+(-\d+)?$")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and what `settings.json` and `result.json` hold."""

    folder: Path
    settings: dict
    result: dict

    @property
    def task(self) -> str:
        return self.result["task"]

    @property
    def seed(self) -> int:
        return self.result["seed"]

    @property
    def score(self) -> float:
        return self.result["score"]

    @property
    def name(self) -> str:
        """The name that the runs of all seeds share.

        >>> Run(Path("results/tnews/roberta-seed1-2"), {}, {}).name
        'roberta'
        """
        return SEED.sub("", self.folder.name)


def read_run(folder: Path) -> Run:
    """The finished run in a folder.

    Raises:
        DataError: there is none.
    """
    contents = []
    for name in ("settings.json", "result.json"):
        try:
            contents.append(json.loads((folder / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(f"{folder} holds no finished run: {name} is missing.") from None
        except ValueError as error:
            raise DataError(f"{folder / name} is damaged ({error}).") from None
    return Run(folder, *contents)


def finished_runs(output: Path, task: str = "*") -> list[Run]:
    """All finished runs below `output/<task>/`, ordered by folder, of one name the oldest first."""
    folders = [path.parent for path in output.glob(f"{task}/*/result.json")]
    return [read_run(folder) for folder in sorted(folders, key=by_number)]


def by_number(path: Path) -> list[str | int]:
    """What orders paths so that numbers in them count as numbers.

    >>> [str(p) for p in sorted([Path("a-10"), Path("a-2"), Path("a")], key=by_number)]
    ['a', 'a-2', 'a-10']
    """
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", str(path)))]
