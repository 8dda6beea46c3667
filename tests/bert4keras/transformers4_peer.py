"""The side of test_transformers4.py that runs where transformers 4 stands beside TensorFlow.

python transformers4_peer.py make DIR    random models, one directory each, with what they compute:
    written by transformers' own TensorFlow classes (tf_model.h5); NEZHA and RoFormerV2 by torch
python transformers4_peer.py check DIR   loads the TF checkpoint `bert_model.ckpt` of each directory
    there and computes the same
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.update(TF_USE_LEGACY_KERAS="1", HF_HUB_OFFLINE="1")

import numpy as np
import torch
import transformers
from huggingface_peer import COMMON, MODELS, outputs, randomise

TF_MODELS = ("bert", "albert", "roformer", "electra", "gpt2", "t5.1.0")


def with_heads(name: str, config) -> torch.nn.Module:
    """NEZHA stands in a corner of transformers 4, RoFormerV2 in its author's package."""
    if name == "nezha":
        from transformers.models.deprecated.nezha import NezhaForPreTraining

        return NezhaForPreTraining(config)
    from roformer import RoFormerForMaskedLM

    return RoFormerForMaskedLM(config)


def other_configs() -> dict:
    from roformer import RoFormerConfig
    from transformers.models.deprecated.nezha import NezhaConfig

    v2 = dict(embedding_size=16, use_bias=False, norm_type="rms_norm")
    return {"nezha": NezhaConfig(**COMMON), "roformer_v2": RoFormerConfig(**COMMON | v2)}


def make(directory: Path):
    torch.manual_seed(3)
    for name in TF_MODELS:
        kind, config, arguments = MODELS[name]
        model = getattr(transformers, kind)(getattr(transformers, config)(**arguments))
        randomise(model)
        model.save_pretrained(directory / name / "torch")
        tensorflow = getattr(transformers, f"TF{kind}")
        tensorflow = tensorflow.from_pretrained(directory / name / "torch", from_pt=True)
        tensorflow.save_pretrained(directory / name)
        np.savez(directory / name / "outputs.npz", **outputs(model))
    for name, config in other_configs().items():
        model = with_heads(name, config)
        randomise(model)
        model.save_pretrained(directory / name, safe_serialization=False)
        np.savez(directory / name / "outputs.npz", **outputs(model))


def check(directory: Path):
    for folder in sorted(directory.iterdir()):
        kind, config, arguments = MODELS[folder.name]
        config = getattr(transformers, config)(**arguments)
        index = folder / "bert_model.ckpt.index"
        model = getattr(transformers, kind).from_pretrained(index, from_tf=True, config=config)
        np.savez(folder / "outputs.npz", **outputs(model))


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
