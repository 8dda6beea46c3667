"""The masked language model: against transformers, interrupted, and loaded again."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model, save_pretrained
from keras_extras.optimizers import Adam
from pretraining import train
from pretraining.batches import MaskedBatches
from pretraining.model import masked_language_model

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


def test_same_losses_as_transformers(built, tmp_path, run_python, torch_python):
    batches = MaskedBatches(built, batch_size=8, steps=50)
    keras.utils.set_random_seed(0)
    config = TINY | {"vocab_size": len(batches.vocabulary)}
    config |= {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "hidden_act": "gelu"}
    bert, model = masked_language_model(None, **config)
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


def test_interrupted_and_resumed_is_uninterrupted(built, config, tmp_path, monkeypatch, capsys):
    flags = ["--steps", "12", "--evaluate-every", "4", "--batch-size", "4", "--save-every", "2"]
    flags += ["--evaluate-batches", "1", "--model", str(config), "--dropout", "0.2"]
    train.main([str(built), *flags, "--output", str(tmp_path / "whole")])
    whole = tmp_path / "whole/pretraining/tiny-seed0"
    stop = Stop(7)

    class Stopped(train.Resume):
        def fit(self, model, epochs, callbacks=(), **options):
            return super().fit(model, epochs, [*callbacks, stop], **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, "Resume", Stopped)
        with pytest.raises(SystemExit) as exit:
            train.main([str(built), *flags, "--output", str(tmp_path / "parts")])
    assert exit.value.code == 130 and "--resume" in capsys.readouterr().err
    parts = tmp_path / "parts/pretraining/tiny-seed0"
    assert not (parts / "model").exists()
    another = shutil.copytree(built, tmp_path / "another")
    about = json.loads((another / "corpus.json").read_text(encoding="utf-8"))
    (another / "corpus.json").write_text(json.dumps(about | {"rare": 2}))
    with pytest.raises(SystemExit, match="is not the corpus that"):
        train.main([str(another), "--resume", str(parts)])
    train.main([str(built), "--resume", str(parts)])
    for ours, theirs in zip(weights_of(parts / "model"), weights_of(whole / "model"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    stored = json.loads((parts / "model/config.json").read_text(encoding="utf-8"))
    assert stored["hidden_dropout_prob"] == 0.1  # that of the given configuration, not 0.2
    with (parts / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [int(row["step"]) for row in history] == [4, 8, 12]
    assert (parts / "curve.png").stat().st_size > 5000
    goes_on_from_weights(built, whole / "model", tmp_path)


def goes_on_from_weights(built, folder, tmp_path):
    """Its weights and its dropout, if the corpus has its vocabulary."""
    flags = ["--steps", "1", "--evaluate-every", "1", "--batch-size", "4"]
    flags += ["--model", str(folder), "--learning-rate", "1e-9", "--output", str(tmp_path / "on")]
    train.main([str(built), *flags])
    further = tmp_path / "on/pretraining/model-seed0/model"
    for ours, theirs in zip(weights_of(further), weights_of(folder), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    stored = [json.loads((at / "config.json").read_text("utf-8")) for at in (folder, further)]
    assert stored[0] == stored[1]
    with pytest.raises(SystemExit, match="has another vocabulary than"):
        train.main([str(built), "--model", "keras-extras-mini", "--output", str(tmp_path)])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--resume", "nowhere"], "no run there"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--batch-size", "100000"], "fewer than a batch"),
    ],
)
def test_bad_settings_are_said_in_one_sentence(built, config, tmp_path, flags, said):
    command = [str(built), "--model", str(config), "--output", str(tmp_path)]
    if flags[0] == "--resume":
        command = [str(built)]
    with pytest.raises(SystemExit, match=said):
        train.main([*command, *flags])


def test_no_corpus(config, tmp_path):
    with pytest.raises(SystemExit, match="python -m pretraining.corpus"):
        train.main([str(tmp_path), "--model", str(config), "--output", str(tmp_path / "out")])
