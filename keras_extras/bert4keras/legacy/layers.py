"""Patches for layers, optimizers and symbolic losses: `legacy` lists and applies them."""

from __future__ import annotations

import functools

import keras

from keras_extras import layers as extra_layers
from keras_extras.bert4keras import keras_backend as K
from keras_extras.bert4keras.legacy.names import show
from keras_extras.training.keras_seams import Functional

Layer = keras.layers.Layer


def keep_masks():
    """Merging layers that know masks, and pooling layers that do, as bert4keras put them there.

    Why: Keras 3's Add, Multiply … lose the mask when one input has none, its Concatenate too, and
    its pooling does not mask the maximum. Keras 2 combined the masks that are there by "and".
    """

    def compute_mask(self, inputs, mask=None):
        masks = [m for m in mask or [] if m is not None]
        return functools.reduce(keras.ops.logical_and, masks) if masks else None

    def concatenated(self, inputs, mask=None):
        if all(m is None for m in mask or [None]):
            return None
        masks = []
        for x, m in zip(inputs, mask, strict=True):
            m = keras.ops.ones_like(x, dtype="bool") if m is None else m
            m = keras.ops.expand_dims(m, -1) if K.ndim(m) < K.ndim(x) else m
            masks.append(keras.ops.logical_and(m, keras.ops.ones_like(x, dtype="bool")))
        return K.all(keras.ops.concatenate(masks, axis=self.axis), axis=-1)

    merge = keras.layers.Add.__mro__[1]  # the base class, which has no public name
    merge.compute_mask, keras.layers.Concatenate.compute_mask = compute_mask, concatenated
    for name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
        show(name, getattr(extra_layers, name), "layers")


def accept_old_optimizer_arguments():
    """``lr=``, ``decay=``, ``epsilon=None``, ``optimizer.lr``, `get_weights` and `set_weights`.

    Why: Keras 3 refuses `lr`, ignores `decay` and has no default epsilon to fall back to.
    """
    cls = keras.optimizers.Optimizer
    init, build = cls.__init__, cls.build

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        for method in ("get_updates", "_resource_apply_dense"):
            if hasattr(type(self), method):
                raise NotImplementedError(
                    f"{type(self).__name__} is written for the optimizers of Keras 2: its "
                    f"{method} is never called on Keras 3. Write it as a subclass of "
                    "keras.optimizers.Optimizer with build and update_step."
                )
        rate = kwargs.pop("lr", None)
        decay = kwargs.pop("decay", None)
        kwargs.pop("schedule_decay", None)  # of Keras 2's Nadam
        if args:
            kwargs["learning_rate"], args = args[0], args[1:]
        if rate is not None:
            kwargs["learning_rate"] = rate
        if decay:
            kwargs["learning_rate"] = keras.optimizers.schedules.InverseTimeDecay(
                kwargs["learning_rate"], decay_steps=1, decay_rate=decay
            )
        init(self, *args, **kwargs)

    @functools.wraps(build)
    def new_build(self, variables):
        if getattr(self, "epsilon", 0) is None:
            self.epsilon = keras.config.epsilon()
        build(self, variables)

    def set_weights(self, weights):
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    cls.__init__, cls.build = __init__, new_build
    cls.get_weights = lambda self: [keras.ops.convert_to_numpy(x) for x in self.variables]
    cls.set_weights = set_weights
    cls.lr = property(
        lambda self: self.learning_rate,
        lambda self, value: setattr(self, "learning_rate", value),
    )


