"""Whitening by its properties, and the layer against the functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.similarity import (
    RunningMoments,
    SentenceBERTHead,
    Whitening,
    compute_kernel_bias,
    cosine_similarity,
    load_whitening,
    save_whitening,
    transform_and_normalize,
)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6) * 3


def cosines(x):
    x = transform_and_normalize(x)
    return x @ x.T


def test_worked_example():
    kernel, bias = compute_kernel_bias(np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]]))
    np.testing.assert_allclose(kernel, [[0, np.sqrt(2)], [np.sqrt(0.5), 0]], atol=1e-12)
    np.testing.assert_array_equal(bias, 0)


def test_mean_0_and_covariance_1(vectors):
    kernel, bias = compute_kernel_bias(vectors)
    white = (vectors + bias) @ kernel
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(white.T @ white / 200, np.eye(6), atol=1e-11)
    first, _ = compute_kernel_bias(vectors, dim=2)
    np.testing.assert_array_equal(first, kernel[:, :2])
    variances = ((vectors + bias) @ (kernel / np.linalg.norm(kernel, axis=0))).var(0)
    assert (np.diff(variances) < 0).all()  # the largest are kept


def test_affine_maps_of_the_vectors_change_no_cosine(vectors):
    rng = np.random.default_rng(1)
    mapped = vectors @ (rng.normal(size=(6, 6)) + 3 * np.eye(6)) + rng.normal(size=6)
    expected, result = (
        cosines((x + bias) @ kernel)
        for x in (vectors, mapped)
        for kernel, bias in [compute_kernel_bias(x)]
    )
    np.testing.assert_allclose(result, expected, atol=1e-9)


def test_as_scikit_learns_pca(vectors, torch_python, run_python, tmp_path):
    """Which divides by one less than the count, so that no cosine changes."""
    np.save(tmp_path / "x.npy", vectors)
    script = f"""
import importlib.util, numpy as np
if importlib.util.find_spec("sklearn"):
    from sklearn.decomposition import PCA
    found = PCA(whiten=True).fit_transform(np.load({str(tmp_path / "x.npy")!r}))
    np.save({str(tmp_path / "y.npy")!r}, found)
