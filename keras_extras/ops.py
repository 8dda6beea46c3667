"""Tensor helpers that several rooms share, in `keras.ops`: the same code on every backend.

They keep the semantics of the functions of the same name in `bert4keras.backend`.
"""

from __future__ import annotations

import math

import keras
from keras import ops


def masking_value(dtype) -> float:
    """The number that stands for "masked out" in tensors of `dtype`.

    It is finite, because ``-inf`` times zero and ``-inf`` minus ``-inf`` are NaN, and it is
    representable in `dtype`: -1e12, or -6e4 in float16 (whose largest number is 65504).

    >>> masking_value("float32"), masking_value("float16")
    (-1000000000000.0, -60000.0)
    """
    return -6e4 if keras.backend.standardize_dtype(dtype) == "float16" else -1e12


def align(tensor, axes, ndim: int | None = None):
    """Spread the axes of `tensor` over a tensor of rank `ndim`: a batched `expand_dims`.

    Args:
        tensor: any tensor.
        axes: axis ``i`` of `tensor` becomes axis ``axes[i]`` (ascending) of the result.
        ndim: rank of the result; ``max(axes) + 1`` by default, required when an axis is negative.

    Raises:
        ValueError: an axis is missing, or negative without `ndim`.

    >>> tuple(align(keras.ops.ones((2, 5)), [0, -1], 4).shape)
    (2, 1, 1, 5)
    """
    if len(axes) != len(tensor.shape):
        raise ValueError(f"align: {len(tensor.shape)} axes to place, but axes={axes}.")
    if ndim is None and min(axes) < 0:
        raise ValueError(f"align: axes={axes} counts from the end, so ndim must be given.")
    ndim = ndim or max(axes) + 1
    kept = {axis % ndim for axis in axes}
    return ops.expand_dims(tensor, [axis for axis in range(ndim) if axis not in kept])


def sequence_masking(x, mask=None, value=0, axis=None, bias=None, return_mask: bool = False):
    """Put `value` where a sequence is padding.

    Args:
        x: tensor of shape ``(batch, …)``.
        mask: boolean (or 0/1) tensor of shape ``(batch, length)``, True where `x` is kept.
        value: what the padding becomes; ``"-inf"`` means `masking_value` of `x`'s dtype.
        axis: axis or list of axes of `x` that run along the sequence; 1 by default.
        bias: a float tensor is added to `x`; a boolean one is a second mask. Both broadcast.
        return_mask: also return the mask, aligned to `x` (None where there was none).
    """
    if value == "-inf":
        value = masking_value(x.dtype)
    if mask is not None:
        axes = [1] if axis is None else axis if isinstance(axis, list) else [axis]
        mask = ops.cast(mask, "bool")
        ndim = len(x.shape)
        aligned = align(mask, [0, axes[0]], ndim)
        for a in axes[1:]:
            aligned = ops.logical_and(aligned, align(mask, [0, a], ndim))
        mask = aligned
    if bias is not None:
        if keras.backend.standardize_dtype(bias.dtype) == "bool":
            mask = bias if mask is None else ops.logical_and(mask, bias)
        else:
            x = x + ops.cast(bias, x.dtype)
    if mask is not None:
        x = ops.where(mask, x, ops.cast(value, x.dtype))
    return (x, mask) if return_mask else x


