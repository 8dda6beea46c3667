"""Attention whose weights are inner products of features: linear in the length."""

from __future__ import annotations

import random

import keras
from keras import ops

from keras_extras.layers.long_attention import LongAttention, blocks
from keras_extras.layers.random_features import orthogonal_features
from keras_extras.layers.rotary import RotaryPosition
from keras_extras.ops import apply_rotary_position_embeddings, masking_value

#: length of the pieces that causal attention computes at once
CAUSAL_BLOCK = 64


@keras.saving.register_keras_serializable(package="keras_extras")
class LinearAttention(LongAttention):
    """Multi-head attention in time and memory linear in the length (kexue.fm/archives/7546).

    ``o_i = Σ_j φ(q_i)·ϕ(k_j) v_j / Σ_j φ(q_i)·ϕ(k_j)``, where ``Σ_j ϕ(k_j) v_jᵀ`` is computed once
    for all i, or, in causal attention, as a running sum. `feature_map` says what φ and ϕ are:

        ``"elu"``        elu + 1, both (arXiv:2006.16236).
        ``"exp"``        exp, both (kexue.fm/archives/8338); with a `key_size` of 4 times the usual.
        ``"softmax"``    softmax of q over its components, of k over the positions
                         (arXiv:1812.01243); in causal attention over the positions up to i.
        ``"cosine"``     φ(q)·φ(k) = 1 + cos(q, k).
        ``"performer"``  e^(ω·x − |x|²/2) for `features` random directions ω, so that φ(q)·φ(k) is
                         about e^(q·k/√key_size) (arXiv:2009.14794; kexue.fm/archives/7921).

    Exponentials are taken relative to the largest one, of each query and of all keys, which
    changes no weight; but in causal attention a key that is larger than earlier ones by some 40
    drives the outputs of their positions to 0. Sums are computed in float32 in mixed precision.

    Rotary positions turn the features (of ``"cosine"`` the vectors, not the 1), in the numerator
    only, so that the weights no longer sum to one (arXiv:2104.09864).

    Args:
        heads, head_size, and all others: as in `MultiHeadAttention`; `normalization` has no
            meaning here.
        feature_map: see above; ``"elu"`` by default.
        causal: position i sees the positions up to i only; there are as many keys as queries.
        features: number of random directions; `key_size` by default. Only of ``"performer"``.
        position: a `RotaryPosition` or None.
        seed: of the random directions, which are a weight that is saved and not trained.

    Raises:
        ValueError: unknown `feature_map`; any other position, or one with an odd number of
            features; `attention_dropout` or `return_attention_scores` is on; at a call with
            `a_bias` or a matrix of relative positions, with rotary vectors of another size than
            the features, or, if causal, with fewer or more keys than queries.

    >>> x = keras.ops.ones((2, 5, 8))
    >>> tuple(LinearAttention(2, 4, causal=True)([x, x, x]).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        feature_map: str = "elu",
        causal: bool = False,
        features: int | None = None,
        **kwargs,
    ):
        super().__init__(heads, head_size, causal, **kwargs)
        maps = ("elu", "exp", "softmax", "cosine", "performer")
        if feature_map not in maps:
            raise ValueError(f"feature_map must be one of {maps}, not {feature_map!r}.")
        if self.position is not None and type(self.position) is not RotaryPosition:
            raise ValueError(
                "LinearAttention has no scores: it takes position=RotaryPosition(…) or None, "
                f"not {type(self.position).__name__}."
            )
        if self.position is not None and feature_map == "performer" and (features or 0) % 2:
            raise ValueError(f"Rotary positions turn pairs of features: {features} is odd.")
        if self.seed is None:
            self.seed = random.randint(1, 10**9)
        self.feature_map = feature_map
        self.features = features

    def build(self, input_shape):
        super().build(input_shape)
        if self.feature_map == "performer":
            size, count = self.key_size, self.features or self.key_size
            self.directions = self.add_weight(
                name="directions",
                shape=(size, count),
                initializer=lambda shape, dtype: ops.cast(
                    orthogonal_features(size, count, self.seed), dtype
                ),
                trainable=False,
            )

    def attend(self, q, k, v, shown, sinusoidal, training):
        if self.causal:
            self.check_one_length(q, k)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        q, k, v = (ops.cast(x, dtype) for x in (q, k, v))
        if shown is None:
            shown = ops.ones((1, ops.shape(k)[1]), dtype="bool")
        shown = shown[:, :, None, None]
        fq, fk = self._query_features(q), self._key_features(k, shown)
        fk = ops.where(shown, fk, 0.0)

        total = ops.cumsum(fk, axis=1) if self.causal else ops.sum(fk, axis=1, keepdims=True)
        smallest = ops.cast(1e-18, dtype)  # where nothing is seen; its square is still a number
        if self.feature_map == "softmax":
            fq, divisor = fq / ops.maximum(total, smallest), None
        else:
            divisor = ops.maximum(ops.sum(fq * total, axis=-1, keepdims=True), smallest)
        fq, fk = self._turned(fq, fk, sinusoidal)
        o = self._causal(fq, fk, v) if self.causal else self._bidirectional(fq, fk, v)
        return ops.cast(o if divisor is None else o / divisor, self.compute_dtype)

    def _query_features(self, q):
        if self.feature_map == "softmax":
            return ops.softmax(q, axis=-1)
        if self.feature_map in ("exp", "performer"):
            powers = self._powers(q)
            return ops.exp(powers - ops.stop_gradient(ops.max(powers, axis=-1, keepdims=True)))
        return self._plain_features(q)

    def _key_features(self, k, shown):
        if self.feature_map in ("elu", "cosine"):
            return self._plain_features(k)
        powers = k
        if self.feature_map == "performer":
            powers = self._powers(k) - ops.sum(ops.square(self._shrunk(k)), -1, keepdims=True) / 2
        powers = ops.where(shown, powers, ops.cast(masking_value(powers.dtype), powers.dtype))
        return ops.exp(powers - ops.stop_gradient(ops.max(powers, axis=(1, 3), keepdims=True)))

    def _plain_features(self, x):
        if self.feature_map == "elu":
            return ops.elu(x) + 1
        length = ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24))
        return ops.concatenate([ops.ones_like(x[..., :1]), x / length], axis=-1)

    def _shrunk(self, x):
        """Queries or keys over key_size^¼, so that their product is over √key_size."""
        return x / self.key_size**0.25 if self.attention_scale else x

    def _powers(self, x):
        if self.feature_map == "exp":
            return x
        return ops.einsum("blhd,dm->blhm", self._shrunk(x), ops.cast(self.directions, x.dtype))

    def _turned(self, fq, fk, sinusoidal):
        """The features turned by their positions, where there are any."""
        if sinusoidal is None and self.position is None:
            return fq, fk
        still = 1 if self.feature_map == "cosine" else 0
        ones, turning = zip(*((x[..., :still], x[..., still:]) for x in (fq, fk)), strict=True)
        if sinusoidal is None:
            turned = (
                self.position.rotate(x, ops.arange(ops.shape(x)[1], dtype="int32")) for x in turning
            )
        elif sinusoidal.shape[-1] != turning[0].shape[-1]:
            raise ValueError(
                f"The rotary vectors have {sinusoidal.shape[-1]} numbers for "
                f"{turning[0].shape[-1]} features: give position=RotaryPosition() instead."
            )
        else:
            turned = apply_rotary_position_embeddings(sinusoidal, *turning)
        return tuple(ops.concatenate(pair, axis=-1) for pair in zip(ones, turned, strict=True))

    @staticmethod
    def _bidirectional(fq, fk, v):
        return ops.einsum("bqhm,bhmd->bqhd", fq, ops.einsum("bkhm,bkhd->bhmd", fk, v))

    def _causal(self, fq, fk, v):
        """Within blocks by a masked matrix, between them by the sums of all blocks before."""
        length = ops.shape(fq)[1]
        size = CAUSAL_BLOCK
        count = (length + size - 1) // size
        fq, fk, v = (blocks(x, size, count) for x in (fq, fk, v))
        sums = ops.einsum("bnkhm,bnkhd->bnhmd", fk, v)
        before = ops.cumsum(sums, axis=1) - sums
        past = ops.cast(ops.tril(ops.ones((size, size))), fq.dtype)
        within = ops.einsum("bnqhm,bnkhm->bnhqk", fq, fk) * past
        o = ops.einsum("bnhqk,bnkhd->bnqhd", within, v)
        o = o + ops.einsum("bnqhm,bnhmd->bnqhd", fq, before)
        return ops.reshape(o, (-1, count * size, self.heads, self.head_size))[:, :length]

    def get_config(self):
        return {
            **super().get_config(),
            "feature_map": self.feature_map,
            "features": self.features,
        }
