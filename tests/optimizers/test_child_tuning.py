"""ChildTuning: the statistics of its masks, and the child network of largest Fisher information."""

import keras
import numpy as np
import pytest

from keras_extras import optimizers as ours
from keras_extras.optimizers.fisher import fisher_information, largest

ChildSGD = ours.extend_with_child_tuning(keras.optimizers.SGD)
ChildAdam = ours.extend_with_child_tuning(keras.optimizers.Adam)


def steps_of(optimizer, grads, size):
    weight = keras.Variable(np.zeros(size), dtype="float64")
    last, steps = weight.numpy().copy(), []
    for gradient in grads:
        optimizer.apply([keras.ops.convert_to_tensor(np.broadcast_to(gradient, size))], [weight])
        steps.append(last - weight.numpy())
        last = weight.numpy().copy()
    return np.array(steps)


def test_random_masks_have_the_mean_and_variance_of_the_formula():
    """For g ~ N(μ, σ²): mean μ, variance σ² + (1 − p)/p·(μ² + σ²)."""
    p, mean, sigma = 0.3, 1.0, 0.5
    grads = np.random.default_rng(0).normal(mean, sigma, size=(20, 5000))
    masked = steps_of(ChildSGD(1.0, reserve_p=p, child_tuning_seed=1), grads, 5000)
    zeros = (masked == 0).mean()
    assert zeros == pytest.approx(1 - p, abs=0.01)
    np.testing.assert_allclose(masked[masked != 0], grads[masked != 0] / p, rtol=1e-6)
    assert masked.mean() == pytest.approx(mean, abs=0.03)
    variance = sigma**2 + (1 - p) / p * (mean**2 + sigma**2)
    assert masked.var() == pytest.approx(variance, rel=0.03)
    shares = [(a == b).mean() for a, b in zip(masked != 0, (masked != 0)[1:], strict=False)]
    np.testing.assert_allclose(shares, p**2 + (1 - p) ** 2, atol=0.04)  # drawn anew each step


def test_large_masks_are_of_entries_that_are_hardly_correlated():
    """300 masks of 40 × 1000 + 1 weights: their mean, and correlations over steps by distance."""
    p, size = 0.3, 40_001
    masks = steps_of(ChildSGD(1.0, reserve_p=p, child_tuning_seed=1), [1.0] * 300, size) != 0
    assert masks.mean() == pytest.approx(p, abs=0.005)
    np.testing.assert_allclose(masks.mean(0), p, atol=5.5 * np.sqrt(p * (1 - p) / 300))
    centered = masks - p

    def correlation(distance):
        return np.mean(centered[:, distance:] * centered[:, :-distance]) / (p * (1 - p))

    for distance in (1, 7, 63, 65, 1000):
        assert abs(correlation(distance)) < 0.0012
    for distance in (64, 640):
        assert correlation(distance) == pytest.approx(1 / 512, abs=0.0012)


def test_adam_makes_steps_shorter_by_the_root_of_p():
    """For a constant gradient, |E m|/√(E v) = g/√(g²/p)."""
    p = 0.25
    optimizer = ChildAdam(1.0, beta_2=0.99, reserve_p=p, child_tuning_seed=1)
    steps = steps_of(optimizer, [1.0] * 400, 200)[200:]
    assert steps.mean() == pytest.approx(np.sqrt(p), rel=0.05)


def test_update_dropout_masks_updates_and_not_moments():
    optimizer = ChildAdam(
        1.0, child_tuning_mode="update", reserve_p=0.5, child_tuning_seed=1, epsilon=0.0
    )
    steps = steps_of(optimizer, [1.0] * 5, 1000)
    assert set(np.unique(np.round(steps, 4))) == {0.0, 2.0}
    assert (steps == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_seed_decides():
    def steps(seed):
        return steps_of(ChildSGD(1.0, child_tuning_seed=seed), [1.0] * 3, 50)

    np.testing.assert_array_equal(steps(1), steps(1))
    assert (steps(1) != steps(2)).any()


def model_and_data():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="softmax", name="output")]
    )
    random = np.random.default_rng(2)
    model.set_weights([random.normal(size=(3, 4)), random.normal(size=4)])
    return model, random.normal(size=(10, 3)).astype("float32"), random.integers(0, 4, 10)


def with_an_unused_head(model):
    """A compiled model with another output, which has no loss."""
    inputs = keras.Input((3,))
    outputs = {"output": model(inputs), "unused": keras.layers.Dense(1, name="unused")(inputs)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"output": "sparse_categorical_crossentropy"})
    return model


