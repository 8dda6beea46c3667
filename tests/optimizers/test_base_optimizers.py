"""Adam, Lion, AdaFactor, AdaX and Tiger against their formulas in float64 NumPy, and by hand."""

import keras
import numpy as np
import pytest

from keras_extras import optimizers as ours
from tests.optimizers.trajectories import gradients, run, start, variables

RATE = 0.0625  # exact in float32, as Keras keeps rates
STEPS = 12


def follow(step):
    """The weights after STEPS steps; `step(t, weight, gradient, state)` gives the next weight."""
    weights = start()
    states = {name: {} for name in weights}
    for t, one in enumerate(gradients(STEPS), 1):
        for name in weights:
            weights[name] = step(t, weights[name], one[name], states[name])
    return list(weights.values())


def check(optimizer, step, rtol=1e-6):
    got = run(optimizer, STEPS, dtype="float64")
    for value, want in zip(got, follow(step), strict=True):
        np.testing.assert_allclose(value, want, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_adam(bias_correction):
    def step(t, w, g, state):
        state["m"] = m = 0.9 * state.get("m", 0) + 0.1 * g
        state["v"] = v = 0.999 * state.get("v", 0) + 0.001 * g**2
        if bias_correction:
            m, v = m / (1 - 0.9**t), v / (1 - 0.999**t)
        return w - RATE * m / (np.sqrt(v) + 1e-6)

    check(ours.Adam(RATE, bias_correction=bias_correction), step)


def test_adam_has_no_amsgrad():
    with pytest.raises(ValueError, match="AMSGrad"):
        ours.Adam(amsgrad=True)


def test_lion():
    def step(t, w, g, state):
        m = state.get("m", 0)
        state["m"] = 0.98 * m + 0.02 * g
        return w - RATE * np.sign(0.95 * m + 0.05 * g)

    check(ours.Lion(RATE), step)


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def adafactor(rate, beta1=0.0, beta2=None, smallest=128, clip=1.0, scaled=True):
    def step(t, w, g, state):
        decay = 1 - t**-0.8 if beta2 is None else beta2
        square = g**2 + 1e-30
        if min(np.shape(g), default=0) >= smallest and np.ndim(g) == 2:
            state["r"] = r = decay * state.get("r", 0) + (1 - decay) * square.mean(1)
            state["c"] = c = decay * state.get("c", 0) + (1 - decay) * square.mean(0)
            v = np.outer(r, c) / r.mean()
        else:
            state["v"] = v = decay * state.get("v", 0) + (1 - decay) * square
        u = g / np.sqrt(v + 1e-30)
        u = u if clip is None else u / max(1.0, rms(u) / clip)
        if beta1:
            state["m"] = u = beta1 * state.get("m", 0) + (1 - beta1) * u
        return w - rate(t) * (max(rms(w), 1e-3) if scaled else 1.0) * u

    return step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta1": 0.9, "min_dim_size_to_factor": 2},
        {"beta2": 0.99, "min_dim_size_to_factor": 2, "clipping_threshold": None},
        {"multiply_by_parameter_scale": False, "clipping_threshold": 0.5},
    ],
)
def test_adafactor(settings):
    step = adafactor(
        lambda t: RATE,
        settings.get("beta1", 0.0),
        settings.get("beta2"),
        settings.get("min_dim_size_to_factor", 128),
        settings.get("clipping_threshold", 1.0),
        settings.get("multiply_by_parameter_scale", True),
    )
    check(ours.AdaFactor(RATE, **settings), step)


@pytest.mark.parametrize(("scaled", "factor"), [(True, 1.0), (False, 0.05)])
def test_adafactor_without_rate(scaled, factor):
    optimizer = ours.AdaFactor(learning_rate=None, multiply_by_parameter_scale=scaled)
    check(optimizer, adafactor(lambda t: factor * min(0.01, t**-0.5), scaled=scaled), rtol=1e-6)
    assert optimizer.get_config()["learning_rate"] is None
    late = [factor * min(0.01, t**-0.5) for t in (1, 10_000, 40_000)]
    rates = [float(optimizer._learning_rate(t - 1)) for t in (1, 10_000, 40_000)]
    np.testing.assert_allclose(rates, late, rtol=1e-6)


def test_adafactor_decay_of_the_second_moment():
    wanted = {1: 0.0, 2: 0.425651, 10: 0.841511, 100: 0.974881, 1000: 0.996019}
    optimizer = ours.AdaFactor()
    for step, decay in wanted.items():
        optimizer.iterations.assign(step - 1)
        assert float(optimizer._decay("float64")) == pytest.approx(decay, abs=1e-6)


