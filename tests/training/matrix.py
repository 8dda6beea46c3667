"""Trainings that must end in the same weights on one device, two replicas and two workers.

    python tests/training/matrix.py LIBRARY STRATEGY [ROW …]

trains every row with `keras_extras.Model` (LIBRARY `ours`) or `keras.Model` (`keras`) under
STRATEGY (`one_device`, `mirrored`: two logical CPUs, or `multi_worker`) and prints a line of JSON
for each: final weights, history, evaluation and predictions, or the error. `fit` runs as a graph.

A script of its own, as devices must be set before TensorFlow starts; `benchmarks/distribute.py` and
`test_model_matrix.py` run it. TensorFlow's collective operations want one strategy per process, and
a process in which a row failed is not used any further: the next row begins in a fresh one, forked
from one that has only imported TensorFlow.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np

import keras_extras
from keras_extras.training import get_strategy
from tests.optimizers.table import EXTENSIONS, TOWERS, make

RANDOM = np.random.default_rng(5)
IDS = RANDOM.integers(1, 8, (41, 3))
IDS[::3, 2] = 0  # masked where masks are used
VALUES = RANDOM.normal(size=(41, 4)).astype("float32")
PER_TOKEN = RANDOM.normal(size=(41, 3, 2)).astype("float32")
WEIGHTS = RANDOM.uniform(0.5, 2.0, 41).astype("float32")
WEIGHTS[33:] = 0.0  # a replica, and the last batch, may hold no weight at all
FULL, RAGGED = 40, 41  # with batches of 8, the last of the ragged ones holds one row: one for two


@keras.saving.register_keras_serializable(package="tests")
class SquareLoss(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def small(Model):
    """An embedding, whose gradient is sparse, and a kernel."""
    inputs = keras.Input((3,), dtype="int32")
    h = keras.layers.Flatten()(keras.layers.Embedding(8, 4, name="embed")(inputs))
    return Model(inputs, keras.layers.Dense(4, dtype="float32", name="dense")(h))


@keras.saving.register_keras_serializable(package="tests")
class RunningMean(keras.layers.Layer):
    """Notes the mean of its inputs."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.mean.assign(0.5 * self.mean + 0.5 * keras.ops.mean(inputs, axis=0))
        return inputs


def normalized(Model):
    """A layer with statistics of its rows, and batch normalization with those of the batch."""
    inputs = keras.Input((3,), dtype="int32")
    h = keras.layers.Flatten()(keras.layers.Embedding(8, 4, name="embed")(inputs))
    h = RunningMean(name="mean")(h)
    h = keras.layers.BatchNormalization(momentum=0.5, synchronized=True, name="norm")(h)
    return Model(inputs, keras.layers.Dense(4, name="dense")(h))


def rich(Model):
    """Two outputs, one of them masked, a regularizer and a loss added by a layer."""
    inputs = keras.Input((3,), dtype="int32")
    h = keras.layers.Embedding(8, 4, mask_zero=True, name="embed")(inputs)
    token = keras.layers.Dense(2, kernel_regularizer="l2", name="token")(h)
    h = SquareLoss()(keras.layers.Dense(4, name="hidden")(h[:, 0]))
    return Model(inputs, {"token": token, "row": keras.layers.Dense(4, name="row")(h)})


RICH = {
    "loss": {"token": "mse", "row": "mae"},
    "loss_weights": {"token": 0.5, "row": 1.0},
    "weighted_metrics": {"token": ["mae"], "row": ["mae"]},
}
RICH_Y = {"token": PER_TOKEN, "row": VALUES}
RICH_WEIGHTS = {"token": np.repeat(WEIGHTS[:, None], 3, axis=1), "row": WEIGHTS}


def overflowing(values):
    """Targets of which one, on the second replica, overflows float16."""
    values = values.copy()
    values[20] = 3e4
    return values


def adam(**settings):
    return keras.optimizers.Adam(0.05, **settings)


class Row:
    """One training: how it differs from the plain one.

    Args:
        optimizer: makes the optimizer.
        rows: number of examples.
        policy: dtype policy.
        model: `small`, `normalized` or `rich`.
        weighted: with sample weights.
        changed: function of the targets.
        compile: further arguments of `compile`.
        tolerance: largest difference of a weight.
        by_workers: whether TensorFlow can train it by several workers.
    """

    def __init__(self, optimizer=adam, rows=FULL, policy="float32", model=small, weighted=False,
                 changed=None, compile=(), tolerance=1e-6, by_workers=True):  # fmt: skip
        self.optimizer, self.rows, self.policy, self.model = optimizer, rows, policy, model
        self.weighted, self.changed, self.compile = weighted, changed, dict(compile)
        self.tolerance, self.by_workers = tolerance, by_workers


def sgd(**settings):
    return keras.optimizers.SGD(0.5, **settings)


