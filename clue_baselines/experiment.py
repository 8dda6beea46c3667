"""From a task to a finished run: the path that all tasks share.

    file -> records -> token ids -> batches of like lengths -> model.fit -> dev score per epoch
         -> best weights -> prediction files -> results/<task>/<run>/

A task script says what is its own by a `Task` (`task.py`); `main` does the rest.
"""

import importlib.util
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import keras

from clue_baselines import backbone, data, machine, predictions, recipes, results, trained, tricks
from clue_baselines.data import DataError, Source
from clue_baselines.epochs import AfterEpoch
from clue_baselines.preparation import Preparation, Split
from clue_baselines.settings import Settings, parse
from clue_baselines.task import Task
from keras_extras.training import (
    Model,
    Resume,
    ResumeError,
    get_strategy,
    is_chief,
    strategy_scope,
)


def main(kind: type[Task], argv: list[str] | None = None):
    """Runs a task from the command line; ends with one sentence and exit code 1 on bad input."""
    try:
        description = sys.modules[kind.__module__].__doc__
        settings = parse(kind.options, kind.name, description, kind.defaults, argv)
        task = kind(settings)
        if settings.deterministic:
            machine.make_deterministic()
        try:
            strategy = get_strategy(settings.strategy, settings.devices)
        except (ValueError, RuntimeError) as error:
            raise DataError(str(error)) from None
        if settings.jit and getattr(strategy, "num_replicas_in_sync", 1) > 1:
            raise DataError("--jit compiles for one device; leave it out with several.")
        if settings.precision == "bfloat16" and "CollectiveAllReduce" in type(strategy).__name__:
            raise DataError(
                "--precision bfloat16 does not go with several workers: TensorFlow cannot hand "
                "bfloat16 variables from one to the other. Give mixed_bfloat16."
            )
        compares = "--r-drop" if settings.r_drop else task.compares_neighbours and task.name
        if compares and getattr(strategy, "num_replicas_in_sync", 1) > 1:
            raise DataError(
                f"{compares} compares neighbouring rows, which several devices would part."
            )
        facts = machine.announce()
        with machine.only_the_chief_writes(settings, strategy):
            scores = [run(task, seed, strategy, facts) for seed in settings.seed]
            if len(scores) > 1:
                name = run_name(settings, scores[0]["data"])
                results.report_seeds(Path(settings.output) / task.name, name, scores)
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "\nStopped before the first epoch.", file=sys.stderr)
        raise SystemExit(130) from None


