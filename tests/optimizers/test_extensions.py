"""Extensions of SGD and Adam against their formulas in float64 NumPy, and by hand."""

import keras
import numpy as np
import pytest

from keras_extras import optimizers as ours
from keras_extras.optimizers.piecewise_linear_lr import piecewise_linear
from tests.optimizers.table import MUON_RUNS
from tests.optimizers.trajectories import gradients, run, start

RATE = 0.0625  # exact in float32, as Keras keeps rates
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def path(optimizer, grads, initial=1.0, dtype="float64"):
    """The values of one variable in each step, the first being the initial one."""
    weight = keras.Variable(initial, name="kernel", dtype=dtype)
    values = [weight.numpy().copy()]
    for gradient in grads:
        gradient = gradient(weight.numpy()) if callable(gradient) else gradient
        optimizer.apply([keras.ops.convert_to_tensor(np.asarray(gradient, dtype))], [weight])
        values.append(weight.numpy().copy())
    return np.array(values)


def test_weight_decay_first_step_of_adam():
    """From 1 with γ = 1/16, λ = 1/4 and any gradient: 1 − 1/16 − 1/64."""
    AdamW = ours.extend_with_weight_decay(Adam)
    got = path(AdamW(RATE, epsilon=0.0, weight_decay_rate=0.25), [7.0])
    assert got[-1] == pytest.approx(1 - 1 / 16 - 1 / 64, rel=1e-6)


def test_weight_decay_of_sgd_is_a_term_of_the_loss():
    SGDW = ours.extend_with_weight_decay(SGD)
    grads = [one["kernel"] for one in gradients(12)]
    initial = start()["kernel"]
    got = path(SGDW(RATE, weight_decay_rate=0.25), grads, initial)
    with_loss = path(SGD(RATE), [lambda w, g=g: g + 0.25 * w for g in grads], initial)
    np.testing.assert_allclose(got, with_loss, rtol=1e-12)


def test_weight_decay_exclusion_matches_paths_and_warns():
    SGDW = ours.extend_with_weight_decay(SGD)
    weights = [keras.Variable(1.0, name=name) for name in ("kernel", "bias")]
    optimizer = SGDW(RATE, exclude_from_weight_decay=["^bi", "none"])
    with pytest.warns(UserWarning, match="'none' of `exclude_from_weight_decay` matches no"):
        optimizer.build(weights)
    optimizer.apply([keras.ops.zeros(())] * 2, weights)
    assert [float(w.numpy()) for w in weights] == [pytest.approx(1 - RATE * 0.01), 1.0]
    with pytest.raises(ValueError, match="list of regular expressions"):
        SGDW(exclude_from_weight_decay="bias")


def test_weight_decay_knows_what_was_excluded_in_the_way_of_keras():
    weights = [keras.Variable(1.0, name=name) for name in ("kernel", "bias", "table")]
    optimizer = ours.extend_with_weight_decay(SGD)(RATE, weight_decay_rate=0.25)
    optimizer.exclude_from_weight_decay(var_list=weights[2:], var_names=["bias"])
    optimizer.apply([keras.ops.zeros(())] * 3, weights)
    assert [float(w.numpy()) for w in weights] == [1 - RATE * 0.25, 1.0, 1.0]


def test_schedule_outside_scales_the_decay_inside_does_not():
    """With ρ = 1/2: LR(W(SGD)) moves by ρ(γg + γλθ), W(LR(SGD)) by ργg + γλθ."""
    outside = ours.extend_with_piecewise_linear_lr(ours.extend_with_weight_decay(SGD))
    inside = ours.extend_with_weight_decay(ours.extend_with_piecewise_linear_lr(SGD))
    settings = {"weight_decay_rate": 0.25, "lr_schedule": {0: 0.5}}
    assert path(outside(RATE, **settings), [2.0])[-1] == 1 - 0.5 * (RATE * 2 + RATE * 0.25)
    assert path(inside(RATE, **settings), [2.0])[-1] == 1 - 0.5 * RATE * 2 - RATE * 0.25


