"""Exponential moving averages: their values, their use in evaluation, and misuse."""

import keras
import numpy as np
import pytest

from keras_extras import optimizers as ours

SGDEMA = ours.extend_with_exponential_moving_average(keras.optimizers.SGD)


def test_average_by_hand():
    """θ = 1 − t/4, so after three steps θ̄ = ½θ₃ + ¼θ₂ + ⅛θ₁ = 7/16, and θ̄/(1 − ⅛) = ½."""
    weight = keras.Variable(1.0)
    optimizer = SGDEMA(0.25, ema_momentum=0.5)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(())], [weight])
    assert float(weight.numpy()) == 0.25
    optimizer.apply_ema_weights(bias_correction=False)
    assert float(weight.numpy()) == 0.5 * 0.25 + 0.25 * 0.5 + 0.125 * 0.75
    optimizer.reset_old_weights()
    optimizer.apply_ema_weights()
    assert float(weight.numpy()) == pytest.approx(0.34375 / 0.875)
    with pytest.raises(RuntimeError, match="already in place"):
        optimizer.apply_ema_weights()
    optimizer.reset_old_weights()
    assert float(weight.numpy()) == 0.25
    with pytest.raises(RuntimeError, match="no old weights"):
        optimizer.reset_old_weights()


def test_accumulation_and_lookahead_come_before_the_average():
    """Micro-batches do not count; the weights that are averaged are those after going back."""
    Tower = ours.extend_with_gradient_accumulation(ours.extend_with_lookahead(SGDEMA))
    weight = keras.Variable(1.0)
    optimizer = Tower(
        0.25, ema_momentum=0.5, grad_accum_steps=2, steps_per_slow_update=1, slow_step_size=0.5
    )
    for _ in range(4):
        optimizer.apply([keras.ops.ones(())], [weight])
    assert float(weight.numpy()) == 0.75
    # The average stands inside of Lookahead here, so it sees the fast weights 3/4 and 5/8.
    optimizer.apply_ema_weights(bias_correction=False)
    assert float(weight.numpy()) == 0.5 * 0.625 + 0.25 * 0.75


def test_average_in_bfloat16_moves():
    weight = keras.Variable(1.0, dtype="bfloat16")
    optimizer = SGDEMA(0.0, ema_momentum=0.999)
    for _ in range(20):
        optimizer.apply([keras.ops.ones((), "bfloat16")], [weight])
    optimizer.apply_ema_weights()
    assert float(keras.ops.cast(weight, "float32").numpy()) == 1.0
    optimizer.reset_old_weights()
    optimizer.apply_ema_weights(bias_correction=False)
    average = float(keras.ops.cast(weight, "float32").numpy())
    assert average == pytest.approx(1 - 0.999**20, rel=2**-8)


def test_averages_obey_constraints():
    """The averages are of −4 and −9, and of −4 and, after going back to 0, −5."""
    weights = [keras.Variable(1.0), keras.Variable(1.0)]
    weights[1].constraint = keras.constraints.NonNeg()
    optimizer = SGDEMA(1.0, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor(5.0)] * 2, weights)
    optimizer.apply_ema_weights()
    free, constrained = (float(weight.numpy()) for weight in weights)
    assert free == pytest.approx(-22 / 3) and constrained == 0


def test_misuse():
    with pytest.raises(RuntimeError, match="before the first update"):
        SGDEMA(0.1).apply_ema_weights()
    with pytest.raises(ValueError, match="use only one"):
        SGDEMA(0.1, use_ema=True)
    with pytest.raises(ValueError, match="ema_momentum"):
        SGDEMA(0.1, ema_momentum=1.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_callback_evaluates_averages(scaled):
    """The validation loss is that of the averaged weight; training goes on from the last one."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = SGDEMA(0.125, ema_momentum=0.5)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0)
    model.compile(optimizer, "mse")
    model.set_weights([np.zeros((1, 1))])
    x, y = np.ones((2, 1)), np.ones((2, 1))
    callback = ours.EvaluateWithAveragedWeights()
    history = model.fit(
        x, y, batch_size=1, epochs=2, validation_data=(x, y), callbacks=[callback], verbose=0
    )
    error, average, weight = 1.0, 0.0, 0.0
    for epoch in range(2):
        for _ in range(2):
            error *= 0.75  # w ← w − ⅛·2(w − 1)
            weight = 1 - error
            average = 0.5 * average + 0.5 * weight
        steps = 2 * (epoch + 1)
        wanted = (1 - average / (1 - 0.5**steps)) ** 2
        assert history.history["val_loss"][epoch] == pytest.approx(wanted, rel=1e-5)
    assert model.get_weights()[0].item() == pytest.approx(weight, rel=1e-6)


class Interrupting(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def model_of_one_weight(**settings):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    Tower = ours.extend_with_gradient_accumulation(SGDEMA)
    model.compile(Tower(0.125, ema_momentum=0.5, **settings), "mse")
    model.set_weights([np.zeros((1, 1))])
    return model


def test_callback_after_an_interrupted_evaluation():
    model, data = model_of_one_weight(grad_accum_steps=1), (np.ones((2, 1)), np.ones((2, 1)))
    model.fit(*data, batch_size=1, verbose=0)
    before, options = model.get_weights()[0], {"verbose": 0, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        callbacks = [ours.EvaluateWithAveragedWeights(), Interrupting()]
        model.evaluate(*data, callbacks=callbacks, **options)
    assert model.get_weights()[0] != before
    model.evaluate(*data, callbacks=[ours.EvaluateWithAveragedWeights()], **options)
    assert model.get_weights()[0] == before
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(*data, callbacks=callbacks, **options)
    model.optimizer.learning_rate = 0.0
    model.fit(*data, callbacks=[ours.EvaluateWithAveragedWeights()], **options)
    assert model.get_weights()[0] == before


def test_callback_before_the_first_update():
    """It evaluates the weights as they are."""
    model, data = model_of_one_weight(grad_accum_steps=8), (np.ones((2, 1)), np.ones((2, 1)))
    history = model.fit(
        *data, callbacks=[ours.EvaluateWithAveragedWeights()], validation_data=data, verbose=0
    )
    assert history.history["val_loss"] == [1.0]


def test_callback_needs_averages():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="keeps no averaged weights"):
        model.evaluate(
            np.ones((2, 1)),
            np.ones((2, 1)),
            callbacks=[ours.EvaluateWithAveragedWeights()],
            verbose=0,
        )
