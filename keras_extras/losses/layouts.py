"""Batches whose neighbouring rows belong together: twice in a row, pairs, triplets.

Losses that compare rows of a batch find partners by position: rows ``g·i … g·i + g - 1`` are group
``i``. The helpers here make such batches, and number the groups, so that the losses can tell.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

WRONG = (
    "{name} needs batches whose rows stand in groups of {size} neighbours with the same target, "
    "but {problem}. Make them with twice_in_a_row, interleave or group_numbers of "
    "keras_extras.losses, use a batch size that is a multiple of {size} (times the number of "
    "replicas), and shuffle groups, not rows."
)


def twice_in_a_row(data, times: int = 2):
    """Every row of a batch `times` times, one after the other.

    With dropout a model gives two rows of equal content different outputs: what R-Drop and
    unsupervised SimCSE compare.

    Args:
        data: arrays of shape ``(rows, …)``, alone or nested in tuples, lists and dicts, such as
            ``(inputs, targets)``.
        times: how often; 2 by default.

    Returns:
        The same structure of arrays of shape ``(times · rows, …)``.

    >>> twice_in_a_row([np.array([3, 5])])
    [array([3, 3, 5, 5])]
    """

    def repeat(x):
        return None if x is None else np.repeat(np.asarray(x), times, axis=0)

    return keras.tree.map_structure(repeat, data)


class TwiceInARow(keras.utils.PyDataset):
    """Batches of which every row comes twice in a row, for `fit` with R-Drop or SimCSE.

    Args:
        batches: another `keras.utils.PyDataset`, such as `keras_extras.training.LengthBatches`.

    >>> from keras_extras.training import LengthBatches
    >>> batches = TwiceInARow(LengthBatches([[[5, 6], [7]]], targets=[0, 1], batch_size=2))
    >>> inputs, targets = batches[0]
    >>> targets.tolist()
    [0, 0, 1, 1]
    """

    def __init__(self, batches: keras.utils.PyDataset):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return twice_in_a_row(self.batches[index])

    def on_epoch_end(self):
        self.batches.on_epoch_end()


def interleave(*columns, padding: int = 0):
    """Rows of several columns by turns: row ``g·i + j`` is row ``i`` of column ``j``.

    The pairs (or triplets) of CoSENT, Sentence-BERT and supervised SimCSE.

    Args:
        *columns: arrays of shape ``(rows, …)``, alone or nested, the structure the same in all.
            Where they are ``(rows, length)``, of any lengths.
        padding: what shorter rows are filled up with; 0 by default.

    Returns:
        The structure of one column, of arrays of shape ``(columns · rows, …)``.

    Raises:
        ValueError: the columns differ in their number of rows.

    >>> interleave(np.array([[1], [2]]), np.array([[3, 4], [5, 6]])).tolist()
    [[1, 0], [3, 4], [2, 0], [5, 6]]
    """

    def merge(*arrays):
        arrays = [np.asarray(x) for x in arrays]
        rows = [len(x) for x in arrays]
        if len(set(rows)) > 1:
            raise ValueError(
                f"interleave: the columns have {rows} rows, but row i of each belongs to row i of "
                "the others: give all of them the same number."
            )
        if arrays[0].ndim > 1:
            length = max(x.shape[1] for x in arrays)
            arrays = [
                np.pad(
                    x,
                    [(0, 0), (0, length - x.shape[1])] + [(0, 0)] * (x.ndim - 2),
                    constant_values=padding,
                )
                for x in arrays
            ]
        return np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])

    return keras.tree.map_structure(merge, *columns)


def group_numbers(groups: int, size: int = 2) -> np.ndarray:
    """Targets of data without labels: the number of the group on each of its rows.

    Args:
        groups: how many groups.
        size: rows of a group; 2 by default.

    >>> group_numbers(3)
    array([0, 0, 1, 1, 2, 2])
    """
    return np.repeat(np.arange(groups), size)


def split_groups(x, size: int, name: str):
    """``(size · n, …) → (n, size, …)``; an error where the rows do not go into groups."""
    rows = x.shape[0]
    if rows is not None and rows % size:
        raise ValueError(WRONG.format(name=name, size=size, problem=f"this one has {rows} rows"))
    return ops.reshape(x, (-1, size, *x.shape[1:]))


def targets_of_groups(y_true, size: int, name: str, dtype):
    """The targets ``(n, …)`` of groups whose rows must agree, and ``()`` 1 or NaN.

    In eager execution a wrong layout is an error. A compiled step cannot raise one: there the
    second result, by which the loss is multiplied, is NaN.
    """
    grouped = split_groups(y_true, size, name)
    wrong = ops.any(grouped != grouped[:, :1])
    try:
        known = bool(ops.convert_to_numpy(wrong))
    except (NotImplementedError, TypeError):  # a tensor of a graph, a trace or a shape
        known = False
    if known:
        raise ValueError(
            WRONG.format(name=name, size=size, problem="neighbours of this one have other targets")
        )
    return grouped[:, 0], ops.where(wrong, ops.cast(float("nan"), dtype), ops.cast(1, dtype))
