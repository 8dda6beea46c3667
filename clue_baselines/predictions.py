"""Prediction files for the leaderboard: checked, then written in one go."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clue_baselines.data import DataError, Record


def test_ids(records: Sequence[Record]) -> list[str]:
    """Ids of a test set, as text.

    Raises:
        DataError: a record has no id, or two have the same.
    """
    for record in records:
        if "id" not in record:
            raise DataError(f"{record.where}: a test record needs an 'id'.")
    ids = [str(record["id"]) for record in records]
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{records[0].where.rsplit(',', 1)[0]}: the id {twice[0]} stands twice.")
    return ids


def write_predictions(path: Path, rows: Sequence[dict], ids: Sequence[str]):
    """Writes one JSON object per line, if there is exactly one per test id.

    Raises:
        DataError: predictions and test ids do not match.
    """
    found, expected = Counter(row["id"] for row in rows), Counter(ids)
    if found != expected:
        missing, extra = expected - found, found - expected
        raise DataError(
            f"{path.name} is not written: {missing.total()} test ids have no prediction and "
            f"{extra.total()} predictions have no test id of their own."
        )
    temporary = path.with_name(path.name + ".tmp")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
