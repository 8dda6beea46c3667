#!/usr/bin/env bash
# The environment of the peers that need torch, of optax and of scikit-learn, in .peers/torch: it is no
# part of the project's own.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .peers/torch/bin/python ] || python3 -m venv .peers/torch
.peers/torch/bin/pip install --quiet \
    "torch==2.13.0" "transformers>=5.20,<6" "keras>=3.12,<4" numpy safetensors h5py six tokenizers pytest \
    "optax>=0.2.5,<0.3" "kagglehub<2" regex rich scikit-learn "sentence-transformers>=5,<7"
# without what they ask for: a Keras of 2019, and TensorFlow
.peers/torch/bin/pip install --quiet --no-deps "bert4keras==0.11.5" "keras-hub>=0.32,<0.33"
