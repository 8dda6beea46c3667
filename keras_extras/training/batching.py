"""Batches of like lengths: less padding, and few shapes where a compiler needs them."""

import copy
from collections.abc import Sequence
from itertools import chain

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

    Every example is in exactly one batch of an epoch; the last, smaller batch is kept. The longest
    batch comes first: what does not fit into memory fails at once. The shortest comes second: a
    plain `keras.Model` on TensorFlow takes the shapes of the first two batches and holds all later
    ones, also of later epochs, to what these two share. `keras_extras.Model` and `to_tf_dataset`
    look at all examples instead (`extremes`). How far batches are padded does not change the
    order.

    Args:
        inputs: one or several columns (token ids, segment ids …), each a sequence of examples. An
            example is a list of integers, or a list of k such lists (the k candidates of multiple
            choice), and gives an array (batch, length) or (batch, k, length). Its length is that
            of its longest list and the same in every column.
        targets: one label or array per example, or None. Arrays may differ in size: an axis that
            always has the example's length is padded as the inputs are (also where all examples
            are equally long), any other to the longest of all examples.
        batch_size: examples per batch. Default 32.
        buckets: lengths to pad to, such as `BUCKETS`; each batch takes the smallest that holds
            it. For XLA, TPU and JAX, which compile every new shape anew. Default None.
        shuffle: training order (above) or sorted by length. Default False.
        seed: seed of the order. Default 0.
        window: batches per sorted window. Default 200.
        multiple: without `buckets`, pad to a multiple of this, but never further than the longest
            example. Default 8; 4 wastes less where no tensor cores want 8.
        target_padding: what targets are padded with. Default 0.
        full_batches: fill smaller batches up with empty rows of weight 0, so that all have
            `batch_size` rows; batches are then (inputs, targets, weights). The r rows of such a
            batch weigh batch_size / r, so that a mean over the batch, empty rows included, is
            theirs. For TPUs. Default False.

    Raises:
        ValueError: no example, columns of unequal length, an input that is no integer, or a row
            longer than the last bucket.

    Example:

    >>> rows = [[1] * n for n in (20, 3, 9, 10)]
    >>> batches = LengthBatches([rows], targets=[0, 1, 0, 1], batch_size=2)
    >>> [x.shape for (x,), y in batches]
    [(2, 20), (2, 16)]
    >>> batches.tokens()
    (72, 42)
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[Sequence]],
        targets: Sequence | None = None,
        batch_size: int = 32,
        buckets: Sequence[int] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 200,
        multiple: int = 8,
        target_padding: int = 0,
        full_batches: bool = False,
    ):
        super().__init__()
        if not len(inputs) or not len(inputs[0]):
            raise ValueError("LengthBatches needs at least one example and got none.")
        self.inputs = [Column(column, number) for number, column in enumerate(inputs)]
        self.lengths = self.inputs[0].lengths
        self.targets = None if targets is None else Targets(targets, self.lengths, target_padding)
        self.batch_size, self.window, self.multiple = batch_size, window, multiple
        self.buckets = None if buckets is None else sorted(buckets)
        self.shuffle, self.seed, self.full_batches = shuffle, seed, full_batches
        self._check()
        self.set_epoch(0)

    def _check(self):
        for number, column in enumerate(self.inputs):
            if not np.array_equal(column.lengths, self.lengths):
                raise ValueError(f"Input column {number} has other row lengths than column 0.")
        if self.targets is not None and len(self.targets.rows) != len(self.lengths):
            raise ValueError(f"{len(self.lengths)} examples but {len(self.targets.rows)} targets.")
        if self.buckets and self.lengths.max() > self.buckets[-1]:
            raise ValueError(
                f"A row of {self.lengths.max()} tokens is longer than the last bucket, "
                f"{self.buckets[-1]}; truncate the rows or add a bucket."
            )

    def set_epoch(self, epoch: int, skip: int = 0):
        """Decides which examples form which batch in the epoch of that number.

        Keras goes on by itself from epoch to epoch (and counts one more before the first). Call
        it in a callback's `on_epoch_begin` where the order must not depend on how often `fit`
        was called, as in a resumed training; `Resume` does so.

        Args:
            epoch: number of the epoch, from 0.
            skip: leave out that many batches at the epoch's begin: they are done. Default 0.
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
        longest = [int(lengths[rows].max()) for rows in batches]
        first = batches.pop(int(np.argmax(longest)))
        longest.remove(max(longest))
        second = [batches.pop(int(np.argmin(longest)))] if batches else []
        self.batches = [first, *second, *batches][skip:]

    def padded_length(self, rows: np.ndarray) -> int:
        """Length to which a batch of these rows is padded."""
        longest = int(self.lengths[rows].max())
        if self.buckets is None:
            return min(-(-longest // self.multiple) * self.multiple, int(self.lengths.max()))
        return next(length for length in self.buckets if length >= longest)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        rows = self.batches[index]
        length, size = self.padded_length(rows), self.batch_size
        batch = [tuple(column.batch(rows, length) for column in self.inputs)]
        if self.targets is not None:
            batch.append(self.targets.batch(rows, length))
        if not self.full_batches:
            return tuple(batch)
        if self.targets is None:
            return (tuple(filled(x, size) for x in batch[0]),)
        weights = filled(np.full(len(rows), size / len(rows), "float32"), size)
        return tuple(filled(x, size) for x in batch[0]), filled(batch[1], size), weights

    def on_epoch_end(self):
        """Keras calls this after each epoch: the next one has its own order."""
        self.set_epoch(self.epoch + 1)

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Puts `model.predict(batches)` into the order in which the examples were given.

        Args:
            outputs: one array, or a list or dict of them where the model has several outputs.

        Raises:
            ValueError: the batches are shuffled.
        """
        if self.shuffle:
            raise ValueError(
                "restore needs batches made with shuffle=False: shuffled ones have another order "
                "in every epoch, so whose outputs these are is not known."
            )
        return keras.tree.map_structure(self._restore, outputs)

    def _restore(self, outputs: np.ndarray) -> np.ndarray:
        rows = np.concatenate(self.batches)
        if self.full_batches:
            real = [i * self.batch_size + np.arange(len(b)) for i, b in enumerate(self.batches)]
            outputs = outputs[np.concatenate(real)]
        restored = np.empty_like(outputs)
        restored[rows] = outputs
        return restored

    def tokens(self) -> tuple[int, int]:
        """Tokens computed in this epoch, padding included, and the real ones among them."""
        computed = real = 0
        for rows in self.batches:
            size = self.batch_size if self.full_batches else len(rows)
            computed += size * self.inputs[0].lists * self.padded_length(rows)
            real += int(self.inputs[0].sizes[rows].sum())
        return computed, real

    def extremes(self) -> list[tuple]:
        """Batches between which the shapes of all batches of all epochs lie.

        An axis that is as long in all of them is so in every batch: the length if the shortest and
        the longest example are padded to one, the batch if all batches are equally large.
        """
        size, rest = self.batch_size, len(self.lengths) % self.batch_size
        size = min(size, len(self.lengths))
        shortest, longest = int(self.lengths.argmin()), int(self.lengths.argmax())
        some = copy.copy(self)  # of its class, which may make other batches of the same rows
        some.batches = [np.repeat(shortest, size), np.repeat(longest, size)]
        some.batches += [np.repeat(longest, rest)] if rest else []
        return [some[i] for i in range(len(some.batches))]

    def to_tf_dataset(self):
        """The same batches as a `tf.data.Dataset`, one epoch per pass, each in its own order.

        Where the batches of all epochs have one shape in an axis, the shape says so (with
        `full_batches` the batch size). A pass that was read to its end moves on to the next epoch.

        Example (needs TensorFlow):

        >>> batches = LengthBatches([[[5, 6], [7], [8]]], batch_size=3, full_batches=True)
        >>> batches.to_tf_dataset().element_spec[0][0].shape  # doctest: +SKIP
        TensorShape([3, 2])
        """
        import tensorflow as tf

        def epoch():
            yield from (self[i] for i in range(len(self)))
            self.on_epoch_end()

        signature = common_spec(self.extremes())
        return tf.data.Dataset.from_generator(epoch, output_signature=signature).prefetch(2)


