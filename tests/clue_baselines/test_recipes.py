"""The optimizer of a run: its flags, in every combination that makes sense."""

import keras
import numpy as np
import pytest

from clue_baselines.data import DataError
from clue_baselines.recipes import Training, averaged_weights, knots, make_optimizer
from clue_baselines.settings import Settings, parse


def test_flags_compose():
    settings = Settings(
        optimizer="adam",
        weight_decay=0.02,
        lr_schedule="10:1,100:0.5",
        accumulate=4,
        lookahead=True,
        ema=0.99,
        child_tuning=0.3,
        layer_adaptation=True,
        lazy=True,
        low_rank=2,
    )
    optimizer, said = make_optimizer(settings, False, Training(100, 2))
    assert said == (
        "Adam 0.0002, steps of rank 2, lazy embeddings, child tuning 0.3, weight decay 0.02, "
        "layer adaptation, rate times 10:1,100:0.5, lookahead, averaged weights 0.99, "
        "4 batches accumulated (as asked)"
    )
    config = optimizer.get_config()
    assert (
        config["tower"]["base"] == "keras_extras>Adam" and len(config["tower"]["extensions"]) == 9
    )
    wanted = {
        "rank": 2,
        "reserve_p": 0.3,
        "weight_decay_rate": 0.02,
        "lr_schedule": {10: 1.0, 100: 0.5},
        "ema_momentum": 0.99,
        "grad_accum_steps": 4,
    }
    assert {name: config[name] for name in wanted} == wanted


@pytest.mark.parametrize("name", ["adafactor", "adamw", "adam", "lion", "tiger"])
def test_plain_optimizers(name):
    optimizer, said = make_optimizer(Settings(optimizer=name, learning_rate=0.125), False)
    assert "0.125" in said and "as asked" in said
    assert float(optimizer.learning_rate) == 0.125
    assert ("weight_decay_rate" in optimizer.get_config()) == (name == "adamw")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_schedule": "fast"}, "--lr-schedule fast: not a list of STEP:FACTOR"),
        ({"lr_schedule": "-5:1"}, "lr_schedule"),
        ({"lr_schedule": "-5%:1"}, "lr_schedule"),
        ({"lr_schedule": "0.1%:1,0.2%:0.5,100%:0"}, "two of its steps are the same one of 100"),
        ({"ema": 1.0}, "`ema_momentum` must be in"),
    ],
)
def test_what_does_not_go_together(settings, message):
    with pytest.raises(DataError, match=message):
        make_optimizer(Settings(**settings), False, Training(100, 2))


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_tiger_accumulates_alone_and_extended(ema):
    optimizer, said = make_optimizer(Settings(optimizer="tiger", accumulate=4, ema=ema), False)
    averaged = ", averaged weights 0.5" if ema else ""
    tiger = "Tiger 0.001, relative decay 0.01"
    assert said == f"{tiger}{averaged}, 4 batches accumulated (as asked)"
    weight = keras.Variable(1.0, name="kernel")
    optimizer.build([weight])
    for step in range(4):
        assert float(weight) == 1.0, step
        optimizer.apply([keras.ops.ones(())], [weight])
    assert float(weight) < 1.0


@pytest.mark.parametrize("name", ["adafactor", "tiger"])
def test_low_rank_of_relative_rates(name):
    """The recipe for pretrained weights has a rate relative to them; factors begin at zero."""
    optimizer, _ = make_optimizer(Settings(optimizer=name, low_rank=2), True, Training(100, 2))
    names = ("Embedding-Token", "Transformer-0-kernel")
    weights = [keras.Variable(np.ones((4, 6)), name=name) for name in names]
    for _ in range(4):
        optimizer.apply([keras.ops.ones((4, 6))] * 2, weights)
    assert all(np.abs(weight.numpy() - 1).max() > 1e-4 for weight in weights)


def test_shares_of_the_updates():
    """0 % is the first update, and what is above is at least the second."""
    assert knots("0%:1,0.1%:0.5,100%:0", 100) == {0: 1.0, 1: 0.5, 100: 0.0}
    assert knots("10%:1,100%:0", 1) == {1: 0.0}  # no error: the one update comes before both


def recipe(*flags):
    """Optimizer and settings that a command line leads to."""
    settings = parse(Settings, "tnews", "", {}, list(flags))
    return make_optimizer(settings, True, Training(200, 3)), settings


def test_recipes_are_sets_of_flags():
    (optimizer, said), settings = recipe("--recipe", "modern")
    assert said == (
        "AdamW 3e-05, weight decay 0.01, layer decay 0.9, rate times 10%:1,100%:0 (recipe modern)"
    )
    assert settings.precision == "mixed_bfloat16"
    config = optimizer.get_config()
    assert config["lr_schedule"] == {20: 1.0, 200: 0.0}
    assert config["paramwise_lr_schedule"] == pytest.approx(
        {"Embedding-": 0.6561, "Transformer-0-": 0.729, "Transformer-1-": 0.81,
         "Transformer-2-": 0.9}
    )  # fmt: skip
    (_, said), settings = recipe("--recipe", "modern", "--precision", "float32", "--ema", "0.99")
    assert "averaged weights 0.99" in said and settings.precision == "float32"
    assert recipe("--recipe", "author")[0][1].startswith("AdaFactor 0.0005")
    assert recipe("--recipe", "scratch")[0][1].startswith("AdamW 3e-05, weight decay 0.01 (")
    assert recipe("--model", "FOLDER")[0][1].startswith("AdaFactor 0.0005")
    mini = "AdamW 0.001, weight decay 0.01, rate times 10%:1,100%:0 (recipe mini)"
    assert recipe()[0][1] == mini
    assert recipe("--learning-rate", "0.5")[0][1] == mini.replace("0.001", "0.5")
    assert recipe("--optimizer", "lion")[0][1].startswith("Lion 5e-05")


def test_averaged_weights():
    """Lion goes from 1 to 3/4 and 1/2, which average to (¼·¾ + ½·½)/¾."""
    weight = keras.Variable(1.0)
    optimizer, _ = make_optimizer(Settings(optimizer="lion", learning_rate=0.25, ema=0.5), False)
    for scaled in (optimizer, keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)):
        weight.assign(1.0)
        scaled.build([weight])
        for variable in optimizer.variables:
            if variable.path != optimizer.learning_rate.path:
                variable.assign(np.zeros(variable.shape))
        for _ in range(2):
            scaled.apply([keras.ops.ones(())], [weight])
        with averaged_weights(scaled):
            assert float(weight) == pytest.approx((0.25 * 0.75 + 0.5 * 0.5) / 0.75)
        assert float(weight) == 0.5
    plain, _ = make_optimizer(Settings(), False)
    untrained, _ = make_optimizer(Settings(ema=0.5), False)
    for optimizer in (plain, untrained):
        with averaged_weights(optimizer):
            assert float(weight) == 0.5