"""
    run_python(torch_python, script)
    if not (tmp_path / "y.npy").exists():
        pytest.skip("scikit-learn is not installed beside torch")
    theirs = np.load(tmp_path / "y.npy")
    kernel, bias = compute_kernel_bias(vectors)
    ours = (vectors + bias) @ kernel
    np.testing.assert_allclose(abs(ours), abs(theirs) * np.sqrt(200 / 199), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(cosines(ours), cosines(theirs), atol=1e-10)


def test_no_cosine_sees_the_count_less_one(vectors):
    moments = RunningMoments([vectors])
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    theirs = (vectors - vectors.mean(0)) @ directions / np.sqrt(values)
    kernel, bias = moments.kernel_bias()
    np.testing.assert_allclose(cosines((vectors + bias) @ kernel), cosines(theirs), atol=1e-10)


def test_batches_are_as_one(vectors):
    kernel, bias = compute_kernel_bias(vectors)
    sizes = np.split(vectors, [1, 1, 50, 150])  # one of them empty
    for batches in (sizes, iter(sizes[::-1]), [row[None] for row in vectors]):
        other = compute_kernel_bias(batches)
        np.testing.assert_allclose(other[0], kernel, rtol=1e-9)
        np.testing.assert_allclose(other[1], bias, rtol=1e-12)
    far = RunningMoments(np.split(vectors + 1e6, 4))
    np.testing.assert_allclose(far.covariance(), np.cov(vectors.T, bias=True), rtol=1e-6)
    np.testing.assert_allclose(far.mean, vectors.mean(0) + 1e6)


def test_beta_and_gamma(vectors):
    kernel, bias = compute_kernel_bias(vectors, beta=0, gamma=0)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(cosines((vectors + bias) @ kernel), cosines(vectors), atol=1e-12)
    kernel, bias = compute_kernel_bias(vectors, beta=0.3, gamma=0.5)
    moved = vectors + bias
    np.testing.assert_allclose(bias, -0.3 * vectors.mean(0))
    about = moved.T @ moved / 200
    np.testing.assert_allclose(
        kernel.T @ about @ kernel, np.diag(np.diag(kernel.T @ kernel) ** -1), atol=1e-9
    )


def test_too_few_vectors(vectors):
    with pytest.raises(ValueError, match="4 vectors span 3 dimensions only, so 6 cannot"):
        compute_kernel_bias(vectors[:4])
    kernel, bias = compute_kernel_bias(vectors[:4], dim=3)
    white = (vectors[:4] + bias) @ kernel
    np.testing.assert_allclose(white.T @ white / 4, np.eye(3), atol=1e-9)
    assert compute_kernel_bias(vectors[:4], gamma=0)[0].shape == (6, 6)


def test_refused(vectors):
    with pytest.raises(ValueError, match="of width 6; got shape"):
        RunningMoments([vectors, vectors[:, :3]])
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_kernel_bias(vectors * np.inf)
    with pytest.raises(ValueError, match="dim=7 is wrong"):
        compute_kernel_bias(vectors, dim=7)
    with pytest.raises(ValueError, match="seen no vectors"):
        compute_kernel_bias([])


def test_saved(vectors, tmp_path):
    kernel, bias = compute_kernel_bias(vectors, dim=3)
    for name in ("white", "white.npz"):
        save_whitening(tmp_path / name, kernel, bias)
        for ours, read in zip((kernel, bias), load_whitening(tmp_path / name), strict=True):
            np.testing.assert_array_equal(ours, read)
    assert {path.name for path in tmp_path.iterdir()} == {"white", "white.npz"}
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(ValueError, match=r"holds \['x'\]"):
        load_whitening(tmp_path / "other.npz")


def test_normalized():
    np.testing.assert_allclose(transform_and_normalize([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(cosine_similarity([[1, 0], [1, 1]], [[0, 2], [2, 2]]), [0, 1])


# The layers


def test_layer_is_the_function(vectors):
    kernel, bias = compute_kernel_bias(vectors, 4, 0.9, 0.8)
    layer = Whitening(4, beta=0.9, gamma=0.8)
    layer.adapt(np.split(vectors, 4))
    expected = transform_and_normalize(vectors, kernel, bias)
    np.testing.assert_allclose(layer(vectors), expected, atol=1e-5)
    assert not layer.trainable_weights and len(layer.weights) == 2
    plain = Whitening(4, 0.9, 0.8, normalize=False)
    plain.adapt(vectors)
    np.testing.assert_allclose(plain(vectors), (vectors + bias) @ kernel, rtol=1e-3, atol=1e-4)
    half = Whitening.from_config({**layer.get_config(), "dtype": "mixed_float16"})
    half.adapt(vectors)
    assert half(vectors).dtype == "float16"
    np.testing.assert_allclose(half(vectors), expected, atol=5e-3)


def test_layer_of_the_mean():
    """It has no direction: zeros, and finite gradients."""
    inputs = tf.Variable([[3.0, 4.0], [0.0, 0.0]])
    with tf.GradientTape() as tape:
        output = Whitening()(inputs)
        total = tf.reduce_sum(output)
    np.testing.assert_allclose(output, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, inputs), [[0.032, -0.024], [0, 0]], atol=1e-6)


def test_layer_before_adapt():
    np.testing.assert_allclose(Whitening(2)(np.array([[3.0, 4.0, 9.0]])), [[0.6, 0.8]], rtol=1e-6)
    with pytest.raises(ValueError, match="cannot make 4 dimensions of 3"):
        Whitening(4)(np.ones((2, 3)))


def head_formula(x, kernel):
    u, v = x[::2], x[1::2]
    return np.repeat(np.concatenate([u, v, abs(u - v)], 1) @ kernel, 2, axis=0)


def test_sentence_bert_head(vectors):
    x = vectors[:8].astype("float32")
    head = SentenceBERTHead(3, kernel_initializer="he_normal")
    output = head(x)
    np.testing.assert_allclose(
        output, head_formula(x, np.asarray(head.kernel)), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="groups of 2 neighbours"):
        head(x[:3])
    twin = SentenceBERTHead.from_config(head.get_config())
    assert twin.get_config() == head.get_config()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_saved_models_on_other_backends(backend, vectors, request, run_python, tmp_path):
    inputs = keras.Input((6,))
    layer = Whitening(4)
    layer.adapt(vectors)
    model = keras.Model(inputs, SentenceBERTHead(3)(layer(inputs)))
    model.save(tmp_path / "model.keras")
    x = vectors[:10].astype("float32")
    np.save(tmp_path / "x.npy", x)
    kernel, bias = compute_kernel_bias(vectors, 4)
    expected = head_formula(transform_and_normalize(x, kernel, bias), model.get_weights()[-1])
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    script = f"""
import keras, keras_extras, numpy as np
model = keras.models.load_model({str(tmp_path / "model.keras")!r})
x = np.load({str(tmp_path / "x.npy")!r})
np.save({str(tmp_path / "y.npy")!r}, keras.ops.convert_to_numpy(keras.ops.stop_gradient(model(x))))
"""
    run_python(request.getfixturevalue(f"{backend}_python"), script, KERAS_BACKEND=backend)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)
