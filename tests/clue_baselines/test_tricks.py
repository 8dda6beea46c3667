"""Tricks: what their flags change, which tasks take them, and what neutral values give."""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from clue_baselines import backbone, data, experiment, trained, tricks
from clue_baselines.data import DataError
from clue_baselines.finished import Run
from clue_baselines.report.trick_table import table, text
from clue_baselines.settings import Settings
from clue_baselines.tasks import TASKS, task_class
from clue_baselines.tnews import Tnews
from keras_extras.training.adversarial import FGM, AdversarialModel
from tests.clue_baselines.conftest import CONFIG


def task(name, **settings):
    kind = task_class(name)
    return kind(kind.options(**{**kind.defaults, **settings}))


def test_who_takes_what():
    taken = {name: "".join(t[0] for t in task_class(name).takes) for name in TASKS}
    assert {name for name, t in taken.items() if t == "fgrtlc"} == {
        "tnews", "iflytek", "afqmc", "ocnli", "cmnli", "wsc", "csl",
    }  # fmt: skip
    assert taken["c3"] == taken["chid"] == "fgrt" and taken["cluener"] == taken["cmrc2018"] == "fg"
    with pytest.raises(DataError, match="^--r-drop is not for cmrc2018: it needs a cross-entropy"):
        task("cmrc2018", r_drop=4.0)
    with pytest.raises(DataError, match="^--can is not for chid: it needs classes that are the"):
        task("chid", can=True)
    for first, second, _ in tricks.EXCLUSIVE:
        with pytest.raises(DataError, match="exclude each other"):
            task("tnews", **{first: 1.0, second: 1.0})


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_losses_by_hand():
    logits = np.random.default_rng(0).normal(size=(4, 3))
    labels, counts, rows = np.array([0, 0, 2, 2]), np.array([6, 3, 1]), np.arange(4)

    def loss(**settings):
        found = trained.cross_entropy(Settings(**settings), counts)
        return float(found(labels, logits.astype("float32")))

    log_p = log_softmax(logits)
    p = np.exp(log_p[rows, labels])
    assert loss() == pytest.approx(-log_p[rows, labels].mean(), rel=1e-5)
    tailr = -np.log(0.2 + 0.8 * p) / 0.8
    assert loss(tailr=0.2) == pytest.approx(tailr.mean(), rel=1e-5)
    adjusted = log_softmax(logits + 0.5 * np.log(counts / 10))
    adjusted = -adjusted[rows, labels].mean()
    assert loss(logit_adjustment=0.5) == pytest.approx(adjusted, rel=1e-5)
    apart = ((np.exp(log_p[::2]) - np.exp(log_p[1::2])) * (log_p[::2] - log_p[1::2])).sum(axis=1)
    assert loss(r_drop=4.0) == pytest.approx(loss() + apart.mean(), rel=1e-5)
    assert loss(r_drop=2.0, tailr=0.2) == pytest.approx(tailr.mean() + apart.mean() / 2, rel=1e-5)


def test_a_class_that_no_row_has_counts_as_one():
    def loss(counts):
        found = trained.cross_entropy(Settings(logit_adjustment=1.0), np.array(counts))
        return float(found([0], [[0.0, 0.0, 0.0]]))

    assert loss([3, 1, 0]) == pytest.approx(np.log(7 / 4))
    assert loss([3, 1, 4]) == pytest.approx(np.log(8 / 3))


def test_neutral_values_change_nothing():
    neutral = Settings(r_drop=0.0, tailr=0.0, logit_adjustment=0.0, fgm=0.0, gradient_penalty=0.0)
    assert type(trained.cross_entropy(neutral)) is keras.losses.SparseCategoricalCrossentropy
    assert trained.regularized(neutral) == (trained.Model, {})
    assert tricks.label(neutral) == "" and not task("tnews", can=False).settings.can


def test_a_run_with_three_tricks(clue, tiny, tmp_path, capsys):
    flags = ["--data", clue, "--model", tiny, "--output", tmp_path, "--maxlen", 48, "--epochs", 1]
    experiment.main(Tnews, [*map(str, flags), *tricks.flags_of("r-drop+gradient-penalty+can")])
    folder = tmp_path / "tnews" / "tiny-folder-r-drop4+gradient-penalty1+can-seed0"
    result = json.loads((folder / "result.json").read_text())
    assert {"accuracy", "balanced_accuracy", "accuracy without CAN"} < set(result["scores"])
    assert "Tricks: r-drop4+gradient-penalty1+can" in capsys.readouterr().out
    stored = json.loads((folder / "settings.json").read_text())["settings"]
    assert (stored["r_drop"], stored["gradient_penalty"], stored["can"]) == (4.0, 1.0, True)