def test_builtin_decay_is_scaled_too():
    """Keras applies the decay of its AdamW before the step; here it is a part of the update."""
    AdamLR = ours.extend_with_piecewise_linear_lr(keras.optimizers.AdamW)
    optimizer = AdamLR(RATE, weight_decay=0.25, epsilon=0.0, lr_schedule={0: 0.5})
    assert path(optimizer, [3.0])[-1] == pytest.approx(1 - 0.5 * (RATE + RATE * 0.25), rel=1e-6)


def test_layer_adaptation_of_two_weights():
    """θ = (3, 4), g = (0, 2): ‖θ‖ = 5, so the step is γ·5·(0, 1)."""
    LARS = ours.extend_with_layer_adaptation(SGD)
    got = path(LARS(RATE), [[0.0, 2.0]], [3.0, 4.0])[-1]
    np.testing.assert_allclose(got, [3.0, 4 - RATE * 5], rtol=1e-12)
    np.testing.assert_array_equal(path(LARS(RATE), [[0.0, 0.0]], [3.0, 4.0])[-1], [3.0, 4.0])
    np.testing.assert_array_equal(path(LARS(RATE), [[0.0, 2.0]], [0.0, 0.0])[-1], [0, -RATE * 2])


def test_lamb():
    """Decay inside of the ratio, as in the paper (Keras' Lamb decays outside)."""
    Lamb = ours.extend_with_layer_adaptation(ours.extend_with_weight_decay(ours.Adam))
    optimizer = Lamb(RATE, weight_decay_rate=0.25, exclude_from_layer_adaptation=["bias"])
    wanted = start()
    for name, w in wanted.items():
        m = v = np.zeros_like(w)
        for t, one in enumerate(gradients(12), 1):
            m, v = 0.9 * m + 0.1 * one[name], 0.999 * v + 0.001 * one[name] ** 2
            u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.25 * w
            ratio = 1.0 if name == "bias" else np.linalg.norm(w) / np.linalg.norm(u)
            w = w - RATE * ratio * u
        wanted[name] = w
    for got, want in zip(run(optimizer, 12, "float64"), wanted.values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7)


