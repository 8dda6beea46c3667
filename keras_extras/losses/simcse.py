"""SimCSE: a sentence is nearer to its twin than to all other sentences of the batch."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.cosent import unit_vectors
from keras_extras.losses.gathering import gather_rows, number_of_first_row
from keras_extras.losses.layouts import split_groups, targets_of_groups
from keras_extras.losses.logit_adjustment import pick
from keras_extras.ops import masking_value


class InBatchContrast(keras.losses.Loss):
    """What both losses share: groups of rows, and a temperature."""

    def __init__(self, temperature: float, reduction, name, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not temperature > 0:
            raise ValueError(f"The temperature of {self.name} must be above 0; got {temperature}.")
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="keras_extras")
class SimCSE(InBatchContrast):
    """Unsupervised SimCSE: the twin of a row is its own sentence under another dropout.

    ``-log( exp(cos(h_i, h_i') / τ) / Σ_{j≠i} exp(cos(h_i, h_j) / τ) )`` for each of 2n rows.

    Rows ``2i`` and ``2i + 1`` of the predictions ``(2n, dim)`` are one sentence, and the targets
    ``(2n,)`` anything that is the same for both: `twice_in_a_row` makes such batches and
    `group_numbers` such targets. Under `tf.distribute` each row is compared with the rows of all
    replicas, whose embeddings are gathered; twins have to lie on one replica. With gradient
    accumulation it is compared with those of its micro-batch. Rows of sample weight 0 have no loss
    of their own, and are others' negatives still. Computed in float32.

    Args:
        temperature: τ; 0.05 by default.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: odd number of rows, or (in eager execution; in a compiled step the loss is NaN)
            twins with different targets.

    Source: Gao et al., arXiv:2104.08821; kexue.fm/archives/8348.

    >>> rows = [[1.0, 0.0]] * 4
    >>> print(f"{float(SimCSE()([0, 0, 1, 1], rows)):.4f}")  # log 3: all are alike
    1.0986
    """

    def __init__(
        self,
        temperature: float = 0.05,
        reduction="sum_over_batch_size",
        name="simcse",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)

    def call(self, y_true, y_pred):
        own = unit_vectors(y_pred)
        split_groups(own, 2, self.name)  # raises
        _, valid = targets_of_groups(ops.reshape(y_true, (-1,)), 2, self.name, own.dtype)
        rows = gather_rows(own)
        index = ops.arange(ops.shape(own)[0]) + number_of_first_row(own)
        itself = index[:, None] == ops.arange(ops.shape(rows)[0])[None, :]
        cosines = ops.matmul(own, ops.transpose(rows)) / self.temperature
        cosines = ops.where(itself, ops.cast(masking_value(own.dtype), own.dtype), cosines)
        twin = index + 1 - 2 * (index % 2)
        return -pick(ops.log_softmax(cosines, axis=-1), twin) * valid


@keras.saving.register_keras_serializable(package="keras_extras")
class SupervisedSimCSE(InBatchContrast):
    """Supervised SimCSE: anchors with their positives, and hard negatives if there are some.

    ``-log( exp(cos(a_i, b_i1) / τ) / Σ_j Σ_k exp(cos(a_i, b_jk) / τ) )``, where ``b_j1`` is the
    positive of anchor j and ``b_j2 …`` are its hard negatives.

    Rows of the predictions ``(group_size · n, dim)`` are anchor, positive, negatives, anchor …, and
    the targets ``(group_size · n,)`` anything that is the same within a group: `interleave` makes
    such batches and `group_numbers` such targets. The loss of a group stands on each of its rows.
    With groups of two, this is also known as multiple negatives ranking. Under `tf.distribute`
    anchors are compared with the rows of all replicas, whose embeddings are gathered; a group has
    to lie on one replica. With gradient accumulation they are compared with those of their
    micro-batch. Rows of sample weight 0 have no loss of their own, and are others' negatives still.
    Computed in float32.

    Args:
        group_size: 2 (anchor and positive), 3 (the default: and a hard negative), or more.
        temperature: τ; 0.05 by default.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: `group_size` below 2; rows that do not go into groups; or (in eager execution;
            in a compiled step the loss is NaN) a group with different targets.

    Source: Gao et al., arXiv:2104.08821.

    >>> rows = [[1.0, 0.0]] * 6
    >>> print(f"{float(SupervisedSimCSE()([0, 0, 0, 1, 1, 1], rows)):.4f}")  # log 4
    1.3863
    """

    def __init__(
        self,
        group_size: int = 3,
        temperature: float = 0.05,
        reduction="sum_over_batch_size",
        name="supervised_simcse",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)
        if group_size < 2:
            raise ValueError(f"A group is an anchor and a positive at least; got {group_size=}.")
        self.group_size = group_size

    def call(self, y_true, y_pred):
        size = self.group_size
        groups = split_groups(unit_vectors(y_pred), size, self.name)
        dtype, dim = groups.dtype, groups.shape[-1]
        _, valid = targets_of_groups(ops.reshape(y_true, (-1,)), size, self.name, dtype)
        anchors = groups[:, 0]
        candidates = ops.reshape(gather_rows(groups[:, 1:]), (-1, dim))
        cosines = ops.matmul(anchors, ops.transpose(candidates))
        number = ops.arange(ops.shape(anchors)[0]) + number_of_first_row(anchors)
        positive = number * (size - 1)
        loss = -pick(ops.log_softmax(cosines / self.temperature, axis=-1), positive)
        return ops.repeat(loss * valid, size, axis=0)

    def get_config(self):
        return {**super().get_config(), "group_size": self.group_size}