@pytest.mark.slow
def test_runs_with_tricks(clue, tmp_path):
    """One run each, without dropout: then R-Drop's two passes are equal, and its loss is plain."""
    still = CONFIG | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "tiny.json").write_text(json.dumps(still))
    common = ["--data", clue, "--model", tmp_path / "tiny.json", "--output", tmp_path / "results"]

    def run(*names):
        flags = tricks.flags_of("+".join(names) or "none")
        experiment.main(Tnews, [*map(str, common), "--maxlen", "48", "--epochs", "1", *flags])
        folder = tmp_path / "results" / "tnews" / "-".join(["tiny-folder", *label(names), "seed0"])
        with (folder / "history.csv").open() as file:
            (row,) = csv.DictReader(file)
        stored = json.loads((folder / "settings.json").read_text())["settings"]
        return float(row["loss"]), json.loads((folder / "result.json").read_text()), stored

    def label(names):
        return ["+".join(name.replace("=", "") for name in names)] if names else []

    plain, result, stored = run()
    assert stored["r_drop"] == 0.0 and "balanced_accuracy" in result["scores"]
    loss, with_can, stored = run("can")
    assert loss == plain and stored["can"] is True
    without = with_can["scores"]["accuracy without CAN"]
    assert without == result["scores"]["accuracy"]
    assert with_can["scores"]["accuracy"]["score"] == with_can["score"]
    loss, _, _ = run("r-drop=4", "fgm=0.5")
    twice, _, stored = run("fgm=0.5")
    assert loss == pytest.approx(twice, rel=1e-3) and stored["fgm"] == 0.5
    assert 1.9 * plain < twice < 2.3 * plain  # L(e) + L(e + r)
    loss, _, stored = run("gradient-penalty=1")
    assert plain < loss < 1.5 * plain and stored["gradient_penalty"] == 1.0


def test_can_takes_the_counts_of_the_training_rows():
    kind = task("afqmc", can=True)
    kind.learn_about([data.Record(label=label) for label in "1110"])
    assert kind.counts.tolist() == [1, 3]
    # a sure row and an undecided one, by hand: below (.05, .95), a row (.5, .5) has columns of
    # means (.275, .725), times the prior (.25, .75)
    logits = np.log([[0.05, 0.95], [0.5, 0.5]])
    unsure = np.array([0.5 / 0.275 * 0.25, 0.5 / 0.725 * 0.75])
    expected = [[0.05, 0.95], unsure / unsure.sum()]
    np.testing.assert_allclose(kind.correct(logits), expected, rtol=1e-6)
    assert task("afqmc").correct(logits) is logits


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("cmrc2018", "cluener")]


@pytest.mark.parametrize("name", ["c3", *SLOW])
def test_adversarial_training_finds_the_embeddings(name, tiny):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("adversarial training is for TensorFlow")
    more = {"r_drop": 1.0} if name == "c3" else {}
    kind = task(name, maxlen=32, batch_size=4, fgm=0.5, **more)
    source = data.find(name, "sample")
    records = kind.read(source, "train", 4)
    tokenizer = backbone.tokenizer_for("scratch", source, [], kind.tokens)
    batches = experiment.Preparation(kind, tokenizer, seed=0)(records, training=True).batches
    (tokens, *_), targets = batches[0]
    assert len(tokens) == (8 if more else 4)
    built = kind.build(backbone.load(str(tiny), tokenizer, 32))
    Trained, regularization = trained.regularized(kind.settings)
    assert Trained is AdversarialModel and isinstance(regularization["regularization"], FGM)
    model = Trained(built.inputs, built.outputs)
    model.compile("sgd", kind.loss(), **regularization)
    first = model.fit(batches, epochs=1, shuffle=False, verbose=0).history["loss"][0]
    plain = float(model.loss(targets, model.predict(batches[0][0], verbose=0)))
    assert first > 1.5 * plain > 0


def finished(trick, seed, score, **settings):
    about = {"r_drop": 0.0, "epochs": 3, "seed": [seed], "name": "", **settings}
    result = {"task": "tnews", "seed": seed, "score": score, "data": "folder"}
    return Run(Path(f"small{trick}-seed{seed}"), {"settings": about}, result)


def test_the_table_compares_equal_seeds():
    runs = [finished("", seed, score) for seed, score in ((0, 0.5), (1, 0.52), (2, 0.51))]
    runs += [finished("-r-drop4", s, x, r_drop=4.0, name="b") for s, x in ((0, 0.51), (1, 0.55))]
    runs += [finished("-long", 0, 0.9, epochs=9), finished("-x", 0, 0.9, epochs=8, r_drop=4.0)]
    assert table(runs) == [("tnews", "r-drop4", "+2.00 ± 1.41 (2 seeds)")]
    assert text(table(runs)).split("\n")[-2:] == [
        "         tnews",
        "r-drop4  +2.00 ± 1.41 (2 seeds)",
    ]
    assert text([]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_with_each_of_its_tricks(name, tiny, tmp_path):
    kind = task_class(name)
    flags = ["--data", "sample", "--model", tiny, "--maxlen", 40, "--epochs", 1, "--limit", 8]
    for trick in kind.takes:
        more = tricks.flags_of(trick.replace("_", "-"))
        experiment.main(kind, [*map(str, [*flags, "--output", tmp_path]), *more])
    assert len(list(tmp_path.glob(f"{name}/*/result.json"))) == len(kind.takes)
