"""Span scores against their formula in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_extras.layers import EfficientGlobalPointer, GlobalPointer

HEADS, SIZE, DIM = 2, 4, 6


def rotate(x):
    """RoPE of ``(length, size)``: neighbouring components turned as complex numbers."""
    length, size = x.shape
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, size, 2) / size)
    turned = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def expected_scores(layer, x):
    """Unmasked scores ``(heads, length, length)`` of one sequence ``(length, dim)``."""
    weights = [np.asarray(w, "float64") for w in layer.get_weights()]
    if not layer.use_bias:
        weights = [w for kernel in weights for w in (kernel, 0)]
    turn = rotate if layer.RoPE else lambda x: x
    y = x @ weights[0] + weights[1]
    if isinstance(layer, EfficientGlobalPointer):
        shared = turn(y[:, ::2]) @ turn(y[:, 1::2]).T / np.sqrt(SIZE)
        bias = (y @ weights[2] + weights[3]).T / 2
        return [shared + bias[2 * h][None] + bias[2 * h + 1][:, None] for h in range(HEADS)]
    heads = np.split(y, HEADS, axis=1)
    return [turn(qk[:, :SIZE]) @ turn(qk[:, SIZE:]).T / np.sqrt(SIZE) for qk in heads]


@pytest.fixture(params=[GlobalPointer, EfficientGlobalPointer])
def pointer(request):
    return request.param


def make(pointer, **kwargs):
    keras.utils.set_random_seed(0)
    layer = pointer(HEADS, SIZE, **kwargs)
    layer.build((None, None, DIM))
    rng = np.random.default_rng(5)
    layer.set_weights([rng.normal(size=w.shape) / 2 for w in layer.weights])
    return layer


@pytest.mark.parametrize("RoPE", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("tril_mask", [True, False])
def test_scores_and_masks(pointer, RoPE, use_bias, tril_mask):
    layer = make(pointer, RoPE=RoPE, use_bias=use_bias, tril_mask=tril_mask)
    x = np.random.default_rng(6).normal(size=(3, 5, DIM))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    inputs = ops.convert_to_tensor(x, "float32")
    for outputs, valid in (
        (layer(inputs), np.ones_like(mask)),
        (layer(inputs, mask=ops.convert_to_tensor(mask)), mask),
    ):
        kept = valid[:, None, :, None] & valid[:, None, None, :]
        if tril_mask:
            kept = kept & np.triu(np.ones((5, 5), bool))
        expected = [expected_scores(layer, row) for row in x]
        expected = np.where(kept, expected, -1e12)
        assert outputs.shape == (3, HEADS, 5, 5)
        np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-5)


def test_rotary_scores_know_the_distance_only(pointer):
    """Two sequences with the same tokens three places apart."""
    layer = make(pointer, tril_mask=False)
    x = np.random.default_rng(7).normal(size=(1, 9, DIM)).astype("float32")
    shifted = np.concatenate([np.zeros((1, 3, DIM), "float32"), x[:, :6]], axis=1)
    near, far = layer(x), layer(shifted)
    np.testing.assert_allclose(far[..., 3:, 3:], near[..., :6, :6], atol=1e-5)
    assert np.abs(near[..., :6, :6] - make(pointer, RoPE=False)(x)[..., :6, :6]).max() > 0.1


def test_kernels_start_with_different_numbers():
    layer = EfficientGlobalPointer(heads=4, head_size=4)
    layer.build((None, None, 8))
    first, second = layer.p_dense.kernel, layer.q_dense.kernel
    assert first.shape == second.shape == (8, 8)
    assert np.abs(ops.convert_to_numpy(first) - ops.convert_to_numpy(second)).max() > 1e-3


@pytest.mark.parametrize("policy, value", [("mixed_float16", -6e4), ("mixed_bfloat16", -1e12)])
def test_half_precision(pointer, policy, value):
    layer = make(pointer, dtype=policy)
    x = np.random.default_rng(8).normal(size=(1, 5, DIM))
    mask = ops.convert_to_tensor(np.arange(5)[None] < 4)
    outputs = layer(ops.convert_to_tensor(x, "float32"), mask=mask)
    dtype = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    kept = np.triu(np.ones((5, 5), bool)) & (np.arange(5) < 4)
    expected = np.array(expected_scores(layer, x[0]))
    np.testing.assert_allclose(outputs[0][:, kept], expected[:, kept], atol=0.1)
    np.testing.assert_allclose(outputs[0][:, ~kept], value, rtol=1e-2)


def test_a_model_finds_spans(pointer):
    """The span runs from token 2 to token 3; lengths change from batch to batch."""
    from keras_extras.losses import MultilabelCategoricalCrossentropy

    rng = np.random.default_rng(9)
    keras.utils.set_random_seed(9)
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 16, mask_zero=True)(tokens)
    scores = pointer(heads=1, head_size=16)(x)
    assert scores.shape == (None, 1, None, None)
    assert getattr(scores, "_keras_mask", None) is None
    model = keras.Model(tokens, keras.layers.Reshape((-1,))(scores))
    model.compile(keras.optimizers.Adam(0.02), loss=MultilabelCategoricalCrossentropy())
    for length in (6, 9, 7) * 12:
        x = rng.choice([1, 4], size=(16, length))
        x[:, -1] = 0
        starts = rng.integers(0, length - 2, 16)
        ends = rng.integers(starts + 1, length - 1)
        x[range(16), starts], x[range(16), ends] = 2, 3
        y = np.zeros((16, length, length), "float32")
        y[range(16), starts, ends] = 1
        model.train_on_batch(x, y.reshape(16, -1))
    found = model.predict(x, verbose=0).reshape(y.shape) > 0
    np.testing.assert_array_equal(found, y > 0)


def test_config_and_errors(pointer):
    layer = pointer(3, 5, False, False, False, keras.initializers.Constant(0.5), name="spans")
    twin = pointer.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert isinstance(twin.kernel_initializer, keras.initializers.Constant)
    assert (twin.heads, twin.head_size, twin.name) == (3, 5, "spans")
    assert (twin.RoPE, twin.use_bias, twin.tril_mask) == (False, False, False)
    assert layer.compute_mask(None, np.ones((1, 2))) is None
    assert layer.compute_output_shape((2, None, 7)) == (2, 3, None, None)
    with pytest.raises(ValueError, match="even head_size"):
        pointer(3, 5)
