r"""Extended optimizers: a Keras optimizer class and one idea make a new optimizer class.

    AdamW = extend_with_weight_decay(keras.optimizers.Adam)
    AdamWLR = extend_with_piecewise_linear_lr(AdamW, name="AdamWLR")
    optimizer = AdamWLR(1e-3, weight_decay_rate=0.01, lr_schedule={1000: 1, 10000: 0})

Every extension is a mixin derived from `Extension` that overrides some of the places in a step:

    g ← transform_gradient(g)            outermost extension first
    u ← base(g)                          what the Keras class would subtract from θ
    u ← transform_update(u)              innermost extension first
    before_update(θ)                     innermost extension first
    θ ← θ − u
    after_update(θ)                      innermost extension first

For a variable without a gradient only `before_update` and `after_update` are called: it stays what
it is, but averages and slow weights go on.

So `LR(WeightDecay(Adam))` scales Adam's step and the decay, `WeightDecay(LR(Adam))` scales only
Adam's step. Three things have their place whatever the order in which they were applied: gradient
accumulation stands before everything, low rank acts directly on the base optimizer (it replaces
`base`, so `LowRank(W(Adam))` is made as `W(LowRank(Adam))`), averages and slow weights see the
finished update. An extension is applied once: two of a kind would read the same arguments.

An extended optimizer's config holds how its class was made (`"tower"`), and all of them are saved
under one registered name, `keras_extras>ExtendedOptimizer`; so `keras.models.load_model` needs only
`import keras_extras`, and two towers may have the same name.
"""

import functools
from collections.abc import Mapping

import keras
from keras import ops

from keras_extras.optimizers.keras_seams import KerasSeams
from keras_extras.optimizers.sparse import is_sparse, to_dense
from keras_extras.optimizers.state import OptimizerState, working_dtype

ENTRY = {"package": "keras_extras", "name": "ExtendedOptimizer"}


class Extension(KerasSeams, OptimizerState):
    """Base of the mixins: runs a step through these places, and rebuilds the class from config.

    A mixin takes its own settings as keyword arguments, hands everything else on, and adds its
    settings to `get_config`; state is created in `build` with `add_optimizer_variables`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._captured = CapturedUpdate()
        if self.gradient_accumulation_steps:
            raise ValueError(
                "Extended optimizers do not take Keras' `gradient_accumulation_steps`; "
                "use extend_with_gradient_accumulation(...) and its `grad_accum_steps`."
            )

        if getattr(self, "micro_batches", 1) > 1:
            raise ValueError(
                f"{type(self).__name__} would act at every micro-batch: its base accumulates by "
                "itself. Use extend_with_gradient_accumulation(...) and its `grad_accum_steps`, "
                "given by name, and leave that of the base at 1."
            )

    def transform_gradient(self, gradient, variable):
        """The gradient that the base optimizer shall see."""
        return gradient

    def base_update(self, gradient, variable, learning_rate):
        """What the Keras class would subtract from `variable`, its built-in decay included."""
        captured = self._captured
        captured.variable, captured.update = variable, None
        try:
            super().update_step(gradient, variable, learning_rate)
        finally:
            captured.variable = None
        update = ops.cast(captured.update, working_dtype(variable))
        decay = self.builtin_weight_decay(variable, learning_rate)
        return update if decay is None else dense(update) + decay

    def before_update(self, variable):
        """What comes before `variable` changes."""

    def transform_update(self, update, gradient, variable, learning_rate):
        """The update u of θ ← θ − u, float32 for half-precision variables, sparse or dense.

        `gradient` is the one before `transform_gradient`.
        """
        return update

    def after_update(self, variable):
        """What follows once `variable` has its new value."""

    def whole_update(self, gradient, variable, learning_rate):
        """The update u of θ ← θ − u: from the gradient through all extensions."""
        own_gradient = self.transform_gradient(gradient, variable)
        update = self.base_update(own_gradient, variable, learning_rate)
        return self.transform_update(update, gradient, variable, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        update = None
        if gradient is not None:
            update = self.whole_update(gradient, variable, learning_rate)
        self.before_update(variable)
        if update is not None:
            self.assign_sub(variable, update)
        self.after_update(variable)

    def assign_if(self, condition, variable, value):
        """`variable ← value()` where `condition` (a boolean tensor) holds."""
        if keras.backend.backend() == "jax":  # branches are pure functions there
            kept = ops.convert_to_tensor(variable)
            self.assign(
                variable, ops.cond(condition, lambda: ops.cast(value(), kept.dtype), lambda: kept)
            )
        else:
            ops.cond(condition, lambda: self.assign(variable, value()), lambda: None)

    def assign(self, variable, value):
        if variable is self._captured.variable:
            self._captured.subtract(variable - value)
        else:
            super().assign(variable, value)

    def assign_add(self, variable, value):
        if variable is self._captured.variable:
            self._captured.subtract(ops.negative(value))
        else:
            super().assign_add(variable, value)

    def assign_sub(self, variable, value):
        if variable is self._captured.variable:
            self._captured.subtract(value)
        else:
            super().assign_sub(variable, value)

    def get_config(self):
        return {**super().get_config(), "tower": describe(type(self))}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        tower = config.pop("tower", None)
        made = cls if tower is None else rebuild(tower, custom_objects)
        return super(Extension, made).from_config(config, custom_objects=custom_objects)


class CapturedUpdate:
    """What the base optimizer would subtract from the variable of the current step."""

    def __init__(self):
        self.variable = None
        self.update = None

    def subtract(self, value):
        self.update = value if self.update is None else dense(self.update) + dense(value)


def dense(update):
    """A dense tensor also where the base optimizer's update is sparse (SGD on an embedding)."""
    return to_dense(update) if is_sparse(update) else update


