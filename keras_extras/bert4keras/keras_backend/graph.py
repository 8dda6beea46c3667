"""What Keras 2's `K` did with graphs: training phase, gradients, functions of symbols."""

from __future__ import annotations

import functools

import keras
from keras import ops

from keras_extras.bert4keras.keras_backend.symbolic_calls import (
    BackendCall,
    has_symbolic,
    is_keras_tensor,
)


class LearningPhase:
    """What `learning_phase()` returns: `function` takes it among its inputs."""

    def __repr__(self):
        return "<learning phase: 1 when training, 0 otherwise>"


_LEARNING_PHASE = LearningPhase()


class TrainPhase(keras.layers.Layer):
    """Its first input while training, its second otherwise."""

    def call(self, inputs, training=None):
        return inputs[0] if training else inputs[1]

    def compute_mask(self, inputs, mask=None):
        return None


@functools.cache
def _train_phase():
    return TrainPhase()


def learning_phase():
    """A mark for the inputs of `function`: ``K.function([x, K.learning_phase()], [y])``."""
    return _LEARNING_PHASE


def set_learning_phase(value):
    """Accept 0, which is what `predict` does anyway.

    Raises:
        NotImplementedError: `value` is 1.
    """
    if value:
        raise NotImplementedError(
            "K.set_learning_phase(1) has no counterpart in Keras 3: call model(x, training=True)."
        )


def in_train_phase(x, alt, training=None):
    """`x` while training, else `alt`; both may be functions without arguments."""
    if isinstance(training, LearningPhase):
        training = None
    x = x() if callable(x) and not is_keras_tensor(x) else x
    alt = alt() if callable(alt) and not is_keras_tensor(alt) else alt
    if training is not None and not has_symbolic(training):
        return x if training else alt
    return _train_phase()([x, alt])


def in_test_phase(x, alt, training=None):
    return in_train_phase(alt, x, training)


def _roots(tensors):
    """The inputs that symbolic tensors depend on."""
    found, seen, pending = [], set(), [x for x in tensors if is_keras_tensor(x)]
    while pending:
        x = pending.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        history = x._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            found.append(x)
        pending.extend(node.input_tensors)
    return found


def gradients(loss, variables):
    """Gradients of `loss` with respect to tensors or variables, inside a TensorFlow graph.

    It works where Keras 2 scripts use it: in a layer's `call`, in a loss function, and on
    symbolic tensors of a model (then the result is symbolic, for `function`).

    Raises:
        NotImplementedError: the backend is not TensorFlow.
        RuntimeError: called on values outside a graph, where TensorFlow has kept nothing.
    """
    if keras.config.backend() != "tensorflow":
        raise NotImplementedError(
            f"K.gradients needs the TensorFlow backend, but Keras runs on {keras.config.backend()}."
        )
    single = not isinstance(variables, (list, tuple))
    variables = [variables] if single else list(variables)
    if has_symbolic(loss):
        result = _symbolic_gradients(loss, variables)
    else:
        import tensorflow as tf

        if tf.executing_eagerly():
            raise RuntimeError(
                "K.gradients works inside a graph: in a layer's call, in a loss function or on "
                "symbolic tensors. For values that are already computed use tf.GradientTape."
            )
        values = [v.value if isinstance(v, keras.Variable) else v for v in variables]
        result = tf.gradients(loss, values)
    return result


def _symbolic_gradients(loss, variables):
    roots = _roots([loss])
    symbols = [v for v in variables if is_keras_tensor(v)]
    model = keras.Function(roots, [loss, *symbols])

    def compute(*inputs):
        value, *tensors = model(list(inputs))
        pending = iter(tensors)
        return gradients(value, [next(pending) if is_keras_tensor(v) else v for v in variables])

    class Gradients(BackendCall):
        def compute_output_spec(self, *inputs):
            return [keras.KerasTensor(tuple(v.shape), dtype=v.dtype) for v in variables]

    return list(Gradients.apply(compute, *roots))


class BackendFunction:
    """What `function` returns: a list of arrays in, a list of NumPy arrays out."""

    def __init__(self, inputs, outputs):
        self.inputs = [x for x in inputs if not isinstance(x, LearningPhase)]
        self.phase = [i for i, x in enumerate(inputs) if isinstance(x, LearningPhase)]
        self.single = not isinstance(outputs, (list, tuple))
        self.model = keras.Model(self.inputs, [outputs] if self.single else list(outputs))
        self.compute = functools.partial(self._compute, training=False)
        self.compute_training = functools.partial(self._compute, training=True)
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            self.compute = tf.function(self.compute, reduce_retracing=True)
            self.compute_training = tf.function(self.compute_training, reduce_retracing=True)

    def _compute(self, inputs, training):
        return keras.tree.flatten(self.model(inputs, training=training))

    def __call__(self, inputs):
        inputs = list(inputs)
        training = any([bool(inputs.pop(i)) for i in self.phase])
        pairs = zip(inputs, self.inputs, strict=True)
        inputs = [ops.convert_to_tensor(x, dtype=like.dtype) for x, like in pairs]
        outputs = (self.compute_training if training else self.compute)(inputs)
        outputs = [ops.convert_to_numpy(x) for x in outputs]
        return outputs[0] if self.single else outputs


def function(inputs, outputs, updates=None, name=None, **kwargs):
    """A function from the model's inputs to symbolic `outputs`, on NumPy arrays.

    Args:
        inputs: symbolic tensors; `learning_phase()` may be among them.
        outputs: a symbolic tensor or a list of them.

    Raises:
        NotImplementedError: `updates` are given, which need a TensorFlow 1 graph.
    """
    if updates:
        raise NotImplementedError(
            "K.function with updates belongs to TensorFlow 1 graphs: write the updates as "
            "variable.assign(...) in a layer's call or in a train_step."
        )
    return BackendFunction(list(inputs), outputs)
