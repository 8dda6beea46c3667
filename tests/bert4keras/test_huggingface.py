"""Hugging Face models load, compute the same and go back; transformers on torch is the judge."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model
from keras_extras.bert4keras.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from keras_extras.bert4keras.huggingface import (
    as_bert4keras,
    model_type_of,
    sinusoidal_positions,
    to_huggingface,
)
from keras_extras.bert4keras.huggingface.config import transformer_config
from keras_extras.bert4keras.huggingface.export import huggingface_config, save_pretrained
from keras_extras.bert4keras.models import original

PEER = Path(__file__).with_name("huggingface_peer.py")
spec = importlib.util.spec_from_file_location("huggingface_peer", PEER)
peer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peer)

# name: (class in bert4keras, options for the heads, without their activations)
MODELS = {
    "bert": ("BERT", {"with_mlm": "linear", "with_nsp": True}),
    "ernie": ("BERT", {"with_mlm": "linear", "with_nsp": True}),
    "albert": ("ALBERT", {"with_mlm": "linear", "with_nsp": True}),
    "roformer": ("RoFormer", {"with_mlm": "linear"}),
    "electra": ("ELECTRA", {"with_discriminator": "linear"}),
    "gpt2": ("GPT2", {"final_activation": "linear"}),
    "openai-gpt": ("GPT", {"final_activation": "linear"}),
    "t5.1.0": ("T5", {"with_lm": "linear"}),
    "t5.1.1": ("T5", {"with_lm": "linear"}),
    "mt5.1.1": ("T5", {"with_lm": "linear"}),
}
BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
T5 = {"model_type": "t5", "vocab_size": 50, "d_model": 16, "d_kv": 6, "d_ff": 32}
T5 |= {"num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def models(torch_python, run_python, tmp_path_factory) -> Path:
    """Small random models of transformers, and what they compute."""
    folder = tmp_path_factory.mktemp("huggingface")
    run_python(torch_python, PEER, "make", folder)
    return folder


@pytest.fixture(scope="module")
def ours(models):
    """The same models, built by us from their directories (once each)."""
    built = {}

    def get(name):
        if name not in built:
            built[name] = build_transformer_model(
                models / name, return_keras_model=False, **MODELS[name][1]
            )
        return built[name]

    return get


def compute(name, transformer) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Logits of tokens and probabilities of pairs; and where no padding is."""
    data = peer.batch()
    inputs, used = [data["tokens"], data["segments"]], data["tokens"] > 0
    if "gpt" in name:
        inputs = data["tokens"]
    elif "t5" in name:
        inputs, used = [data["tokens"], data["targets"]], data["targets"] > 0
        used[:, 0] = True  # the start token is 0
    result = transformer.model.predict(inputs, verbose=0)
    if not isinstance(result, list):
        return {"tokens": result}, used
    return {"pair": result[0], "tokens": result[1]}, used


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_those_of_transformers(name, models, ours):
    transformer = ours(name)
    assert MODELS[name][0] == type(transformer).__name__
    theirs = np.load(models / name / "outputs.npz")
    found, used = compute(name, transformer)
    assert set(found) == set(theirs.files)
    tokens = theirs["tokens"]
    np.testing.assert_allclose(found["tokens"].reshape(tokens.shape)[used], tokens[used], atol=2e-5)
    if "pair" in found:
        np.testing.assert_allclose(found["pair"], softmax(theirs["pair"]), atol=1e-6)


