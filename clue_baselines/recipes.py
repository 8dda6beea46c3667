"""Which optimizer a run uses, with which extensions, and why."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from clue_baselines.data import DataError
from clue_baselines.settings import Settings
from keras_extras import optimizers
from keras_extras.optimizers.exponential_moving_average import ExponentialMovingAverage

NOT_DECAYED = ["bias", "beta", "gamma"]
BACKBONE = ["Embedding-", "Transformer-"]


@dataclass(frozen=True)
class Base:
    """An optimizer class with its settings and usual rates, from scratch and for pretrained."""

    name: str
    Optimizer: type
    rate: float
    settings: dict
    remark: str = ""
    pretrained_rate: float = 0.0


# Our Adam and our weight decay: on TensorFlow, `keras.optimizers.Adam` and `AdamW` of Keras 3.15
# square an embedding's gradient before they add up the rows of a token that occurs several times,
# and so take too large a step there. In an extended class they get it right.
BASES = {
    "adam": Base("Adam", optimizers.Adam, 2e-4, {}, pretrained_rate=3e-5),
    "adamw": Base("AdamW", keras.optimizers.Adam, 2e-4, {}, pretrained_rate=3e-5),
    "adafactor": Base(
        "AdaFactor",
        optimizers.AdaFactor,
        5e-4,
        {"beta1": 0.9, "min_dim_size_to_factor": 10**6},
        ", beta1 0.9, not factored",
    ),
    "lion": Base("Lion", optimizers.Lion, 5e-5, {}),
    "tiger": Base("Tiger", optimizers.Tiger, 1e-3, {}, ", relative decay 0.01"),
}


@dataclass(frozen=True)
class Extension:
    """What a flag puts around the optimizer.

    `says` is formatted with the flag's value, `arguments` takes it and the training.
    """

    flag: str
    extend: Callable[[type], type]
    arguments: Callable[..., dict]
    says: str


@dataclass(frozen=True)
class Training:
    """What some extensions must know: number of updates, and layers of the backbone."""

    updates: int
    layers: int


# In the order in which they are applied, the first directly to the optimizer.
EXTENSIONS = (
    Extension(
        "low_rank",
        optimizers.extend_with_low_rank,
        lambda rank, training: {"rank": rank, "include_in_low_rank": BACKBONE},
        "steps of rank {}",
    ),
    Extension(
        "lazy",
        optimizers.extend_with_lazy_optimization,
        lambda on, training: {"include_in_lazy_optimization": ["Embedding-Token"]},
        "lazy embeddings",
    ),
    Extension(
        "child_tuning",
        optimizers.extend_with_child_tuning,
        lambda p, training: {"reserve_p": p, "include_in_child_tuning": BACKBONE},
        "child tuning {:g}",
    ),
    Extension(
        "weight_decay",
        optimizers.extend_with_weight_decay,
        lambda rate, training: {
            "weight_decay_rate": rate,
            "exclude_from_weight_decay": NOT_DECAYED,
        },
        "weight decay {:g}",
    ),
    Extension(
        "layer_adaptation",
        optimizers.extend_with_layer_adaptation,
        lambda on, training: {"exclude_from_layer_adaptation": NOT_DECAYED},
        "layer adaptation",
    ),
    Extension(
        "layer_decay",
        optimizers.extend_with_parameter_wise_lr,
        lambda decay, training: {"paramwise_lr_schedule": layer_rates(decay, training.layers)},
        "layer decay {:g}",
    ),
    Extension(
        "lr_schedule",
        optimizers.extend_with_piecewise_linear_lr,
        lambda text, training: {"lr_schedule": knots(text, training.updates)},
        "rate times {}",
    ),
    Extension(
        "lookahead",
        optimizers.extend_with_lookahead,
        lambda on, training: {},
        "lookahead",
    ),
    Extension(
        "ema",
        optimizers.extend_with_exponential_moving_average,
        lambda momentum, training: {"ema_momentum": momentum},
        "averaged weights {:g}",
    ),
    Extension(
        "accumulate",
        optimizers.extend_with_gradient_accumulation,
        lambda steps, training: {"grad_accum_steps": steps},
        "{} batches accumulated",
    ),
)


def make_optimizer(
    settings: Settings, pretrained: bool, training: Training | None = None
) -> tuple[keras.optimizers.Optimizer, str]:
    """The optimizer and a line that says which one it is.

    `auto` is the author's recipe for pretrained weights: AdaFactor with first moment .9 and
    without factorisation, rate 5e-4. Its step is relative to the weights' size and barely moves a
    fresh model, so training from scratch takes AdamW with 2e-4.

    Args:
        training: needed for a schedule in % and for a decay over layers.

    Raises:
        DataError: the optimizer and an extension do not go together.
    """
    name = settings.optimizer
    why = "as asked" if settings.recipe == "auto" else f"recipe {settings.recipe}"
    if name == "auto":
        name = "adafactor" if pretrained else "adamw"
        why = "the author's recipe" if pretrained else "for a model from scratch"
    base = BASES[name]
    Optimizer, arguments = base.Optimizer, dict(base.settings)
    usual = base.pretrained_rate if pretrained and base.pretrained_rate else base.rate
    rate = settings.learning_rate or usual
    said = f"{base.name} {rate:g}{base.remark}"
    for extension in EXTENSIONS:
        value = getattr(settings, extension.flag)
        if extension.flag == "weight_decay" and name == "adamw":
            value = value or 0.01
        if extension.flag == "accumulate" and value == 1:
            value = 0
        if not value:
            continue
        arguments |= extension.arguments(value, training)
        said += ", " + extension.says.format(value)
        if extension.flag == "accumulate" and Optimizer is optimizers.Tiger:
            continue  # alone it does so by itself, without memory
        try:
            Optimizer = extension.extend(Optimizer)
        except TypeError as error:
            raise DataError(f"{said}: {error}") from None
    try:
        return Optimizer(rate, **arguments), f"{said} ({why})"
    except ValueError as error:
        raise DataError(f"{said}: {error}") from None


def knots(text: str, updates: int) -> dict[int, float]:
    """Knots of the rate; a step in % is a share of all updates.

    >>> knots("500:1,5000:0.1", 9000)
    {500: 1.0, 5000: 0.1}
    >>> knots("0%:1,10%:1,100%:0", 9000)
    {0: 1.0, 900: 1.0, 9000: 0.0}
    """
    try:
        pairs = [knot.split(":") for knot in text.split(",")]
        found = {step_of(step, updates): float(factor) for step, factor in pairs}
    except ValueError:
        raise DataError(
            f"--lr-schedule {text}: not a list of STEP:FACTOR such as 500:1,5000:0.1 or "
            "10%:1,100%:0."
        ) from None
    if updates > 1 and len(found) < len(pairs):  # of a single update only the factor at 0 counts
        raise DataError(
            f"--lr-schedule {text}: two of its steps are the same one of {updates} updates; train "
            "longer, or give fewer."
        )
    return found


def step_of(text: str, updates: int) -> int:
    """A number of updates; a share in % above 0 is at least 1."""
    if text[-1:] != "%":
        return int(text)
    share = float(text[:-1]) / 100
    return max(1, round(share * updates)) if share > 0 else round(share * updates)


def layer_rates(decay: float, layers: int) -> dict[str, float]:
    """Multipliers of the rate: decay for the topmost layer, decay² below it, and so on.

    Source: Clark et al., "ELECTRA" (arXiv 2003.10555), for fine-tuning.

    >>> layer_rates(0.5, 2)
    {'Embedding-': 0.125, 'Transformer-0-': 0.25, 'Transformer-1-': 0.5}
    """
    rates = {f"Transformer-{i}-": decay ** (layers - i) for i in range(layers)}
    return {"Embedding-": decay ** (layers + 1)} | rates


@contextlib.contextmanager
def averaged_weights(optimizer: keras.optimizers.Optimizer):
    """Inside, the model has the averaged weights, if the optimizer has any (after an update)."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, ExponentialMovingAverage) or not optimizer.has_averages:
        yield
        return
    optimizer.apply_ema_weights()
    try:
        yield
    finally:
        optimizer.reset_old_weights()