def run(task: Task, seed: int, strategy=None, facts: dict | None = None) -> dict:
    """Trains and evaluates once; returns what is written into `result.json`."""
    settings = task.settings
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(settings.precision)

    source = task.find()
    announce_source(task, source)
    train = task.read(source, "train", settings.limit or None)
    dev = task.read(source, "dev")
    tests = {split: task.read(source, split) for split in task.submissions if source.has(split)}
    ids = {split: predictions.test_ids(task, records) for split, records in tests.items()}
    task.learn_about(train)
    print(f"Rows: {len(train)} train, {len(dev)} dev, {sum(map(len, tests.values()))} test")

    texts = (text for record in train for text in task.texts(record))
    tokenizer = backbone.tokenizer_for(settings.model, source, texts, task.tokens)
    prepare = Preparation(task, tokenizer, seed, machine.is_tpu(strategy))
    train_batches = prepare(train, training=True).batches
    dev_split = prepare(dev)
    test_splits = {split: prepare(records) for split, records in tests.items()}
    truths = [task.truth(record) for record in dev]

    with strategy_scope(strategy):
        bert = backbone.load(settings.model, tokenizer, settings.maxlen)
        built = task.build(bert)
        Trained, regularization = trained.regularized(settings)
        model = Trained(built.inputs, built.outputs)
        updates = settings.epochs * len(train_batches) // settings.accumulate
        training = recipes.Training(updates, bert.layers)
        optimizer, recipe = recipes.make_optimizer(settings, bert.pretrained, training)
        # without the rows that fill a batch up
        metrics = {"weighted_metrics" if prepare.tpu else "metrics": list(task.training_metrics)}
        try:
            model.compile(
                optimizer,
                task.loss(),
                **metrics,
                jit_compile=prepare.compiled,
                on_nan=settings.on_nan,
                **regularization,
            )
        except ValueError as error:
            raise DataError(str(error)) from None
        optimizer.build(model.trainable_variables)
        weights = Model(model.inputs, model.outputs)  # the same layers, no optimizer
        predictor = task.predictor(weights)
        predictor.jit_compile = prepare.compiled
    used = tricks.label(settings)
    print(f"Model: {bert.description}\nRecipe: {recipe}" + (f"\nTricks: {used}" if used else ""))

    def outputs_of(split: Split):
        return predictor.predict(split.batches, verbose=in_terminal())

    def read(split: Split, outputs) -> list:
        return [task.predict(*row) for row in split.by_record(outputs)]

    def dev_score() -> float:
        return results.scores(task, read(dev_split, outputs_of(dev_split)), truths)[task.metric][0]

    folder = prepare_folder(task, settings, seed, source, facts, recipe)
    if not settings.resume:
        tokenizer.save_vocab(folder / "vocab.txt")
    chief = is_chief(strategy)
    resume = Resume(folder / "state", train_batches, settings.save_every, writes=chief)
    after_epoch = AfterEpoch(folder, weights, dev_score, task.metric, resume)
    fit(task, model, after_epoch, settings)

    weights.load_weights(folder / "best.weights.h5")
    about = {"seed": seed, "data": source.kind, "train_rows": len(train), "recipe": recipe}
    about["submissions"] = {
        task.submissions[split]: predictions.identity(known, task.one_object)
        for split, known in ids.items()
    }
    more = {}
    for split, examples in test_splits.items():
        found = read(examples, task.correct(outputs_of(examples)))
        answers = [task.answer(*pair) for pair in zip(tests[split], found, strict=True)]
        path = folder / task.submissions[split]
        predictions.write_predictions(path, answers, ids[split], task.one_object)
        print(f"Wrote {path} ({len(ids[split])} answers)")
        more |= task.test_scores(split, tests[split], found)
    history = after_epoch.history  # the result comes last: what has one is finished
    outputs = outputs_of(dev_split)
    found = read(dev_split, task.correct(outputs))
    if settings.can:
        plain = results.scores(task, read(dev_split, outputs), truths)
        more |= {f"{name} without CAN": score for name, score in plain.items()}
    return results.report_run(task, folder, history, dev, found, truths, about, more)


def announce_source(task: Task, source: Source):
    """Says where the data comes from, and what it lacks."""
    if source.kind == "sample":
        print("!" * 80, data.SAMPLE_WARNING, "!" * 80, sep="\n")
    else:
        print(f"Data: {source.folder}")
    if lacking := source.lacks():
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
    """Name of a run without its seed: as asked, or model, kind of data and tricks."""
    used = tricks.label(settings)
    made = f"{backbone.short_name(settings.model)}-{kind}"
    return settings.name or made + ("-" + used if used else "")


def fit(task: Task, model: keras.Model, after_epoch: AfterEpoch, settings: Settings):
    """Trains all that is still to do; Ctrl-C and a lost worker say how to go on."""
    folder, resume = after_epoch.folder, after_epoch.resume
    if not task.trains:
        print(f"Run: {folder}, without training")
        after_epoch.score_untrained()
        return
    again = f"  python clue_baselines/{task.name}.py --resume {shlex.quote(str(folder))}"
    try:
        resume.load(model)
    except ResumeError as error:
        raise DataError(str(error)) from None
    if resume.epoch >= settings.epochs:
        print(f"Run: {folder}, all {resume.epoch} epochs are trained")
        return
    done = f"epoch {resume.epoch}" + (f" and step {resume.step}" if resume.step else "")
    print(f"Run: {folder}" + (f", resuming after {done}" if resume.last else ""))
    computed, real = resume.batches.tokens()
    print(f"Tokens per epoch: {real}, with padding {computed} ({computed / real:.2f} times)")
    callbacks = [after_epoch]
    if settings.tensorboard:
        callbacks.append(tensorboard(folder))
    try:
        resume.fit(model, settings.epochs, callbacks, verbose=1 if in_terminal() else 2)
    except KeyboardInterrupt:
        # not len(history): the state that training goes on from is written after it
        finished = int(resume.last.stem.split("-")[1]) if resume.last else 0
        kept = f"the best weights are in {folder / 'best.weights.h5'}" if finished else "no weights"
        message = f"\nStopped after {finished} finished epochs; {kept}. Go on with:\n{again}"
        raise KeyboardInterrupt(message) from None
    except FloatingPointError as error:
        raise DataError(str(error)) from None
    except Exception as error:
        if not machine.is_lost_worker(error):
            raise
        raise DataError(
            f"Another worker is gone ({str(error).splitlines()[0][:200]}). Start all again with:\n"
            + again
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