def test_adafactor_of_a_product_is_its_sign():
    """If g² has rank 1, then v̂ = g² in the first step."""
    signs = np.where(np.arange(12).reshape(3, 4) % 3 == 0, -1.0, 1.0)
    gradient = signs * np.outer([1.0, 2.0, 3.0], [1.0, 0.5, 2.0, 4.0])
    weight = keras.Variable(np.ones((3, 4)), dtype="float64")
    optimizer = ours.AdaFactor(
        1.0, multiply_by_parameter_scale=False, min_dim_size_to_factor=3, clipping_threshold=None
    )
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    np.testing.assert_allclose(1 - weight.numpy(), signs, rtol=1e-7)


def test_adafactor_memory():
    """m + n numbers for a matrix, over the two largest axes of a tensor."""
    optimizer = ours.AdaFactor()
    shapes = [(1000, 1000), (7, 300, 200), (1000, 100), (1000,)]
    optimizer.build([keras.Variable(np.zeros(shape, "float32")) for shape in shapes])
    state = [tuple(v.shape) for v in optimizer.variables[2:]]
    assert state == [
        (1000, 1), (1, 1000), (7, 1, 200), (7, 300, 1), (1000, 100), (1000,)
    ]  # fmt: skip
    with_momentum = ours.AdaFactor(beta1=0.9)
    with_momentum.build([keras.Variable(np.zeros((1000, 1000), "float32"))])
    assert sum(v.value.shape.num_elements() for v in with_momentum.variables) == 2 + 2000 + 10**6


def test_adafactor_does_not_see_the_scale_of_the_loss():
    weights = []
    for scale in (1.0, 1024.0):
        variable = keras.Variable(start()["kernel"], dtype="float64")
        optimizer = ours.AdaFactor(RATE, min_dim_size_to_factor=2)
        for one in gradients():
            optimizer.apply([keras.ops.convert_to_tensor(scale * one["kernel"])], [variable])
        weights.append(variable.numpy())
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-12)


def test_adafactor_rate_can_be_changed():
    optimizer = ours.AdaFactor(RATE)
    optimizer.learning_rate = 0.0
    for got, want in zip(run(optimizer), start().values(), strict=True):
        np.testing.assert_array_equal(got, want.astype("float32"))


