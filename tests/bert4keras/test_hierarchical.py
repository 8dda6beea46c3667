"""A checkpoint of 512 positions serves 2,048 and more (kexue.fm/archives/7947)."""

import json

import numpy as np

from keras_extras.bert4keras import build_transformer_model

CONFIG = {
    "vocab_size": 21,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def test_long_text_from_a_checkpoint_of_512_positions(tmp_path):
    config, checkpoint = str(tmp_path / "bert_config.json"), str(tmp_path / "bert_model.ckpt")
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG))
    bert = build_transformer_model(config, return_keras_model=False)
    table = bert.model.get_layer("Embedding-Position")
    table.set_weights([np.random.default_rng(0).normal(size=(512, 8))])
    bert.save_weights_as_checkpoint(checkpoint)

    long = build_transformer_model(config, checkpoint, hierarchical_position=True)
    ids = np.random.default_rng(1).integers(1, 21, (1, 2048)).astype("float32")
    output = long.predict([ids, 0 * ids], verbose=0)
    assert output.shape == (1, 2048, 8) and np.isfinite(output).all()

    p = table.get_weights()[0].astype("float64")
    u = (p - 0.4 * p[0]) / 0.6
    golden = (0.4 * u[:, None] + 0.6 * u[None, :]).reshape(-1, 8)[:2048]
    np.testing.assert_allclose(golden[:512], p, atol=1e-6)
    layer = long.get_layer("Embedding-Position")
    x = np.random.default_rng(2).normal(size=(1, 2048, 8)).astype("float32")
    np.testing.assert_allclose(layer(x), x + golden, rtol=1e-4, atol=1e-5)

    # within 512 tokens nothing changes
    np.testing.assert_allclose(
        long.predict([ids[:, :512], 0 * ids[:, :512]], verbose=0),
        bert.model.predict([ids[:, :512], 0 * ids[:, :512]], verbose=0),
        atol=1e-4,
    )
