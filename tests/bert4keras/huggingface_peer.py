"""The transformers side of test_huggingface.py; runs in the interpreter that has torch.

python huggingface_peer.py make DIR    small random models, one directory each, with what they
compute python huggingface_peer.py check DIR   loads each directory there; prints missing and
unexpected keys
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

LENGTH, VOCABULARY = 12, 50
COMMON = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=24,
)
GPT = dict(vocab_size=VOCABULARY, n_positions=24, n_embd=16, n_layer=2, n_head=2)
T5 = dict(vocab_size=VOCABULARY, d_model=16, d_kv=6, d_ff=32, num_layers=2, num_heads=2)
# name: (class, configuration class, its arguments)
MODELS = {
    "bert": ("BertForPreTraining", "BertConfig", COMMON),
    "ernie": ("ErnieForPreTraining", "ErnieConfig", COMMON | dict(use_task_id=True)),
    "albert": ("AlbertForPreTraining", "AlbertConfig", COMMON | dict(embedding_size=8)),
    "roformer": ("RoFormerForMaskedLM", "RoFormerConfig", COMMON | dict(embedding_size=8)),
    "electra": ("ElectraForPreTraining", "ElectraConfig", COMMON | dict(embedding_size=8)),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
    "openai-gpt": ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT),
    "t5.1.0": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5.1.1": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    ),
    "mt5.1.1": ("MT5ForConditionalGeneration", "MT5Config", T5),
}


def batch() -> dict[str, np.ndarray]:
    """Padded token ids with two segments, and shorter ones for a decoder."""
    rng = np.random.default_rng(7)
    tokens = rng.integers(1, VOCABULARY, (3, LENGTH))
    tokens[1, 7:], tokens[2, 10:] = 0, 0
    segments = np.repeat([[0] * 5 + [1] * 7], 3, axis=0) * (tokens > 0)
    targets = rng.integers(1, VOCABULARY, (3, 6))
    targets[:, 0], targets[2, 4:] = 0, 0
    return {"tokens": tokens, "segments": segments, "targets": targets}


def randomise(model):
    """Weights of which none is zero, one or equal to another, so that a swap of two cannot pass."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                one = (
                    1.0
                    if "norm.weight" in name.lower() or "ln_" in name and "weight" in name
                    else 0
                )
                parameter.normal_(one, 0.15)


def outputs(model) -> dict[str, np.ndarray]:
    import torch

    data = {key: torch.tensor(value) for key, value in batch().items()}
    kind = type(model).__name__
    arguments = {"input_ids": data["tokens"]}
    if "T5" in kind:
        arguments["attention_mask"] = (data["tokens"] > 0).long()
        arguments["decoder_input_ids"] = data["targets"]
    elif "GPT" not in kind:
        arguments["attention_mask"] = (data["tokens"] > 0).long()
        arguments["token_type_ids"] = data["segments"]
    with torch.no_grad():
        result = model.eval()(**arguments)
    found = {}
    for ours, theirs in (
        ("tokens", ("prediction_logits", "logits")),
        ("pair", ("seq_relationship_logits", "sop_logits")),
    ):
        for key in theirs:
            if result.get(key) is not None and ours not in found:
                found[ours] = result[key].numpy()
    return found


def make(directory: Path):
    import torch
    import transformers

    torch.manual_seed(3)
    for name, (kind, config, arguments) in MODELS.items():
        model = getattr(transformers, kind)(getattr(transformers, config)(**arguments))
        if name in ("t5.1.1", "mt5.1.1"):  # published ones have softmax weights of their own
            model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        randomise(model)
        model.save_pretrained(directory / name)
        np.savez(directory / name / "outputs.npz", **outputs(model))
        torch.save(model.state_dict(), directory / name / "weights.bin")
        if name == "bert":
            legacy = directory / name / "legacy.bin"
            torch.save(model.state_dict(), legacy, _use_new_zipfile_serialization=False)


def check(directory: Path):
    import transformers

    report = {}
    for folder in sorted(directory.iterdir()):
        kind = json.loads((folder / "config.json").read_text())["architectures"][0]
        model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
        np.savez(folder / "outputs.npz", **outputs(model))
        report[folder.name] = {key: sorted(map(str, info[key])) for key in info if info[key]}
    print("REPORT" + json.dumps(report))


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
