"""Extensions in any order and any depth, over any Keras optimizer."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import optimizers as ours
from tests.optimizers.table import BASES, EXTENSIONS, make
from tests.optimizers.trajectories import gradients, run, start, values, variables

Adam = keras.optimizers.Adam
BASES_OF_KERAS = {
    name: getattr(keras.optimizers, name)
    for name in ("Adadelta", "Adagrad", "Adamax", "Ftrl", "ScheduleFreeAdamW")
    if hasattr(keras.optimizers, name)  # ScheduleFreeAdamW is younger than the others
}
# Two settings of one extension.
TWINS = ({"lazy", "lazy_moments"}, {"child_tuning", "update_dropout"})


def draw_towers(number: int = 18) -> list[tuple[str, tuple[str, ...]]]:
    """Bases, and 3 to 8 extensions in random order; what cannot stand together is left out."""
    generator = random.Random(7)
    bases = [*BASES, *BASES_OF_KERAS]
    generator.shuffle(bases)
    towers = []
    for i in range(number):
        base = bases[i % len(bases)]
        extensions = generator.sample(list(EXTENSIONS), generator.randint(3, 8))
        for twins in TWINS:
            if twins.issubset(extensions):
                extensions.remove(generator.choice(sorted(twins)))
        if base in ("AdaFactor", "KerasAdafactor") and "lazy_moments" in extensions:
            extensions.remove("lazy_moments")  # their state is factored, it has no rows
        if base == "KerasAdafactor" and "low_rank" in extensions:
            extensions.remove("low_rank")  # its rate is relative to the factors, which are zero
        towers.append((base, tuple(extensions)))
    return towers


def make_tower(base, extensions):
    if base in BASES:
        return make(base, extensions)
    Optimizer, settings = BASES_OF_KERAS[base], {}
    for name in extensions:
        extend, _, something = EXTENSIONS[name]
        Optimizer = extend(Optimizer)
        settings.update(something)
    return Optimizer(0.0625, **settings)


@pytest.mark.parametrize(("base", "extensions"), draw_towers())
def test_random_tower(base, extensions):
    """It trains in a graph; made anew from its config, it takes the same next step."""
    optimizer, weights = make_tower(base, extensions), variables()
    optimizer.build(weights)
    step = tf.function(lambda grads: optimizer.apply(grads, weights))
    *first, last = ([tf.constant(g, "float32") for g in one.values()] for one in gradients(6))
    for grads in first:
        step(grads)
    after = np.concatenate([w.ravel() for w in values(weights)])
    before = np.concatenate([w.ravel() for w in start().values()])
    assert np.isfinite(after).all() and np.abs(after - before).max() > 1e-4

    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()
    copies = variables()
    again.build(copies)
    pairs = [(copies, weights), (again.variables, optimizer.variables)]
    for new, old in pairs:
        for variable, value in zip(new, old, strict=True):
            variable.assign(value)
    for one, variables_of_it in ((again, copies), (optimizer, weights)):
        one.apply(last, variables_of_it)
    for new, old in pairs:
        for variable, value in zip(new, old, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value.numpy(), err_msg=value.name)


LOW_RANK = {"rank": 2, "low_rank_seed": 5}
SETTINGS = {"weight_decay_rate": 0.1, "lr_schedule": {2: 1, 6: 0.1}, **LOW_RANK}


def test_low_rank_goes_to_the_base_wherever_it_is_applied():
    decay, schedule = ours.extend_with_weight_decay, ours.extend_with_piecewise_linear_lr
    low_rank = ours.extend_with_low_rank
    inside = decay(schedule(low_rank(Adam)))
    want = run(inside(0.0625, **SETTINGS))
    for made in (decay(low_rank(schedule(Adam))), low_rank(decay(schedule(Adam)), name="LoRA")):
        for got, value in zip(run(made(0.0625, **SETTINGS)), want, strict=True):
            np.testing.assert_array_equal(got, value)
    assert made.__name__ == "LoRA"
    assert low_rank(decay(Adam)).__name__ == f"LowRank{decay(Adam).__name__}"
    optimizer = made(0.0625, **SETTINGS)
    tower = optimizer.get_config()["tower"]["extensions"]
    assert [extension for extension, _ in tower] == [
        f"keras_extras>{name}" for name in ("LowRank", "PiecewiseLinearLR", "WeightDecay")
    ]
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is made and again.get_config() == optimizer.get_config()


def test_low_rank_applied_last_is_saved_and_loaded(tmp_path):
    Tower = ours.extend_with_low_rank(ours.extend_with_weight_decay(ours.AdaFactor), name="LoRA")
    x, y = np.random.default_rng(0).normal(size=(2, 12, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(Tower(0.0625, **LOW_RANK), "mse", jit_compile=False)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is Tower
    for one in (model, loaded):
        one.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for got, want in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_low_rank_needs_a_base_to_go_to():
    class Derived(ours.extend_with_lookahead(Adam)):
        pass

    with pytest.raises(TypeError, match="Derived is derived from an extended class"):
        ours.extend_with_low_rank(Derived)
    with pytest.raises(TypeError, match="Extend the class first"):
        ours.extend_with_low_rank(Adam())


def test_an_extension_is_applied_once():
    for extend in (ours.extend_with_low_rank, ours.extend_with_weight_decay):
        with pytest.raises(ValueError, match="applied only once"):
            extend(ours.extend_with_lookahead(extend(Adam)))