def test_piecewise_linear():
    knots = {1000: 1, 2000: 0.1}
    wanted = {0: 0.0, 500: 0.5, 1000: 1.0, 1500: 0.55, 2000: 0.1, 3000: 0.1}
    got = [float(piecewise_linear(t, knots)) for t in wanted]
    np.testing.assert_allclose(got, list(wanted.values()), rtol=1e-6)
    assert [float(piecewise_linear(t, {0: 1})) for t in (0, 1, 10**6)] == [1.0, 1.0, 1.0]
    for last in (0.0, 0.3):  # exactly, and no rate of the wrong sign
        assert float(piecewise_linear(40, {10: 0.7, 20: 0.1, 30: last})) == np.float32(last)
    SGDLR = ours.extend_with_piecewise_linear_lr(SGD)
    steps = -np.diff(path(SGDLR(RATE, lr_schedule={4: 1, 8: 0.5}), [1.0] * 12)) / RATE
    wanted = [0, 0.25, 0.5, 0.75, 1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(steps, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("Optimizer", "settings", "message"),
    [
        (ours.extend_with_piecewise_linear_lr(SGD), {"lr_schedule": {}}, "at least one knot"),
        (ours.extend_with_piecewise_linear_lr(SGD), {"lr_schedule": {-1: 1}}, "but got -1"),
        (ours.extend_with_piecewise_linear_lr(SGD), {"lr_schedule": {1.9: 1}}, "but got 1.9"),
        (ours.extend_with_lookahead(SGD), {"steps_per_slow_update": 0}, "at least 1, but got 0"),
        (ours.extend_with_lookahead(SGD), {"steps_per_slow_update": 2.5}, "integer .*got 2.5"),
        (ours.extend_with_lookahead(SGD), {"slow_step_size": -3.0}, r"in \[0, 1\]"),
        (ours.extend_with_low_rank(SGD), {"rank": 2.9}, "`rank` must be an integer"),
        (ours.extend_with_low_rank(SGD), {"rank": "8"}, "`rank` must be an integer"),
        (ours.extend_with_weight_decay(SGD), {"weight_decay_rate": -1.0}, "at least 0"),
        (
            ours.extend_with_weight_decay(SGD),
            {"exclude_from_weight_decay": ["("]},
            r"'\(' of `exclude_from_weight_decay` is not a regular expression",
        ),
        (ours.AdaFactor, {"beta1": 2.0}, r"`beta1` must be in \[0, 1\), but got 2.0"),
        (ours.AdaX, {"beta_1": 5.0}, r"`beta_1` must be in \[0, 1\)"),
        (ours.Tiger, {"beta": 3.0}, r"`beta` must be in \[0, 1\)"),
        (ours.Tiger, {"gradient_accumulation_steps": 4}, "use its own `grad_accum_steps`"),
        (ours.Tiger, {"grad_accum_steps": 4, "use_ema": True}, "every micro-batch"),
    ],
)
def test_bad_settings(Optimizer, settings, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(0.1, **settings)


def test_parameter_wise_lr():
    weights = [keras.Variable(1.0, name=name) for name in ("crf_kernel", "crf_bias", "other")]
    optimizer = ours.extend_with_parameter_wise_lr(SGD)(
        RATE, paramwise_lr_schedule={"crf": 4.0, "bias": 0.5, "nowhere": 9.0}
    )
    with pytest.warns(UserWarning, match="'nowhere' of `paramwise_lr_schedule`"):
        optimizer.build(weights)
    optimizer.apply([keras.ops.ones(())] * 3, weights)
    assert [float(w.numpy()) for w in weights] == [1 - 4 * RATE, 1 - 2 * RATE, 1 - RATE]


@pytest.mark.parametrize(
    "Base",
    [SGD, Adam, keras.optimizers.AdamW, keras.optimizers.Nadam, ours.AdaFactor, ours.Tiger],
)
@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}])
def test_accumulation_equals_the_mean_gradient(Base, clip):
    """Also with clipping, built-in decay and Adam's corrections: all once per update."""
    Accumulated = ours.extend_with_gradient_accumulation(Base)
    grads = [one["kernel"] for one in gradients(12)]
    means = [np.mean(grads[i : i + 3], axis=0) for i in range(0, 12, 3)]
    initial = start()["kernel"]
    small = path(Accumulated(RATE, grad_accum_steps=3, **clip), grads, initial)
    large = path(Base(RATE, **clip), means, initial)
    np.testing.assert_allclose(small[::3], large, rtol=1e-7)
    np.testing.assert_array_equal(small[0], small[2])  # nothing moves in between


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_clipping_of_float16(clip):
    """The norm of 100 gradients of 50 is 500; its square is no float16."""
    optimizer = ours.extend_with_lookahead(SGD)(1.0, **{clip: 1.0})
    weights = path(optimizer, [np.full(100, 50.0)], np.zeros(100), dtype="float16")
    np.testing.assert_allclose(weights[-1], -0.1, rtol=1e-3)


def test_accumulation_counts_updates():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    Tower = ours.extend_with_piecewise_linear_lr(ours.extend_with_gradient_accumulation(SGD))
    optimizer = Tower(schedule, grad_accum_steps=2, lr_schedule={0: 1, 2: 1, 3: 0})
    got = path(optimizer, [1.0] * 8)
    np.testing.assert_allclose(-np.diff(got), [0, 0.5, 0, 0.5, 0, 0.25, 0, 0], atol=1e-7)
    assert int(optimizer.iterations) == 4
    with pytest.raises(ValueError, match="at least 1"):
        Tower(grad_accum_steps=0)
    with pytest.raises(ValueError, match="use_ema"):
        Tower(use_ema=True)


