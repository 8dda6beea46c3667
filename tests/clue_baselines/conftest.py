"""A tiny CLUE folder and tiny models, so that whole runs take seconds."""

import json
import shutil

import pytest

from clue_baselines import data

SIZES = {"train": 48, "dev": 45, "test1.0": 10, "test": 12}
CONFIG = {
    "hidden_act": "gelu", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
}  # fmt: skip


@pytest.fixture
def clue(tmp_path, monkeypatch):
    """A data folder with the first rows of the shipped sample and its vocabulary."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "clue"
    (folder / "tnews").mkdir(parents=True)
    shutil.copy(data.SAMPLE / "vocab.txt", folder)
    for split, size in SIZES.items():
        lines = (data.SAMPLE / "tnews" / f"{split}.json").read_bytes().split(b"\n")[:size]
        (folder / "tnews" / f"{split}.json").write_bytes(b"\n".join(lines))
    return folder


@pytest.fixture
def tiny(tmp_path):
    """Configuration of a tiny model from scratch."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def pretrained(tmp_path, clue):
    """Makes a folder with a pretrained model (random weights) and its vocabulary."""

    def make(vocab=None, **changed):
        from keras_extras.bert4keras import build_transformer_model

        folder = tmp_path / "pretrained"
        folder.mkdir()
        vocab = vocab or (clue / "vocab.txt").read_text(encoding="utf-8")
        (folder / "vocab.txt").write_text(vocab, encoding="utf-8")
        config = CONFIG | {"vocab_size": vocab.count("\n"), "model_type": "bert"}
        (folder / "config.json").write_text(json.dumps(config | changed))
        (tmp_path / "saved.json").write_text(json.dumps(config))
        bert = build_transformer_model(str(tmp_path / "saved.json"), return_keras_model=False)
        bert.save_weights_as_checkpoint(str(folder / "model.safetensors"))
        return folder

    return make
