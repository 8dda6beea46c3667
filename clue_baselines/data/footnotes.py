"""What is to be known of the data beside its counts; it bars no comparison.

`footnotes.json` holds sentences by task and SHA-256 of a file, or for any copy of the task.
"""

import json
from collections.abc import Collection
from pathlib import Path

SENTENCES: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)


def footnotes(task: str, checksums: Collection[str]) -> list[str]:
    """The sentences on a task's files, of which these are the SHA-256."""
    about = SENTENCES.get(task, {})
    return [said for which, said in about.items() if which in ("any copy", *checksums)]