def softmax_fisher(model, x, y):
    """∂ log p_y/∂W = x ⊗ (e_y − p), squared and averaged, in float64."""
    kernel, bias = (w.astype("float64") for w in model.get_weights())
    logits = x @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    error = np.eye(4)[y] - p
    return [np.mean((x[:, :, None] * error[:, None]) ** 2, axis=0), np.mean(error**2, axis=0)]


def test_fisher_information():
    """On TensorFlow; test_common.py compares the other backends."""
    model, x, y = model_and_data()
    model.compile("sgd", "sparse_categorical_crossentropy")
    found = fisher_information(model, [(x[:6], y[:6]), (x[6:], y[6:])])
    for got, want in zip(found, softmax_fisher(model, x, y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)
    with pytest.raises(ValueError, match="no samples"):
        fisher_information(model, [])
    *found, kernel, bias = fisher_information(with_an_unused_head(model), [(x, {"output": y})])
    np.testing.assert_allclose(found[0], softmax_fisher(model, x, y)[0], rtol=1e-4)
    assert not kernel.any() and not bias.any()


def test_child_network_alone_changes(tmp_path):
    model, x, y = model_and_data()
    optimizer = ChildSGD(0.1, child_tuning_mode="D", reserve_p=0.3)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="find_child_network"):
        optimizer.apply([keras.ops.ones((3, 4)), keras.ops.ones(4)])
    optimizer.find_child_network(model, [(x, y)])
    fisher = np.concatenate([f.ravel() for f in softmax_fisher(model, x, y)])
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    model.fit(x, y, epochs=3, batch_size=5, verbose=0)
    changed = np.concatenate([w.ravel() for w in model.get_weights()]) != before
    assert changed.sum() == 5  # ⌈0.3·16⌉
    assert set(np.flatnonzero(changed)) == set(np.argsort(-fisher)[:5])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    before = np.concatenate([w.ravel() for w in loaded.get_weights()])
    loaded.fit(x, y, verbose=0)
    after = np.concatenate([w.ravel() for w in loaded.get_weights()])
    np.testing.assert_array_equal(after != before, changed)


@pytest.mark.parametrize("how", ["set_weights", "assign"])
def test_child_network_of_a_state_that_is_put_in(how):
    """As `Resume` does; in a graph, too, where variables have no values."""
    import tensorflow as tf

    weight = keras.Variable(np.zeros(4))
    states = []
    for _ in range(2):
        optimizer = ChildSGD(0.5, child_tuning_mode="D", reserve_p=0.5)
        with pytest.raises(ValueError, match="Call optimizer.build"):
            optimizer.set_child_network([np.arange(4.0)])
        optimizer.build([weight])
        if not states:
            optimizer.set_child_network([np.arange(4.0)])
            states = [v.numpy() for v in optimizer.variables]
    if how == "set_weights":
        optimizer.set_weights(states)
    else:
        for variable, state in zip(optimizer.variables, states, strict=True):
            variable.assign(state)
    tf.function(lambda: optimizer.apply([tf.ones(4)], [weight]))()
    np.testing.assert_array_equal(weight.numpy(), [0, 0, -1, -1])


def test_part_of_the_model():
    weights = [keras.Variable(np.ones(100), name=name) for name in ("encoder", "head")]
    optimizer = ChildSGD(1.0, include_in_child_tuning=["encoder"], child_tuning_seed=1)
    optimizer.apply([keras.ops.ones(100)] * 2, weights)
    assert 0 < (weights[0].numpy() == 1).sum() < 100
    np.testing.assert_array_equal(weights[1].numpy(), 0)


def test_largest_and_settings():
    masks = largest([np.array([1.0, 5.0, 2.0]), np.array([[4.0], [3.0]])], 0.5)
    np.testing.assert_array_equal(masks[0], [False, True, False])
    np.testing.assert_array_equal(masks[1], [[True], [True]])
    assert largest([np.arange(100.0)], 0.07)[0].sum() == 7  # 0.07·100 is more than 7
    for settings in ({"child_tuning_mode": "G"}, {"reserve_p": 0.0}):
        with pytest.raises(ValueError, match="child_tuning_mode|reserve_p"):
            ChildSGD(**settings)
    with pytest.raises(ValueError, match="fixed child network"):
        ChildSGD().set_child_network([])
