"""LoRA by peft on a small BERT of transformers; run with an interpreter that has both.

``peft_peer.py folder`` writes the model to ``folder``, and to ``folder/peft.npz`` ids, outputs
before and after the factors were set, the factors before and after steps of SGD, losses and the
merged outputs.
"""

import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel

folder = sys.argv[1]
torch.manual_seed(0)
config = BertConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
    initializer_range=0.2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
model = BertModel(config).eval()
model.save_pretrained(folder)
ids = np.random.default_rng(0).integers(1, 30, (4, 7))
inputs = {"input_ids": torch.tensor(ids)}
results = {"ids": ids, "before": model(**inputs).last_hidden_state.detach().numpy()}

targets = ["query", "value", "word_embeddings"]
model = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=targets)).eval()
named = {name: p for name, p in model.named_parameters() if p.requires_grad}
assert all("lora" in name for name in named), named.keys()
results["names"] = np.array(list(named))
for name, parameter in named.items():
    parameter.data = 0.3 * torch.randn(parameter.shape)
    results[f"start/{name}"] = parameter.detach().numpy().copy()
results["after"] = model(**inputs).last_hidden_state.detach().numpy()
optimizer = torch.optim.SGD(named.values(), lr=0.5)
losses = []
for _ in range(3):
    optimizer.zero_grad()
    loss = (model(**inputs).last_hidden_state[:, 0, :4] - 1).square().mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
results["losses"] = np.array(losses)
for name, parameter in named.items():
    results[f"end/{name}"] = parameter.detach().numpy()
results["merged"] = model.merge_and_unload()(**inputs).last_hidden_state.detach().numpy()
np.savez(f"{folder}/peft.npz", **results)
