"""Trains a masked language model on a packed corpus and saves it as a model for all scripts.

    python -m pretraining.train corpus --steps 20000

Needs the folder that `python -m pretraining.corpus` made. Every `--evaluate-every` steps the loss
and accuracy on held-out text are measured, noted in history.csv and drawn in curve.png. The result
is <run>/model: config.json, model.safetensors and vocab.txt, which `--model` of the task scripts,
`build_transformer_model` and transformers load. Stopped at any moment, `--resume <run>` goes on.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import keras

from clue_baselines import machine, plots, recipes, results
from clue_baselines.backbone import SMALL_BERT, is_pretrained, model_folder
from clue_baselines.data import DataError
from clue_baselines.settings import OPTIMIZERS, PRECISIONS, add_flag, field_default, setting
from keras_extras.bert4keras import save_pretrained
from keras_extras.bert4keras.huggingface.config import transformer_config
from keras_extras.training import Resume, ResumeError, get_strategy, is_chief, strategy_scope
from keras_extras.vocabulary import load_vocab
from pretraining.batches import MaskedBatches
from pretraining.model import ARCHITECTURES, masked_language_model

CHANGEABLE = ("strategy", "devices", "save_every", "jit")  # in a resumed run


@dataclass
class Settings:
    """All settings of a pretraining, with their defaults; every field is a flag."""

    model: str = setting(
        str(SMALL_BERT), "config.json of the model, or weights to go on from: a folder or name"
    )
    architecture: str = setting("bert", "of a model from scratch", choices=tuple(ARCHITECTURES))
    steps: int = setting(20_000, "batches in all")
    batch_size: int = setting(64, "sequences per step, over all devices")
    mask: float = setting(0.15, "share of the tokens to predict")
    dropout: float = setting(0.0, "while pretraining; fine-tuning has its own")
    optimizer: str = setting("adamw", "with weight decay 0.01 if adamw", choices=OPTIMIZERS[1:])
    learning_rate: float = setting(1e-3, "its greatest value")
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


class AfterEvaluation(keras.callbacks.Callback):
    """Notes the held-out loss after every `evaluate_every` steps, and draws the curve."""

    def __init__(self, folder: Path, heldout: MaskedBatches, resume: Resume, rate: int):
        super().__init__()
        self.folder, self.heldout, self.resume, self.rate = folder, heldout, resume, rate

    @property
    def history(self) -> list[dict]:
        """One row per evaluation."""
        return self.resume.notes.setdefault("history", [])

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        batches = self.resume.batches
        seconds = time.perf_counter() - self.started
        tokens = (batches.steps - self.resume.skipped) * self.rate
        with recipes.averaged_weights(self.model.optimizer):
            loss, accuracy = self.model.evaluate(self.heldout, verbose=0)[:2]
        row = {
            "step": (epoch + 1) * batches.steps,
            "loss": round(float(logs["loss"]), 5),
            "accuracy": round(float(logs["accuracy"]), 5),
            "heldout_loss": round(float(loss), 5),
            "heldout_accuracy": round(float(accuracy), 5),
            "tokens_per_second": round(tokens / seconds),
        }
        self.history.append(row)
        print(
            f"Step {row['step']}: held-out loss {loss:.4f}, accuracy {100 * accuracy:.2f} %, "
            f"{row['tokens_per_second']} tokens/s",
            flush=True,
        )
        results.write_history(self.folder / "history.csv", self.history)
        draw(self.folder / "curve.png", self.history)


def draw(path: Path, history: list[dict]):
    """Loss and accuracy on held-out text by step, as PNG."""
    figure = plots.new_figure(7, 4)
    left = figure.subplots()
    right = left.twinx()
    steps = [row["step"] for row in history]
    left.plot(steps, [row["loss"] for row in history], color="tab:gray", label="training loss")
    loss = [row["heldout_loss"] for row in history]
    left.plot(steps, loss, color="tab:orange", label="held-out loss")
    accuracy = [100 * row["heldout_accuracy"] for row in history]
    right.plot(steps, accuracy, color="tab:blue", label="held-out accuracy")
    left.set(xlabel="step", ylabel="loss")
    right.set_ylabel("masked tokens found (%)")
    handles = [*left.get_lines(), *right.get_lines()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def run(corpus: Path, settings: Settings, strategy=None) -> Path:
    """Pretrains; returns the folder of the model."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    rounds = max(1, settings.steps // settings.evaluate_every)
    masks = {"batch_size": settings.batch_size, "seed": settings.seed, "rate": settings.mask}
    train = MaskedBatches(corpus, steps=settings.steps // rounds, **masks)
    heldout = MaskedBatches(corpus, "heldout", **masks)
    heldout.batches = heldout.batches[: settings.evaluate_batches]
    length = train.tokens.shape[1]

    config, architecture = start(settings, train.vocabulary)
    later = {
        "dropout_rate": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout_rate": config.get("attention_probs_dropout_prob", 0.1),
    }
    options = {"vocab_size": len(train.vocabulary), **dict.fromkeys(later, settings.dropout)}
    with strategy_scope(strategy):
        bert, model = masked_language_model(settings.model, architecture, **options)
        optimizer, recipe = make_optimizer(settings, rounds * train.steps, bert.num_hidden_layers)
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=settings.jit or keras.backend.backend() == "jax",
        )
    passes = rounds * train.steps / train.steps_per_pass
    described = "from " + settings.model if is_pretrained(settings.model) else "from scratch"
    print(
        f"Corpus: {len(train.tokens)} sequences of {length}, {passes:.2f} passes in "
        f"{rounds * train.steps} steps\n"
        f"Model: {architecture} {described}, {model.count_params()} weights, "
        f"{len(train.vocabulary)} tokens\nRecipe: {recipe}"
    )

    folder = prepare_folder(settings, corpus)
    chief = is_chief(strategy)
    resume = Resume(folder / "state", train, settings.save_every, writes=chief)
    after = AfterEvaluation(folder, heldout, resume, settings.batch_size * length)
    try:
        verbose = 1 if sys.stdout.isatty() else 0
        resume.fit(model, rounds, [after], verbose=verbose)
    except ResumeError as error:
        raise DataError(str(error)) from None
    except KeyboardInterrupt:
        again = f"python -m pretraining.train {corpus} --resume {shlex.quote(str(folder))}"
        raise KeyboardInterrupt(f"\nStopped. Go on with:\n  {again}") from None
    vars(bert).update(later)  # for fine-tuning
    with recipes.averaged_weights(model.optimizer):
        save_pretrained(bert, folder / "model", corpus / "vocab.txt")
    print(f"Wrote {folder / 'model'}; use it with --model {folder / 'model'}")
    return folder / "model"