def test_accumulation_of_nadam_in_a_graph():
    """Its momentum schedule, which it changes outside of `update_step`, goes on once per update."""
    import tensorflow as tf

    grads = [one["kernel"] for one in gradients(12)]
    means = [np.mean(grads[i : i + 3], axis=0) for i in range(0, 12, 3)]
    initial = start()["kernel"]
    optimizer = ours.extend_with_gradient_accumulation(keras.optimizers.Nadam)(
        RATE, grad_accum_steps=3
    )
    weight = keras.Variable(initial, dtype="float64")
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))
    for gradient in grads:
        step(tf.constant(gradient))
    want = path(keras.optimizers.Nadam(RATE), means, initial)[-1]
    np.testing.assert_allclose(weight.numpy(), want, rtol=1e-7)


@pytest.mark.skipif(not MUON_RUNS, reason="Muon of this Keras crashes by itself")
def test_muon_has_a_decay_of_its_own_for_what_it_leaves_to_adam():
    weights = [
        keras.Variable(1.0, name="bias"),
        keras.Variable(np.eye(2, dtype="float32"), name="kernel"),
    ]
    optimizer = ours.extend_with_lookahead(keras.optimizers.Muon)(
        RATE, weight_decay=0.5, adam_weight_decay=0.25
    )
    plain = [keras.Variable(w.numpy(), name=w.name) for w in weights]
    base = keras.optimizers.Muon(RATE, weight_decay=0.5, adam_weight_decay=0.25)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(()), keras.ops.ones((2, 2))], weights)
        base.apply([keras.ops.ones(()), keras.ops.ones((2, 2))], plain)
    for got, want in zip(weights, plain, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6)


def test_accumulation_forgets_a_window_that_was_not_finite():
    Accumulated = ours.extend_with_gradient_accumulation(SGD)
    optimizer = Accumulated(RATE, grad_accum_steps=2)
    weight = keras.Variable(1.0)
    for gradient in (np.nan, 1.0):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    weight.assign(1.0)
    for gradient in (1.0, 3.0):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    assert float(weight.numpy()) == 1 - RATE * 2


@pytest.mark.parametrize("order", ["accumulated inside", "accumulated outside"])
def test_slow_weights_count_updates(order):
    """Two updates per slow one, two micro-batches per update: θ goes back in the fourth batch."""
    extensions = [ours.extend_with_gradient_accumulation, ours.extend_with_lookahead]
    Tower = SGD
    for extend in extensions if order == "accumulated inside" else extensions[::-1]:
        Tower = extend(Tower)
    got = path(Tower(1.0, grad_accum_steps=2, steps_per_slow_update=2), [1.0] * 8, 4.0)
    np.testing.assert_allclose(got, [4, 4, 3, 3, 3, 3, 2, 2, 2])


def test_lookahead_by_hand():
    """SGD with rate 1/10 on ½θ²: after five steps 1 + ½(0.9⁵ − 1), after ten its square."""
    SGDLA = ours.extend_with_lookahead(SGD)
    got = path(SGDLA(0.1), [lambda w: w] * 10)
    assert got[5] == pytest.approx(0.795245, abs=1e-6)
    assert got[10] == pytest.approx(0.795245**2, abs=1e-6)
    np.testing.assert_allclose(got[1:5], 0.9 ** np.arange(1, 5), rtol=1e-7)
    np.testing.assert_allclose(path(SGDLA(0.1), [lambda w: w] * 5, 0.0), 0)
    returned = path(SGDLA(0.1, slow_step_size=0.0), [lambda w: w] * 10)
    assert returned[5] == returned[10] == 1.0


def test_lookahead_starts_at_weights_loaded_after_building():
    weight = keras.Variable(1.0)
    optimizer = ours.extend_with_lookahead(SGD)(RATE, steps_per_slow_update=1, slow_step_size=0.0)
    optimizer.build([weight])
    weight.assign(5.0)
    optimizer.apply([keras.ops.ones(())], [weight])
    assert float(weight.numpy()) == 5.0


def lazy_adam(settings, row_gradients):
    """The path of a row with the given gradients beside a row that always has one."""
    LazyAdam = ours.extend_with_lazy_optimization(Adam)
    grads = [[[g], [1.0]] for g in row_gradients]
    optimizer = LazyAdam(RATE, include_in_lazy_optimization=["kernel"], **settings)
    return path(optimizer, grads, [[1.0], [1.0]])[:, 0, 0], optimizer


