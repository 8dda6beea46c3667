"""Two-directional maximum entropy Markov model: a faster, locally normalised CRF."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.layers.crf import (
    divided_glorot,
    link_to_previous,
    masked_mean,
    read_labels,
    read_scores,
    viterbi,
)
from keras_extras.ops import sequence_masking


@keras.saving.register_keras_serializable(package="keras_extras")
class MaximumEntropyMarkovModel(keras.layers.Layer):
    """Maximum entropy Markov model, read in both directions.

    For scores ``x`` (the inputs) and transitions ``T``, each label is a softmax given its
    neighbour: ``p(y_t | y_(t-1)) = softmax((x_t + T[y_(t-1)]) / 2)`` from left to right and
    ``p(y_t | y_(t+1)) = softmax((x_t + T[:, y_(t+1)]) / 2)`` from right to left; a label
    without that neighbour is ``softmax(x_t)``. The loss is the mean of the two directions'
    cross entropies, so training needs no loop over time.
    `call` only masks the padding, so that the losses find it again in ``y_pred``.

    Keras cannot store a bound loss such as ``memm.sparse_loss``: load saved models with
    ``compile=False`` and compile them again.

    Args:
        lr_multiplier: as in `ConditionalRandomField`; 1 by default.
        hidden_dim: None (default) for a full matrix ``T``, or the rank of ``T = L Rᵀ``, which
            suits many labels.

    Source: kexue.fm/archives/7213.

    >>> memm = MaximumEntropyMarkovModel()
    >>> scores = memm(keras.ops.array([[[2.0, 0.0], [0.0, 3.0]]]))
    >>> _ = memm.weights[0].assign([[0.0, 0.0], [0.0, 0.0]])
    >>> keras.ops.convert_to_numpy(memm.decode(scores)).tolist()
    [[0, 1]]
    """

    def __init__(self, lr_multiplier: float = 1, hidden_dim: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if lr_multiplier <= 0:
            raise ValueError(f"lr_multiplier must be positive, got {lr_multiplier}.")
        self.lr_multiplier = lr_multiplier
        self.hidden_dim = hidden_dim
        self.supports_masking = True

    def build(self, input_shape):
        labels = input_shape[-1]
        if self.hidden_dim is None:
            self._trans = self._add_transitions("trans", (labels, labels))
        else:
            self._l_trans = self._add_transitions("l_trans", (labels, self.hidden_dim))
            self._r_trans = self._add_transitions("r_trans", (labels, self.hidden_dim))

    def _add_transitions(self, name, shape):
        initializer = divided_glorot(self.lr_multiplier)
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def _scaled(self, weight):
        return weight if self.lr_multiplier == 1 else self.lr_multiplier * weight

    @property
    def trans(self):
        """Transition scores ``(labels, labels)``, from row to column."""
        if self.hidden_dim is None:
            return self._scaled(self._trans)
        return ops.matmul(self.l_trans, ops.transpose(self.r_trans))

    @property
    def l_trans(self):
        """Left factor ``(labels, hidden_dim)``, where `hidden_dim` is given."""
        return self._scaled(self._l_trans)

    @property
    def r_trans(self):
        """Right factor ``(labels, hidden_dim)``, where `hidden_dim` is given."""
        return self._scaled(self._r_trans)

    def call(self, inputs, mask=None):
        return sequence_masking(inputs, mask, "-inf", 1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape

    def _histories(self, labels, dtype):
        """What every label says about the one after it and about the one before it."""
        if self.hidden_dim is None:
            trans = ops.cast(self.trans, dtype)
            return ops.take(trans, labels, axis=0), ops.take(ops.transpose(trans), labels, axis=0)
        left, right = ops.cast(self.l_trans, dtype), ops.cast(self.r_trans, dtype)
        to_next = ops.matmul(ops.take(left, labels, axis=0), ops.transpose(right))
        to_previous = ops.matmul(ops.take(right, labels, axis=0), ops.transpose(left))
        return to_next, to_previous

    def _logits(self, labels, scores, mask):
        """Logits of every label given its true neighbour: left to right, right to left."""
        to_next, to_previous = self._histories(labels, scores.dtype)
        linked, linked_next = link_both_ways(mask)
        from_left = ops.concatenate([scores[:, :1], to_next[:, :-1]], axis=1)
        from_left = ops.where(linked[..., None], from_left, scores)
        from_right = ops.concatenate([to_previous[:, 1:], scores[:, -1:]], axis=1)
        from_right = ops.where(linked_next[..., None], from_right, scores)
        return (scores + from_left) / 2, (scores + from_right) / 2

    def sparse_loss(self, y_true, y_pred):
        """Mean cross entropy of integer labels ``(batch, length)``; a scalar."""
        scores, mask = read_scores(y_pred)
        labels = read_labels(y_true, mask)
        loss = 0.0
        for logits in self._logits(labels, scores, mask):
            log_probs = ops.log_softmax(logits, axis=-1)
            points = ops.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
            loss = loss - masked_mean(points, mask) / 2
        return loss

    def dense_loss(self, y_true, y_pred):
        """Like `sparse_loss`, for one-hot labels ``(batch, length, labels)``."""
        return self.sparse_loss(ops.argmax(y_true, axis=-1), y_pred)

    def sparse_accuracy(self, y_true, y_pred):
        """Share of unmasked labels predicted from their true neighbour, mean of directions."""
        scores, mask = read_scores(y_pred)
        labels = read_labels(y_true, mask)
        accuracy = 0.0
        for logits in self._logits(labels, scores, mask):
            hits = ops.cast(ops.argmax(logits, axis=-1), "int32") == labels
            accuracy = accuracy + masked_mean(ops.cast(hits, scores.dtype), mask) / 2
        return accuracy

    def dense_accuracy(self, y_true, y_pred):
        """Like `sparse_accuracy`, for one-hot labels ``(batch, length, labels)``."""
        return self.sparse_accuracy(ops.argmax(y_true, axis=-1), y_pred)

    def decode(self, emissions, mask=None):
        """The label sequences of least loss, both directions counted (exact, by Viterbi).

        Args:
            emissions: ``(batch, length, labels)``, the layer's outputs (which carry their
                mask) or raw scores.
            mask: optional ``(batch, length)``, True where a position counts.

        Returns:
            int32 labels ``(batch, length)``, zero on the padding.
        """
        scores, mask = read_scores(emissions, mask)
        trans = ops.cast(self.trans, scores.dtype)
        linked, linked_next = link_both_ways(mask)
        ends = ops.cast(ops.logical_not(linked), scores.dtype)
        ends = ends + ops.cast(ops.logical_not(linked_next), scores.dtype)
        without_neighbour = ends[..., None] * ops.log_softmax(scores, axis=-1)
        previous = ops.concatenate([scores[:, :1], scores[:, :-1]], axis=1)

        def transition(before, now):
            left_to_right = ops.log_softmax((now[:, None, :] + trans) / 2, axis=2)
            right_to_left = ops.log_softmax((before[:, :, None] + trans) / 2, axis=1)
            return left_to_right + right_to_left

        return viterbi(without_neighbour, mask, transition, previous, scores)

    def get_config(self):
        return {
            **super().get_config(),
            "lr_multiplier": self.lr_multiplier,
            "hidden_dim": self.hidden_dim,
        }


def link_both_ways(mask):
    """Where a position has an unmasked neighbour: before it, after it."""
    linked = link_to_previous(mask)
    return linked, ops.concatenate([linked[:, 1:], ops.zeros_like(linked[:, :1])], axis=1)
