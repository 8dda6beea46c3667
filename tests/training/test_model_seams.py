"""The private names of Keras that keras_extras.Model rests on are still there, and still used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_extras
from keras_extras.training.keras_seams import (
    PRIVATE_NAMES,
    UntunedBatches,
    lowest_optimizer_class,
)
from keras_extras.training.replica_optimizer import OwnCopy, reducing_first, stepping_alone


def test_private_names():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("adam", "mse")
    model.fit(np.ones((1, 3)), np.ones((1, 1)), verbose=0)
    owners = {
        "model": model,
        "layer": model.layers[-1],
        "compile_loss": model._compile_loss,
        "mean_metric_wrapper": keras.metrics.MeanSquaredError(),
        "optimizer": model.optimizer,
        "loss_scale_optimizer": keras.optimizers.LossScaleOptimizer(model.optimizer),
    }
    if hasattr(keras.optimizers, "MultiOptimizer"):  # new in Keras 3.15
        several = {".*": keras.optimizers.SGD()}
        owners["multi_optimizer"] = keras.optimizers.MultiOptimizer(several)
    missing = [
        (owner, name)
        for owner, thing in owners.items()
        for name in PRIVATE_NAMES[owner]
        if not hasattr(thing, name)
    ]
    assert missing == []


def test_keras_losses_are_replaced_when_they_are_resolved():
    model = keras_extras.Model(inputs := keras.Input((3,)), keras.layers.Dense(1)(inputs))
    model.compile("adam", "mse")
    model.fit(np.ones((1, 3)), np.ones((1, 1)), verbose=0)
    (entry,) = model._compile_loss._flat_losses
    assert isinstance(entry.loss, keras_extras.training.replicas.GlobalLoss)


def test_what_keras_does_under_tf_distribute_is_all_replaced():
    """No other method of Keras' optimizers merges or reduces over replicas."""
    merging = {
        name
        for name, method in vars(lowest_optimizer_class()).items()
        if hasattr(method, "__code__")
        and {"maybe_merge_call", "all_reduce", "update"} & set(method.__code__.co_names)
    }
    assert merging <= set(vars(OwnCopy)) | {"_distributed_tf_update_step"}
    assert "_backend_update_step" in merging


def test_views_share_the_state():
    optimizer = keras.optimizers.Adam(0.1)
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    for view in (stepping_alone(optimizer), reducing_first(optimizer)):
        assert isinstance(view, keras.optimizers.Adam) and isinstance(view, OwnCopy)
        view.apply([tf.constant([1.0])], [weight])
    assert int(optimizer.iterations.numpy()) == 2
    assert abs(float(weight.numpy()[0]) - 0.8) < 1e-5
    assert type(stepping_alone(stepping_alone(optimizer))) is type(stepping_alone(optimizer))


class Pairs(keras.utils.PyDataset):
    """Three batches of two."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 3), index, "float32"), np.array([[0], [1]])


def test_batches_are_read_without_autotuning():
    untuned = UntunedBatches(Pairs()).get_tf_dataset()
    assert untuned.options().autotune.enabled is False
    untuned = [x[:, 0].tolist() for x, _ in untuned.as_numpy_iterator()]
    assert untuned == [[0, 0], [1, 1], [2, 2]]


def test_a_dataset_is_trained_on_as_keras_does():
    weights = []
    for kind in (keras.Model, keras_extras.Model):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        model = kind(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))
        model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
        options = {"shuffle": False, "class_weight": {0: 1.0, 1: 3.0}, "verbose": 0}
        history = model.fit(Pairs(), epochs=2, validation_data=Pairs(), **options).history
        numbers = [*history["loss"], *history["val_loss"], *model.evaluate(Pairs(), verbose=0)]
        outputs = model.predict(Pairs(), verbose=0)
        with pytest.raises(ValueError, match="sample_weight"):
            model.evaluate(Pairs(), sample_weight=np.ones(6), verbose=0)
        weights.append([*model.get_weights(), np.array(numbers), outputs])
    for keras_own, ours in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-6)
