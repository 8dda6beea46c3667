"""What can be set for a run; every field is a command-line flag, the same for all tasks."""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from clue_baselines.data import DataError

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
}
CHANGEABLE_ON_RESUME = ("epochs", "strategy", "devices", "save_every", "tensorboard", "jit")


def setting(default, help: str, **flag):
    """A dataclass field that carries the help text and argparse options of its flag."""
    metadata = {"help": help, **flag}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Settings:
    """All settings of a run, with their defaults."""

    data: str = setting("", "folder with CLUE's data ('sample': the invented sample)")
    model: str = setting("", "folder or hub id of a pretrained model; a config.json: from scratch")
    epochs: int = setting(10, "passes over the training data")
    batch_size: int = setting(32, "examples per step, over all devices")
    maxlen: int = setting(128, "greatest number of tokens of an example")
    segment_ids: str = setting(
        "zero",
        "of the second text of a pair: zero as in the author's scripts, or one",
        choices=("zero", "one"),
    )
    learning_rate: float = setting(0.0, "0 takes the optimizer's usual one")
    recipe: str = setting(
        "auto",
        "author: AdaFactor; scratch: AdamW; modern: AdamW with warm-up, decay over steps and "
        "layers, bfloat16; auto: author for pretrained weights, else scratch",
        choices=("auto", *RECIPES),
    )
    optimizer: str = setting(
        "auto",
        "auto: the author's AdaFactor for pretrained weights, AdamW from scratch",
        choices=OPTIMIZERS,
    )
    weight_decay: float = setting(0.0, "decoupled weight decay; 0: of adamw 0.01, else none")
    lr_schedule: str = setting(
        "", "factors of the rate, linear between: 500:1,5000:0.1 or 10%%:1,100%%:0"
    )
    accumulate: int = setting(1, "batches per update, which takes the mean of their gradients")
    lookahead: bool = setting(False, "every 5 updates go back half of the way")
    ema: float = setting(0.0, "score and keep averaged weights, of momentum 0.999 for example")
    child_tuning: float = setting(0.0, "share of the backbone's weights that an update changes")
    layer_decay: float = setting(0.0, "factor of the rate from a layer to that below it; 0: none")
    layer_adaptation: bool = setting(False, "steps as long as the rate times the weights (LAMB)")
    lazy: bool = setting(False, "update the embeddings only of tokens in the batch")
    low_rank: int = setting(0, "rank of the backbone's updates; 0: full")
    seed: list[int] = setting([0], "one run per seed, then mean and deviation", nargs="+")
    precision: str = setting("float32", "numbers to compute in", choices=PRECISIONS)
    on_nan: str = setting(
        "stop",
        "when the loss is no number: stop, skip such steps, or shrink the weights (tiger)",
        choices=("stop", "skip", "shrink"),
    )
    limit: int = setting(0, "train on the first rows only; 0: on all")
    output: str = setting("results", "folder of results; a run is <output>/<task>/<name>")
    name: str = setting("", "name of the run; default: made of model, data and seed")
    save_every: int = setting(0, "steps between saved states of training; 0: after epochs only")
    resume: str = setting("", "go on with an interrupted run, given its folder")
    strategy: str = setting(
        "auto", "tf.distribute: auto, one_device, mirrored, multi_worker, tpu or cpu:N"
    )
    devices: int = setting(0, "how many devices 'mirrored' takes; without a GPU logical CPUs")
    deterministic: bool = setting(False, "equal runs give equal bits (TensorFlow), more slowly")
    tensorboard: bool = setting(False, "also write logs for TensorBoard")
    jit: bool = setting(False, "compile with XLA; pads to a few fixed lengths")


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
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that we see which flags were given
    )
    for field in dataclasses.fields(kind):
        add_flag(parser, field, defaults.get(field.name, field_default(field)))
    given = vars(parser.parse_args(argv))
    if given.get("resume"):
        settings = resumed(kind, given)
    else:
        recipe = RECIPES.get(given.get("recipe"), {})
        settings = kind(**{**defaults, **recipe, **given})
    check(settings)
    return settings


def field_default(field: dataclasses.Field):
    """Default value of a dataclass field."""
    return (
        field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    )


def add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, default):
    """The command-line flag of one setting."""
    flag = "--" + field.name.replace("_", "-")
    options = dict(field.metadata)
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        return
    kind = type(default[0]) if isinstance(default, list) else type(default)
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    if shown not in ("", 0):
        options["help"] += f" (default: {shown})"
    parser.add_argument(flag, type=kind, metavar=field.name.upper()[:5], **options)


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
    for name in ("limit", "save_every", "learning_rate", "weight_decay", "low_rank"):
        if getattr(settings, name) < 0:
            raise DataError(f"--{name.replace('_', '-')} must not be negative.")
    for name in ("ema", "child_tuning", "layer_decay"):
        if not 0 <= getattr(settings, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 0 and less than 1.")
    if len(set(settings.seed)) < len(settings.seed):
        raise DataError("--seed lists a seed twice; equal seeds give equal runs.")
