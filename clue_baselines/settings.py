"""What can be set for a run; every field is a command-line flag, the same for all tasks."""

import argparse
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from clue_baselines.data import DataError

SHIPPED, SCRATCH = "keras-extras-mini", "scratch"  # as `--model`: with the package; no weights
OPTIMIZERS = ("auto", "adafactor", "adamw", "adam", "lion", "tiger")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16")
# A recipe is a set of flags; those given beside it win.
RECIPES = {
    "author": {"optimizer": "adafactor"},
    "scratch": {"optimizer": "adamw"},
    "modern": {
        "optimizer": "adamw",
        "lr_schedule": "10%:1,100%:0",
        "layer_decay": 0.9,
        "precision": "mixed_bfloat16",
    },
    "mini": {"optimizer": "adamw", "learning_rate": 1e-3, "lr_schedule": "10%:1,100%:0"},
}
# what two runs may differ in and still be the same run
OF_NO_MATTER = (
    "strategy", "devices", "save_every", "tensorboard", "jit", "cache", "seed", "output", "name",
    "resume",
)  # fmt: skip
CHANGEABLE_ON_RESUME = (
    "epochs", "strategy", "devices", "save_every", "tensorboard", "jit", "cache",
)  # fmt: skip

OF_TASK, DATA, OPTIMIZER, TRICKS, RUN, DEVICES = (
    "of this task",
    "data, model and length of training",
    "optimizer",
    "tricks, which can be combined",
    "the run",
    "devices and numbers",
)


def setting(default, help: str, group: str = OF_TASK, **flag):
    """A dataclass field that carries help text, group and argparse options of its flag."""
    metadata = {"help": help, "group": group, **flag}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Settings:
    """All settings of a run, with their defaults."""

    data: str = setting("", "folder with CLUE's data ('sample': the invented sample)", DATA)
    model: str = setting(
        SHIPPED,
        "folder or hub id of a pretrained model; scratch or a config.json: from scratch",
        DATA,
    )
    epochs: int = setting(10, "passes over the training data", DATA)
    batch_size: int = setting(32, "examples per step, over all devices", DATA)
    maxlen: int = setting(
        128,
        "greatest number of tokens of an example; a table of fewer positions is decomposed",
        DATA,
    )
    limit: int = setting(0, "train on the first rows only; 0: on all", DATA)
    segment_ids: str = setting(
        "zero",
        "of the second text of a pair: zero as in the author's scripts, or one",
        DATA,
        choices=("zero", "one"),
    )
    recipe: str = setting(
        "auto",
        "author: AdaFactor; scratch: AdamW; modern: AdamW with warm-up, decay over steps and "
        f"layers, bfloat16; mini: AdamW 0.001 with warm-up and decay; auto: mini for {SHIPPED}, "
        "author for other pretrained weights, else scratch",
        OPTIMIZER,
        choices=("auto", *RECIPES),
    )
    optimizer: str = setting(
        "auto",
        "auto: the author's AdaFactor for pretrained weights, AdamW from scratch",
        OPTIMIZER,
        choices=OPTIMIZERS,
    )
    learning_rate: float = setting(0.0, "0 takes the optimizer's usual one", OPTIMIZER)
    weight_decay: float = setting(
        0.0, "decoupled weight decay; 0: of adamw 0.01, else none", OPTIMIZER
    )
    lr_schedule: str = setting(
        "", "factors of the rate, linear between: 500:1,5000:0.1 or 10%%:1,100%%:0", OPTIMIZER
    )
    accumulate: int = setting(
        1, "batches per update, which takes the mean of their gradients", OPTIMIZER
    )
    layer_decay: float = setting(
        0.0, "factor of the rate from a layer to that below it; 0: none", OPTIMIZER
    )
    layer_adaptation: bool = setting(
        False, "steps as long as the rate times the weights (LAMB)", OPTIMIZER
    )
    lazy: bool = setting(False, "update the embeddings only of tokens in the batch", OPTIMIZER)
    low_rank: int = setting(0, "rank of the backbone's updates; 0: full", OPTIMIZER)
    r_drop: float = setting(
        0.0, "R-Drop: weight of the divergence of two passes, 4 for example", TRICKS
    )
    fgm: float = setting(0.0, "adversarial training: length of the step, 0.5 for example", TRICKS)
    gradient_penalty: float = setting(
        0.0, "weight of the penalty on the embeddings' gradients, 1 for example", TRICKS
    )
    tailr: float = setting(0.0, "TaiLr's gamma, 0.1 for example", TRICKS)
    logit_adjustment: float = setting(
        0.0, "strength of the classes' prior in the loss, 1 for balanced accuracy", TRICKS
    )
    can: bool = setting(
        False, "correct unsure predictions by the classes' prior (both scores are shown)", TRICKS
    )
    lookahead: bool = setting(False, "every 5 updates go back half of the way", TRICKS)
    ema: float = setting(
        0.0, "score and keep averaged weights, of momentum 0.999 for example", TRICKS
    )
    child_tuning: float = setting(
        0.0, "share of the backbone's weights that an update changes", TRICKS
    )
    seed: list[int] = setting([0], "one run per seed, then mean and deviation", RUN, nargs="+")
    output: str = setting("results", "folder of results; a run is <output>/<task>/<name>", RUN)
    name: str = setting("", "name of the run; default: of model, data and tricks", RUN)
    save_every: int = setting(0, "steps between saved states of training; 0: after epochs", RUN)
    resume: str = setting("", "go on with an interrupted run, given its folder", RUN)
    tensorboard: bool = setting(False, "also write logs for TensorBoard", RUN)
    cache: bool = setting(
        True, "keep token ids in <output>/.encoded for runs that need the same ones", RUN
    )
    strategy: str = setting(
        "auto", "tf.distribute: auto, one_device, mirrored, multi_worker, tpu or cpu:N", DEVICES
    )
    devices: int = setting(
        0, "how many devices 'mirrored' takes; without a GPU logical CPUs", DEVICES
    )
    precision: str = setting("float32", "numbers to compute in", DEVICES, choices=PRECISIONS)
    on_nan: str = setting(
        "stop",
        "when the loss is no number: stop, skip such steps, or shrink the weights (tiger)",
        DEVICES,
        choices=("stop", "skip", "shrink"),
    )
    deterministic: bool = setting(
        False, "equal runs give equal bits (TensorFlow); may be slower on a GPU", DEVICES
    )
    jit: bool = setting(False, "compile with XLA; pads to a few fixed lengths", DEVICES)


