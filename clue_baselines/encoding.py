"""From records to token ids, which are kept on disk for the runs that need the same ones.

Runs that differ in seeds, tricks or optimizers see the same token ids. A file of them is called by
a hash of all that they are made of: records, vocabulary, settings of the examples, and the code.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from clue_baselines.data import Record
from clue_baselines.settings import DATA, OF_TASK
from clue_baselines.task import Example, Task
from keras_extras import tokenization, vocabulary
from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.training.batching import narrow

FOLDER = ".encoded"  # in that of the results
FEWEST = 1000  # records; fewer are encoded sooner than looked for
# settings of the group DATA that examples do not depend on, but by way of records and vocabulary
OTHER_SETTINGS = ("data", "model", "epochs", "batch_size", "limit")


def examples_of(
    task: Task, records: Sequence[Record], tokenizer: WordPieceTokenizer, training: bool
) -> list[list[Example]]:
    """The examples of every record, from a file if these records were encoded before.

    What examples say about themselves (`Example.about`) is for `predict` and not kept: where it is
    needed, they are made anew.
    """

    def encode() -> list[list[Example]]:
        return [
            [compact(example) for example in task.examples(record, tokenizer, training)]
            for record in records
        ]

    if not task.settings.cache or len(records) < FEWEST:
        return encode()
    path = Path(task.settings.output) / FOLDER
    path /= f"{task.name}-{fingerprint(task, records, tokenizer, training)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return unpacked(dict(arrays))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # absent or damaged
    examples = encode()
    if training or all(example.about is None for group in examples for example in group):
        write(path, packed(examples))
    return examples


def fingerprint(
    task: Task, records: Sequence[Record], tokenizer: WordPieceTokenizer, training: bool
) -> str:
    """A hash of everything that the examples are made of."""
    fields = dataclasses.fields(task.settings)
    names = [f.name for f in fields if f.metadata["group"] in (DATA, OF_TASK)]
    settings = {k: getattr(task.settings, k) for k in names if k not in OTHER_SETTINGS}
    content = [training, settings, tokenizer.token_dict, records]
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode())
    code = {Path(inspect.getfile(kind)) for kind in type(task).__mro__[:-1]}
    code |= {Path(module.__file__) for module in (tokenization, vocabulary)}
    for path in sorted(code | set(Path(__file__).parent.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def compact(example: Example) -> Example:
    """The example with arrays in the place of lists, which take several times the room."""

    def array(rows):
        if len(rows) and np.ndim(rows[0]) == 1:
            return list(map(array, rows))
        found = np.asarray(rows)
        return narrow(found) if found.dtype.kind in "iu" or not found.size else found

    return dataclasses.replace(example, inputs=tuple(map(array, example.inputs)))


def packed(groups: Sequence[Sequence[Example]]) -> dict[str, np.ndarray]:
    """Examples as a few flat arrays.

    Of a target only the numbers that are not 0 are kept: most of those of entity spans are.
    """
    flat = [example for group in groups for example in group]
    arrays = {"groups": np.array([len(group) for group in groups])}
    for number, column in enumerate(zip(*(example.inputs for example in flat), strict=True)):
        nested = len(column[0]) > 0 and np.ndim(column[0][0]) == 1
        rows = list(chain.from_iterable(column)) if nested else column
        arrays[f"lists{number}"] = np.array([len(example) if nested else 0 for example in column])
        arrays[f"sizes{number}"] = np.array([len(row) for row in rows])
        arrays[f"input{number}"] = np.concatenate(rows)
    if flat[0].target is not None:
        targets = [np.asarray(example.target) for example in flat]
        places = [np.flatnonzero(target) for target in targets]
        arrays["shapes"] = np.array([target.shape for target in targets], "int64")
        arrays["counts"] = np.array([len(at) for at in places])
        arrays["places"] = narrow(np.concatenate(places))
        values = [target.ravel()[at] for target, at in zip(targets, places, strict=True)]
        arrays["values"] = narrow(np.concatenate(values))
    return arrays


def unpacked(arrays: dict[str, np.ndarray]) -> list[list[Example]]:
    """The examples that `packed` made arrays of."""
    columns = []
    while f"input{len(columns)}" in arrays:
        number = len(columns)
        rows = cut(arrays[f"input{number}"], arrays[f"sizes{number}"])
        lists = arrays[f"lists{number}"]
        columns.append(cut(rows, lists) if lists.any() else rows)
    targets = [None] * len(columns[0])
    if "values" in arrays:
        values = arrays["values"].astype("int32")
        targets = [np.zeros(shape, "int32") for shape in arrays["shapes"]]
        parts = (cut(array, arrays["counts"]) for array in (arrays["places"], values))
        for target, places, found in zip(targets, *parts, strict=True):
            target.flat[places] = found
    inputs = zip(*columns, strict=True)
    return cut([Example(*pair) for pair in zip(inputs, targets, strict=True)], arrays["groups"])


def cut(sequence: Sequence, sizes: np.ndarray) -> list[Sequence]:
    """The sequence in pieces of these sizes.

    >>> cut([1, 2, 3], [2, 0, 1])
    [[1, 2], [], [3]]
    """
    return [sequence[start:end] for start, end in pairwise([0, *np.cumsum(sizes).tolist()])]


def write(path: Path, arrays: dict[str, np.ndarray]):
    """Writes the file under a temporary name and renames it; a full disk is no reason to stop."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        print(f"Token ids are not kept for the next run: {path.parent}: {error.strerror}.")
