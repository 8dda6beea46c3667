"""The masked language model: against transformers, interrupted, and loaded again."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from clue_baselines.data import DataError
from keras_extras.bert4keras import build_transformer_model, save_pretrained
from keras_extras.optimizers import Adam
from keras_extras.vocabulary import load_vocab, save_vocab
from pretraining import train
from pretraining.batches import MaskedBatches
from pretraining.model import masked_language_model
from pretraining.settings import Settings, parse
from pretraining.starting_point import check_fit, start

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "max_position": 16,
    "segment_vocab_size": 2,
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


def test_batches_of_a_step_are_always_the_same(built):
    batches = MaskedBatches(built, batch_size=4, steps=5, seed=3)
    batches.set_epoch(1)
    seen = [batches[i] for i in range(5)]
    batches.set_epoch(0)
    first = batches[0]
    batches.set_epoch(1, skip=3)
    assert len(batches) == 2
    for ours, theirs in zip(batches[0][0], seen[3][0], strict=True):
        assert (ours == theirs).all()
    assert (first[0][0] != seen[0][0][0]).any()


def test_a_pass_shows_every_sequence_once(built):
    batches = MaskedBatches(built, batch_size=4, steps=3)
    per_pass = [batches.rows(step) for step in range(batches.steps_per_pass)]
    assert len(np.unique(np.concatenate(per_pass))) == 4 * batches.steps_per_pass
    again = [batches.rows(batches.steps_per_pass + step) for step in range(2)]
    assert (np.stack(again) != np.stack(per_pass[:2])).any()


def test_an_evaluation_is_spread_over_the_part(built):
    batches = MaskedBatches(built, "heldout", batch_size=4)
    steps = batches.steps_per_pass
    assert steps > 1 and len(batches) == steps
    assert (np.diff(batches.rows(0)) == steps).all()
    seen = np.concatenate([batches.rows(step) for step in range(steps)])
    assert sorted(seen) == list(range(4 * steps))


@pytest.mark.parametrize("architecture", ["bert", "roformer"])
def test_head_at_some_places_is_the_head_everywhere(built, architecture):
    batches = MaskedBatches(built, batch_size=3, steps=1)
    config = TINY | {"vocab_size": len(batches.vocabulary)}
    bert, model = masked_language_model(None, architecture, **config)
    whole = build_transformer_model(
        model=architecture, with_mlm="linear", return_keras_model=False, **config
    )
    whole.model.set_weights(bert.model.get_weights())
    (tokens, segments, places), _, _ = batches[0]
    everywhere = whole.model.predict([tokens, segments], verbose=0)
    expected = np.take_along_axis(everywhere, places[:, :, None], 1)
    found = model.predict([tokens, segments, places], verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_part_of_the_vocabulary_in_another_order(built, tmp_path):
    vocabulary = load_vocab(built / "vocab.txt")
    pad, *others = vocabulary
    tokens = [pad, "好", *reversed(others), "坏"]
    save_vocab(tmp_path / "all.txt", {token: i for i, token in enumerate(tokens)})
    config = TINY | {"vocab_size": len(tokens), "return_keras_model": False}
    whole = build_transformer_model(with_mlm="linear", **config)
    rng = np.random.default_rng(0)
    whole.model.set_weights([rng.normal(0, 0.3, w.shape) for w in whole.model.get_weights()])
    save_pretrained(whole, tmp_path / "whole", tmp_path / "all.txt")

    settings = Settings(model=str(tmp_path / "whole"))
    _, architecture, options = start(settings, vocabulary)
    _, part = masked_language_model(settings.model, architecture, **options)
    (ids, segments, places), _, _ = MaskedBatches(built, batch_size=3, steps=1)[0]
    kept = np.array([tokens.index(token) for token in vocabulary])
    expected = whole.model.predict([kept[ids], segments], verbose=0)[:, :, kept]
    expected = np.take_along_axis(expected, places[:, :, None], 1)
    np.testing.assert_allclose(
        part.predict([ids, segments, places], verbose=0), expected, rtol=1e-4, atol=1e-4
    )
    assert "keep_tokens" not in start(settings, load_vocab(tmp_path / "all.txt"))[2]
    with pytest.raises(DataError, match=r"lacks 1 tokens of the corpus \(龘\)"):
        start(settings, vocabulary | {"龘": len(vocabulary)})


@pytest.mark.parametrize(
    ("named", "asked", "found"),
    [
        ({}, "", "bert"),
        ({}, "roformer", "roformer"),
        ({"model_type": "roformer"}, "", "roformer"),
        ({"model_type": "roformer"}, "roformer", "roformer"),
        ({"model_type": "roformer"}, "bert", "--architecture bert: .* is of .* roformer"),
        ({"model_type": "albert"}, "", "only bert and roformer can be pretrained"),
    ],
)
def test_architecture(tmp_path, named, asked, found):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY | named | {"vocab_size": 30}))
    settings = Settings(model=str(path), architecture=asked)
    if len(found) < 10:
        assert start(settings, {})[1] == found
    else:
        with pytest.raises(DataError, match=found):
            start(settings, {})


def test_a_local_model_is_found_from_anywhere(config, monkeypatch):
    monkeypatch.chdir(config.parent)
    assert parse("", ["corpus", "--model", config.name])[1].model == str(config)
    (config.parent / "keras-extras-mini").mkdir()
    for name in ("keras-extras-mini", "hfl/rbt3"):
        assert parse("", ["corpus", "--model", name])[1].model == name


@pytest.mark.parametrize("architecture", ["bert", "roformer"])
def test_same_losses_as_transformers(built, tmp_path, run_python, torch_python, architecture):
    batches = MaskedBatches(built, batch_size=8, steps=50)
    keras.utils.set_random_seed(0)
    config = TINY | {"vocab_size": len(batches.vocabulary)}
    config |= {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "hidden_act": "gelu"}
    bert, model = masked_language_model(None, architecture, **config)
    save_pretrained(bert, tmp_path / "start", built / "vocab.txt")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(Adam(1e-3, epsilon=1e-6), loss)
    ours, theirs = [], []
    for i in range(50):
        inputs, labels, weights = batches[i]
        model.reset_metrics()  # Keras 3.12 goes on with the mean
        ours.append(float(model.train_on_batch(list(inputs), labels, weights)))
        everywhere = np.full(inputs[0].shape, -100)
        rows, columns = np.nonzero(weights)
        everywhere[rows, inputs[2][rows, columns]] = labels[rows, columns]
        theirs.append(np.stack([inputs[0], everywhere]))
    np.savez(tmp_path / "batches.npz", *theirs)
    peer = Path(__file__).with_name("torch_peer.py")
    run_python(torch_python, peer, tmp_path / "start", tmp_path / "batches.npz", tmp_path / "t.npz")
    expected = np.load(tmp_path / "t.npz")["losses"]
    assert np.mean(ours[-5:]) < np.mean(ours[:5])  # it learns
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


class Stop(keras.callbacks.Callback):
    """Ctrl-C in the middle."""

    def __init__(self, batch):
        super().__init__()
        self.batch, self.seen = batch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.batch:
            raise KeyboardInterrupt


def weights_of(folder):
    model = build_transformer_model(str(folder), with_mlm=True)
    return [np.array(w) for w in model.get_weights()]


def interrupted(monkeypatch, steps, argv):
    """Runs a training and stops it after so many steps."""
    stop = Stop(steps)

    class Stopped(train.Resume):
        def fit(self, model, epochs, callbacks=(), **options):
            return super().fit(model, epochs, [*callbacks, stop], **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "Resume", Stopped)
        with pytest.raises(SystemExit) as exit:
            train.main(argv)
    assert exit.value.code == 130


def history_of(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def dropout_of(folder):
    """What stands in the model's config.json."""
    return json.loads((folder / "config.json").read_text("utf-8"))["hidden_dropout_prob"]


