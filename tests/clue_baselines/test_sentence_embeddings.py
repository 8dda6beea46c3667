"""Sentence embeddings: what a batch holds, what is read, and each method on the sample."""

import json
import math

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from clue_baselines import data, experiment, sentence_pairs
from clue_baselines.data import DataError, Record
from clue_baselines.sample import make_sts
from clue_baselines.sentence_embeddings import (
    METHODS,
    Pairs,
    ScaledCosineContrast,
    SentenceEmbeddings,
    SentenceSettings,
)
from clue_baselines.trained import TwiceInARow
from keras_extras.tokenization import WordPieceTokenizer
from tests.clue_baselines.conftest import CONFIG

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"小明在哪里他饿"]
TOKENIZER = WordPieceTokenizer({t: i for i, t in enumerate(TOKENS)}, do_lower_case=True)


def task(**settings) -> SentenceEmbeddings:
    return SentenceEmbeddings(SentenceSettings(**{**SentenceEmbeddings.defaults, **settings}))


def pair(**more) -> Record:
    found = Record(sentence1="小明在哪里", sentence2="他饿", **more)
    found.where = "STS-B.train.data, line 7"
    return found


def test_pairs_stand_together_in_training():
    (example,) = task().examples(pair(label=4), TOKENIZER, True)
    assert [" ".join(TOKENIZER.ids_to_tokens(ids)) for ids in example.inputs[0]] == [
        "[CLS] 小 明 在 哪 里 [SEP]",
        "[CLS] 他 饿 [SEP]",
    ]
    assert example.target == 4 and task().batches(True) is Pairs
    batches = Pairs([[example.inputs[0]] * 3], [4, 4, 4], batch_size=2)
    (ids,), targets = batches[0]
    assert ids.shape == (4, 7) and ids[1].tolist() == [2, 10, 11, 3, 0, 0, 0]
    assert (ids[0] == ids[2]).all() and targets.tolist() == [4] * 4


def test_sentences_stand_alone_without_labels_and_in_predictions():
    for settings, training in (({"method": "simcse"}, True), ({}, False)):
        one = task(**settings)
        examples = [e for _ in range(2) for e in one.examples(pair(), TOKENIZER, training)]
        assert [len(e.inputs[0]) for e in examples] == [7, 4] * 2
        assert [e.target for e in examples] == [0, 1, 2, 3]  # a wrong layout is seen
    one = task(method="simcse_supervised")
    pairs = [e for _ in range(2) for e in one.examples(pair(label=5), TOKENIZER, True)]
    assert [e.target for e in pairs] == [0, 1]
    assert task(method="simcse").batches(True) is TwiceInARow
    with pytest.raises(DataError, match="line 7: no 'label'"):
        task().examples(pair(), TOKENIZER, True)


def test_cosine_loss_takes_grades():
    """Cosines 1 and 0, similarities 2 and 3 of 4: ½(½·0² + ½·1²) and ½(¾·1² + ¼·0²)."""
    rows = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    found = float(ScaledCosineContrast(4)([2, 2, 3, 3], rows))
    assert found == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("whitening", "none")])
def test_losses_see_wrong_layouts_and_are_saved(method):
    """Rows of the output are classes for Sentence-BERT, else vectors."""
    loss = task(method=method).loss()
    data = keras.saving.serialize_keras_object(loss)
    twin = keras.saving.deserialize_keras_object(data)
    rows = np.random.default_rng(0).normal(size=(4, 6))
    right, wrong = np.array([[1, 1, 2, 2], [1, 2, 2, 1]])
    assert float(twin(right, rows)) == float(loss(right, rows))
    assert twin.get_config() == loss.get_config()
    with pytest.raises(ValueError, match="neighbours of this one have other targets"):
        loss(wrong, rows)


def test_sentence_bert_learns_by_cross_entropy():
    rows = np.repeat([[0.0, 0.0], [np.log(3), 0.0]], 2, axis=0)
    loss = float(task(method="sentence_bert").loss()(np.array([1, 1, 0, 0]), rows))
    assert loss == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


def test_scores_are_those_of_scipy():
    random = np.random.default_rng(0)
    vectors, labels = random.normal(size=(40, 2, 5)), random.integers(0, 6, 40)
    rho, error = task().more_scores(list(vectors), labels)["spearman"]
    u, v = vectors[:, 0], vectors[:, 1]
    cosines = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
    assert rho == pytest.approx(spearmanr(cosines, labels).statistic)
    assert error == pytest.approx((1 - rho**2) * math.sqrt((1 + rho**2 / 2) / 37))
    with pytest.raises(DataError, match="all numbers of one side are equal"):
        task().more_scores(list(vectors), np.ones(40))


