"""transformers' side of the comparison of scores: trains once and prints the accuracy as JSON.

`twin.py` starts it as ``python twin_side.py FILE SEED``; FILE holds the shape of the model, rows
of token ids with their labels for training and dev, how to train, and the batches of every epoch
as numbers of rows: Trainer's own order by length goes from long to short rows again and again.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from sides import torch_batch, torch_classifier, versions


def dataset(rows: dict) -> list[dict]:
    """Rows as Trainer takes them."""
    pairs = zip(rows["ids"], rows["labels"], strict=True)
    return [{"input_ids": ids, "labels": label} for ids, label in pairs]


def train_and_score(data: dict, seed: int) -> dict:
    """The dev accuracy of a model from scratch, and the seconds that its training took."""
    transformers.set_seed(seed)
    config, settings = data["config"], data["settings"]
    model = torch_classifier(config, max(data["train"]["labels"]) + 1)
    torch.nn.init.normal_(model.head.weight, std=config["initializer_range"])
    torch.nn.init.zeros_(model.head.bias)

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self):
            rows = dataset(data["train"])
            return torch.utils.data.DataLoader(
                rows, batch_sampler=data["batches"], collate_fn=torch_batch
            )

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            transformers.TrainingArguments(
                folder,
                seed=seed,
                per_device_train_batch_size=settings["batch_size"],
                per_device_eval_batch_size=settings["batch_size"],
                num_train_epochs=1,  # the batches are those of all epochs
                optim="adamw_torch_fused",
                learning_rate=settings["learning_rate"],
                weight_decay=settings["weight_decay"],
                lr_scheduler_type="constant",
                max_grad_norm=0,
                remove_unused_columns=False,
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=not sys.stderr.isatty(),
            ),
            data_collator=torch_batch,
            train_dataset=dataset(data["train"]),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        found = trainer.predict(dataset(data["dev"]))
    right = np.argmax(found.predictions, axis=-1) == found.label_ids
    return {"accuracy": float(right.mean()), "seconds": seconds, "versions": versions()}


if __name__ == "__main__":
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        found = train_and_score(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))
    print(json.dumps(found), file=answers)