def test_interrupted_and_resumed_is_uninterrupted(built, config, tmp_path, monkeypatch, capsys):
    flags = ["--steps", "12", "--evaluate-every", "4", "--batch-size", "4", "--save-every", "2"]
    flags += ["--evaluate-batches", "1", "--model", str(config), "--dropout", "0.2"]
    train.main([str(built), *flags, "--output", str(tmp_path / "whole")])
    whole = tmp_path / "whole/pretraining/tiny-seed0"
    assert "--recipe mini" in capsys.readouterr().out
    interrupted(monkeypatch, 7, [str(built), *flags, "--output", str(tmp_path / "parts")])
    assert "--resume" in capsys.readouterr().err
    parts = tmp_path / "parts/pretraining/tiny-seed0"
    stored = json.loads((parts / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert stored["architecture"] == "bert"
    early = weights_of(parts / "model")  # of the first evaluation
    assert dropout_of(parts / "model") == 0.1  # that of the given configuration, not 0.2
    another = shutil.copytree(built, tmp_path / "another")
    about = json.loads((another / "corpus.json").read_text(encoding="utf-8"))
    (another / "corpus.json").write_text(json.dumps(about | {"rare": 2}))
    with pytest.raises(SystemExit, match="is not the corpus that"):
        train.main([str(another), "--resume", str(parts)])
    train.main([str(built), "--resume", str(parts)])
    for ours, theirs in zip(weights_of(parts / "model"), weights_of(whole / "model"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert any((a != b).any() for a, b in zip(early, weights_of(parts / "model"), strict=True))
    assert dropout_of(parts / "model") == 0.1
    assert not (parts / "model.tmp").exists()
    assert [int(row["step"]) for row in history_of(parts)] == [4, 8, 12]
    assert (parts / "curve.png").stat().st_size > 5000
    goes_on_from_weights(built, whole / "model", tmp_path)


def goes_on_from_weights(built, folder, tmp_path):
    """With its weights and its dropout."""
    flags = ["--steps", "2", "--evaluate-every", "2", "--batch-size", "4"]
    flags += ["--model", str(folder), "--learning-rate", "1e-9", "--output", str(tmp_path / "on")]
    train.main([str(built), *flags])
    further = tmp_path / "on/pretraining/tiny-seed0-seed0/model"
    for ours, theirs in zip(weights_of(further), weights_of(folder), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    stored = [json.loads((at / "config.json").read_text("utf-8")) for at in (folder, further)]
    assert stored[0] == stored[1]


def test_order_of_sentences(built, config, tmp_path, monkeypatch, capsys):
    flags = ["--steps", "4", "--evaluate-every", "2", "--batch-size", "4", "--save-every", "1"]
    flags += ["--evaluate-batches", "1", "--model", str(config), "--architecture", "roformer"]
    flags += ["--sentence-order"]
    train.main([str(built), *flags, "--output", str(tmp_path / "whole")])
    whole = tmp_path / "whole/pretraining/tiny-seed0"
    assert "of the order" in capsys.readouterr().out
    for row in history_of(whole):
        for part in ("", "heldout_"):
            assert 0 <= float(row[f"{part}order_accuracy"]) <= 1
            assert 0 <= float(row[f"{part}accuracy"]) <= 1
            assert float(row[f"{part}loss"]) > 2 > float(row[f"{part}order_loss"]) > 0
    interrupted(monkeypatch, 3, [str(built), *flags, "--output", str(tmp_path / "parts")])
    parts = tmp_path / "parts/pretraining/tiny-seed0"
    train.main([str(built), "--resume", str(parts)])
    for ours, theirs in zip(weights_of(parts / "model"), weights_of(whole / "model"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    measured = [
        [row | {"tokens_per_second": 0} for row in history_of(run)] for run in (parts, whole)
    ]
    assert measured[0] == measured[1]
    # its weights go on, with a head for the order that begins anew
    settings = Settings(model=str(whole / "model"))
    _, architecture, options = start(settings, load_vocab(built / "vocab.txt"))
    _, model = masked_language_model(settings.model, architecture, True, **options)
    inputs, labels, _ = MaskedBatches(built, batch_size=3, steps=1, sentence_order=True)[0]
    outputs = model.predict(list(inputs), verbose=0)
    assert outputs["words"].shape[:2] == labels["words"].shape
    np.testing.assert_allclose(outputs["order"].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--resume", "nowhere"], "no run there"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--batch-size", "100000"], "fewer than a batch"),
        (["--steps", "12", "--evaluate-every", "5"], "12 must be a multiple of .* 5"),
        (["--mask", "1"], "--mask must be more than 0 and less than 1"),
        (["--learning-rate", "-1"], "--learning-rate must be"),
        (["--steps", "4", "--accumulate", "5"], "--accumulate must not be more than --steps"),
    ],
)
def test_bad_settings_are_said_in_one_sentence(built, config, tmp_path, flags, said):
    command = [str(built), "--model", str(config), "--output", str(tmp_path)]
    if flags[0] == "--resume":
        command = [str(built)]
    with pytest.raises(SystemExit, match=said):
        train.main([*command, *flags])


def test_devices_that_are_not_there(built, tmp_path, monkeypatch):
    def no_gpu(*_):
        raise RuntimeError("needs a GPU")

    monkeypatch.setattr(train, "get_strategy", no_gpu)
    with pytest.raises(SystemExit, match="^ERROR: needs a GPU"):
        train.main([str(built), "--output", str(tmp_path)])


def test_rows_longer_than_the_model_are_refused_first(built, config, tmp_path):
    config.write_text(json.dumps(TINY | {"max_position": 8}))
    with pytest.raises(SystemExit, match="rows of 16 tokens, .* only 8 positions"):
        train.main(
            [str(built), "--batch-size", "4", "--model", str(config)]
            + ["--output", str(tmp_path / "out")]
        )
    assert not (tmp_path / "out").exists()


def test_order_needs_two_kinds_of_segments():
    bert = SimpleNamespace(layers={}, segment_vocab_size=1)
    with pytest.raises(DataError, match="knows no second segment"):
        check_fit(Settings(sentence_order=True), bert, 16)


def test_no_corpus(config, tmp_path):
    with pytest.raises(SystemExit, match="python -m pretraining.corpus"):
        train.main([str(tmp_path), "--model", str(config), "--output", str(tmp_path / "out")])
