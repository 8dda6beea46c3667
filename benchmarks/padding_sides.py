"""One side of the timed comparison of paddings: trains an epoch when it is told to.

`padding.py` starts it as ``python padding_sides.py keras|torch LENGTHS SIZE``. It answers each line
``KIND EPOCH`` on standard input with the seconds of wall clock and CPU that the epoch took. The
models, the optimizer and the random token ids are those of `sides.py`.
"""

import contextlib
import json
import os
import sys
import time

import numpy as np
from sides import CLASSES, keras_steps, torch_steps, versions

CONFIG = {
    "vocab_size": 21128,
    "hidden_size": 312,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 1200,
    "max_position": 512,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}


def orders(kind: str, lengths: list[int], size: int, epoch: int) -> list[np.ndarray]:
    """Which rows form which batch: at random, or as Trainer's `group_by_length` puts them."""
    if kind == "group_by_length":
        import torch
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = torch.Generator().manual_seed(epoch)
        # 50 batches are sorted together, as in an epoch of the whole data
        order = np.array(get_length_grouped_indices(lengths, size, 50, generator))
    else:
        order = np.random.default_rng(epoch).permutation(len(lengths))
    return [order[i : i + size] for i in range(0, len(order), size)]


def batches_of(kind: str, lengths: list[int], size: int, epoch: int) -> list[np.ndarray]:
    """Padded token ids, batch by batch."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, CONFIG["vocab_size"], length) for length in lengths]
    if kind == "ours":
        from keras_extras.training import LengthBatches

        ours = LengthBatches([rows], None, size, shuffle=True, multiple=4)
        ours.set_epoch(epoch)
        return [ids for (ids,) in (ours[i] for i in range(len(ours)))]
    found = []
    for order in orders(kind, lengths, size, epoch):
        batch = np.zeros((len(order), max(lengths[row] for row in order)), "int32")
        for line, row in zip(batch, order, strict=True):
            line[: lengths[row]] = rows[row]
        found.append(batch)
    return found


def main(side: str, lengths: list[int], size: int):
    threads = int(os.environ["OMP_NUM_THREADS"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        train, _ = torch_steps(CONFIG) if side == "torch" else keras_steps("tensorflow", CONFIG)
        print(json.dumps(versions()), file=answers, flush=True)
        for line in sys.stdin:
            kind, epoch = line.rsplit(maxsplit=1)
            batches = batches_of(kind, lengths, size, int(epoch))
            labels = np.arange(size, dtype="int32") % CLASSES
            wall, cpu = time.perf_counter(), time.process_time()
            for ids in batches:
                train(ids, np.zeros_like(ids), labels[: len(ids)])
            taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            taken["tokens"] = sum(ids.size for ids in batches)
            print(json.dumps(taken), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
