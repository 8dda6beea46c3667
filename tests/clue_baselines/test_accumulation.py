"""--accumulate on real data: four batches of 8 rows make the update of one batch of 32."""

import json

import keras
import numpy as np
import pytest

from clue_baselines import backbone, data
from clue_baselines.recipes import make_optimizer
from clue_baselines.settings import Settings

CONFIG = {
    "attention_probs_dropout_prob": 0.0,  # masks of dropout would differ
    "hidden_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
}
ROWS, LENGTH = 640, 32


@pytest.mark.slow
def test_same_weights_as_the_large_batch(clue_data, tmp_path):
    """20 updates on TNEWS, in the same order of rows, in float64."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    source = data.find("tnews", str(clue_data))
    records = data.read_records(source.path("train"), ROWS)
    texts = [record.text("sentence") for record in records]
    tokenizer = backbone.tokenizer_for(str(config), source, texts)
    ids = np.zeros((ROWS, LENGTH), "int32")
    for line, text in zip(ids, texts, strict=True):
        row = tokenizer.encode(text, maxlen=LENGTH)[0]
        line[: len(row)] = row
    labels = np.array([int(record["label"]) - 100 for record in records])
    assert len(set(labels)) > 10

    keras.config.set_dtype_policy("float64")
    before, weights = None, {}
    for accumulate in (1, 4):
        bert = backbone.load(str(config), tokenizer, LENGTH)
        logits = keras.layers.Dense(17)(bert.model.output[:, 0])
        model = keras.Model(bert.model.inputs, logits)
        settings = Settings(optimizer="adam", learning_rate=1e-3, accumulate=accumulate)
        optimizer, said = make_optimizer(settings, pretrained=False)
        assert ("4 batches accumulated" in said) == (accumulate == 4)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=False)
        before = before or model.get_weights()
        model.set_weights(before)
        inputs = [ids, np.zeros_like(ids)]
        model.fit(inputs, labels, batch_size=32 // accumulate, shuffle=False, verbose=0)
        assert int(optimizer.iterations) == ROWS // 32
        weights[accumulate] = model.get_weights()
    moved = max(np.abs(a - b).max() for a, b in zip(before, weights[1], strict=True))
    apart = max(np.abs(a - b).max() for a, b in zip(weights[4], weights[1], strict=True))
    print(f"weights moved by up to {moved:.3g}, and are apart by up to {apart:.3g}")
    assert moved > 0.01
    assert apart < 1e-9