def test_adafactor_excluded_from_parameter_scale():
    excluded = run(ours.AdaFactor(RATE, exclude_from_parameter_scale=["bias", "kernel"]))
    scaled = run(ours.AdaFactor(RATE))
    absolute = run(ours.AdaFactor(RATE, multiply_by_parameter_scale=False))
    for got, want in zip(excluded, [scaled[0], absolute[1], absolute[2], scaled[3]], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("inside", [False, True])
def test_adax(inside):
    def step(t, w, g, state):
        state["m"] = m = 0.9 * state.get("m", 0) + 0.1 * g
        state["v"] = v = (1 + 1e-4) * state.get("v", 0) + 1e-4 * g**2
        v = v / ((1 + 1e-4) ** t - 1)
        return w - RATE * m / (np.sqrt(v + 1e-3) if inside else np.sqrt(v) + 1e-3)

    check(ours.AdaX(RATE, epsilon=1e-3, epsilon_inside_root=inside), step, rtol=1e-6)


def test_adax_weights_of_the_second_moment():
    """v̂ after gradients 1, 0, 0 … is the product of β̂, which the article lists for β₂ = 1e-4."""
    listed = {2: 0.500025, 3: 0.666700, 10: 0.900045, 100: 0.990049}
    weight = keras.Variable(0.0, dtype="float64")
    optimizer = ours.AdaX(RATE)
    before = None
    for t in range(1, 101):
        optimizer.apply([keras.ops.convert_to_tensor(float(t == 1), "float64")], [weight])
        velocity = float(optimizer._velocities[0].numpy())
        if t in listed:
            assert velocity / before == pytest.approx(listed[t], abs=1e-6)
        before = velocity


def test_adax_does_not_overflow():
    weight = keras.Variable(1.0)
    optimizer = ours.AdaX(RATE)
    optimizer.build([weight])
    optimizer.iterations.assign(10**7)  # (1 + 1e-4)^t is beyond any float
    optimizer.apply([keras.ops.convert_to_tensor(1.0)], [weight])
    assert np.isfinite(weight.numpy())
    with pytest.raises(ValueError, match="positive"):
        ours.AdaX(beta_2=0.0)


def test_tiger():
    names = iter(list(start()) * STEPS)

    def step(t, w, g, state):
        name = next(names)
        state["m"] = m = 0.965 * state.get("m", 0) + 0.035 * g
        rate = RATE * {1: 0.5, 2: 1.0}.get(t - 1, 1.0) if t > 1 else 0.0
        if name == "bias":
            return w - 0.5 * rate * np.sign(m)
        size = rms(w)
        if name == "embeddings":
            size = np.sqrt(np.mean(w**2, axis=-1, keepdims=True))
        return w - rate * size * (np.sign(m) + 0.01 * w)

    check(ours.Tiger(RATE, lr_schedule={2: 1}), step)


def test_tiger_without_decay():
    got, want = (run(ours.Tiger(RATE, weight_decay=decay)) for decay in (None, 0.0))
    np.testing.assert_array_equal(
        np.concatenate([w.ravel() for w in got]), np.concatenate([w.ravel() for w in want])
    )


def test_tiger_accumulates_like_the_mean():
    """k micro-batches with the momentum as the only memory are one step with their mean."""
    accumulated = ours.Tiger(RATE, grad_accum_steps=3)
    weights, mean_weights = variables("float64"), variables("float64")
    all_gradients = [list(one.values()) for one in gradients(12)]
    for one in all_gradients:
        accumulated.apply([keras.ops.convert_to_tensor(g) for g in one], weights)
    plain = ours.Tiger(RATE)
    for i in range(0, 12, 3):
        mean = [np.mean(parts, axis=0) for parts in zip(*all_gradients[i : i + 3], strict=True)]
        plain.apply([keras.ops.convert_to_tensor(g) for g in mean], mean_weights)
    assert int(accumulated.iterations) == 4
    sizes = [v.value.shape.num_elements() for v in accumulated.variables]
    assert sum(sizes) == 2 + sum(np.size(w) for w in start().values())
    for got, want in zip(weights, mean_weights, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)


def test_tiger_shrinks_where_gradients_are_not_finite():
    weights = {name: 2.0 * np.ones(3) for name in ("kernel", "bias", "gamma", "other")}
    tensors = [keras.Variable(value, name=name, dtype="float64") for name, value in weights.items()]
    grads = [np.array([1.0, np.nan, 1.0])] * 3 + [np.ones(3)]
    ours.Tiger(RATE, shrink_ratio=0.75).apply(
        [keras.ops.convert_to_tensor(g) for g in grads], tensors
    )
    kernel, bias, gamma, other = (t.numpy() for t in tensors)
    np.testing.assert_allclose([kernel, bias, gamma], [[1.5] * 3, [1.5] * 3, [1.75] * 3])
    np.testing.assert_allclose(other, 2 - RATE * 2 * (1 + 0.01 * 2))


def test_tiger_counts_updates_for_schedules():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.0])
    optimizer = ours.Tiger(schedule, grad_accum_steps=2)
    weight = keras.Variable(np.ones(2), name="kernel", dtype="float64")
    path = []
    for _ in range(6):
        optimizer.apply([keras.ops.convert_to_tensor(np.ones(2))], [weight])
        path.append(weight.numpy()[0])
    np.testing.assert_array_equal(np.diff(path) != 0, [True, False, True, False, False])
    with pytest.raises(ValueError, match="at least 1"):
        ours.Tiger(grad_accum_steps=0)
    with pytest.raises(ValueError, match="every micro-batch"):
        ours.extend_with_lookahead(ours.Tiger)(grad_accum_steps=2)
    with pytest.raises(ValueError, match="leave that of the base at 1"):
        ours.extend_with_gradient_accumulation(ours.Tiger)(RATE, 0.9, 0.0, 3, grad_accum_steps=2)


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_extended_tiger_accumulates_as_it_does_by_itself(order):
    """And the schedule that stands in the tower is the one that Tiger has itself."""
    schedule = {"lr_schedule": {2: 1, 4: 0.5}}
    extensions = [ours.extend_with_gradient_accumulation, ours.extend_with_piecewise_linear_lr]
    Tower = ours.Tiger
    for extend in extensions if order == "inside" else extensions[::-1]:
        Tower = extend(Tower)
    want = run(ours.Tiger(RATE, grad_accum_steps=3, **schedule), STEPS, dtype="float64")
    optimizer = Tower(RATE, grad_accum_steps=3, **schedule)
    for got, value in zip(run(optimizer, STEPS, dtype="float64"), want, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-12)
    assert int(optimizer.iterations) == 4
    assert keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)).micro_batches == 3
