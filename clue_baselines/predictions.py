"""Prediction files for the leaderboard: checked, then written in one go."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clue_baselines.data import DataError, Record

if TYPE_CHECKING:
    from clue_baselines.task import Task


def test_ids(task: Task, records: Sequence[Record]) -> list[str]:
    """All ids that the prediction file of a test set must answer.

    Raises:
        DataError: a record has no id, or two have the same.
    """
    ids = [i for record in records for i in task.ids(record)]
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{records[0].where.rsplit(',', 1)[0]}: the id {twice[0]} stands twice.")
    return ids


def identity(ids: Sequence[str], one_object: bool = False) -> dict:
    """How many test ids there are, and a short hash of them, by which `submit` checks a file.

    Args:
        one_object: whether their order means nothing.

    >>> identity(["1", "0"], one_object=True) == identity(["0", "1"])
    True
    """
    listed = "\n".join(sorted(ids) if one_object else ids)
    return {"answers": len(ids), "ids": hashlib.sha256(listed.encode()).hexdigest()[:16]}


def write_predictions(
    path: Path, answers: Sequence[dict], ids: Sequence[str], one_object: bool = False
):
    """Writes a prediction file, if there is exactly one answer per test id.

    Args:
        answers: one object with an "id" per line; or, for `one_object`, parts {id: answer} of the
            single object that the file holds.

    Raises:
        DataError: predictions and test ids do not match.
    """
    found = [i for answer in answers for i in (answer if one_object else [str(answer["id"])])]
    missing, extra = Counter(ids) - Counter(found), Counter(found) - Counter(ids)
    if missing or extra:
        raise DataError(
            f"{path.name} is not written: {missing.total()} test ids have no prediction and "
            f"{extra.total()} predictions have no test id of their own."
        )
    if one_object:
        whole = {i: value for answer in answers for i, value in answer.items()}
        text = json.dumps(whole, ensure_ascii=False, indent=4)
    else:
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