def test_whitened_vectors_have_mean_0_and_covariance_1():
    vectors = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 4))
    found = task(method="whitening").correct(vectors)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(4), atol=1e-6)
    assert task(method="whitening", whitening_dim=2).correct(vectors).shape == (200, 2)
    assert task().correct(vectors) is vectors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tb", "STS-B.valid.data, line 2: expected sentence TAB sentence TAB similarity.*2 col"),
        ("a\tb\t6", "line 2: unknown label '6'"),
        ("\tb\t5", "line 2: the text under 'sentence1' is empty"),
    ],
)
def test_bad_lines(line, message, tmp_path, monkeypatch):
    (tmp_path / "sts").mkdir()
    (tmp_path / "sts" / "STS-B.valid.data").write_text(f"一\t二\t3\n{line}\n", encoding="utf-8")
    one = task(data=str(tmp_path))
    with pytest.raises(DataError, match=message):
        for record in one.read(one.find(), "dev"):
            one.texts(record)
    with pytest.raises(DataError, match="STS-B.train.data is missing, and --method cosent learns"):
        one.read(one.find(), "train")
    monkeypatch.delenv("CLUE_DATA", raising=False)
    with pytest.raises(DataError, match="The sample has STS-B, and no BQ"):
        task(task="BQ").find()
    with pytest.raises(DataError, match="no folder .*elsewhere/sts"):
        task(data="elsewhere").find()
    with pytest.raises(DataError, match="--temperature must be above 0"):
        task(temperature=0.0)


def test_sentences_of_dev_serve_where_no_training_pairs_are(tmp_path, capsys):
    (tmp_path / "sts").mkdir()
    (tmp_path / "sts" / "BQ.valid.data").write_text("一\t二\t1\n三\t四\t0\n", encoding="utf-8")
    one = task(task="BQ", method="simcse", data=str(tmp_path))
    assert [one.texts(r) for r in one.read(one.find(), "train")] == [["一", "二"], ["三", "四"]]
    assert "No training pairs of BQ" in capsys.readouterr().out


def run(method, folder, *more):
    """Runs the script on the sample; the content of `result.json` and what was answered."""
    config = folder / "tiny.json"
    config.write_text(json.dumps(CONFIG))
    flags = ["--data", "sample", "--model", config, "--output", folder, "--method", method]
    flags += ["--epochs", 1, "--limit", 24, "--batch-size", 8, "--maxlen", 24, *more]
    experiment.main(SentenceEmbeddings, [str(flag) for flag in flags])
    (result,) = folder.glob("sentence_embeddings/*-seed0/result.json")
    lines = (result.parent / "similarities.json").read_text(encoding="utf-8").splitlines()
    return json.loads(result.read_text()), [json.loads(line)["similarity"] for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_on_the_sample(method, tmp_path, capsys):
    """The answers are scored as SciPy does it; the methods without training do not train."""
    result, answers = run(method, tmp_path, "--pooling", "first-last-avg")
    source = sentence_pairs.find("STS-B", "sample")
    test = sentence_pairs.read(source.path("test"), "012345")
    want = spearmanr(answers, [record["label"] for record in test]).statistic
    assert result["scores"]["test spearman"]["score"] == pytest.approx(want, abs=2e-3)
    assert result["metric"] == "spearman" and -1 <= result["score"] <= 1
    assert result["best_epoch"] == (0 if method in ("whitening", "none") else 1)
    said = capsys.readouterr().out
    assert "sentence_embeddings test spearman" in said and "50 pairs, seed 0" in said


def test_training_on_other_pairs(tmp_path):
    """On pairs of OCNLI in the order contradiction < neutral < entailment."""
    result, answers = run("cosent", tmp_path, "--train-task", "ocnli")
    assert len(answers) == 50 and result["train_rows"] == 24
    (folder,) = tmp_path.glob("sentence_embeddings/tiny-STS-B-from-ocnli-cosent-cls-seed0")
    seen = json.loads((folder / "settings.json").read_text())["data"]["sha256"]
    assert set(seen) == {"train.json", "STS-B.valid.data", "STS-B.test.data"}


def test_shipped_sample_is_what_its_script_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_sts, "FOLDER", tmp_path)
    make_sts.main()
    paths = sorted((data.SAMPLE / "sts").iterdir())
    assert len(paths) == 3 and sum(path.stat().st_size for path in paths) < 25000
    for path in paths:
        assert (tmp_path / "sts" / path.name).read_bytes() == path.read_bytes()
