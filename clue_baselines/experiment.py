"""From a task to a finished run: the path that all tasks share.

    file -> records -> token ids -> batches of like lengths -> model.fit -> dev score per epoch
         -> best weights -> prediction files -> results/<task>/<run>/

A task script says what is its own by a `Task`; `main(task)` does the rest.
"""

import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from clue_baselines import backbone, data, machine, predictions, recipes, results
from clue_baselines.backbone import Backbone
from clue_baselines.data import DataError, Record, Source
from clue_baselines.epochs import AfterEpoch
from clue_baselines.settings import Settings, parse
from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.training import BUCKETS, LengthBatches, get_strategy, strategy_scope


class Task:
    """What distinguishes one task from another; a script overrides all of it.

    name: name of the task's data folder and of its script.
    texts: keys of a record that hold its texts.
    classes: names of the classes, for the table and the confusion matrix.
    submissions: test split -> name of the file that the leaderboard wants.
    settings: defaults that differ from `Settings`.
    metric: name of the score on dev, a share between 0 and 1.
    """

    name: str
    texts: Sequence[str]
    classes: Sequence[str]
    submissions: dict[str, str]
    settings: dict = {}
    metric = "accuracy"

    def encode(
        self, record: Record, tokenizer: WordPieceTokenizer, maxlen: int
    ) -> tuple[list[int], list[int]]:
        """Token ids and segment ids of a record."""
        raise NotImplementedError

    def target(self, record: Record) -> int:
        """What the model should say about a labelled record."""
        raise NotImplementedError

    def build(self, bert: Backbone) -> keras.Model:
        """The backbone with the task's head."""
        raise NotImplementedError

    def loss(self):
        """The training loss."""
        raise NotImplementedError

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions from the model's outputs."""
        raise NotImplementedError

    def score(self, predicted: np.ndarray, truth: np.ndarray) -> float:
        """The dev score."""
        raise NotImplementedError

    def answer(self, record: Record, prediction: int) -> dict:
        """One line of the prediction file."""
        raise NotImplementedError


def main(task: Task, argv: list[str] | None = None):
    """Runs a task from the command line; ends with one sentence and exit code 1 on bad input."""
    try:
        settings = parse(task.name, sys.modules[type(task).__module__].__doc__, task.settings, argv)
        try:
            strategy = get_strategy(settings.strategy)
        except (ValueError, RuntimeError) as error:
            raise DataError(str(error)) from None
        facts = machine.announce()
        scores = [run(task, settings, seed, strategy, facts) for seed in settings.seed]
        if len(scores) > 1:
            name = run_name(settings, scores[0]["data"])
            results.report_seeds(Path(settings.output) / task.name, name, scores)
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "\nStopped before the first epoch.", file=sys.stderr)
        raise SystemExit(130) from None