def adam_path(row_gradients, moments_move, rows_move):
    w, m, v, steps = 1.0, 0.0, 0.0, [1.0]
    for t, g in enumerate(row_gradients, 1):
        if g or moments_move:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        if g or rows_move:
            rate = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            w -= rate * m / (np.sqrt(v) + 1e-7)
        steps.append(w)
    return np.array(steps)


def test_lazy_rows_move_only_with_a_gradient():
    grads = [1.0, 0.0, 0.0, 2.0, 0.0, -1.0]
    plain = path(Adam(RATE), [[[g], [1.0]] for g in grads], [[1.0], [1.0]])[:, 0, 0]
    np.testing.assert_allclose(plain, adam_path(grads, True, True), rtol=1e-5)
    assert plain[2] < plain[1]  # moved by momentum alone
    authors, _ = lazy_adam({}, grads)
    np.testing.assert_allclose(authors, adam_path(grads, True, False), rtol=1e-5)
    canonical, _ = lazy_adam({"lazy_moments": True}, grads)
    np.testing.assert_allclose(canonical, adam_path(grads, False, False), rtol=1e-5)


@pytest.mark.parametrize("lazy_moments", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_never_had_a_gradient_stay_bit_identical(lazy_moments, sparse):
    import tensorflow as tf

    table = keras.Variable(np.random.default_rng(0).normal(size=(5, 3)), name="table")
    before = table.numpy().copy()
    LazyAdam = ours.extend_with_lazy_optimization(Adam)
    optimizer = LazyAdam(include_in_lazy_optimization=["table"], lazy_moments=lazy_moments)
    for row in (0, 3, 0):
        gradient = tf.IndexedSlices(tf.ones((1, 3)), tf.constant([row]), tf.constant([5, 3]))
        optimizer.apply([gradient if sparse else tf.convert_to_tensor(gradient)], [table])
    np.testing.assert_array_equal(table.numpy()[[1, 2, 4]], before[[1, 2, 4]])
    assert (table.numpy()[[0, 3]] != before[[0, 3]]).all()
    state = [v.numpy() for v in optimizer.variables if v.shape == (5, 3)]
    assert len(state) == 2
    for values in state:
        np.testing.assert_array_equal(values[[1, 2, 4]], 0)


def test_lazy_moments_beside_factored_matrices():
    """State of another shape is in the way only where it belongs to a lazy variable."""
    Lazy = ours.extend_with_lazy_optimization(ours.extend_with_low_rank(ours.AdaFactor))
    weights = [keras.Variable(np.ones((200, 4)), name="table")]
    weights.append(keras.Variable(np.ones((200, 200)), name="kernel"))
    settings = {"include_in_lazy_optimization": ["table"], "lazy_moments": True}
    Lazy(include_in_low_rank=["kernel"], **settings).build(weights)
    with pytest.raises(ValueError, match="low_rank_a.* of shape"):
        Lazy(include_in_low_rank=["table"], **settings).build(weights)


def test_lazy_moments_need_state_of_rows():
    table = keras.Variable(np.ones((200, 200), "float32"), name="table")
    Lazy = ours.extend_with_lazy_optimization(ours.AdaFactor)
    optimizer = Lazy(include_in_lazy_optimization=["table"], lazy_moments=True)
    with pytest.raises(ValueError, match="state has the shape of its variables"):
        optimizer.build([table])


def test_gradient_centralization():
    SGDGC = ours.extend_with_gradient_centralization(SGD)
    gradient = np.array([[1.0, 2.0], [3.0, 6.0]])
    got = path(SGDGC(1.0), [gradient], np.zeros((2, 2)))[-1]
    np.testing.assert_array_equal(got, [[1, 2], [-1, -2]])
    np.testing.assert_array_equal(path(SGDGC(1.0), [[1.0, 3.0]], [0.0, 0.0])[-1], [-1, -3])
    excluded = SGDGC(1.0, exclude_from_gradient_centralization=["kernel"])
    np.testing.assert_array_equal(path(excluded, [gradient], np.zeros((2, 2)))[-1], -gradient)
