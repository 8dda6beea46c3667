"""Losses of transformers' masked LM: ``torch_peer.py model_folder batches.npz out.npz``."""

import sys

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

folder, path, result = sys.argv[1:]
model = AutoModelForMaskedLM.from_pretrained(folder)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-6)
losses = []
for batch in np.load(path).values():
    tokens, labels = torch.tensor(batch[0]).long(), torch.tensor(batch[1]).long()
    loss = model(input_ids=tokens, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
np.savez(result, losses=losses)