HALF = 2e-3  # what float16 and bfloat16 round away
EMA = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
ACCUMULATION = {"gradient_accumulation_steps": 2}
ROWS = {
    "plain": Row(),
    "accumulation": Row(lambda: adam(**ACCUMULATION)),
    "EMA overwrite": Row(lambda: adam(**EMA)),
    "clipnorm": Row(lambda: sgd(clipnorm=0.1)),
    "global_clipnorm": Row(lambda: sgd(global_clipnorm=0.1)),
    "weight decay": Row(lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1)),
    "steps_per_execution 4": Row(compile={"steps_per_execution": 4}),
    "float16": Row(lambda: sgd(), policy="mixed_float16", changed=overflowing, tolerance=HALF),
    "bfloat16": Row(lambda: sgd(), policy="mixed_bfloat16", tolerance=HALF),
    # (workers cannot hand each other bfloat16 variables)
    "bfloat16 alone": Row(lambda: sgd(), policy="bfloat16", tolerance=10 * HALF, by_workers=False),
    "float64": Row(lambda: sgd(), policy="float64"),
    "ragged last batch": Row(rows=RAGGED),
    "ragged, weighted": Row(rows=RAGGED, weighted=True),
    "masks, outputs, added losses": Row(rows=RAGGED, model=rich, weighted=True),
    "IndexedSlices, momentum": Row(lambda: sgd(momentum=0.9)),
    "statistics of layers": Row(sgd, model=normalized),
    "all of Keras' options": Row(
        lambda: adam(**ACCUMULATION, **EMA, global_clipnorm=0.1, weight_decay=0.01),
        rows=RAGGED,
        policy="mixed_float16",
        changed=overflowing,
        compile={"steps_per_execution": 4},
        tolerance=HALF,
    ),
    # (Adam makes large steps of rounding errors in gradients that accumulation nearly cancels.)
    **{
        f"extension {name}": Row(
            lambda name=name: make("SGD" if "accumulation" in name else "KerasAdam", name)
        )
        for name in EXTENSIONS
    },
    **{f"tower {name}": Row(lambda name=name: make("AdaFactor", TOWERS[name])) for name in TOWERS},
    "Tiger, accumulation": Row(lambda: make("Tiger", grad_accum_steps=2)),
    "tower everything, float16": Row(
        lambda: make("AdaFactor", TOWERS["everything"]),
        rows=RAGGED,
        policy="mixed_float16",
        changed=overflowing,
        tolerance=HALF,
    ),
}
CODE = 100  # exit code of a process in which no row was good, one more for each that was
# A cut for every day: each of Keras' options, uneven batches and all extensions at least once.
CUT = (
    "plain",
    "steps_per_execution 4",
    "global_clipnorm",
    "masks, outputs, added losses",
    "bfloat16 alone",
    "float64",
    "statistics of layers",
    "all of Keras' options",
    "tower everything, float16",
)


def train(library, strategy, row) -> dict:
    """The results of one row, as plain lists."""
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(row.policy)
    Model = keras_extras.Model if library == "ours" else keras.Model
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = row.model(Model)
        settings = RICH if row.model is rich else {"loss": "mse", "weighted_metrics": ["mae"]}
        model.compile(row.optimizer(), **settings, **row.compile)
    y, weights = (RICH_Y, RICH_WEIGHTS) if row.model is rich else (VALUES, WEIGHTS)
    y = row.changed(y) if row.changed else y
    columns = (IDS, y, weights) if row.weighted else (IDS, y)
    columns = keras.tree.map_structure(lambda x: x[: row.rows], columns)
    data = tf.data.Dataset.from_tensor_slices(columns).batch(8)
    history = model.fit(data, epochs=2, verbose=0).history
    result = {"weights": [w.tolist() for w in model.get_weights()], "history": history}
    if library == "ours" and row.rows == RAGGED:
        result["evaluation"] = model.evaluate(data, verbose=0, return_dict=True)
        predictions = model.predict(data, verbose=0)
        result["predictions"] = [p.tolist() for p in keras.tree.flatten(predictions)]
    return result


def differences(one: dict, other: dict) -> dict:
    """The largest difference in each part of two results, and the largest number (`scale`)."""

    def flat(part):
        parts = [part[key] for key in sorted(part)] if isinstance(part, dict) else part
        if not isinstance(parts, list):
            return np.array([parts])
        return np.concatenate([np.zeros(0), *map(flat, parts)])

    parts = [key for key in one if key != "row"]
    found = {key: float(np.abs(flat(one[key]) - flat(other[key])).max()) for key in parts}
    return {**found, "scale": max(1.0, *(float(np.abs(flat(one[key])).max()) for key in parts))}


def train_until_one_fails(library, strategy, names) -> int:
    """Prints the result of each row; ends behind the first that fails. The number of good rows."""
    chosen = get_strategy(strategy, 2 if strategy == "mirrored" else 0)
    for good, name in enumerate(names):
        try:
            result = train(library, chosen, ROWS[name])
        except Exception as error:  # what it is, is the result
            result = {"error": f"{type(error).__name__}: {error}"[:1000]}
        print("ROW " + json.dumps({"row": name, **result}), flush=True)
        if "error" in result:
            return good
    return len(names)


def main(library, strategy, *names):
    left, failed = list(names or ROWS), []
    while left:
        child = os.fork()
        if not child:
            os._exit(CODE + train_until_one_fails(library, strategy, left))
        good = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) - CODE
        if good < 0:
            raise SystemExit(f"a process for {left} ended before its rows: {good + CODE}")
        failed += left[good : good + 1]
        del left[: good + 1]
    if failed:
        raise SystemExit(f"failed: {failed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