def run(task: Task, settings: Settings, seed: int, strategy=None, facts: dict | None = None):
    """Trains and evaluates once; returns what is written into `result.json`."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(settings.precision)

    source = data.find(task.name, settings.data)
    announce_source(task, source)
    train = data.read_records(source.path("train"), settings.limit or None)
    dev = data.read_records(source.path("dev"))
    tests = {s: data.read_records(source.path(s)) for s in task.submissions if source.has(s)}
    ids = {split: predictions.test_ids(records) for split, records in tests.items()}
    print(f"Rows: {len(train)} train, {len(dev)} dev, {sum(map(len, tests.values()))} test")

    texts = (record.text(key) for record in train for key in task.texts)
    tokenizer = backbone.tokenizer_for(settings.model, source, texts)
    batches = Batches(task, tokenizer, settings, seed)
    train_batches = batches(train, labelled=True, shuffle=True)
    dev_batches = batches(dev)
    test_batches = {split: batches(records) for split, records in tests.items()}
    truth = np.array([task.target(record) for record in dev])

    with strategy_scope(strategy):
        bert = backbone.load(settings.model, tokenizer, settings.maxlen)
        model = task.build(bert)
        optimizer, recipe = recipes.make_optimizer(settings, bert.pretrained)
        model.compile(optimizer, task.loss(), metrics=[task.metric], jit_compile=batches.compiled)
        optimizer.build(model.trainable_variables)
        weights = keras.Model(model.inputs, model.outputs)  # the same layers, no optimizer
        weights.jit_compile = batches.compiled
    print(f"Model: {bert.description}\nRecipe: {recipe}")

    def predict(examples: LengthBatches) -> np.ndarray:
        return task.predict(examples.restore(weights.predict(examples, verbose=in_terminal())))

    def dev_score() -> float:
        return task.score(predict(dev_batches), truth)

    folder = prepare_folder(task, settings, seed, source, facts, recipe)
    if not settings.resume:
        tokenizer.save_vocab(folder / "vocab.txt")
    after_epoch = AfterEpoch(folder, weights, dev_score, task.metric, train_batches)
    fit(task, model, train_batches, after_epoch, settings)

    weights.load_weights(folder / "best.weights.h5")
    about = {"seed": seed, "data": source.kind, "recipe": recipe}
    history = after_epoch.history
    result = results.report_run(task, folder, history, predict(dev_batches), truth, about)
    for split, examples in test_batches.items():
        rows = [task.answer(*pair) for pair in zip(tests[split], predict(examples), strict=True)]
        predictions.write_predictions(folder / task.submissions[split], rows, ids[split])
        print(f"Wrote {folder / task.submissions[split]} ({len(rows)} lines)")
    return result


class Batches:
    """Turns records into batches, padded to a few lengths where every length is compiled."""

    def __init__(self, task: Task, tokenizer: WordPieceTokenizer, settings: Settings, seed: int):
        self.task, self.tokenizer, self.settings, self.seed = task, tokenizer, settings, seed
        self.compiled = settings.jit or keras.backend.backend() == "jax"
        static = self.compiled or settings.strategy == "tpu"
        shorter = [length for length in BUCKETS if length < settings.maxlen]
        self.buckets = [*shorter, settings.maxlen] if static else None

    def __call__(self, records: Sequence[Record], labelled=False, shuffle=False) -> LengthBatches:
        encode, maxlen = self.task.encode, self.settings.maxlen
        columns = zip(*(encode(r, self.tokenizer, maxlen) for r in records), strict=True)
        targets = [self.task.target(record) for record in records] if labelled else None
        size = self.settings.batch_size
        return LengthBatches(list(columns), targets, size, self.buckets, shuffle, self.seed)


def announce_source(task: Task, source: Source):
    """Says where the data comes from, and what it lacks."""
    if source.kind == "sample":
        print("!" * 80, data.SAMPLE_WARNING, "!" * 80, sep="\n")
    else:
        print(f"Data: {source.folder}")
    lacking = data.LACKING.get(source.kind, {}).get(task.name)
    if lacking and source.kind != "sample":
        print(f"This source lacks: {lacking}.")
    absent = [name for split, name in task.submissions.items() if not source.has(split)]
    if absent:
        print(f"No test set for {', '.join(absent)}: not written.")


def prepare_folder(
    task: Task, settings: Settings, seed: int, source: Source, facts: dict | None, recipe: str
) -> Path:
    """A new folder with `settings.json`, or that of the run to resume.

    Raises:
        DataError: the data is not what the interrupted run saw.
    """
    if settings.resume:
        folder = Path(settings.resume)
        seen = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["data"]
        if seen["sha256"] != source.checksums():
            raise DataError(
                f"The data in {source.folder} is not what {folder} was trained on "
                "(other checksums); start a new run."
            )
        return folder
    name = f"{run_name(settings, source.kind)}-seed{seed}"
    folder = results.new_folder(Path(settings.output) / task.name, name)
    content = {
        "task": task.name,
        "settings": asdict(settings) | {"seed": [seed]},
        "recipe": recipe,
        "data": source.describe(),
        "machine": facts or machine.describe(),
        "command": shlex.join(sys.argv),
    }
    results.write_json(folder / "settings.json", content)
    return folder


def run_name(settings: Settings, kind: str) -> str:
    """Name of a run without its seed: as asked, or model and kind of data."""
    return settings.name or f"{Path(settings.model or backbone.SMALL_BERT).stem}-{kind}"


def fit(
    task: Task,
    model: keras.Model,
    batches: LengthBatches,
    after_epoch: AfterEpoch,
    settings: Settings,
):
    """Trains all epochs that are still to do; Ctrl-C says how to go on."""
    folder = after_epoch.folder
    done = after_epoch.resume(model)
    if done >= settings.epochs:
        print(f"Run: {folder}, all {done} epochs are trained")
        return
    callbacks = [after_epoch]
    if settings.tensorboard:
        callbacks.append(tensorboard(folder))
    print(f"Run: {folder}" + (f", resuming after epoch {done}" if done else ""))
    try:
        model.fit(
            batches,
            epochs=settings.epochs,
            initial_epoch=done,
            callbacks=callbacks,
            shuffle=False,  # the batches shuffle themselves; Keras would not do it by the seed
            verbose=1 if in_terminal() else 2,
        )
    except KeyboardInterrupt:
        finished = len(after_epoch.history)
        kept = f"the best weights are in {folder / 'best.weights.h5'}" if finished else "no weights"
        raise KeyboardInterrupt(
            f"\nStopped after {finished} finished epochs; {kept}. Go on with:\n"
            f"  python clue_baselines/{task.name}.py --resume {shlex.quote(str(folder))}"
        ) from None


def in_terminal() -> bool:
    """Progress bars are for terminals; a log file gets one line per epoch."""
    return sys.stdout.isatty()


def tensorboard(folder: Path) -> keras.callbacks.Callback:
    """The callback that writes TensorBoard logs."""
    if importlib.util.find_spec("tensorboard") is None:
        raise DataError(
            "--tensorboard needs TensorBoard: uv run --extra tensorboard … installs it."
        )
    return keras.callbacks.TensorBoard(str(folder / "tensorboard"))
