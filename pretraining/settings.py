"""What can be set for a pretraining, from the command line or from the run to go on with."""

import argparse
import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from clue_baselines.backbone import SMALL_BERT
from clue_baselines.data import DataError
from clue_baselines.settings import OPTIMIZERS, PRECISIONS, add_flag, field_default, setting
from keras_extras.bert4keras import checkpoints
from pretraining.model import ARCHITECTURES

__all__ = ["Settings", "parse"]

CHANGEABLE = ("strategy", "devices", "save_every", "jit")  # in a resumed run


@dataclass
class Settings:
    """All settings of a pretraining, with their defaults; every field is a flag."""

    model: str = setting(
        str(SMALL_BERT), "config.json of the model, or weights to go on from: a folder or name"
    )
    architecture: str = setting(
        "", "default: as the model's config.json says, else bert", choices=tuple(ARCHITECTURES)
    )
    steps: int = setting(20_000, "batches in all")
    batch_size: int = setting(64, "sequences per step, over all devices")
    mask: float = setting(0.15, "share of the tokens to predict")
    sentence_order: bool = setting(False, "also tell whether two segments are exchanged (ALBERT)")
    dropout: float = setting(0.0, "while pretraining; fine-tuning has its own")
    optimizer: str = setting("adamw", "with weight decay 0.01 if adamw", choices=OPTIMIZERS[1:])
    learning_rate: float = setting(1e-3, "its greatest value; 0 takes the optimizer's usual one")
    lr_schedule: str = setting(
        "5%:1,100%:0", "factors of the rate, linear between: 500:1,5000:0.1 or 10%%:1,100%%:0"
    )
    weight_decay: float = setting(0.0, "decoupled weight decay; 0: of adamw 0.01, else none")
    layer_adaptation: bool = setting(False, "steps as long as the rate times the weights (LAMB)")
    accumulate: int = setting(1, "batches per update")
    ema: float = setting(0.0, "momentum of averaged weights, which are evaluated and saved")
    evaluate_every: int = setting(1000, "steps between two evaluations on held-out text")
    evaluate_batches: int = setting(50, "batches of an evaluation")
    save_every: int = setting(0, "steps between saved states; 0: after evaluations")
    seed: int = setting(0, "of weights, order and masks")
    output: str = setting("results", "folder of results; a run is <output>/pretraining/<name>")
    name: str = setting("", "name of the run; default: of model and seed")
    resume: str = setting("", "go on with an interrupted run, given its folder")
    strategy: str = setting("auto", "auto, one_device, mirrored, multi_worker, tpu or cpu:N")
    devices: int = setting(0, "how many devices 'mirrored' takes")
    precision: str = setting("float32", "numbers to compute in", choices=PRECISIONS)
    jit: bool = setting(False, "compile with XLA")


def parse(description: str, argv: list[str] | None = None) -> tuple[Path, Settings]:
    """Corpus and settings from the command line; with `--resume` those of the interrupted run.

    Raises:
        DataError: a value makes no sense, or cannot change in a resumed run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.train",
        usage="%(prog)s CORPUS [--flag value] …",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("corpus", type=Path, help="folder made by pretraining.corpus")
    for field in dataclasses.fields(Settings):
        add_flag(parser, field, field_default(field))
    given = vars(parser.parse_args(argv))
    corpus = given.pop("corpus")
    stored = {}
    if given.get("resume"):
        path = Path(given["resume"]) / "settings.json"
        if not path.is_file():
            raise DataError(f"--resume {given['resume']}: no run there ({path} is missing).")
        stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
        fixed = [name for name in given if name not in (*CHANGEABLE, "resume")]
        if fixed:
            flag = "--" + fixed[0].replace("_", "-")
            raise DataError(f"--resume goes on with the run's own settings; {flag} cannot change.")
    settings = Settings(**{**stored, **given})
    if not stored:
        check(settings)
        settings.model = findable(settings.model)
    return corpus, settings


def check(settings: Settings):
    """Complains about values that make no sense."""
    for name in ("steps", "batch_size", "accumulate", "evaluate_every", "evaluate_batches"):
        if getattr(settings, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1.")
    if not 0 < settings.mask < 1:
        raise DataError("--mask must be more than 0 and less than 1.")
    if not 0 <= settings.learning_rate < math.inf:
        raise DataError("--learning-rate must be a number, and not negative.")
    if settings.accumulate > settings.steps:
        raise DataError("--accumulate must not be more than --steps, or there is no update.")
    if settings.steps > settings.evaluate_every and settings.steps % settings.evaluate_every:
        raise DataError(
            f"--steps {settings.steps} must be a multiple of --evaluate-every "
            f"{settings.evaluate_every}."
        )


def findable(model: str) -> str:
    """A local path as an absolute one, so that `--resume` finds it from anywhere."""
    path = os.path.abspath(os.path.expanduser(model))
    local = os.path.exists(path) or os.path.exists(path + ".index")  # a TensorFlow prefix
    return path if local and model not in checkpoints.shipped() else model