def test_transformers_loads_what_save_pretrained_writes(
    models, ours, tmp_path, torch_python, run_python
):
    for name in MODELS:
        save_pretrained(ours(name), tmp_path / name)
    printed = run_python(torch_python, PEER, "check", tmp_path)
    report = json.loads(printed.split("REPORT")[1])
    assert report == {
        name: {} for name in MODELS
    }  # nothing missing, unexpected or of another shape
    for name in MODELS:
        before = np.load(models / name / "outputs.npz")
        after = np.load(tmp_path / name / "outputs.npz")
        for key in before.files:
            np.testing.assert_allclose(after[key], before[key], atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_a_pytorch_file_holds_the_same_as_safetensors(name, models):
    architecture = "mt5" if name == "mt5.1.1" else None
    want = open_checkpoint(models / name, architecture)
    found = open_checkpoint(models / name / "weights.bin", architecture)
    assert found.names() == want.names()
    for key in want:
        assert found.shape(key) == want.shape(key) == want[key].shape
        np.testing.assert_array_equal(found[key], want[key])


def test_the_legacy_pytorch_format(models):
    new = open_checkpoint(models / "bert" / "weights.bin")
    old = open_checkpoint(models / "bert" / "legacy.bin")
    assert old.names() == new.names()
    assert all(np.array_equal(old[name], new[name]) for name in new)


def test_a_bare_encoder_has_no_prefix(models):
    from safetensors.numpy import load_file, save_file

    folder = models / "bare"
    folder.mkdir()
    stored = load_file(models / "electra" / "model.safetensors")
    bare = {k.removeprefix("electra."): v for k, v in stored.items() if k.startswith("electra.")}
    save_file(bare, folder / "model.safetensors")
    names = open_checkpoint(folder, "electra").names()
    want = [n for n in open_checkpoint(models / "electra").names() if n.startswith("electra/")]
    assert names == want


def test_layouts_by_hand():
    """A Dense kernel is transposed, a fused one split, an embedding neither."""
    kernel = np.arange(6.0).reshape(3, 2)
    bert = as_bert4keras(
        Checkpoint.from_arrays(
            {
                "bert.encoder.layer.11.intermediate.dense.weight": kernel,
                "bert.encoder.layer.11.output.LayerNorm.gamma": np.ones(2),
                "bert.embeddings.word_embeddings.weight": kernel,
                "bert.embeddings.position_ids": np.arange(5),
                "cls.predictions.decoder.weight": kernel,
                "classifier.weight": kernel,
            }
        )
    )
    assert bert.names() == [
        "bert/embeddings/word_embeddings",
        "bert/encoder/layer_11/intermediate/dense/kernel",
        "bert/encoder/layer_11/output/LayerNorm/gamma",
        "classifier.weight",
    ]
    dense = "bert/encoder/layer_11/intermediate/dense/kernel"
    assert bert.shape(dense) == (2, 3)
    np.testing.assert_array_equal(bert[dense], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(bert["bert/embeddings/word_embeddings"], kernel)

    fused = {
        "h.3.attn.c_attn.weight": np.arange(12.0).reshape(2, 6),
        "h.3.attn.c_attn.bias": np.arange(6.0),
        "wte.weight": kernel,
    }
    gpt = as_bert4keras(Checkpoint.from_arrays(fused))
    prefix = "gpt/transformer/layer_3/attention/self/"
    np.testing.assert_array_equal(gpt[prefix + "key/kernel"], [[2, 3], [8, 9]])
    np.testing.assert_array_equal(gpt[prefix + "value/bias"], [4, 5])
    plan, leftover = to_huggingface({name: gpt.shape(name) for name in gpt}, "gpt2")
    assert leftover == []
    for name, source in plan.items():
        made = source.make(*(gpt[n] for n in source.names))
        assert made.shape == source.shape
        np.testing.assert_array_equal(made, fused[name.removeprefix("transformer.")])


def test_the_task_embedding_of_ernie_joins_the_positions():
    arrays = {
        "ernie.embeddings.position_embeddings.weight": np.array([[1.0, 2], [3, 4]]),
        "ernie.embeddings.task_type_embeddings.weight": np.array([[10.0, 20], [7, 7]]),
    }
    checkpoint = as_bert4keras(Checkpoint.from_arrays(arrays))
    assert checkpoint.names() == ["bert/embeddings/position_embeddings"]
    np.testing.assert_array_equal(
        checkpoint["bert/embeddings/position_embeddings"], [[11, 22], [13, 24]]
    )


def test_softmax_weights_of_t5():
    shared = np.arange(6.0).reshape(3, 2)
    plain = {
        "shared.weight": shared,
        "lm_head.weight": shared,
        "decoder.block.0.layer.0.SelfAttention.q.weight": np.eye(2),
    }
    tied = as_bert4keras(Checkpoint.from_arrays(plain))
    assert "decoder/logits/kernel" not in tied  # T5 1.0: a copy of the embeddings
    untied = as_bert4keras(Checkpoint.from_arrays(plain | {"lm_head.weight": -shared}))
    np.testing.assert_array_equal(untied["decoder/logits/kernel"], -shared.T)
    gated = {k: v for k, v in plain.items() if k != "lm_head.weight"}
    gated["decoder.block.0.layer.2.DenseReluDense.wi_0.weight"] = np.eye(2)
    stored_once = as_bert4keras(Checkpoint.from_arrays(gated))
    np.testing.assert_array_equal(stored_once["decoder/logits/kernel"], shared.T)


def test_rotary_table():
    table = sinusoidal_positions(3, 4)  # frequencies 1 and 1/100
    want = [[np.sin(2.0), np.sin(0.02), np.cos(2.0), np.cos(0.02)]]
    np.testing.assert_allclose(table[2:], want, rtol=1e-6)


def test_unknown_model_types_are_named():
    with pytest.raises(CheckpointError, match="'llama'.*bert, ernie"):
        as_bert4keras(Checkpoint.from_arrays({"model.norm.weight": np.ones(2)}), "llama")
    with pytest.raises(CheckpointError, match="'roberta'"):
        as_bert4keras(Checkpoint.from_arrays({"roberta.pooler.dense.bias": np.ones(2)}))
    with pytest.raises(CheckpointError, match="'llama'"):
        transformer_config({"model_type": "llama"})
    with pytest.raises(CheckpointError, match="are of no architecture"):
        model_type_of(["weights/a"])


@pytest.mark.parametrize(
    ("names", "model_type"),
    [
        (["bert/encoder/transformer/group_0/inner_group_0/LayerNorm/beta"], "albert"),
        (["gpt/embeddings/word_embeddings", "gpt/output/LayerNorm/gamma"], "gpt2"),
        (["gpt/embeddings/word_embeddings"], "openai-gpt"),
        (["shared/embedding", "encoder/block_000/layer_000/layer_norm/scale"], "t5"),
        (["shared/embedding", "encoder/block_000/layer_000/rms_norm/scale"], "mt5"),
        (["electra/embeddings/word_embeddings"], "electra"),
        (["bert/embeddings/word_embeddings", "cls/predictions/output_bias"], "bert"),
    ],
)
def test_model_type_by_names(names, model_type):
    assert model_type_of(names) == model_type


@pytest.mark.parametrize(
    ("changes", "model", "expected"),
    [
        ({}, "bert", {"hidden_act": "gelu_erf", "max_position": 512, "segment_vocab_size": 2}),
        ({"model_type": "ernie", "layer_norm_eps": 1e-5}, "bert", {"layer_norm_epsilon": 1e-5}),
        ({"hidden_act": "gelu_new", "type_vocab_size": 4}, "bert", {"hidden_act": "gelu_tanh"}),
        ({"model_type": "roformer", "embedding_size": None}, "roformer", {"embedding_size": 16}),
        ({"model_type": "roformer", "use_bias": False}, "roformer_v2", {}),
        ({"model_type": "albert", "embedding_size": 8}, "albert", {"embedding_size": 8}),
        ({"model_type": None, "architectures": ["NezhaModel"]}, "nezha", {}),
        (T5, "t5.1.0", {"attention_head_size": 6, "hidden_act": "relu"}),
        (
            T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            "t5.1.1",
            {"hidden_act": ["gelu_tanh", "linear"], "scale_decoder_outputs": False},
        ),
        (T5 | {"model_type": "mt5", "feed_forward_proj": "gated-gelu"}, "mt5.1.1", {}),
        (
            {"attention_head_size": 4, "shared_segment_embeddings": True},
            "bert",
            {"attention_head_size": 4, "shared_segment_embeddings": True},
        ),
        ({"max_position_embeddings": 8, "max_position": 9}, "bert", {"max_position": 9}),
    ],
)
def test_configurations(changes, model, expected):
    name, kwargs = transformer_config(BERT | changes)
    assert name == model
    assert {key: kwargs[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"hidden_act": "quick_gelu"}, "'quick_gelu'"),
        ({"model_type": "roformer", "rotary_value": True}, "rotary_value=True"),
        ({"model_type": "albert", "num_hidden_groups": 2}, "num_hidden_groups=2"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"model_type": "gpt2"}, "gpt2 model lacks 'n_embd'"),
        (T5 | {"num_decoder_layers": 3}, "num_decoder_layers=3"),
        (T5 | {"relative_attention_num_buckets": 16}, "num_buckets=16"),
        (T5 | {"tie_word_embeddings": False}, "softmax weights of its own"),
    ],
)
def test_configurations_that_bert4keras_cannot_compute(changes, words):
    with pytest.raises(CheckpointError, match=words):
        transformer_config(BERT | changes)


