"""How much of the computation is padding: fixed length, per-batch maximum, length-sorted windows.

    python benchmarks/padding.py CLUE_FOLDER

Tokens computed per real token in one shuffled training epoch (1 is no padding), characters as
tokens. The per-batch maximum over random batches is what bert4keras' DataGenerator does.
"""

import json
import sys
from pathlib import Path

import numpy as np

from keras_extras.training import BUCKETS, LengthBatches, padding_ratio

DATA = [
    ("tnews/train", ("sentence",), 128, 32),
    ("ocnli/train", ("sentence1", "sentence2"), 128, 32),
    ("ocnli/dev", ("sentence1", "sentence2"), 128, 32),
    ("afqmc/train", ("sentence1", "sentence2"), 128, 32),
    ("csl/train", ("abst",), 256, 32),
]


def lengths(path: Path, keys: tuple[str, ...], maxlen: int) -> list[int]:
    """Number of tokens of every row, with [CLS] and one [SEP] per text."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    return [min(maxlen, 1 + sum(len(row[key]) + 1 for key in keys)) for row in rows]


def random_batches(sizes: list[int], batch_size: int) -> float:
    """Padding of random batches, each padded to its longest row."""
    shuffled = np.random.default_rng(0).permutation(sizes)
    batches = [shuffled[i : i + batch_size] for i in range(0, len(shuffled), batch_size)]
    return sum(len(batch) * batch.max() for batch in batches) / sum(sizes)


def main():
    folder = Path(sys.argv[1])
    print("data             rows   mean   fixed  batch max  sorted  buckets")
    for name, keys, maxlen, batch_size in DATA:
        sizes = lengths(folder / f"{name}.json", keys, maxlen)
        rows = [[0] * size for size in sizes]
        ours = [
            padding_ratio(LengthBatches([rows], None, batch_size, buckets, shuffle=True))
            for buckets in (None, BUCKETS)
        ]
        fixed, batch_max = maxlen * len(sizes) / sum(sizes), random_batches(sizes, batch_size)
        print(
            f"{name:<14}{len(sizes):>7}{np.mean(sizes):>7.1f}{fixed:>8.2f}{batch_max:>11.2f}"
            f"{ours[0]:>8.2f}{ours[1]:>9.2f}"
        )


if __name__ == "__main__":
    main()