def parse(
    kind: type[Settings], task_name: str, description: str, defaults: dict, argv: list[str] | None
) -> Settings:
    """Settings from the command line; with `--resume` those of the interrupted run.

    Args:
        kind: class of the settings, whose fields become flags.
        defaults: the task's own defaults, instead of those of the class.

    Raises:
        DataError: a value makes no sense, or cannot change in a resumed run.
    """
    parser = argparse.ArgumentParser(
        prog=f"clue_baselines/{task_name}.py",
        usage="%(prog)s [--flag value] …",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that we see which flags were given
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in dataclasses.fields(kind):
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        add_flag(groups[name], field, defaults.get(field.name, field_default(field)))
    given = vars(parser.parse_args(argv))
    if given.get("resume"):
        settings = resumed(kind, given)
    else:
        given["recipe"] = recipe_of(given)
        settings = kind(**{**defaults, **RECIPES.get(given["recipe"], {}), **given})
    check(settings)
    return settings


def recipe_of(given: dict) -> str:
    """The recipe of a command line: as given, or the one that suits the model that comes along."""
    recipe = given.get("recipe", "auto")
    if recipe == "auto" and given.get("model", SHIPPED) == SHIPPED and "optimizer" not in given:
        return "mini"
    return recipe


def field_default(field: dataclasses.Field):
    """Default value of a dataclass field."""
    return (
        field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    )


def add_flag(group: argparse._ArgumentGroup, field: dataclasses.Field, default):
    """The command-line flag of one setting."""
    flag = "--" + field.name.replace("_", "-")
    options = {key: value for key, value in field.metadata.items() if key != "group"}
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        return
    kind = type(default[0]) if isinstance(default, list) else type(default)
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    if shown not in ("", 0):
        options["help"] += f" (default: {shown})"
    if "choices" not in options:
        options["metavar"] = {int: "N", float: "X"}.get(kind, "TEXT")
    group.add_argument(flag, type=kind, **options)


def resumed(kind: type[Settings], given: dict) -> Settings:
    """Settings of the run in the folder `given["resume"]`, with the few that may change."""
    path = Path(given["resume"]) / "settings.json"
    if not path.is_file():
        raise DataError(f"--resume {given['resume']}: no run there ({path} is missing).")
    run = json.loads(path.read_text(encoding="utf-8"))
    stored, data = run["settings"], run["data"]
    if data["kind"] == "folder":  # as it was then, whatever CLUE_DATA says today
        stored["data"] = str(Path(data["folder"]).parent)
    elif data["kind"] == "sample":
        stored["data"] = "sample"
    for name in given:
        if name not in (*CHANGEABLE_ON_RESUME, "resume"):
            flag = "--" + name.replace("_", "-")
            raise DataError(f"--resume goes on with the run's own settings; {flag} cannot change.")
    if "%" in stored["lr_schedule"] and given.get("epochs", stored["epochs"]) != stored["epochs"]:
        raise DataError("--epochs cannot change here: the run's --lr-schedule is a share of them.")
    return kind(**{**stored, **given})


def check(settings: Settings):
    """Complains about values that make no sense."""
    for name in ("epochs", "batch_size", "accumulate"):
        if getattr(settings, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1.")
    if settings.maxlen < 4:
        raise DataError("--maxlen must be at least 4: [CLS], [SEP] and some text between.")
    for name in (
        "limit",
        "save_every",
        "learning_rate",
        "weight_decay",
        "low_rank",
        "r_drop",
        "fgm",
        "gradient_penalty",
        "logit_adjustment",
    ):
        if not 0 <= getattr(settings, name) < math.inf:
            raise DataError(f"--{name.replace('_', '-')} must be a number, and not negative.")
    for name in ("ema", "child_tuning", "layer_decay", "tailr"):
        if not 0 <= getattr(settings, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 0 and less than 1.")
    if len(set(settings.seed)) < len(settings.seed):
        raise DataError("--seed lists a seed twice; equal seeds give equal runs.")
