"""One side of the speed comparison: a process that trains and runs a BERT when it is told to.

`speed.py` starts it as ``python sides.py SIDE '{"hidden_size": …}'`` with the threads to use in
the environment. It says which versions it runs, then answers each line ``train BATCH LENGTH STEPS``
or ``infer BATCH LENGTH STEPS`` on standard input with a line of JSON: the seconds that those steps
took, of wall clock and of CPU. The first call for a shape includes tracing and compilation.

All sides run the same model on the same ids: BERT, the vector of [CLS], a Dense layer to 15
classes, cross entropy, AdamW (learning rate 1e-4, decay 0.01), dropout 0.1, float32.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import numpy as np

CLASSES = 15
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01

ENVIRONMENT = {
    "tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "xla": {"KERAS_BACKEND": "tensorflow"},
    "jax": {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    "bert4keras": {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"},
    "bert4keras-xla": {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"},
    "transformers": {"HF_HUB_OFFLINE": "1"},
}
SIDES = tuple(ENVIRONMENT)


def batch_of(config: dict, batch: int, length: int):
    """Token ids, segment ids and labels; rows are between half and wholly full."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, config["vocab_size"], (batch, length))
    lengths = rng.integers(length // 2, length + 1, (batch, 1))
    lengths[0] = length
    ids *= np.arange(length) < lengths
    labels = rng.integers(0, CLASSES, (batch,))
    return ids.astype("int32"), np.zeros_like(ids, "int32"), labels.astype("int32")


def keras_steps(side: str, config: dict):
    """Training and inference steps of ours or of original bert4keras on tf_keras."""
    jit = side.endswith("xla") or side == "jax"
    if side.startswith("bert4keras"):
        import tensorflow as tf
        from bert4keras.layers import Lambda
        from bert4keras.models import build_transformer_model

        keras = tf.keras
        first_token = Lambda(lambda x: x[:, 0])
    else:
        import keras

        from keras_extras.bert4keras import build_transformer_model
        from keras_extras.layers import FirstToken

        first_token = FirstToken()

    bert = build_transformer_model(**config)
    output = keras.layers.Dense(CLASSES, activation="softmax")(first_token(bert.output))
    model = keras.Model(bert.inputs, output)
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        jit_compile=jit,
    )

    def train(ids, segments, labels):
        model.train_on_batch([ids, segments], labels)

    def infer(ids, segments, labels):
        model.predict_on_batch([ids, segments])

    return train, infer


def torch_classifier(config: dict, classes: int):
    """transformers' BERT with a linear layer on the vector of [CLS], as a torch module."""
    import torch
    from transformers import BertConfig, BertModel

    settings = {k: v for k, v in config.items() if k != "max_position"}
    settings["max_position_embeddings"] = config["max_position"]

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = BertModel(
                BertConfig(**settings, attn_implementation="sdpa"), add_pooling_layer=False
            )
            self.head = torch.nn.Linear(config["hidden_size"], classes)

        def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None):
            output = self.bert(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
            )
            logits = self.head(output.last_hidden_state[:, 0])
            if labels is None:
                return {"logits": logits}
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    return Classifier()


def torch_batch(examples: list[dict]) -> dict:
    """Rows of "input_ids" and "labels" as tensors, padded to the longest."""
    import torch

    length = max(len(row["input_ids"]) for row in examples)
    ids = torch.zeros((len(examples), length), dtype=torch.long)
    for line, row in zip(ids, examples, strict=True):
        line[: len(row["input_ids"])] = torch.tensor(row["input_ids"])
    targets = torch.tensor([row["labels"] for row in examples])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": targets}


def torch_steps(config: dict):
    """Training and inference steps of Hugging Face transformers on torch, not compiled."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = torch_classifier(config, CLASSES)
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )

    def output(ids, segments, labels=None):
        ids, segments = torch.from_numpy(ids).long(), torch.from_numpy(segments).long()
        return model(ids, (ids != 0).long(), segments, labels)

    def train(ids, segments, labels):
        model.train()
        loss = output(ids, segments, torch.from_numpy(labels).long())["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    def infer(ids, segments, labels):
        model.eval()
        with torch.inference_mode():
            output(ids, segments)["logits"].softmax(-1).numpy()

    return train, infer


def versions() -> dict:
    """Those of the packages that this process has imported."""
    names = ("keras", "tensorflow", "jax", "tf_keras", "bert4keras", "torch", "transformers")
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    return {name: version for name, version in found.items() if version}


def main(side: str, config: dict, threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        steps = torch_steps(config) if side == "transformers" else keras_steps(side, config)
        steps = dict(zip(("train", "infer"), steps, strict=True))
        print(json.dumps(versions()), file=answers, flush=True)
        for line in sys.stdin:
            what, batch, length, count = line.split()
            data = batch_of(config, int(batch), int(length))
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(count)):
                steps[what](*data)
            taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            print(json.dumps(taken), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(os.environ["OMP_NUM_THREADS"]))