def extend(extension: type[Extension], Base: type, name: str | None = None) -> type:
    """The class that adds `extension` to the optimizer class `Base`.

    Args:
        extension: a mixin derived from `Extension`.
        Base: any Keras optimizer class, also an extended one.
        name: name of the new class; by default that of the extension and of the base.

    Raises:
        TypeError: if `Base` is not a Keras optimizer class, or wraps another optimizer.
        ValueError: if `Base` already has this extension.
    """
    optimizers = keras.optimizers
    if not (isinstance(Base, type) and issubclass(Base, optimizers.Optimizer)):
        raise TypeError(
            f"Expected a Keras optimizer class such as keras.optimizers.Adam, but got {Base!r}. "
            "Extend the class first, then create the optimizer: extend_with_...(Adam)(1e-3)."
        )
    wrappers = (optimizers.LossScaleOptimizer, getattr(optimizers, "MultiOptimizer", ()))
    if issubclass(Base, tuple(w for w in wrappers if w)):
        raise TypeError(
            f"{Base.__name__} wraps other optimizers: extend the class of the inner one instead."
        )
    if issubclass(Base, extension):
        raise ValueError(
            f"{Base.__name__} already has {extension.__name__}; an extension is applied only once, "
            "as two of them would read the same arguments."
        )
    return _make_class(extension, Base, name or f"{extension.__name__}{Base.__name__}")


def extend_base(extension: type[Extension], Base: type, name: str | None = None) -> type:
    """The class that adds `extension` inside of all others, directly to the base of `Base`.

    Args:
        extension: a mixin derived from `Extension`.
        Base: any Keras optimizer class; of an extended one the tower is made anew.
        name: name of the new class; by default that of the extension and of `Base`.

    Raises:
        TypeError: as `extend` does, and if `Base` is derived from an extended class.
        ValueError: if `Base` already has this extension.
    """
    outermost, Inner = getattr(Base, "__dict__", {}).get("_made_of", (None, None))
    if outermost is not None:
        inner = extend_base(extension, Inner)
        return extend(outermost, inner, name or f"{extension.__name__}{Base.__name__}")
    if isinstance(Base, type) and issubclass(Base, Extension):
        raise TypeError(
            f"{Base.__name__} is derived from an extended class, so {extension.__name__} cannot be "
            "put directly on its base optimizer; extend the base optimizer first, then derive."
        )
    return extend(extension, Base, name)


@functools.cache
def _make_class(extension: type, Base: type, name: str) -> type:
    body = {
        "__doc__": f"`{Base.__name__}` with: {extension.__doc__}",
        "__module__": __name__,
        "_made_of": (extension, Base),
    }
    made = type(name, (extension, Base), body)
    keras.saving.register_keras_serializable(**ENTRY)(made)
    # The name stands for the entry point, whose `from_config` finds the class in the config.
    keras.saving.register_keras_serializable(**ENTRY)(Extension)
    return made


def describe(made: type) -> dict:
    """How an extended class was made: names of the base and, innermost first, the extensions."""
    layers = []
    while "_made_of" in vars(made):
        extension, Base = made._made_of
        layers.append([keras.saving.get_registered_name(extension), made.__name__])
        made = Base
    registered = keras.saving.get_registered_name(made)
    if registered == made.__name__ and not made.__module__.startswith("keras."):
        raise ValueError(
            f"The optimizer class {made.__name__} of {made.__module__} cannot be saved: decorate "
            "it with @keras.saving.register_keras_serializable(package=...)."
        )
    return {"base": registered, "extensions": layers[::-1]}


def rebuild(tower: Mapping, custom_objects: Mapping | None = None) -> type:
    """The class that `describe` described.

    Raises:
        ValueError: if the base or an extension is not known in this process.
    """
    made = keras.saving.get_registered_object(tower["base"], custom_objects)
    made = made or getattr(keras.optimizers, tower["base"], None)
    if made is None:
        raise ValueError(
            f"The saved optimizer extends {tower['base']!r}, which is not registered here; "
            "import the module that defines it before loading."
        )
    for registered_name, name in tower["extensions"]:
        extension = keras.saving.get_registered_object(registered_name, custom_objects)
        if extension is None:
            raise ValueError(
                f"The saved optimizer {name!r} uses the extension {registered_name!r}, which is "
                "not registered here; import the module that defines it before loading."
            )
        made = extend(extension, made, name)
    return made


keras.saving.register_keras_serializable(**ENTRY)(Extension)
