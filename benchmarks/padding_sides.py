"""One side of the timed comparison of paddings: trains an epoch when it is told to.

`padding.py` starts it as ``python padding_sides.py keras|torch FILE SIZE``; FILE holds token ids
and labels as JSON, SIZE is the number of rows in a batch. It answers each line ``KIND EPOCH`` on
standard input with the seconds of wall clock and CPU that the epoch took, and its tokens.

Both sides train the same model on the same rows: BERT of 4 layers × 312, the vector of [CLS], a
Dense layer, cross entropy, AdamW (learning rate 1e-4, decay 0.01), dropout 0.1, float32.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sides import LEARNING_RATE, WEIGHT_DECAY, torch_batch, torch_classifier, versions

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
# of `LengthBatches`; sorted within one batch only, it is the order of bert4keras' DataGenerator
BATCHES = {"ours": {"multiple": 1}, "batch max": {"multiple": 1, "window": 1}}


def keras_epochs(rows: list[list[int]], labels: list[int], size: int):
    """A function of kind and epoch that trains with `keras_extras.Model.fit`."""
    import keras

    import keras_extras
    from keras_extras.bert4keras import build_transformer_model
    from keras_extras.layers import FirstToken
    from keras_extras.training import LengthBatches

    bert = build_transformer_model(**CONFIG)
    output = keras.layers.Dense(max(labels) + 1, activation="softmax")(FirstToken()(bert.output))
    model = keras_extras.Model(bert.inputs, output)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    columns, targets = [rows, [[0] * len(row) for row in rows]], np.array(labels, "int32")

    def train(kind: str, epoch: int) -> dict:
        batches = LengthBatches(columns, targets, size, shuffle=True, **BATCHES[kind])
        batches.set_epoch(epoch + 1)
        tokens = batches.tokens()[0]
        batches.set_epoch(epoch)  # `fit` begins with the next one
        clock = Clock()
        model.fit(batches, shuffle=False, verbose=0)
        return {**clock.taken(), "tokens": tokens}

    return train


def torch_epochs(rows: list[list[int]], labels: list[int], size: int):
    """A function of kind and epoch that trains with transformers' Trainer, not compiled."""
    import torch
    import transformers
    from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    class Sampler(LengthGroupedSampler):
        """Sorts 50 batches together, as of the whole data; of few rows Trainer takes fewer."""

        def __iter__(self):
            return iter(get_length_grouped_indices(self.lengths, size, 50, self.generator))

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return Sampler(size, lengths=[len(row) for row in rows])

    class Begin(transformers.TrainerCallback):
        """Starts the clock behind Trainer's preparations."""

        def on_train_begin(self, *_, **__):
            self.clock = Clock()

    computed = []

    def collate(examples: list[dict]) -> dict:
        batch = torch_batch(examples)
        computed.append(batch["input_ids"].numel())
        return batch

    begin = Begin()
    folder = tempfile.TemporaryDirectory()
    trainer = Trainer(
        torch_classifier(CONFIG, max(labels) + 1),
        transformers.TrainingArguments(
            folder.name,
            per_device_train_batch_size=size,
            num_train_epochs=1,
            optim="adamw_torch_fused",
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            train_sampling_strategy="group_by_length",
            remove_unused_columns=False,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        data_collator=collate,
        train_dataset=[
            {"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)
        ],
        callbacks=[begin],
    )

    def train(kind: str, epoch: int) -> dict:
        computed.clear()
        torch.manual_seed(epoch)
        trainer.args.seed = trainer.args.data_seed = epoch
        trainer.train()
        return {**begin.clock.taken(), "tokens": sum(computed)}

    return train


class Clock:
    """Seconds since it was made, of wall clock and of this process's CPU time."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def taken(self) -> dict:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"wall": wall, "cpu": cpu}


def main(side: str, file: str, size: int):
    threads = int(os.environ["OMP_NUM_THREADS"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    data = json.loads(Path(file).read_text())
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        train = {"keras": keras_epochs, "torch": torch_epochs}[side](**data, size=size)
        print(json.dumps(versions()), file=answers, flush=True)
        for line in sys.stdin:
            kind, epoch = line.rsplit(maxsplit=1)
            print(json.dumps(train(kind, int(epoch))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