def attention_normalize(a, mask=None, axis: int = -1, method: str = "softmax", bias=None):
    """Turn attention scores into weights.

    ``softmax``:       softmax(a)
    ``squared_relu``:  relu(a)² / l      (arXiv:2202.10447), l = number of visible keys
    ``softmax_plus``:  softmax(a · log l / log 512), l at least 16   (kexue.fm/archives/8823)

    Args:
        a: scores, the keys along `axis`.
        mask, axis, bias: as in `sequence_masking`.
        method: one of the names above.

    Raises:
        ValueError: unknown `method`.

    >>> weights = attention_normalize(keras.ops.zeros((1, 2, 4)))
    >>> float(weights[0, 0, 0])
    0.25
    """
    a, mask = sequence_masking(a, mask, "-inf", axis, bias, return_mask=True)
    if method == "softmax":
        return ops.softmax(a, axis=axis)
    if method not in ("squared_relu", "softmax_plus"):
        raise ValueError(
            f"Unknown attention normalization {method!r}: "
            "use 'softmax', 'squared_relu' or 'softmax_plus'."
        )
    if mask is None:
        length = ops.cast(ops.shape(a)[axis], a.dtype)
    else:
        length = ops.sum(ops.cast(mask, a.dtype), axis=axis, keepdims=True)
    if method == "squared_relu":
        a = ops.relu(a)
        return a * (a / ops.maximum(length, 1))  # a² is too large for float16 from 256 on
    scale = ops.log(ops.maximum(length, ops.cast(16, a.dtype))) / math.log(512)
    return ops.softmax(a * scale, axis=axis)


def sinusoidal_embeddings(pos, dim: int, base: float = 10000):
    """Sinusoidal position vectors (arXiv:1706.03762; kexue.fm/archives/8231).

    ``p[k, 2i] = sin(k / base^(2i/dim))``, ``p[k, 2i+1] = cos(k / base^(2i/dim))``.

    Args:
        pos: float tensor of positions, any shape.
        dim: even size of the vectors.

    Returns:
        A tensor of shape ``pos.shape + (dim,)``, of `pos`'s dtype.

    >>> tuple(sinusoidal_embeddings(keras.ops.ones((1,)), 4).shape)
    (1, 4)
    """
    if dim % 2:
        raise ValueError(f"Sinusoidal embeddings need an even size, got dim={dim}.")
    exponents = ops.arange(0, dim // 2, dtype=pos.dtype) * (-2.0 / dim)
    angles = ops.expand_dims(pos, -1) * ops.power(ops.cast(base, pos.dtype), exponents)
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, tuple(ops.shape(angles)[:-1]) + (dim,))


def apply_rotary_position_embeddings(sinusoidal, *tensors):
    """Rotate queries and keys by their positions: RoPE (kexue.fm/archives/8265).

    Neighbouring components ``(x[2i], x[2i+1])`` at position k are turned by ``k / base^(2i/d)``.

    Args:
        sinusoidal: ``(batch or 1, length, d)``, from `sinusoidal_embeddings`.
        *tensors: each ``(batch, length, …, d)``.

    Returns:
        The rotated tensor, or the list of them if several were given.
    """
    ndim = len(tensors[0].shape)
    sinusoidal = align(sinusoidal, [0, 1, -1], ndim)
    cos = ops.repeat(sinusoidal[..., 1::2], 2, axis=-1)
    sin = ops.repeat(sinusoidal[..., ::2], 2, axis=-1)
    outputs = []
    for x in tensors:
        turned = ops.stack([-x[..., 1::2], x[..., ::2]], axis=-1)
        turned = ops.reshape(turned, ops.shape(x))
        outputs.append(x * ops.cast(cos, x.dtype) + turned * ops.cast(sin, x.dtype))
    return outputs[0] if len(outputs) == 1 else outputs


def widen(x) -> tuple:
    """`x` in float32 at least, for a computation inside, and the dtype to return to afterwards.

    >>> x, dtype = widen(keras.ops.ones((2,), "bfloat16"))
    >>> keras.backend.standardize_dtype(x.dtype), dtype
    ('float32', 'bfloat16')
    """
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if not keras.backend.is_float_dtype(dtype):
        dtype = keras.config.floatx()
    return ops.cast(x, "float64" if dtype == "float64" else "float32"), dtype


def root_mean_square(x, axis=None, keepdims: bool = False):
    """√mean(x²) along `axis`.

    >>> float(root_mean_square(keras.ops.array([3.0, 4.0, 0.0, 0.0])))
    2.5
    """
    return ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=keepdims))