def common_spec(batches: Sequence):
    """The `tf.TensorSpec`s of batches; None stands for an axis in which they differ."""
    import tensorflow as tf

    def spec(*arrays):
        shapes = zip(*(array.shape for array in arrays), strict=True)
        return tf.TensorSpec([n[0] if len(set(n)) == 1 else None for n in shapes], arrays[0].dtype)

    return tf.nest.map_structure(spec, *batches)


class Column:
    """Integer lists, or k of them per example, that become padded arrays.

    They stand one behind the other in one array, of the smallest type that holds all numbers.
    """

    def __init__(self, examples: Sequence[Sequence], number: int):
        nested = len(examples[0]) > 0 and np.ndim(examples[0][0]) == 1
        counts = {len(example) for example in examples} if nested else {1}
        if len(counts) > 1:
            raise ValueError(
                f"The examples of input column {number} have between {min(counts)} and "
                f"{max(counts)} lists each; give all the same number, with empty lists if need be."
            )
        self.nested, self.lists = nested, counts.pop()
        rows = list(chain.from_iterable(examples)) if nested else examples
        sizes = np.array([len(row) for row in rows])
        ends = np.cumsum(sizes)
        self.ids = np.empty(ends[-1], "int32")
        for row, size, end in zip(rows, sizes, ends, strict=True):
            self.ids[end - size : end] = integers(row, number)
        self.ids = narrow(self.ids)
        self.starts = (ends - sizes).reshape(-1, self.lists)
        self.ends = ends.reshape(-1, self.lists)
        self.sizes = (self.ends - self.starts).sum(axis=1)
        self.lengths = (self.ends - self.starts).max(axis=1)

    def batch(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Those examples, padded to that length with zeros."""
        batch = np.zeros((len(rows) * self.lists, length), self.ids.dtype)
        starts, ends = self.starts[rows].ravel().tolist(), self.ends[rows].ravel().tolist()
        for line, start, end in zip(batch, starts, ends, strict=True):
            line[: end - start] = self.ids[start:end]
        batch = batch.astype("int32")
        return batch.reshape(len(rows), self.lists, length) if self.nested else batch


def narrow(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them."""
    if not array.size:
        return array.astype("uint8")
    return array.astype(np.result_type(*map(np.min_scalar_type, (array.min(), array.max()))))


def integers(row: Sequence, number: int) -> np.ndarray:
    """A row of the input column of that number, as an array."""
    given = np.asarray(row)
    array = given.astype("int32")
    if (array != given).any():
        raise ValueError(
            f"Input column {number} holds a number that is no 32-bit integer in the row "
            f"{str(row)[:60]}; inputs are token ids and the like."
        )
    return array


class Targets:
    """Labels or arrays, one per example; arrays of unequal sizes are padded."""

    def __init__(self, targets: Sequence, lengths: np.ndarray, padding: int):
        rows = [np.asarray(target) for target in targets]
        if len({row.ndim for row in rows}) > 1:
            raise ValueError("All targets must have the same number of axes.")
        shapes = np.array([row.shape for row in rows])
        self.longest, self.padding = shapes.max(axis=0), padding
        self.ragged = bool((shapes != self.longest).any())
        self.rows = rows if self.ragged else np.stack(rows)
        # an empty list is an array of floats, but says nothing of the others
        self.dtype = np.result_type(*({row.dtype for row in rows if row.size} or {rows[0].dtype}))
        if len(rows) == len(lengths):
            self.follows = (shapes == lengths[:, None]).all(axis=0)

    def batch(self, rows: np.ndarray, length: int) -> np.ndarray:
        """The targets of those examples as one array.

        Args:
            rows: numbers of the examples.
            length: to which the inputs of this batch are padded.
        """
        shape = np.where(self.follows, length, self.longest)
        if not self.ragged and (shape == self.longest).all():
            return self.rows[rows]
        batch = np.full((len(rows), *shape), self.padding, self.dtype)
        for line, row in zip(batch, rows, strict=True):
            value = self.rows[row]
            line[tuple(map(slice, value.shape))] = value
        return batch


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """The array with rows of zeros behind it, `size` rows in all."""
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))


def padding_ratio(batches: LengthBatches) -> float:
    """Tokens computed per real token in one epoch: 1 is no padding at all.

    Example:

    >>> padding_ratio(LengthBatches([[[1, 2, 3], [4]]], batch_size=2))
    1.5
    """
    computed, real = batches.tokens()
    return computed / real
