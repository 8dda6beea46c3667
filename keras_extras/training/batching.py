"""Batches of equal lengths: less padding, and few shapes where a compiler needs them."""

from collections.abc import Sequence

import keras
import numpy as np

__all__ = ["BUCKETS", "LengthBatches", "padding_ratio"]

BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class LengthBatches(keras.utils.PyDataset):
    """Variable-length examples as padded batches whose rows are about equally long.

    For training, the examples are shuffled, cut into windows of `window` batches, sorted by
    length inside each window and cut into batches, whose order is shuffled again. So every
    epoch is another one, yet a batch holds rows of like length and hardly any padding. The order
    depends on `seed` and epoch alone; call `fit(batches, shuffle=False)`, or Keras shuffles the
    batches once more, by Python's global random state. Without shuffling (evaluation) all
    examples are sorted by length; `restore` puts the outputs back into the examples' order.

    Every example is in exactly one batch of an epoch; the last, smaller batch is kept.
    Keras on TensorFlow takes the shapes of the first two batches and holds all later ones to
    what these two share, so the longest batch comes first and the shortest second.

    Args:
        inputs: one or several columns, each a sequence of integer lists (token ids, segment
            ids …); row i has the same length in every column.
        targets: array or list with one label (or fixed-shape row) per example, or None.
        batch_size: examples per batch. Default 32.
        buckets: lengths to pad to; each batch takes the smallest that holds it. None pads to the
            longest row of the batch: least padding, but a new shape for each length, which
            XLA and JAX would compile anew. Default None.
        shuffle: training order (above) or sorted by length. Default False.
        seed: seed of the order. Default 0.
        window: batches per sorted window. Default 100.

    Raises:
        ValueError: no example, columns of unequal length, or a row longer than the last bucket.

    Example:

    >>> batches = LengthBatches([[[5, 6, 7], [5], [8, 9]]], targets=[0, 1, 0], batch_size=2)
    >>> [x.shape for (x,), y in batches]
    [(2, 3), (1, 1)]
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[Sequence[int]]],
        targets: Sequence | None = None,
        batch_size: int = 32,
        buckets: Sequence[int] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 100,
    ):
        super().__init__()
        self.inputs = [list(column) for column in inputs]
        self.targets = None if targets is None else np.asarray(targets)
        self.lengths = np.array([len(row) for row in self.inputs[0]])
        self.batch_size, self.window = batch_size, window
        self.buckets = None if buckets is None else sorted(buckets)
        self.shuffle, self.seed = shuffle, seed
        self._check()
        self.set_epoch(0)

    def _check(self):
        if not len(self.lengths):
            raise ValueError("LengthBatches needs at least one example and got none.")
        for number, column in enumerate(self.inputs):
            if [len(row) for row in column] != self.lengths.tolist():
                raise ValueError(f"Input column {number} has other row lengths than column 0.")
        if self.targets is not None and len(self.targets) != len(self.lengths):
            raise ValueError(f"{len(self.lengths)} examples but {len(self.targets)} targets.")
        if self.buckets and self.lengths.max() > self.buckets[-1]:
            raise ValueError(
                f"A row of {self.lengths.max()} tokens is longer than the last bucket, "
                f"{self.buckets[-1]}; truncate the rows or add a bucket."
            )

    def set_epoch(self, epoch: int):
        """Decides which examples form which batch in the epoch of that number.

        Keras goes on by itself from epoch to epoch (and counts one more before the first). Call
        it in a callback's `on_epoch_begin` where the order must not depend on how often `fit`
        was called, as in a resumed training.
        """
        self.epoch = epoch
        size, lengths = self.batch_size, self.lengths
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = rng.permutation(len(lengths))
            step = size * self.window
            windows = [order[i : i + step] for i in range(0, len(order), step)]
            windows = [w[np.argsort(-lengths[w], kind="stable")] for w in windows]
            batches = [w[i : i + size] for w in windows for i in range(0, len(w), size)]
            batches = [batches[i] for i in rng.permutation(len(batches))]
        else:
            order = np.argsort(-lengths, kind="stable")
            batches = [order[i : i + size] for i in range(0, len(order), size)]
        padded = [self.padded_length(rows) for rows in batches]
        first = batches.pop(int(np.argmax(padded)))
        padded.remove(max(padded))
        second = [batches.pop(int(np.argmin(padded)))] if batches else []
        self.batches = [first, *second, *batches]

    def padded_length(self, rows: np.ndarray) -> int:
        """Length to which a batch of these rows is padded."""
        longest = int(self.lengths[rows].max())
        if self.buckets is None:
            return longest
        return next(length for length in self.buckets if length >= longest)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        rows = self.batches[index]
        inputs = []
        for column in self.inputs:
            batch = np.zeros((len(rows), self.padded_length(rows)), dtype="int32")
            for line, row in zip(batch, rows, strict=True):
                line[: self.lengths[row]] = column[row]
            inputs.append(batch)
        inputs = tuple(inputs)
        return (inputs,) if self.targets is None else (inputs, self.targets[rows])

    def on_epoch_end(self):
        """Keras calls this after each epoch: the next one has its own order."""
        self.set_epoch(self.epoch + 1)

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Puts `model.predict(batches)` into the order in which the examples were given."""
        restored = np.empty_like(outputs)
        restored[np.concatenate(self.batches)] = outputs
        return restored


def padding_ratio(batches: LengthBatches) -> float:
    """Tokens computed per real token in one epoch: 1 is no padding at all.

    Example:

    >>> padding_ratio(LengthBatches([[[1, 2, 3], [4]]], batch_size=2))
    1.5
    """
    computed = sum(len(rows) * batches.padded_length(rows) for rows in batches.batches)
    return computed / int(batches.lengths.sum())