def start(settings: Settings, vocabulary: dict[str, int]) -> tuple[dict, str]:
    """What stands in config.json of the model to begin with, and its architecture.

    Raises:
        DataError: there are weights, but of another vocabulary or architecture.
    """
    if not is_pretrained(settings.model):
        config = json.loads(Path(settings.model).read_text(encoding="utf-8"))
        return config, settings.architecture
    folder = model_folder(settings.model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = transformer_config(config)[0]
    if architecture not in ARCHITECTURES:
        raise DataError(
            f"--model {settings.model} is of the architecture {architecture}; only "
            f"{' and '.join(ARCHITECTURES)} can be pretrained."
        )
    if load_vocab(folder / "vocab.txt") != vocabulary:
        raise DataError(
            f"The corpus has another vocabulary than --model {settings.model}; make it with "
            f"--vocab {folder / 'vocab.txt'} --rare 0."
        )
    return config, architecture


def make_optimizer(settings: Settings, steps: int, layers: int):
    """The optimizer of the task scripts, with the extensions that are asked for here."""
    unused = dict.fromkeys((extension.flag for extension in recipes.EXTENSIONS), 0)
    unused["recipe"] = "auto"
    training = recipes.Training(steps // settings.accumulate, layers)
    return recipes.make_optimizer(SimpleNamespace(**unused | asdict(settings)), False, training)


def prepare_folder(settings: Settings, corpus: Path) -> Path:
    """A new folder with settings.json, or that of the run to resume.

    Raises:
        DataError: the corpus is not the one that the interrupted run saw.
    """
    about = json.loads((corpus / "corpus.json").read_text(encoding="utf-8"))
    if settings.resume:
        folder = Path(settings.resume)
        seen = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["corpus"]
        if seen != about:
            raise DataError(f"{corpus} is not the corpus that {folder} was trained on.")
        return folder
    name = settings.name or f"{Path(settings.model).stem}-seed{settings.seed}"
    folder = results.new_folder(Path(settings.output) / "pretraining", name)
    content = {
        "settings": asdict(settings),
        "corpus": about,
        "machine": machine.describe(),
        "command": shlex.join(sys.argv),
    }
    results.write_json(folder / "settings.json", content)
    return folder


def parse(argv: list[str] | None = None) -> tuple[Path, Settings]:
    """Corpus and settings from the command line; with `--resume` those of the interrupted run.

    Raises:
        DataError: a value makes no sense, or cannot change in a resumed run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.train",
        usage="%(prog)s CORPUS [--flag value] …",
        description=__doc__,
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
    for name in ("steps", "batch_size", "accumulate", "evaluate_every", "evaluate_batches"):
        if getattr(settings, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1.")
    return corpus, settings


def main(argv: list[str] | None = None):
    """Runs from the command line."""
    try:
        corpus, settings = parse(argv)
        try:
            strategy = get_strategy(settings.strategy, settings.devices)
            machine.announce()
            with machine.only_the_chief_writes(settings, strategy):
                run(corpus, settings, strategy)
        except (ValueError, OSError) as error:
            raise DataError(str(error)) from None
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