def accept_old_layer_methods():
    """``add_loss(x, inputs=)``, ``add_metric``, ``add_weight('name', …)``, ``weights=[…]``,
    ``get_output_at``, ``output_shape``, ``output_mask`` and those of the input; Lambdas of any
    function.

    Why: Keras 3 dropped them, and infers the shape of a Lambda without its mask and its dtype.
    """
    init, add_loss, add_weight = Layer.__init__, Layer.add_loss, Layer.add_weight

    @functools.wraps(init)
    def __init__(self, *, weights=None, **kwargs):
        init(self, **kwargs)
        if weights is not None:
            self._legacy_weights = Plain(weights)

    post_build = Layer._post_build

    @functools.wraps(post_build)
    def new_post_build(self):
        post_build(self)
        pending = self.__dict__.pop("_legacy_weights", None)
        if pending is not None:
            self.set_weights(pending.value)

    @functools.wraps(add_loss)
    def new_add_loss(self, loss, inputs=None):
        add_loss(self, loss)

    def add_metric(self, value, aggregation=None, name=None):
        """The mean of `value` over the batches, shown as `name`."""
        if name is None and isinstance(aggregation, str) and aggregation != "mean":
            name = aggregation  # Keras 2.3: add_metric(value, name)
        mean_metric(self, name or f"metric_{self.name}").update_state(value)

    @functools.wraps(add_weight)
    def new_add_weight(self, *args, **kwargs):
        if args and isinstance(args[0], str):
            kwargs["name"], args = args[0], args[1:]
        return add_weight(self, *args, **kwargs)

    def tensors_at(self, index, kind):
        tensors = getattr(self._inbound_nodes[index], kind)
        return tensors[0] if len(tensors) == 1 else list(tensors)

    def shape_at_first(kind):
        def shape(self):
            if not self._inbound_nodes:
                raise AttributeError(f"The layer {self.name} was never called, and has no shape.")
            return keras.tree.map_structure(lambda x: x.shape, tensors_at(self, 0, kind))

        return property(shape)

    def mask_of(tensors):
        masks = [getattr(x, "_keras_mask", None) for x in keras.tree.flatten(tensors)]
        return masks[0] if len(masks) == 1 else masks

    lambda_spec = keras.layers.Lambda.compute_output_spec

    @functools.wraps(lambda_spec)
    def compute_output_spec(self, *args, **kwargs):
        if self._output_shape is None:
            return keras.Operation.compute_output_spec(self, *args, **kwargs)
        return lambda_spec(self, *args, **kwargs)

    keras.layers.Lambda.compute_output_spec = compute_output_spec
    Layer.__init__, Layer.add_loss, Layer.add_weight = __init__, new_add_loss, new_add_weight
    Layer._post_build, Layer.add_metric = new_post_build, add_metric
    Layer.get_output_at = lambda self, index: tensors_at(self, index, "output_tensors")
    Layer.get_input_at = lambda self, index: tensors_at(self, index, "input_tensors")
    Layer.output_shape = shape_at_first("output_tensors")
    Layer.input_shape = shape_at_first("input_tensors")
    Layer.input_mask = property(lambda self: mask_of(self.input))
    Layer.output_mask = property(lambda self: mask_of(self.output))


class Plain:
    """Hides a value from Keras' tracking of attributes."""

    def __init__(self, value):
        self.value = value


def mean_metric(layer, name):
    """The `Mean` metric called `name` of a layer, made when it is first needed."""
    import tensorflow as tf

    metrics = layer.__dict__.setdefault("_legacy_means", Plain({})).value
    if name not in metrics:
        locked = layer._tracker.locked
        layer._tracker.unlock()
        with tf.init_scope():
            metrics[name] = keras.metrics.Mean(name=name)
        layer._metrics.append(metrics[name])
        if locked:
            layer._tracker.lock()
    return metrics[name]


def accept_symbolic_losses():
    """``model.add_loss(tensor)`` and ``model.add_metric(tensor, name=…)`` on symbolic tensors,
    and models of one-element lists whose `input` and `output` are tensors.

    Why: Keras 3 has add_loss only inside `call`, and keeps the lists it is given.
    """
    init, call = Functional.__init__, Functional.call

    def alone(x):
        return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x

    @functools.wraps(init)
    def __init__(self, inputs, outputs, name=None, **kwargs):
        init(self, alone(inputs), alone(outputs), name=name, **kwargs)

    def terms(self):
        return self.__dict__.setdefault("_legacy_terms", Plain({"losses": [], "metrics": []}))

    def add_loss(self, loss, inputs=None):
        for x in keras.tree.flatten(loss):
            if K.is_keras_tensor(x):
                terms(self).value["losses"].append(x)
            else:
                Layer.add_loss(self, x)
        terms(self).value.pop("model", None)

    def add_metric(self, value, aggregation=None, name=None):
        if not K.is_keras_tensor(value):
            return Layer.add_metric(self, value, aggregation, name)
        if name is None and isinstance(aggregation, str) and aggregation != "mean":
            name = aggregation
        name = name or f"metric_{len(terms(self).value['metrics'])}"
        mean_metric(self, name)
        terms(self).value["metrics"].append((name, value))
        terms(self).value.pop("model", None)

    @functools.wraps(call)
    def new_call(self, inputs, training=None, mask=None, **kwargs):
        extra = self.__dict__.get("_legacy_terms")
        if extra is None:
            return call(self, inputs, training=training, mask=mask, **kwargs)
        extra = extra.value
        if "model" not in extra:
            tensors = [*extra["losses"], *(x for _, x in extra["metrics"])]
            extra["model"] = keras.Model(self._inputs_struct, [self._outputs_struct, tensors])
        outputs, values = call(extra["model"], inputs, training=training, mask=mask, **kwargs)
        count = len(extra["losses"])
        for loss in values[:count]:
            Layer.add_loss(self, keras.ops.mean(loss))
        for (name, _), value in zip(extra["metrics"], values[count:], strict=True):
            mean_metric(self, name).update_state(value)
        return outputs

    Functional.__init__, Functional.call = __init__, new_call
    Functional.add_loss, Functional.add_metric = add_loss, add_metric
