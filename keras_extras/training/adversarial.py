"""Training that makes a model robust against small changes of its embeddings (TensorFlow).

A step runs the model as usual and keeps the embeddings e that a layer gave. From the loss L and its
gradient ∂L/∂e a regularization makes what is added to L; it may run the model again on e + r.
"""

from __future__ import annotations

import contextlib
import threading

import keras
from keras import ops

from keras_extras.losses.multilabel import read_logits
from keras_extras.training.means import global_mean
from keras_extras.training.model import Model

__all__ = ["FGM", "AdversarialModel", "GradientPenalty", "VAT"]


@keras.saving.register_keras_serializable(package="keras_extras")
class AdversarialModel(Model):
    """`keras_extras.Model` whose `compile` takes a `regularization` of the embeddings.

    It works on any number of replicas, with gradient accumulation and in mixed precision, as
    `Model` does, and on TensorFlow only. Evaluation and prediction are those of `Model`. What
    layers add with `add_loss` counts each time the model runs.

    >>> inputs = keras.Input((3,), dtype="int32")
    >>> x = keras.layers.Embedding(10, 4, name="Embedding-Token")(inputs)
    >>> x = keras.layers.GlobalAveragePooling1D()(x)
    >>> model = AdversarialModel(inputs, keras.layers.Dense(1)(x))
    >>> model.compile("sgd", "mse", regularization=FGM(epsilon=0.5))
    >>> history = model.fit(ops.ones((2, 3)), ops.ones((2, 1)), verbose=0)
    """

    regularization = None

    def compile(self, *args, regularization: Regularization | None = None, **kwargs):
        """As `Model.compile`, and what to add to the loss.

        Args:
            regularization: `FGM`, `GradientPenalty`, `VAT`, or None (default).

        Raises:
            ValueError: the model has no layer of the name that `regularization` wants, or the
                backend is not TensorFlow.
        """
        super().compile(*args, **kwargs)
        if regularization is not None:
            if keras.backend.backend() != "tensorflow":
                raise ValueError(
                    "Regularizations of embeddings run on TensorFlow only, and the backend is "
                    f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow, or use RDrop of "
                    "keras_extras.losses."
                )
            names = [layer.name for layer in self.layers]
            if regularization.layer not in names:
                raise ValueError(
                    f"{type(regularization).__name__} looks for a layer {regularization.layer!r}, "
                    f"and the model has {', '.join(names[:8])} …: name one of them with `layer`."
                )
        self.regularization = regularization
        self.__dict__["_running"] = threading.local()  # replicas are threads

    def get_compile_config(self):
        config = super().get_compile_config()
        if not config:
            return config
        regularization = keras.saving.serialize_keras_object(self.regularization)
        return {**config, "regularization": regularization}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, *args):
        if self.regularization is None:
            return super().train_step(*args)
        import tensorflow as tf

        with tf.GradientTape() as tape:
            self._running.step = Step(self, tape)
            try:
                return super().train_step(*args)
            finally:
                self._running.step = None

    def _call_on_rows(self, x, y, training: bool):
        step = self._step_to_regularize(training)
        if step is None:
            return super()._call_on_rows(x, y, training)
        with changed_output(step.layer, step.keep):
            return super()._call_on_rows(x, y, training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        step = self._step_to_regularize(training)
        if step is None:
            return loss
        self._running.step = None  # the runs that follow are plain ones

        def loss_of(y_pred):
            return super(AdversarialModel, self).compute_loss(x, y, y_pred, sample_weight, training)

        step.x, step.y, step.y_pred, step.loss, step.loss_of = x, y, y_pred, loss, loss_of
        return loss + ops.cast(self.regularization.added(step), loss.dtype)

    def _step_to_regularize(self, training: bool):
        if not training or self.regularization is None:
            return None
        return getattr(self._running, "step", None)


class Step:
    """What a regularization sees of one step of one replica."""

    def __init__(self, model, tape):
        self.model, self.tape = model, tape
        self.layer = model.get_layer(model.regularization.layer)
        self.embeddings = None

    def keep(self, embeddings):
        self.tape.watch(embeddings)
        self.embeddings = embeddings
        return embeddings

    def gradient(self):
        """∂L/∂e in float32, of what this replica contributes to L."""
        scale = self.model.optimizer.scale_loss(ops.ones((), self.loss.dtype))  # for float16
        gradient = self.tape.gradient(self.loss * scale, self.embeddings)
        return ops.cast(gradient, "float32") / ops.cast(scale, "float32")

    def outputs_at(self, change):
        """The model's outputs with ``e + change``."""

        def add(embeddings):
            return embeddings + ops.cast(change, embeddings.dtype)

        with changed_output(self.layer, add):
            return Model._call_on_rows(self.model, self.x, self.y, training=True)[0]


@contextlib.contextmanager
def changed_output(layer, change):
    """Within it, the first call of a layer returns ``change(output)``."""
    call, calls = layer.call, []

    def call_and_change(*args, **kwargs):
        output = call(*args, **kwargs)
        calls.append(None)
        return change(output) if len(calls) == 1 else output

    layer.__dict__["call"] = call_and_change
    try:
        yield
    finally:
        del layer.__dict__["call"]


class Regularization:
    """What is added to the loss; subclasses define ``added(step)``.

    Args:
        epsilon: how far, or how much.
        layer: name of the layer whose output is meant.
    """

    def __init__(self, epsilon: float, layer: str):
        if not epsilon > 0:
            raise ValueError(f"The epsilon of {type(self).__name__} is above 0; got {epsilon}.")
        self.epsilon, self.layer = epsilon, layer

    def get_config(self):
        return {"epsilon": self.epsilon, "layer": self.layer}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_extras")
class FGM(Regularization):
    """Adversarial training: the loss where the embeddings are worst is added to the loss.

    ``L(e) + w · L(e + r)``, ``r = ε g / ‖g‖``, ``g = ∂L/∂e``, where the norm is that of all tokens
    of the batch (on all replicas), and r is not differentiated. A step runs the model twice.

    So an ε means what it means in bert4keras' scripts. (They change the rows of the embedding
    matrix, so that a token moves alike wherever it stands, and train on ``L(e + r)`` alone.)

    Args:
        epsilon: ε, how far the embeddings of a batch move together; 0.5 by default.
        weight: w; 1 by default.
        layer: name of the layer whose output is e; "Embedding-Token", as bert4keras names it.

    Source: Miyato et al., arXiv:1605.07725; kexue.fm/archives/7234.

    >>> FGM(epsilon=0.5).get_config()["layer"]
    'Embedding-Token'
    """

    def __init__(self, epsilon: float = 0.5, weight: float = 1.0, layer: str = "Embedding-Token"):
        super().__init__(epsilon, layer)
        self.weight = weight

    def added(self, step):
        change = self.epsilon * unit_batch(step.gradient())
        return self.weight * step.loss_of(step.outputs_at(ops.stop_gradient(change)))

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


@keras.saving.register_keras_serializable(package="keras_extras")
class GradientPenalty(Regularization):
    """``L + ε/2 · Σ ‖∂L/∂e‖²``: to first order, what adversarial training does.

    The sum is that over all tokens of the batch, and L the mean over its examples.

    Args:
        epsilon: ε; 1 by default.
        layer: name of the layer whose output is e; "Embedding-Token", as bert4keras names it.

    Source: kexue.fm/archives/7234.

    >>> GradientPenalty(epsilon=0.1).epsilon
    0.1
    """

    def __init__(self, epsilon: float = 1.0, layer: str = "Embedding-Token"):
        super().__init__(epsilon, layer)

    def added(self, step):
        return self.epsilon / 2 * ops.sum(ops.square(step.gradient()))


@keras.saving.register_keras_serializable(package="keras_extras")
class VAT(Regularization):
    """Virtual adversarial training: outputs that hardly change in the direction where they most do.

    ``L + w · mean KL(p(e) ‖ p(e + r))``, with r of length ε per example in the direction found by
    power iteration: ``d ← ∇_d KL(p(e) ‖ p(e + ξ d))``, normalized, from a random d. No label is
    used, so that rows of sample weight 0 are unlabelled data. For models of one output of
    logits.

    Args:
        epsilon: ε; 1 by default.
        weight: w; 1 by default.
        xi: ξ; 0.1 by default (in float32, much less drowns in rounding).
        iterations: of the power iteration; 1 by default.
        seed: of d, which depends on it and the optimizer's step alone; 0 by default.
        layer: name of the layer whose output is e; "Embedding-Token", as bert4keras names it.

    Source: Miyato et al., arXiv:1704.03976; kexue.fm/archives/7466.

    >>> VAT(epsilon=1.0, iterations=2).iterations
    2
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        weight: float = 1.0,
        xi: float = 0.1,
        iterations: int = 1,
        seed: int = 0,
        layer: str = "Embedding-Token",
    ):
        super().__init__(epsilon, layer)
        self.weight, self.xi, self.iterations, self.seed = weight, xi, iterations, seed

    def added(self, step):
        import tensorflow as tf

        expected = ops.stop_gradient(ops.log_softmax(read_logits(step.y_pred), axis=-1))

        def divergence(change):
            found = ops.log_softmax(read_logits(step.outputs_at(change)), axis=-1)
            return ops.sum(ops.exp(expected) * (expected - found), axis=-1)

        seed = tf.stack([self.seed, tf.cast(step.model.optimizer.iterations, "int32")])
        direction = tf.random.stateless_normal(tf.shape(step.embeddings), seed)
        for _ in range(self.iterations):
            small = self.xi * unit_examples(direction)
            with tf.GradientTape() as tape:
                tape.watch(small)
                mean = ops.mean(divergence(small))
                mean = step.model.optimizer.scale_loss(mean)  # for float16
            direction = tape.gradient(mean, small)
        change = ops.stop_gradient(self.epsilon * unit_examples(direction))
        return self.weight * global_mean(divergence(change))

    def get_config(self):
        return {
            **super().get_config(),
            "weight": self.weight,
            "xi": self.xi,
            "iterations": self.iterations,
            "seed": self.seed,
        }


def unit_batch(x):
    """``x`` divided by the norm of all of it, on all replicas; zeros stay."""
    from keras_extras.training.replicas import sum_over_replicas

    (squares,) = sum_over_replicas([ops.sum(ops.square(x))])
    return ops.divide_no_nan(x, ops.sqrt(squares))


def unit_examples(x):
    """Each example ``x[i]`` divided by its norm; zeros stay."""
    axes = list(range(1, len(x.shape)))
    largest = ops.max(ops.abs(x), axis=axes, keepdims=True)  # so that squares are no zeros
    x = ops.divide_no_nan(x, largest)
    return ops.divide_no_nan(x, ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True)))
