"""A small training that can be stopped at any moment, for the tests of `Resume`.

    python training.py killed FOLDER COUNT SEED

runs it undisturbed, then again while killing it COUNT times at random moments, and prints both
results. Each run is a fork of this process, which imports TensorFlow once and computes nothing.

    python training.py stopped

runs it undisturbed, then again with a stop in each seventh step, and prints both results.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_extras.training import LengthBatches, Resume

EPOCHS = 3
STEPS = 27
PAUSE = 0.05  # seconds that a step takes at least, so that kills meet the training


class StopAfter(keras.callbacks.Callback):
    """Ends the training by an exception after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if not self.steps:
            raise Stopped


class Stopped(Exception):
    pass


class Losses(keras.callbacks.Callback):
    """Keeps the losses of the epochs, across interruptions."""

    def __init__(self, resume):
        super().__init__()
        self.resume = resume

    def on_epoch_end(self, epoch, logs=None):
        self.resume.notes.setdefault("losses", []).append([logs["loss"], logs["accuracy"]])


def make_model(embedding=40):
    """Dropout, moving averages and metrics: all that has a state."""
    x = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(embedding, 16)(x)
    h = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D()(h))
    model = keras.Model([x], keras.layers.Dense(3)(h))
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def make_batches(seed=0):
    rng = np.random.default_rng(1)
    rows = [rng.integers(1, 40, rng.integers(3, 30)).tolist() for _ in range(70)]
    return LengthBatches([rows], rng.integers(0, 3, 70), 8, shuffle=True, seed=seed, window=3)


def train(folder, callbacks=(), save_every=2):
    """Trains, or goes on; returns losses and weights as lists."""
    keras.utils.set_random_seed(3)
    model, batches = make_model(), make_batches()
    resume = Resume(folder, batches, save_every)
    resume.fit(model, EPOCHS, [Losses(resume), *callbacks], verbose=0)
    weights = [weight.tolist() for weight in model.get_weights()]
    return {"losses": resume.notes["losses"], "weights": weights}


def stopped(folder):
    """The training, stopped again and again in its seventh step."""
    while True:
        try:
            return train(folder, [StopAfter(7)])
        except Stopped:
            keras.utils.clear_session()


class Say(keras.callbacks.Callback):
    """Says when the training itself begins."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        self.path.touch()
        time.sleep(PAUSE)


def fork(folder, result):
    """Starts the training in a process of its own; returns its number when it has begun."""
    begun = folder.with_suffix(".begun")
    begun.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
            trained = train(folder, [Say(begun)], save_every=1)
            result.write_text(json.dumps(trained))
            code = 0
        finally:
            os._exit(code)
    while not begun.exists() and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.005)
    return child


def killed(folder, count, seed):
    """Results of an undisturbed run and of `count` runs that are each killed once."""
    results = [folder / "whole.json"]
    child = fork(folder / "whole", results[0])
    os.waitpid(child, 0)
    rng, states = random.Random(seed), []
    for i in range(count):
        run = folder / f"killed-{i}"
        results.append(run.with_suffix(".json"))
        child = fork(run, results[-1])
        time.sleep(rng.uniform(0, (STEPS - 1) * PAUSE))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        states.append(sorted(path.name for path in run.iterdir()))
        if not results[-1].exists():
            os.waitpid(fork(run, results[-1]), 0)
    return {"states": states, "results": [json.loads(path.read_text()) for path in results]}


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        print(json.dumps(killed(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            both = [train(f"{temporary}/whole"), stopped(f"{temporary}/parts")]
        print(json.dumps(both))
