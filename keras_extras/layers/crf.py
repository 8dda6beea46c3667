"""Linear-chain conditional random field: log-likelihood loss and Viterbi decoding."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_extras.ops import masking_value, sequence_masking


def scan_states(step, initial, streams: tuple, reverse: bool = False):
    """Run ``state = step(state, slices)`` over the leading axis of `streams`; stack the states.

    This is `keras.ops.scan`, except on TensorFlow: there Keras' loop carries no bound on its
    number of steps, and XLA then refuses to differentiate it. `tf.scan` gives that bound.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.scan(step, streams, initializer=initial, reverse=reverse)

    def step_twice(state, slices):
        state = step(state, slices)
        return state, state

    return ops.scan(step_twice, initial, streams, reverse=reverse)[1]


def time_major(x):
    """Swap the batch and the time axis."""
    return ops.swapaxes(x, 0, 1)


def read_scores(y_pred, mask=None):
    """Split a masked score tensor into finite scores and the mask that it carries.

    A row is padding when all its labels stand at or below float16's masking value: this
    recognises what the layer's `call` wrote in any precision, and ``-inf`` as well.

    Args:
        y_pred: ``(batch, length, labels)``.
        mask: optional ``(batch, length)``, a further mask.

    Returns:
        Scores in float32 (or float64, if they came so) with zeros on the padding, and the
        boolean mask ``(batch, length)``.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 3:
        raise ValueError(
            "Scores of a sequence labelling layer must have the shape (batch, length, labels), "
            f"got {tuple(y_pred.shape)}."
        )
    scores = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, "float32"))
    padding = ops.all(scores <= masking_value("float16"), axis=-1)
    valid = ops.logical_not(padding)
    if mask is not None:
        valid = ops.logical_and(valid, ops.cast(mask, "bool"))
    scores = ops.maximum(scores, masking_value(scores.dtype))
    return ops.where(ops.expand_dims(valid, -1), scores, ops.zeros_like(scores)), valid


def read_labels(y_true, mask):
    """Integer labels of shape ``(batch, length)``, zero on the padding."""
    labels = ops.cast(ops.reshape(y_true, ops.shape(mask)), "int32")
    return ops.where(mask, labels, ops.zeros_like(labels))


def link_to_previous(mask):
    """True where a position and the one before it are both unmasked."""
    first = ops.zeros_like(mask[:, :1])
    return ops.concatenate([first, ops.logical_and(mask[:, 1:], mask[:, :-1])], axis=1)


def masked_mean(values, mask):
    """Mean of `values` over the unmasked positions; 0 where there is none."""
    weights = ops.cast(mask, values.dtype)
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1)


def divided_glorot(divisor: float):
    """Glorot uniform initial values, divided by `divisor`."""
    glorot = keras.initializers.GlorotUniform()
    return lambda shape, dtype=None: glorot(shape, dtype) / divisor


def viterbi(scores, mask, transition, *streams):
    """Best label sequence of a first-order chain.

    Args:
        scores: ``(batch, length, labels)``, the score of each label at each position.
        mask: boolean ``(batch, length)``.
        transition: function of one time slice of every stream that returns the scores of
            going from the previous label (rows) to this one (columns): ``(labels, labels)``
            or ``(batch, labels, labels)``.
        *streams: tensors ``(batch, length, …)`` that `transition` reads.

    Returns:
        int32 labels ``(batch, length)``, zero on the padding.
    """
    labels = ops.arange(scores.shape[-1], dtype="int32")

    def forward(carry, slices):
        best, _ = carry
        score, valid, linked, *rest = slices
        step = ops.where(linked[:, None, None], transition(*rest), 0.0)
        paths = best[:, :, None] + step
        came_from = ops.cast(ops.argmax(paths, axis=1), "int32")
        reached = ops.max(paths, axis=1) + score
        valid = valid[:, None]
        return ops.where(valid, reached, best), ops.where(valid, came_from, labels)

    def backward(label, pointers):
        return ops.take_along_axis(pointers, label[:, None], axis=1)[:, 0]

    start = ops.zeros_like(scores[:, 0])
    time_slices = (scores, mask, link_to_previous(mask), *streams)
    best, pointers = scan_states(
        forward, (start, ops.cast(start, "int32")), tuple(time_major(x) for x in time_slices)
    )
    last = ops.cast(ops.argmax(best[-1], axis=-1), "int32")
    previous = scan_states(backward, last, pointers, reverse=True)
    path = time_major(ops.concatenate([previous[1:], last[None]], axis=0))
    return ops.where(mask, path, ops.zeros_like(path))


@keras.saving.register_keras_serializable(package="keras_extras")
class ConditionalRandomField(keras.layers.Layer):
    """Linear-chain CRF: a layer whose weight, the transition scores, lives in its loss.

    For scores ``x`` (the inputs) and transitions ``T``, a label sequence ``y`` has the
    probability ``exp(s(y)) / Σ_y' exp(s(y'))`` with ``s(y) = Σ_t x[t, y_t] + Σ_t T[y_(t-1), y_t]``.
    `call` only masks the padding, so that the losses find it again in ``y_pred``; masked
    positions cut the chain: every run of unmasked positions is a chain of its own.

    Train with ``loss=crf.sparse_loss`` and decode predictions with ``crf.decode``.
    Keras cannot store such a bound loss: load saved models with ``compile=False`` and compile
    them again.

    Args:
        lr_multiplier: the transitions are ``lr_multiplier`` times a weight that starts
            ``lr_multiplier`` times smaller, so that optimizers like Adam move them that many
            times faster; 1 by default.

    Source: kexue.fm/archives/5542 and /7196.

    >>> crf = ConditionalRandomField()
    >>> scores = crf(keras.ops.array([[[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]]))
    >>> _ = crf.weights[0].assign([[0.0, 0.0], [-9.0, 0.0]])
    >>> keras.ops.convert_to_numpy(crf.decode(scores)).tolist()
    [[0, 1, 1]]
    """

    def __init__(self, lr_multiplier: float = 1, **kwargs):
        super().__init__(**kwargs)
        if lr_multiplier <= 0:
            raise ValueError(f"lr_multiplier must be positive, got {lr_multiplier}.")
        self.lr_multiplier = lr_multiplier
        self.supports_masking = True

    def build(self, input_shape):
        self._trans = self.add_weight(
            name="trans",
            shape=(input_shape[-1], input_shape[-1]),
            initializer=divided_glorot(self.lr_multiplier),
            autocast=False,
        )

    @property
    def trans(self):
        """Transition scores ``(labels, labels)``, from row to column."""
        return self._trans if self.lr_multiplier == 1 else self.lr_multiplier * self._trans

    def call(self, inputs, mask=None):
        return sequence_masking(inputs, mask, "-inf", 1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape

    def log_norm(self, scores, mask):
        """Log of the sum over all paths of their exponentiated scores, ``(batch,)``."""
        trans = ops.cast(self.trans, scores.dtype)

        def step(state, slices):
            score, valid, linked = slices
            paths = state[:, :, None] + ops.where(linked[:, None, None], trans, 0.0)
            reached = ops.logsumexp(paths, axis=1) + score
            return ops.where(valid[:, None], reached, state)

        start = ops.zeros_like(scores[:, 0]) - math.log(scores.shape[-1])  # sums to one path
        streams = (scores, mask, link_to_previous(mask))
        states = scan_states(step, start, tuple(time_major(x) for x in streams))
        return ops.logsumexp(states[-1], axis=-1)

    def sparse_loss(self, y_true, y_pred):
        """Negative log-likelihood of integer labels ``(batch, length)``; returns ``(batch,)``."""
        scores, mask = read_scores(y_pred)
        labels = read_labels(y_true, mask)
        points = ops.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
        trans = ops.reshape(ops.cast(self.trans, scores.dtype), (-1,))
        moves = ops.take(trans, labels[:, :-1] * scores.shape[-1] + labels[:, 1:], axis=0)
        moves = moves * ops.cast(link_to_previous(mask)[:, 1:], scores.dtype)
        target = ops.sum(points, axis=1) + ops.sum(moves, axis=1)
        return self.log_norm(scores, mask) - target

    def dense_loss(self, y_true, y_pred):
        """Like `sparse_loss`, for one-hot labels ``(batch, length, labels)``."""
        scores, mask = read_scores(y_pred)
        y_true = ops.cast(y_true, scores.dtype)
        y_true = ops.where(mask[..., None], y_true, ops.zeros_like(y_true))
        moves = ops.matmul(y_true[:, :-1], ops.cast(self.trans, scores.dtype)) * y_true[:, 1:]
        target = ops.sum(y_true * scores, axis=(1, 2)) + ops.sum(moves, axis=(1, 2))
        return self.log_norm(scores, mask) - target

    def sparse_accuracy(self, y_true, y_pred):
        """Share of unmasked positions whose best score, transitions aside, is the label's."""
        scores, mask = read_scores(y_pred)
        hits = ops.cast(ops.argmax(scores, axis=-1), "int32") == read_labels(y_true, mask)
        return masked_mean(ops.cast(hits, scores.dtype), mask)

    def dense_accuracy(self, y_true, y_pred):
        """Like `sparse_accuracy`, for one-hot labels ``(batch, length, labels)``."""
        return self.sparse_accuracy(ops.argmax(y_true, axis=-1), y_pred)

    def decode(self, emissions, mask=None):
        """Most probable label sequences (Viterbi).

        Args:
            emissions: ``(batch, length, labels)``, the layer's outputs (which carry their
                mask) or raw scores.
            mask: optional ``(batch, length)``, True where a position counts.

        Returns:
            int32 labels ``(batch, length)``, zero on the padding.
        """
        scores, mask = read_scores(emissions, mask)
        trans = ops.cast(self.trans, scores.dtype)
        return viterbi(scores, mask, lambda: trans)

    def get_config(self):
        return {**super().get_config(), "lr_multiplier": self.lr_multiplier}
