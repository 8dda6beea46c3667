"""The language model under a task's head."""

import numpy as np
import pytest

from clue_baselines import backbone
from clue_baselines.data import DataError

POSITIONS = 64  # of the tiny models


def test_positions_are_decomposed_for_longer_texts(pretrained):
    folder = str(pretrained())
    tokenizer = backbone.tokenizer_for(folder, source=None, texts=[])
    plain, longer = (backbone.load(folder, tokenizer, n) for n in (POSITIONS, POSITIONS + 1))
    assert plain.description.endswith(" tokens)")
    assert longer.description.endswith("64 positions decomposed)")

    ids = np.random.default_rng(0).integers(1, tokenizer.vocab_size, (2, POSITIONS))
    short = [ids, np.zeros_like(ids)]
    np.testing.assert_allclose(longer.model(short), plain.model(short), rtol=1e-5, atol=1e-6)
    long = [np.tile(x, 3) for x in short]
    first, second, third = np.split(np.asarray(longer.model(long)), 3, axis=1)
    assert np.abs(second - first).mean() > 1e-4 and np.abs(third - second).mean() > 1e-4

    with pytest.raises(DataError, match="--maxlen 4097 .* give --maxlen 4096 or less"):
        backbone.load(folder, tokenizer, POSITIONS**2 + 1)


def test_short_names():
    named = {"scratch": "bert_small", "a/tiny.json": "tiny", "a/bert-v1.5": "bert-v1.5"}
    named |= {"results/pretraining/tiny-seed0/model": "tiny-seed0"}
    assert {model: backbone.short_name(model) for model in named} == named


def test_rotary_positions_have_no_end():
    tokenizer = backbone.tokenizer_for("keras-extras-mini", source=None, texts=[])
    assert "decomposed" not in backbone.load("keras-extras-mini", tokenizer, 4000).description
