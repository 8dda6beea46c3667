"""All optimizers and extensions, with the settings that the common tests run them with."""

import keras
from packaging.version import Version

from keras_extras import optimizers as ours

#: before, Keras' own Muon crashes on TensorFlow
MUON_RUNS = Version(keras.__version__) >= Version("3.15")

# name: (class, settings)
BASES = {
    "SGD": (keras.optimizers.SGD, {"momentum": 0.5}),
    "RMSprop": (keras.optimizers.RMSprop, {}),
    "KerasAdam": (keras.optimizers.Adam, {}),
    "AdamW": (keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "KerasLion": (keras.optimizers.Lion, {}),
    "KerasAdafactor": (keras.optimizers.Adafactor, {}),
    "Lamb": (keras.optimizers.Lamb, {}),
    "Muon": (keras.optimizers.Muon, {"weight_decay": 0.1}),
    "Nadam": (keras.optimizers.Nadam, {}),
    "Adam": (ours.Adam, {}),
    "Lion": (ours.Lion, {}),
    "AdaFactor": (ours.AdaFactor, {"beta1": 0.9, "min_dim_size_to_factor": 2}),
    "AdaX": (ours.AdaX, {}),
    "Tiger": (ours.Tiger, {}),
}
if not MUON_RUNS:
    del BASES["Muon"]

# name: (function, settings that do nothing, settings that do something)
EXTENSIONS = {
    "weight_decay": (
        ours.extend_with_weight_decay,
        {"weight_decay_rate": 0.0},
        {"weight_decay_rate": 0.1, "exclude_from_weight_decay": ["bias"]},
    ),
    "layer_adaptation": (
        ours.extend_with_layer_adaptation,
        {"exclude_from_layer_adaptation": [".*"]},
        {"exclude_from_layer_adaptation": ["bias"]},
    ),
    "piecewise_linear_lr": (
        ours.extend_with_piecewise_linear_lr,
        {"lr_schedule": {0: 1}},
        {"lr_schedule": {2: 1, 6: 0.1}},
    ),
    "parameter_wise_lr": (
        ours.extend_with_parameter_wise_lr,
        {"paramwise_lr_schedule": {}},
        {"paramwise_lr_schedule": {"bias": 2.0, "embed": 0.5}},
    ),
    "gradient_accumulation": (
        ours.extend_with_gradient_accumulation,
        {"grad_accum_steps": 1},
        {"grad_accum_steps": 2},
    ),
    "lookahead": (
        ours.extend_with_lookahead,
        {"slow_step_size": 1.0, "steps_per_slow_update": 2},
        {"slow_step_size": 0.5, "steps_per_slow_update": 2},
    ),
    "lazy": (
        ours.extend_with_lazy_optimization,
        {},
        {"include_in_lazy_optimization": ["embed"]},
    ),
    "lazy_moments": (
        ours.extend_with_lazy_optimization,
        {"lazy_moments": True},
        {"include_in_lazy_optimization": ["embed"], "lazy_moments": True},
    ),
    "ema": (
        ours.extend_with_exponential_moving_average,
        {"ema_momentum": 0.0},
        {"ema_momentum": 0.5},
    ),
    "child_tuning": (
        ours.extend_with_child_tuning,
        {"reserve_p": 1.0},
        {"reserve_p": 0.5, "child_tuning_seed": 3},
    ),
    "update_dropout": (
        ours.extend_with_child_tuning,
        {"child_tuning_mode": "update", "reserve_p": 1.0},
        {"child_tuning_mode": "update", "reserve_p": 0.5, "child_tuning_seed": 3},
    ),
    "gradient_centralization": (
        ours.extend_with_gradient_centralization,
        {"exclude_from_gradient_centralization": [".*"]},
        {"exclude_from_gradient_centralization": ["embed"]},
    ),
    "low_rank": (
        ours.extend_with_low_rank,
        {"include_in_low_rank": []},
        {"rank": 2, "include_in_low_rank": ["kernel"], "low_rank_seed": 5},
    ),
}

# Each extension inside of the next; the settings of all of them are in EXTENSIONS.
TOWERS = {
    "accumulated_scheduled_decay": (
        "weight_decay",
        "piecewise_linear_lr",
        "gradient_accumulation",
    ),
    "ema_lookahead_lamb": ("weight_decay", "layer_adaptation", "lookahead", "ema"),
    "everything": (
        "lazy",
        "gradient_accumulation",
        "weight_decay",
        "gradient_centralization",
        "parameter_wise_lr",
        "child_tuning",
        "lookahead",
        "piecewise_linear_lr",
        "ema",
    ),
}

# What has no meaning: lazy moments of factored state, which has no rows.
IMPOSSIBLE = {
    ("KerasAdafactor", "lazy_moments"),
    ("AdaFactor", "lazy_moments"),
}
# Every extension with four kinds of base, every base with three of extension.
PAIRS = [
    (base, extension)
    for base in BASES
    for extension in EXTENSIONS
    if (base, extension) not in IMPOSSIBLE
    and (
        base in ("SGD", "KerasAdam", "AdaFactor", "Tiger")
        or extension in ("weight_decay", "gradient_accumulation", "lookahead")
    )
]


def make(base: str, extensions=(), neutral: bool = False, **settings):
    """The optimizer `base` with the extensions, in their neutral or effective settings."""
    Optimizer, base_settings = BASES[base]
    settings = {"learning_rate": 0.0625, **base_settings, **settings}
    for name in [extensions] if isinstance(extensions, str) else extensions:
        extend, nothing, something = EXTENSIONS[name]
        Optimizer = extend(Optimizer)
        settings.update(nothing if neutral else something)
    return Optimizer(**settings)
