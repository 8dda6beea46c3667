"""From records to batches: token ids, their order, and how far they are padded."""

from dataclasses import dataclass

import keras
import numpy as np

from clue_baselines import machine
from clue_baselines.data import Record
from clue_baselines.encoding import examples_of
from clue_baselines.task import Example, Task
from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.training import BUCKETS, LengthBatches


@dataclass
class Split:
    """Records with their examples, and the batches that a model sees.

    examples: those of every record, for `predict`; None of a training split, whose token ids the
        batches hold in much less room.
    """

    records: list[Record]
    examples: list[list[Example]] | None
    batches: LengthBatches

    def by_record(self, outputs):
        """Every record with its examples and their rows of the outputs of `predict(batches)`."""
        outputs = keras.tree.map_structure(self.batches.restore, outputs)
        start = 0
        for record, examples in zip(self.records, self.examples, strict=True):
            rows = slice(start, start + len(examples))
            start = rows.stop
            yield record, examples, keras.tree.map_structure(lambda x, rows=rows: x[rows], outputs)


class Preparation:
    """Turns records into batches, padded to a few lengths where every length is compiled.

    Args:
        task: makes examples of records; of its settings batch size, length and `--jit` count.
        tokenizer: that of the model.
        seed: of the order of the training batches.
        tpu: whether a TPU computes, for which all batches are full and of those few lengths.

    Call arguments:
        records: of one split.
        training: whether examples have targets and batches are shuffled anew in every epoch.

    Returns:
        The `Split` of the records.
    """

    def __init__(self, task: Task, tokenizer: WordPieceTokenizer, seed: int, tpu: bool = False):
        self.task, self.tokenizer, self.seed = task, tokenizer, seed
        settings = task.settings
        self.compiled = settings.jit or keras.backend.backend() == "jax"
        static = self.compiled or tpu
        shorter = [length for length in BUCKETS if length < settings.maxlen]
        self.buckets = [*shorter, settings.maxlen] if static else None
        self.multiple = machine.padding_multiple()
        self.tpu = tpu

    def __call__(self, records: list[Record], training: bool = False) -> Split:
        examples = examples_of(self.task, records, self.tokenizer, training)
        flat = [example for group in examples for example in group]
        columns = list(zip(*(example.inputs for example in flat), strict=True))
        targets = [np.asarray(e.target, "int32") for e in flat] if training else None
        batches = self.task.batches(training)(
            columns,
            targets,
            self.task.settings.batch_size,
            self.buckets,
            shuffle=training,
            seed=self.seed,
            multiple=self.multiple,
            target_padding=-1,
            full_batches=self.tpu,
        )
        return Split(records, None if training else examples, batches)
