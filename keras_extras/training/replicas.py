"""What the replicas of a tf.distribute strategy do together within a step.

A batch is divided among the replicas, the last one unevenly: a replica may hold fewer rows than the
others, or none. Whatever is a mean over the batch has to be the sum of all replicas divided by the
weight of all replicas; the functions here see to that. With one replica they change nothing.
"""

import contextlib

import keras
import tensorflow as tf

from keras_extras.optimizers.sparse import is_sparse, to_dense
from keras_extras.optimizers.state import working_dtype
from keras_extras.training.keras_seams import mask_of, merged_weights, set_mask

GOLDEN_RATIO = 0x9E3779B9  # of 2**32: its multiples are far from each other


def number() -> int:
    """How many replicas share a batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def in_one_of_many() -> bool:
    """Is this code run by one of several replicas (and not while a model is built)?"""
    return number() > 1 and tf.distribute.get_replica_context() is not None


def sum_over_replicas(values: list, dense: bool = False) -> list:
    """The tensors of a list, each summed over all replicas; `None` stays.

    Sparse gradients are gathered, unless `dense`: TensorFlow's collective operations cannot change
    their shape within a loop, where the batches of `steps_per_execution` may have other lengths.
    They take one dtype at a time, and no bfloat16 on a CPU: half precision is summed in float32.
    """
    if not in_one_of_many():
        return list(values)
    context = tf.distribute.get_replica_context()
    sums, of_dtype = list(values), {}
    for i, value in enumerate(values):
        if value is not None:
            value = to_dense(value) if dense and is_sparse(value) else value
            value = tf.cast(value, working_dtype(value))
            of_dtype.setdefault(value.dtype, {})[i] = value
    for given in of_dtype.values():
        reduced = context.all_reduce(tf.distribute.ReduceOp.SUM, list(given.values()))
        for i, value in zip(given, reduced, strict=True):
            sums[i] = tf.cast(value, values[i].dtype)
    return sums


class GlobalLoss:
    """A Keras loss whose mean is taken over the rows of all replicas.

    Keras divides a replica's sum of losses by the replica's own weight D_r (the number of losses,
    of those that a mask keeps, or the sum of their weights) and by the number N of replicas. This
    multiplies that value by N·D_r / Σ D, so that the values of all replicas add up to the mean.
    What a loss function says in one number for all its rows counts as often as it has rows.
    """

    def __init__(self, loss):
        self.loss = loss
        self.name = loss.name

    def __call__(self, y_true, y_pred, sample_weight=None):
        reduction = getattr(self.loss, "reduction", None)
        if not in_one_of_many() or reduction in (None, "none", "sum"):
            return self.loss(y_true, y_pred, sample_weight)
        mean_of_rows = []

        def call(y_true, y_pred):
            losses = self.loss.call(y_true, y_pred)
            if not losses.shape.rank:
                of_some = self.loss.call(at_least_one(y_true), at_least_one(y_pred))
                losses = tf.fill([rows_of(y_pred)], of_some)
            mask = both(mask_of(y_pred_given), mask_of(losses))
            weights = sample_weight if reduction == "mean_with_sample_weight" else None
            weights = merged_weights(weights, mask, losses.dtype)
            mean_of_rows.append(tf.size(losses) if weights is None else tf.reduce_sum(weights))
            return losses

        y_pred_given = y_pred
        noting = object.__new__(type(self.loss))  # copy.copy would save and load the loss
        noting.__dict__.update(self.loss.__dict__, call=call)
        value = noting(y_true, y_pred, sample_weight)
        value = tf.reduce_sum(value)  # one number already, but for 0 rows, which Keras leaves
        weight = mean_of_rows[0] if mean_of_rows else tf.shape(keras.tree.flatten(y_pred)[0])[0]
        weight = tf.cast(weight, value.dtype)
        (total,) = sum_over_replicas([weight])
        return value * tf.math.divide_no_nan(number() * weight, total)


@contextlib.contextmanager
def counting_rows(metric, rows):
    """Within it, functions that say one number of all their rows count as often as there are rows.

    Keras counts it once, on a replica without rows as well, where it is a mean of nothing.

    Args:
        metric: a Keras metric, or one that holds others; functions are those in
            `MeanMetricWrapper`.
        rows: how many rows the functions see.
    """
    wrappers = [m for m in flat_metrics(metric) if isinstance(m, keras.metrics.MeanMetricWrapper)]
    functions = [wrapper._fn for wrapper in wrappers]

    def counting(function):
        def values(*args, **kwargs):
            found = tf.convert_to_tensor(function(*args, **kwargs))
            return found if len(found.shape) else tf.fill([rows], found)

        return values

    try:
        for wrapper, function in zip(wrappers, functions, strict=True):
            wrapper._fn = counting(function)
        yield
    finally:
        for wrapper, function in zip(wrappers, functions, strict=True):
            wrapper._fn = function


def flat_metrics(metric) -> list:
    """A metric, or the metrics that it holds."""
    held = getattr(metric, "metrics", None)
    return [metric] if held is None else [m for each in held for m in flat_metrics(each)]


def take_global_means(compile_loss) -> None:
    """Makes the means of Keras' compiled losses those of all replicas.

    Keras finds out which losses are meant when it sees the first outputs; then they are replaced.
    """
    build = compile_loss.build

    def build_and_replace(y_true, y_pred):
        build(y_true, y_pred)
        compile_loss._flat_losses = [
            entry._replace(loss=GlobalLoss(entry.loss)) for entry in compile_loss._flat_losses
        ]

    compile_loss.build = build_and_replace


def both(mask, other):
    """The entries that two masks keep; None keeps all."""
    if mask is None or other is None:
        return other if mask is None else mask
    return tf.logical_and(tf.cast(mask, "bool"), tf.cast(other, "bool"))


@contextlib.contextmanager
def drawing_apart():
    """Within it, each replica draws random numbers of its own from Keras' seed generators.

    Their states are the same on all replicas and stay so. The first replica draws what one device
    would.
    """
    if number() == 1:
        yield
        return
    draw = keras.random.SeedGenerator.next

    def draw_of_replica(generator, ordered=True):
        seed = draw(generator, ordered)
        context = tf.distribute.get_replica_context()
        if context is None:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * GOLDEN_RATIO, tf.zeros_like(replica)])

    keras.random.SeedGenerator.next = draw_of_replica
    try:
        yield
    finally:
        keras.random.SeedGenerator.next = draw


def own_copy(data):
    """A replica's share of a batch in memory of its own.

    TensorFlow takes NumPy arrays from Python generators as they are if their address is a multiple
    of 64 bytes, and lets operations on a CPU write their results over the parts of a divided batch:
    the user's own arrays (TensorFlow 2.21). Keras feeds every `PyDataset` by such a generator.
    """
    if not in_one_of_many() or not on_cpu():
        return data
    return tf.nest.map_structure(
        lambda x: tf.raw_ops.DeepCopy(x=x) if tf.is_tensor(x) else x, data, expand_composites=True
    )


def on_cpu() -> bool:
    """Are the replicas of this process CPUs?"""
    # not the replica context's `devices`, which count those of other workers
    devices = tf.distribute.get_strategy().extended.worker_devices
    return all("CPU:" in device for device in devices)


def rows_of(data):
    """The number of rows of a batch: the first dimension of its first tensor, as in Keras."""
    return tf.shape(next(x for x in keras.tree.flatten(data) if x is not None))[0]


def at_least_one(data, first_axis: int = 0):
    """The tensors with a row of zeros where they hold none, as on a replica without data.

    Many layers cannot take an empty batch: they would divide by its size, or reshape nothing.
    Only axes of unknown size, from `first_axis` on, are looked at.
    """

    def fill(x):
        if not isinstance(x, tf.Tensor) or x.shape.rank is None:
            return x
        unknown = [i >= first_axis and size is None for i, size in enumerate(x.shape)]
        if not any(unknown):
            return x
        missing = tf.maximum(1 - tf.shape(x), 0) * tf.constant(unknown, "int32")
        return tf.pad(x, tf.stack([tf.zeros_like(missing), missing], axis=1))

    return keras.tree.map_structure(fill, data)


def without_filling(outputs, rows):
    """The outputs of a model that was given `at_least_one` row: none where `rows` is 0."""
    return first_rows(outputs, tf.where(rows > 0, tf.int32.max, 0))


def first_rows(data, rows):
    """The first rows of all tensors, and of their masks."""

    def cut(x):
        if not isinstance(x, tf.Tensor) or not x.shape.rank:
            return x
        mask = mask_of(x)
        shorter = x[:rows]
        set_mask(shorter, None if mask is None else mask[:rows])
        return shorter

    return keras.tree.map_structure(cut, data)
