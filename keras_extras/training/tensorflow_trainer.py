"""The steps of `keras_extras.Model` on TensorFlow: one graph, right on any number of replicas.

    x, y, w → parts of the loss → gradients of the parts → Σ over replicas
      → unscale, is it finite? → clip → accumulate → optimizer → moving average

One replica computes its part of the loss such that the parts add up to the loss of the whole batch
(`replicas`). Gradients and loss are summed in one reduction; what follows is done by each replica
with the same numbers (`replica_optimizer`). Metrics are sums on each replica, added up when read.
"""

import contextlib

import keras
import tensorflow as tf

from keras_extras.optimizers.sparse import combine_repeated_rows
from keras_extras.training import replicas
from keras_extras.training.noted import Noted, noted_by_layers
from keras_extras.training.replica_optimizer import reducing_first, stepping_alone
from keras_extras.training.untuned import UntunedTrainer

undisturbed = tf.autograph.experimental.do_not_convert


class TensorFlowTrainer(UntunedTrainer):
    """What stands before Keras' own trainer in `keras_extras.Model`."""

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        if self._compile_loss is not None:
            replicas.take_global_means(self._compile_loss)
        if self.jit_compile and self._many_replicas():
            raise ValueError(
                "jit_compile=True compiles the step for one device, but this model has "
                f"{self.distribute_strategy.num_replicas_in_sync} replicas. Compile it with "
                "jit_compile=False (or 'auto', which means that here)."
            )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss; in one of several replicas, its part of the loss.

        What layers add (`add_loss`, regularizers) counts as a mean over the replica's rows.
        """
        if not replicas.in_one_of_many():
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        # First of all: sums over replicas let the others go on, and layers keep one list of losses.
        added = [tf.reduce_sum(tf.cast(loss, keras.config.floatx())) for loss in self.losses]
        loss = self._compile_loss and self._compile_loss(y, y_pred, sample_weight)
        losses = [] if loss is None else [loss]
        if added:
            rows = tf.cast(replicas.rows_of(y_pred if x is None else x), added[0].dtype)
            (total,) = replicas.sum_over_replicas([rows])
            losses += [tf.math.multiply_no_nan(loss, rows / total) for loss in added]
        if not losses:
            raise ValueError("There is no loss: give compile() a `loss`, or call add_loss().")
        return losses[0] if len(losses) == 1 else tf.add_n(losses)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        many, leaves_out = replicas.in_one_of_many(), self.on_nan != "stop"
        noted = Noted(noted_by_layers(self) if many or leaves_out else [])
        with tf.GradientTape() as tape:
            y_pred, y = self._call_on_rows(x, y, training=True)
            losses = Noted(self._variables_of_losses(y, y_pred) if leaves_out else [])
            part = self._part_of_loss(x, y, y_pred, sample_weight, training=True)
            scaled = part if self.optimizer is None else self.optimizer.scale_loss(part)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled, weights)
        changes = noted.changes() if many else []
        gradients, loss, rows, changes = self._sum(gradients, part, x, changes)
        if many:
            noted.move(changes)
        finite = self._apply(gradients, weights, loss)
        if leaves_out:
            self._non_finite_steps.assign_add(tf.cast(tf.logical_not(finite), "int32"))
            noted.go_back(finite)
            losses.go_back(finite)
            loss, rows = tf.where(finite, loss, 0), tf.where(finite, rows, 0)
            x, y, y_pred, sample_weight = replicas.first_rows(
                (x, y, y_pred, sample_weight), tf.where(finite, replicas.rows_of(x), 0)
            )
        self._loss_tracker.update_state(loss, sample_weight=rows)
        return self._counted_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, y = self._call_on_rows(x, y, training=False)
        part = self._part_of_loss(x, y, y_pred, sample_weight, training=False)
        _, loss, rows, _ = self._sum([], part, x)
        self._loss_tracker.update_state(loss, sample_weight=rows)
        return self._counted_metrics(x, y, y_pred, sample_weight)

    def _counted_metrics(self, x, y, y_pred, sample_weight):
        """`compute_metrics`, where a function that says one number of a batch counts its rows."""
        metrics = self._compile_metrics
        if metrics is None:
            return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        if not metrics.built:
            metrics.build(y, y_pred)
        with replicas.counting_rows(metrics, replicas.rows_of(y_pred)):
            return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def predict_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(replicas.own_copy(data))
        return self._call_on_rows(x, None, training=False)[0]

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            with self.distribute_strategy.scope(), tf.init_scope():
                self.__dict__["_non_finite_steps"] = tf.Variable(0, trainable=False)
            self.__dict__["_tests_gradients"] = False
            self.train_function = self._make_function(self.train_step)
        return self.train_function

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._make_function(self.test_step)
        return self.test_function

    def predict_on_batch(self, x):
        if self._many_replicas():  # Keras hands the whole batch to each, and returns all they say
            return self.predict(tf.data.Dataset.from_tensors((x,)), verbose=0)
        return super().predict_on_batch(x)

    def _divided(self, batch):
        """A batch of `train_on_batch` or `test_on_batch`, divided among the replicas."""
        if not self._many_replicas():
            return batch
        dataset = tf.data.Dataset.from_tensors(batch)
        return next(iter(self.distribute_strategy.experimental_distribute_dataset(dataset)))

    def _many_replicas(self) -> bool:
        return self.distribute_strategy.num_replicas_in_sync > 1

    def _call_on_rows(self, x, y, training: bool):
        """The model's output, and targets of that shape, also for a replica without rows."""
        arguments = {"training": training} if self._call_has_training_arg else {}
        if not replicas.in_one_of_many():
            return self(x, **arguments), y
        outputs = self(replicas.at_least_one(x), **arguments)
        y = replicas.at_least_one(y, first_axis=1)
        return replicas.without_filling(outputs, replicas.rows_of(x)), y

    def _part_of_loss(self, x, y, y_pred, sample_weight, training: bool):
        arguments = {"training": training} if self._compute_loss_has_training_arg else {}
        return self.compute_loss(x, y, y_pred, sample_weight, **arguments)

    def _variables_of_losses(self, y, y_pred) -> list:
        """The variables of the running means that Keras keeps of the losses of several outputs."""
        if self._compile_loss is None:
            return []
        if not self._compile_loss.built:
            self._compile_loss.build(y, y_pred)
        return [variable for mean in self._compile_loss.metrics for variable in mean.variables]

    def _sum(self, gradients, part, x, changes=()):
        """Gradients, loss and number of rows of the whole batch (rows: this replica's share).

        Last, the changes of what layers noted: their mean over all rows.
        """
        rows = tf.cast(replicas.rows_of(x), part.dtype)
        if replicas.in_one_of_many():
            size = tf.size(part) if part.shape.rank else 1 / replicas.number()
            extra = [tf.reduce_sum(part), tf.cast(size, part.dtype), rows]
            changes = [tf.math.multiply_no_nan(x, tf.cast(rows, x.dtype)) for x in changes]
            sums = replicas.sum_over_replicas(
                [*gradients, *changes, *extra], dense=self.steps_per_execution > 1
            )
            gradients, (*changes, loss, size, rows) = sums[: len(gradients)], sums[len(gradients) :]
            changes = [change / tf.cast(rows, change.dtype) for change in changes]
            part, rows = loss / size, rows / replicas.number()
        # Keras' optimizers square each of an embedding row's gradients by itself.
        return [combine_repeated_rows(gradient) for gradient in gradients], part, rows, changes

    def _apply(self, gradients, weights, loss):
        """Moves the weights; says whether loss and gradients are finite if that is asked for."""
        self.__dict__["_tests_gradients"] = True
        optimizer = self.optimizer
        if weights and not optimizer.built:
            optimizer.build(weights)
        if replicas.in_one_of_many():
            optimizer = stepping_alone(optimizer)
        finite = None if self.on_nan == "stop" else is_finite(loss)
        if not weights:
            return finite
        if self.on_nan != "skip":
            optimizer.apply(gradients, weights)
            return finite
        if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            # (which tests the gradients by itself, and has to see those that overflow)
            finite = tf.reduce_all([finite, *map(is_finite, gradients)])
        tf.cond(finite, lambda: optimizer.apply(gradients, weights), lambda: None)
        return finite

    def take_non_finite_steps(self) -> int:
        """How many steps had a loss or gradient that was not finite, and were not to end `fit`."""
        if self.on_nan == "stop" or self.train_function is None:
            return 0
        count = self.distribute_strategy.experimental_local_results(self._non_finite_steps)[0]
        count = int(count.numpy())
        self._non_finite_steps.assign(0)
        return count

    def _make_function(self, step):
        """What Keras' loops call with an iterator: `steps_per_execution` steps, returns logs."""
        strategy = self.distribute_strategy
        count = self.steps_per_execution

        @undisturbed
        def step_on_own_copy(data):
            logs = step(replicas.own_copy(data))
            if step == self.train_step and self.on_nan == "skip" and not self._tests_gradients:
                raise ValueError(
                    "on_nan='skip' is what the train_step of keras_extras.Model does, and that of "
                    f"{type(self).__name__} does not call it. Call super().train_step(data), or "
                    "test the gradients there and compile the model with on_nan='stop'."
                )
            return logs

        @undisturbed
        def one_step(data):
            with self._optimizer_reduces(), replicas.drawing_apart():
                logs = strategy.run(step_on_own_copy, args=(without_optionals(data),))
            return self._logs_to_carry(logs)

        call_with_batch = one_step
        if not self.run_eagerly:
            call_with_batch = tf.function(
                one_step, reduce_retracing=True, jit_compile=self.jit_compile
            )
        if not self._many_replicas():
            one_step = call_with_batch  # else a function cannot take what an Optional holds

        @undisturbed
        def many_steps(iterator):
            if count == 1:
                return 1, self._with_metrics(one_step(iterator.get_next()))
            ran, logs = 0, {}
            if not self._logs_are_sure(step):  # then those of the last step are wanted
                ran, logs = 1, one_step(iterator.get_next())

            def goes_on(ran, has_more, logs):
                return tf.logical_and(ran < count, has_more)

            def one_more(ran, has_more, logs):
                data = iterator.get_next_as_optional()

                def run():
                    new_logs = one_step(data.get_value())
                    return ran + 1, {name: new_logs[name] for name in logs}

                ran, logs = tf.cond(data.has_value(), run, lambda: (ran, logs))
                return ran, data.has_value(), logs

            # One by one: a step needs the weights of the last, which no loop variable shows.
            start = [tf.constant(ran), True, logs]
            ran, _, logs = tf.while_loop(goes_on, one_more, start, parallel_iterations=1)
            return ran, self._with_metrics(logs)

        if not self.run_eagerly:
            many_steps = tf.function(many_steps, reduce_retracing=True)

        def function(iterator):
            if isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
                ran, logs = many_steps(iterator)
                if count > 1 and not ran:
                    raise StopIteration
                return logs
            for _, data in zip(range(count), iterator, strict=False):
                logs = call_with_batch(self._divided(data))
            return self._with_metrics(logs)

        return function

    @contextlib.contextmanager
    def _optimizer_reduces(self):
        """A `train_step` of the user's own, too, sees an optimizer that reduces gradients first."""
        optimizer = self.optimizer
        if optimizer is None or not self._many_replicas():
            yield
            return
        self.__dict__["optimizer"] = reducing_first(optimizer, self.steps_per_execution > 1)
        try:
            yield
        finally:
            self.__dict__["optimizer"] = optimizer

    def get_metrics_result(self):
        result = super().get_metrics_result()
        self.__dict__["_names_of_metrics"] = set(result)
        return result

    def _logs_are_sure(self, step) -> bool:
        """Is it plain before a step is traced that its logs are the metrics?"""
        own = (TensorFlowTrainer.train_step, TensorFlowTrainer.test_step)
        return step.__func__ in own and type(self).compute_metrics is keras.Model.compute_metrics

    def _logs_to_carry(self, logs):
        """What a step says of the whole batch, apart from metrics, which are added up when read."""
        if not self._many_replicas():
            return logs
        metrics = self.__dict__.get("_names_of_metrics") or {m.name for m in self.metrics}
        self.__dict__["_logs_are_metrics"] = set(logs) == metrics  # as Keras asks, too
        if self._logs_are_metrics:
            return {}
        mean, strategy = tf.distribute.ReduceOp.MEAN, self.distribute_strategy
        return {name: strategy.reduce(mean, value, axis=None) for name, value in logs.items()}

    def _with_metrics(self, logs):
        """The logs of the last step, or the metrics of all replicas if these are the logs."""
        return logs or self.get_metrics_result()

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes the first batch, sums its parts over the replicas, and so crashes with several
        # workers; shapes and types are all that is needed.
        if self._distribute_strategy is None and self.on_nan == "stop":
            return  # Keras builds the model in its first step
        if iterator is None:
            super()._maybe_symbolic_build(data_batch=data_batch)
            return
        batch = keras.tree.map_structure(
            spec_of_replica, iterator._distributed_dataset.element_spec
        )
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=batch)


def is_finite(gradient):
    """Whether all numbers of a gradient, dense or sparse, are finite."""
    if gradient is None:
        return True
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    return tf.reduce_all(tf.math.is_finite(values))


def without_optionals(data):
    """The batch with None where Keras' generators put an empty `Optional`."""
    return keras.tree.map_structure(
        lambda x: None if isinstance(x, tf.experimental.Optional) else x, data
    )


def spec_of_replica(spec):
    """Shape and type of what one replica gets, or None for what is no tensor."""
    parts = getattr(spec, "_value_specs", None)  # of a PerReplica
    spec = parts[0] if parts else spec
    return spec if hasattr(spec, "shape") and hasattr(spec, "dtype") else None