SETTINGS = {k: v for k, v in BERT.items() if k != "model_type"}
SETTINGS |= {"hidden_act": "gelu", "max_position": 16, "return_keras_model": False}


class Deeper(original.BERT):
    """A user's own: a layer more in each block, without variables in a checkpoint."""

    def apply_main_layers(self, inputs, index):
        x = super().apply_main_layers(inputs, index)
        return self.apply(x, keras.layers.Dense, units=self.hidden_size, name=f"Deeper-{index}")


class Mapped(Deeper):
    def variable_mapping(self):
        own = {f"Deeper-{i}": [f"deeper/{i}/kernel", f"deeper/{i}/bias"] for i in (0, 1)}
        return {**super().variable_mapping(), **own}


def test_variables_that_transformers_has_no_place_for_are_told(tmp_path):
    with pytest.warns(UserWarning, match="no place for deeper/0/bias, deeper/0/kernel"):
        save_pretrained(build_transformer_model(**SETTINGS, model=Mapped), tmp_path)


@pytest.mark.parametrize("model", ["bert", "electra"])
def test_a_model_without_segments_gets_one_of_zeros(model, tmp_path):
    transformer = build_transformer_model(**SETTINGS, model=model, segment_vocab_size=0)
    save_pretrained(transformer, tmp_path)
    loaded = build_transformer_model(tmp_path)  # as transformers has it: with segments
    assert loaded.get_layer("Embedding-Segment").input_dim == 1
    tokens = peer.batch()["tokens"]
    want = transformer.model(tokens)
    np.testing.assert_allclose(loaded([tokens, 0 * tokens]), want, atol=1e-6)


