"""CoSENT: similarities in the order of their labels."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.gathering import gather_rows
from keras_extras.losses.layouts import split_groups, targets_of_groups
from keras_extras.losses.multilabel import one_more
from keras_extras.ops import masking_value

#: similarity of premise and hypothesis in natural language inference, for CoSENT's targets
NLI_ORDER = {"entailment": 2, "neutral": 1, "contradiction": 0}


def unit_vectors(x):
    """Rows of length 1 in float32; a row shorter than 1e-12 becomes zeros and has no gradient."""
    x = ops.convert_to_tensor(x)
    x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    short = squares <= 1e-24
    return ops.where(short, 0, x) * ops.rsqrt(ops.where(short, 1, squares))


@keras.saving.register_keras_serializable(package="keras_extras")
def cosent(y_true, scores, scale: float = 20.0, weights=None):
    """One number for a batch: how far the scores are from the order of the labels.

    ``log(1 + Σ_{y_i > y_j} exp(λ (s_j - s_i)))``

    Only the order of labels counts: they may be binary, graded, or `NLI_ORDER`. Only differences
    of scores count, as in Spearman's correlation, which it serves. Computed in float32.

    Args:
        y_true: ``(n,)``, the larger the more similar; equal labels are not compared.
        scores: ``(n,)``, of each pair of texts: a cosine, or any number.
        scale: λ; 20 by default, for cosines.
        weights: ``(n,)``; a pair of weight 2 counts as two such pairs, one of weight 0 not at all.
            None by default.

    Returns:
        A scalar.

    Source: kexue.fm/archives/8847, 8860, 9341.

    >>> print(f"{float(cosent([1, 0], [0.8, 0.6])):.4f}")
    0.0181
    """
    scores = ops.convert_to_tensor(scores)
    scores = scale * ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    y_true = ops.convert_to_tensor(y_true)
    terms = scores[None, :] - scores[:, None]
    compared = y_true[:, None] > y_true[None, :]
    if weights is not None:
        weights = ops.cast(weights, scores.dtype)
        present = weights > 0
        compared = compared & present[:, None] & present[None, :]
        log_weights = ops.log(ops.where(present, weights, ops.ones_like(weights)))
        terms = terms + log_weights[:, None] + log_weights[None, :]
    terms = ops.where(compared, terms, ops.cast(masking_value(scores.dtype), scores.dtype))
    return one_more(ops.reshape(terms, (-1,)))


class Ranking(keras.losses.Loss):
    """What the losses for embeddings and for scores share.

    Sample weights are weights of pairs (see `cosent`), not factors of the loss.
    """

    def __init__(self, scale: float, name, dtype):
        super().__init__(name=name, dtype=dtype)
        self.scale = scale

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        given = [y_true] if sample_weight is None else [y_true, sample_weight]
        return super().__call__(given, y_pred)

    def call(self, y_true, y_pred):
        targets = y_true if isinstance(y_true, list) else [y_true]
        scores, targets, valid = self.scores(y_pred, [ops.reshape(t, (-1,)) for t in targets])
        table = ops.stack([ops.cast(x, scores.dtype) for x in (scores, *targets)], axis=1)
        scores, labels, *weights = ops.unstack(gather_rows(table), len(targets) + 1, axis=1)
        loss = cosent(labels, scores, self.scale, *weights) * valid
        return ops.broadcast_to(loss, ops.shape(y_pred)[:1])

    def get_config(self):
        return {"scale": self.scale, "name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="keras_extras")
class CoSENT(Ranking):
    """`cosent` of the cosines of sentence embeddings.

    Rows ``2i`` and ``2i + 1`` of the predictions ``(2n, dim)`` are a pair, the targets, ``(2n,)``
    or ``(2n, 1)``, repeat its label; `interleave` and `twice_in_a_row` make such batches. Of two
    sample weights the first is the pair's. The loss is one number for the batch, so there is no
    `reduction`.

    Under `tf.distribute` the pairs of all replicas are compared: their cosines and labels are
    gathered, the embeddings are not, so that a pair has to lie on one replica. With gradient
    accumulation the pairs of a micro-batch are compared.

    Args:
        scale: λ; 20 by default.
        name, dtype: as in `keras.losses.Loss`.

    Raises:
        ValueError: odd number of rows, or (in eager execution; in a compiled step the loss is
            NaN) a pair with two labels.

    Source: kexue.fm/archives/8847.

    >>> pairs = [[1.0, 0.0], [0.8, 0.6], [1.0, 0.0], [0.6, 0.8]]
    >>> print(f"{float(CoSENT()([1, 1, 0, 0], pairs)):.4f}")
    0.0181
    """

    def __init__(self, scale: float = 20.0, name="cosent", dtype=None):
        super().__init__(scale, name, dtype)

    def scores(self, y_pred, targets):
        pairs = split_groups(unit_vectors(y_pred), 2, self.name)
        label, valid = targets_of_groups(targets[0], 2, self.name, pairs.dtype)
        weights = [ops.reshape(w, (-1, 2))[:, 0] for w in targets[1:]]
        return ops.sum(pairs[:, 0] * pairs[:, 1], axis=-1), [label, *weights], valid


@keras.saving.register_keras_serializable(package="keras_extras")
class InteractiveCoSENT(Ranking):
    """`cosent` of scores that a model gives to pairs of texts which it reads together.

    Predictions are ``(n,)`` or ``(n, 1)``, without activation, targets as many labels. Only the
    order of scores is learnt: find a threshold with `keras_extras.postprocess` if one is needed.
    The loss is one number for the batch, so there is no `reduction`. Under `tf.distribute` the
    scores and labels of all replicas are gathered; with gradient accumulation those of a
    micro-batch are compared.

    Args:
        scale: λ; 1 by default, as the model can scale its scores itself.
        limit: scores are clipped to ±limit; 1e6 by default.
        name, dtype: as in `keras.losses.Loss`.

    Source: kexue.fm/archives/9341.

    >>> print(f"{float(InteractiveCoSENT()([1, 0], [[3.0], [1.0]])):.4f}")
    0.1269
    """

    def __init__(
        self, scale: float = 1.0, limit: float = 1e6, name="interactive_cosent", dtype=None
    ):
        super().__init__(scale, name, dtype)
        self.limit = limit

    def scores(self, y_pred, targets):
        scores = ops.clip(ops.reshape(y_pred, (-1,)), -self.limit, self.limit)
        return scores, targets, 1

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}
