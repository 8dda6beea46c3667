"""How much of the computation is padding, and what that costs in time.

    python benchmarks/padding.py CLUE_FOLDER
    python benchmarks/padding.py CLUE_FOLDER --time --torch-python PYTHON_WITH_TRANSFORMERS

The table shows tokens computed per real token in one shuffled training epoch (1 is no padding) for:
all rows padded to one length, random batches padded to their longest row (bert4keras'
DataGenerator), and `LengthBatches` padded to the longest row, a multiple of 4 or 8, or one of
`BUCKETS`. Tokens are those of CLUE_FOLDER/vocab.txt.

`--time` trains a small BERT (4 layers × 312) on some rows of OCNLI with the last two kinds of
batches, and the same BERT with transformers' Trainer and its `group_by_length` on torch
(`padding_sides.py`). The sides take turns; the medians of wall clock and CPU time are compared.
Trainer needs the package accelerate.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.training import BUCKETS, LengthBatches, padding_ratio

HERE = Path(__file__).resolve().parent
PAIR = ("sentence1", "sentence2")
#: task, files, texts of a row, greatest length, rows of a batch
TASKS = [
    ("tnews", ["train"], ("sentence",), 128, 32),
    ("ocnli", ["train"], PAIR, 128, 32),
    ("afqmc", ["train"], PAIR, 128, 32),
    ("iflytek", ["train"], ("sentence",), 128, 32),
    ("csl", ["train"], ("abst",), 256, 32),
    ("c3", ["d-train", "m-train"], (), 512, 4),
]


def rows_of(folder: Path, task: str, files: list[str], keys: tuple[str, ...]) -> Iterator[list]:
    """The texts of every example: a list of texts, or for C3 one such list per choice."""
    for name in files:
        path = folder / task / f"{name}.json"
        if task == "c3":
            for passage, questions, _ in json.loads(path.read_text(encoding="utf-8")):
                for question in questions:
                    texts = "\n".join(passage), question["question"]
                    choices = question["choice"] + [""] * (4 - len(question["choice"]))
                    yield [[*texts, choice] for choice in choices]
        else:
            with path.open(encoding="utf-8", newline="\n") as lines:
                rows = [json.loads(line) for line in lines]
            yield from ([row[key] for key in keys] for row in rows if row.get("label") != "-")


def token_rows(folder: Path, task: str, files: list[str], keys: tuple, maxlen: int) -> list:
    """Every example as zeros, as many as it has tokens."""
    tokenizer = WordPieceTokenizer(folder / "vocab.txt", do_lower_case=True, token_start=None)
    counts: dict[str, int] = {}

    def zeros(texts: list[str]) -> list[int]:
        for text in texts:
            if text not in counts:
                counts[text] = len(tokenizer.tokenize(text))
        return [0] * min(maxlen, 1 + sum(counts[text] for text in texts))

    rows = rows_of(folder, task, files, keys)
    if task == "c3":
        return [[zeros(texts) for texts in choices] for choices in rows]
    return [zeros(texts) for texts in rows]


def real_rows(folder: Path, count: int) -> dict[str, list]:
    """The first rows of OCNLI, as token ids and labels."""
    task, files, keys, maxlen, _ = TASKS[1]
    found = itertools.islice(rows_of(folder, task, files, (*keys, "label")), count)
    *texts, names = zip(*found, strict=True)
    tokenizer = WordPieceTokenizer(folder / "vocab.txt", do_lower_case=True)
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    rows, _ = tokenizer.encode_batch(*texts, maxlen=maxlen)
    return {"rows": rows, "labels": [numbers[name] for name in names]}


def ratios(rows: list, maxlen: int, size: int) -> dict[str, float]:
    """Tokens computed per real token, for every kind of batch."""

    def ours(**options):
        return LengthBatches([rows], None, size, shuffle=True, **options)

    sorted_rows = ours(multiple=1)
    real = sorted_rows.tokens()[1]
    lists, lengths = sorted_rows.inputs[0].lists, sorted_rows.lengths
    shuffled = np.random.default_rng(0).permutation(lengths)
    batches = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    return {
        "fixed": lists * maxlen * len(lengths) / real,
        "batch max": lists * sum(len(batch) * batch.max() for batch in batches) / real,
        "ours, 1": padding_ratio(sorted_rows),
        "ours, 4": padding_ratio(ours(multiple=4)),
        "ours, 8": padding_ratio(ours(multiple=8)),
        "lower bound, 8": lists * sum(np.minimum(-(-lengths // 8) * 8, maxlen)) / real,
        "BUCKETS": padding_ratio(ours(buckets=[*(b for b in BUCKETS if b < maxlen), maxlen])),
    }


def compare_times(folder: Path, count: int, rounds: int, threads: int, torch_python: str):
    """Trains on rows of OCNLI in turns and prints the table."""
    size = TASKS[1][-1]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(HERE.parent),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
    }
    file = tempfile.NamedTemporaryFile("w", suffix=".json")
    json.dump(real_rows(folder, count), file)
    file.flush()
    pythons = {"keras": sys.executable, "torch": torch_python}
    processes = {
        name: subprocess.Popen(
            [python, str(HERE / "padding_sides.py"), name, file.name, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name, python in pythons.items()
        if python
    }
    for process in processes.values():
        print(process.stdout.readline().strip())
    kinds = {"batch max": "keras", "ours": "keras", "group_by_length": "torch"}
    kinds = {kind: processes[name] for kind, name in kinds.items() if name in processes}
    taken = {kind: [] for kind in kinds}
    for turn in range(rounds + 1):  # the first one compiles
        for kind, process in kinds.items():
            print(kind, turn, file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            print(f"{turn} {kind}: {answer}", file=sys.stderr)
            if turn:
                taken[kind].append(answer)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    print(f"{count} rows of OCNLI in batches of {size}, median of {rounds} turns, seconds")
    medians = {
        kind: [statistics.median(turn[what] for turn in turns) for what in ("wall", "cpu")]
        for kind, turns in taken.items()
    }
    for kind, (wall, cpu) in medians.items():
        print(
            f"{kind:<16} wall {wall:8.2f}  CPU {cpu:8.2f}  tokens {taken[kind][0]['tokens']:7d}  "
            f"ours ÷ this: {medians['ours'][0] / wall:.2f} (CPU {medians['ours'][1] / cpu:.2f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with CLUE's data and vocab.txt")
    parser.add_argument("--time", action="store_true", help="compare training times instead")
    parser.add_argument("--rows", type=int, default=960, help="of an epoch (default: 960)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: 2)")
    torch_python = os.environ.get("KERAS_EXTRAS_TORCH_PYTHON", "")
    parser.add_argument("--torch-python", default=torch_python, help="interpreter with torch")
    given = parser.parse_args()
    if given.time:
        compare_times(given.folder, given.rows, given.rounds, given.threads, given.torch_python)
        return
    for number, (task, files, keys, maxlen, size) in enumerate(TASKS):
        rows = token_rows(given.folder, task, files, keys, maxlen)
        found = ratios(rows, maxlen, size)
        if not number:
            print("| task | rows | " + " | ".join(found) + " |\n" + "|---" * (2 + len(found)) + "|")
        cells = " | ".join(f"{value:.2f}" for value in found.values())
        print(f"| {task} | {len(rows)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