def test_a_checkpoint_of_torch_data_parallel(tmp_path):
    from safetensors.numpy import load_file, save_file

    transformer = build_transformer_model(**SETTINGS)
    save_pretrained(transformer, tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    arrays = {f"module.{name}": value for name, value in arrays.items()}
    save_file(arrays, tmp_path / "model.safetensors")
    loaded = build_transformer_model(tmp_path)
    for got, want in zip(loaded.get_weights(), transformer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_models_that_transformers_cannot_compute(tmp_path):
    for options, words in (
        ({"model": "roformer_v2"}, "RoFormerV2"),
        ({"model": "gpt2_ml"}, "GPT2_ML"),
        ({"residual_attention_scores": True}, "residual attention scores"),
        ({"hierarchical_position": True}, "hierarchical positions"),
        ({"attention_head_size": 12}, "heads that are not hidden_size wide"),
        ({"model": Deeper}, r"no variable is named for \(of Deeper-0, Deeper-1\)"),
        ({"model": "t5.1.0"}, "cross_position_bias=False"),
    ):
        transformer = build_transformer_model(**SETTINGS, **options)
        with pytest.raises(CheckpointError, match=words):
            save_pretrained(transformer, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_config_survives_the_way_there_and_back():
    settings = {k: v for k, v in BERT.items() if k != "model_type"}
    settings |= {"hidden_act": "gelu_tanh", "max_position": 16, "segment_vocab_size": 3}
    transformer = build_transformer_model(**settings, with_mlm=True, return_keras_model=False)
    config = huggingface_config(transformer)
    assert config["architectures"] == ["BertForMaskedLM"]
    name, kwargs = transformer_config(config)
    assert name == "bert"
    assert {key: kwargs[key] for key in settings} == settings


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras'
def test_masks_that_transformers_is_not_told_of(tmp_path):
    with pytest.warns(UserWarning, match="Attention-UniLM-Mask"):
        save_pretrained(build_transformer_model(**SETTINGS, application="unilm"), tmp_path)
    save_pretrained(build_transformer_model(**SETTINGS, model="gpt2"), tmp_path)  # is causal there
