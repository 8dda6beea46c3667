"""Trains a masked language model on a packed corpus and saves it as a model for all scripts.

    python -m pretraining.train corpus --steps 20000

Needs the folder that `python -m pretraining.corpus` made. Every `--evaluate-every` steps the loss
and accuracy on held-out text are measured, noted in history.csv and drawn in curve.png. The result
is <run>/model: config.json, model.safetensors and vocab.txt, which `--model` of the task scripts,
`build_transformer_model` and transformers load; it is written after every evaluation. Stopped at
any moment, `--resume <run>` goes on.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import keras

from clue_baselines import machine, plots, recipes, results
from clue_baselines.backbone import is_pretrained, short_name
from clue_baselines.data import DataError
from keras_extras.bert4keras import save_pretrained
from keras_extras.training import Resume, ResumeError, get_strategy, is_chief, strategy_scope
from pretraining.batches import MaskedBatches
from pretraining.model import masked_language_model
from pretraining.settings import Settings, parse
from pretraining.starting_point import check_fit, start


class AfterEvaluation(keras.callbacks.Callback):
    """After every `evaluate_every` steps: notes the held-out loss, draws the curve, saves.

    Args:
        folder: of the run.
        heldout: batches to evaluate on.
        resume: in whose notes the history is kept.
        rate: tokens of a step.
        save: writes the model.
    """

    def __init__(
        self,
        folder: Path,
        heldout: MaskedBatches,
        resume: Resume,
        rate: int,
        save: Callable[[], None],
    ):
        super().__init__()
        self.folder, self.heldout, self.resume = folder, heldout, resume
        self.rate, self.save = rate, save

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
            heldout = scores(self.model.evaluate(self.heldout, verbose=0, return_dict=True))
            self.save()
        row = {
            "step": (epoch + 1) * batches.steps,
            **scores(logs),
            **{f"heldout_{name}": value for name, value in heldout.items()},
            "tokens_per_second": round(tokens / seconds),
        }
        self.history.append(row)
        order = heldout.get("order_accuracy")
        print(
            f"Step {row['step']}: held-out loss {heldout['loss']:.4f}, "
            f"accuracy {100 * heldout['accuracy']:.2f} %, "
            + ("" if order is None else f"of the order {100 * order:.2f} %, ")
            + f"{row['tokens_per_second']} tokens/s",
            flush=True,
        )
        results.write_history(self.folder / "history.csv", self.history)
        draw(self.folder / "curve.png", self.history)


def scores(logs: dict) -> dict[str, float]:
    """Loss and accuracy at the masked places, and those of the order of sentences, if told.

    >>> scores({"loss": 2.5, "accuracy": 0.25})
    {'loss': 2.5, 'accuracy': 0.25}
    """
    names = ("loss", "accuracy")
    found = {name: logs.get(f"words_{name}", logs.get(name)) for name in names}
    found |= {f"order_{name}": logs[f"order_{name}"] for name in names if f"order_{name}" in logs}
    return {name: round(float(value), 5) for name, value in found.items()}


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
    masks["sentence_order"] = settings.sentence_order
    train = MaskedBatches(corpus, steps=settings.steps // rounds, **masks)
    heldout = MaskedBatches(corpus, "heldout", **masks)
    heldout.batches = heldout.batches[: settings.evaluate_batches]
    length = train.tokens.shape[1]

    config, settings.architecture, options = start(settings, train.vocabulary)
    later = {
        "dropout_rate": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout_rate": config.get("attention_probs_dropout_prob", 0.1),
    }
    options |= dict.fromkeys(later, settings.dropout)
    with strategy_scope(strategy):
        bert, model = masked_language_model(
            settings.model, settings.architecture, settings.sentence_order, **options
        )
        check_fit(settings, bert, length)
        optimizer, recipe = make_optimizer(settings, rounds * train.steps, bert.num_hidden_layers)
        losses, metrics = losses_and_metrics(settings.sentence_order)
        model.compile(
            optimizer,
            losses,
            weighted_metrics=metrics,
            jit_compile=settings.jit or keras.backend.backend() == "jax",
        )
    passes = rounds * train.steps / train.steps_per_pass
    described = "from " + settings.model if is_pretrained(settings.model) else "from scratch"
    print(
        f"Corpus: {len(train.tokens)} sequences of {length}, {passes:.2f} passes in "
        f"{rounds * train.steps} steps\n"
        f"Model: {settings.architecture} {described}, {model.count_params()} weights, "
        f"{len(train.vocabulary)} tokens\nRecipe: {recipe}"
    )

    folder = prepare_folder(settings, corpus)
    vars(bert).update(later)  # in the config.json of the result, for fine-tuning
    chief = is_chief(strategy)
    resume = Resume(folder / "state", train, settings.save_every, writes=chief)
    after = AfterEvaluation(
        folder,
        heldout,
        resume,
        rate=settings.batch_size * length,
        save=lambda: save(bert, folder / "model", corpus / "vocab.txt"),
    )
    try:
        verbose = 1 if sys.stdout.isatty() else 0
        resume.fit(model, rounds, [after], verbose=verbose)
    except ResumeError as error:
        raise DataError(str(error)) from None
    except KeyboardInterrupt:
        again = f"python -m pretraining.train {corpus} --resume {shlex.quote(str(folder))}"
        raise KeyboardInterrupt(f"\nStopped. Go on with:\n  {again}") from None
    with recipes.averaged_weights(model.optimizer):
        after.save()
    print(f"Wrote {folder / 'model'}; use it with --model {folder / 'model'} --recipe mini")
    return folder / "model"


def losses_and_metrics(sentence_order: bool):
    """What is minimised and shown: cross-entropy and accuracy of the words, and of the order."""
    kinds = {"words": True}  # from logits?
    if sentence_order:
        kinds["order"] = False
    losses = {
        name: keras.losses.SparseCategoricalCrossentropy(
            from_logits=from_logits, reduction="mean_with_sample_weight"
        )
        for name, from_logits in kinds.items()
    }
    metrics = {name: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for name in kinds}
    return (losses, metrics) if sentence_order else (losses["words"], metrics["words"])


def save(bert, folder: Path, vocabulary: Path):
    """Writes a model's files under other names first, so that an interruption leaves the old."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    save_pretrained(bert, temporary, vocabulary)
    folder.mkdir(exist_ok=True)
    for file in list(temporary.iterdir()):
        file.replace(folder / file.name)
    temporary.rmdir()


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
    name = settings.name or f"{short_name(settings.model)}-seed{settings.seed}"
    folder = results.new_folder(Path(settings.output) / "pretraining", name)
    content = {
        "settings": asdict(settings),
        "corpus": about,
        "machine": machine.describe(),
        "command": shlex.join(sys.argv),
    }
    results.write_json(folder / "settings.json", content)
    return folder


def main(argv: list[str] | None = None):
    """Runs from the command line."""
    try:
        corpus, settings = parse(__doc__, argv)
        try:
            strategy = get_strategy(settings.strategy, settings.devices)
        except RuntimeError as error:  # the devices are not there
            raise DataError(str(error)) from None
        machine.announce()
        with machine.only_the_chief_writes(settings, strategy):
            run(corpus, settings, strategy)
    except (DataError, ValueError, OSError) as error:
        raise SystemExit(f"ERROR: {error}") from None
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
