"""Memory of a training step of every CLUE task with a BERT of real size.

    python benchmarks/clue_memory.py
    python benchmarks/clue_memory.py --tasks c3 chid --size tiny
    python benchmarks/clue_memory.py --tasks tnews wsc --models FOLDER

It writes a BERT with random weights as a TensorFlow checkpoint and as model.safetensors. Then, in
a process of its own for each task, the task's model is loaded from one of them in turn and trained
by its default recipe for one update: batches of its default size, as many as it accumulates,
every row at its full length (texts of the shipped sample, repeated until they fill it). The table
shows the peak memory of the process. --models keeps the written models for the next time, and
--batch-size takes smaller batches, more of them for one update.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072},
}  # fmt: skip
COMMON = {
    "model_type": "bert", "vocab_size": 21128, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
    "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
FORMATS = {"TensorFlow": "bert_model.ckpt", "safetensors": "model.safetensors"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK")
    parser.add_argument("--size", choices=SIZES, default="base", help="of the BERT")
    parser.add_argument("--batch-size", default="0", metavar="N", help="instead of the default")
    parser.add_argument("--models", type=Path, help="where the models are kept")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", nargs=2, metavar=("TASK", "MODEL"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write_models(asked.write, SIZES[asked.size])
    elif asked.step:
        print(json.dumps(step(*asked.step, int(asked.batch_size))))
    else:
        table(asked.tasks, asked.size, asked.models, asked.batch_size)


def table(names: list[str], size: str, kept: Path | None, batch_size: str):
    """Runs every task in a process of its own and prints the table."""
    from clue_baselines.tasks import TASKS, chosen

    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        if not (folder / "safetensors" / "model.safetensors").is_file():
            run("--write", str(folder), "--size", size)
        print("| task | rows x length | batches | weights | GiB | recipe |")
        print("|---|---|---|---|---|---|", flush=True)
        for task in chosen(names):
            kind = list(FORMATS)[TASKS.index(task) % 2]
            model = str(folder / kind)
            said = run("--step", task, model, "--batch-size", batch_size).splitlines()[-1]
            said = json.loads(said)
            print(f"| {task} | {said['shape']} | {said['batches']} | {kind} | {said['gib']:.1f} | "
                  f"{said['recipe']} |", flush=True)  # fmt: skip


def run(*arguments: str) -> str:
    """Output of this script in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def write_models(folder: Path, size: dict):
    """The same random weights in both formats, each with config.json and vocab.txt."""
    from clue_baselines.data import SAMPLE
    from keras_extras.bert4keras import build_transformer_model

    known = (SAMPLE / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    tokens = [*known, *(f"[unused{i}]" for i in range(1, COMMON["vocab_size"] - len(known) + 1))]
    for name in FORMATS:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(COMMON | size))
        (folder / name / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    config = str(folder / "TensorFlow" / "config.json")
    bert = build_transformer_model(config, return_keras_model=False)
    for name, file in FORMATS.items():
        bert.save_weights_as_checkpoint(str(folder / name / file))


def step(name: str, model_folder: str, batch_size: int) -> dict:
    """One update of a task; what the table shows of it."""
    import keras
    import numpy as np

    from clue_baselines import backbone, data, recipes
    from clue_baselines.tasks import task_class
    from keras_extras.training import LengthBatches

    kind = task_class(name)
    settings = kind.options(**kind.defaults)
    if batch_size:
        settings.accumulate = settings.accumulate * settings.batch_size // batch_size
        settings.batch_size = batch_size
    task = kind(settings)
    source = data.find(name, "sample")
    tokenizer = backbone.tokenizer_for(model_folder, source, [], task.tokens)
    examples = [
        replace(e, inputs=tuple(filled(x, settings.maxlen) for x in e.inputs))
        for record in task.read(source, "train")
        for e in task.examples(record, tokenizer, training=True)
    ][: settings.batch_size]
    columns = list(zip(*(e.inputs for e in examples), strict=True))
    targets = [np.asarray(e.target, "int32") for e in examples]
    batches = LengthBatches(columns, targets, settings.batch_size, target_padding=-1)

    bert = backbone.load(model_folder, tokenizer, settings.maxlen)
    model = task.build(bert)
    training = recipes.Training(1, bert.layers)
    optimizer, recipe = recipes.make_optimizer(settings, bert.pretrained, training)
    model.compile(optimizer, task.loss(), jit_compile=False)
    weight = model.trainable_variables[0]
    before = keras.ops.convert_to_numpy(weight)
    for _ in range(settings.accumulate):
        model.fit(batches, epochs=1, shuffle=False, verbose=0)
    if np.array_equal(before, keras.ops.convert_to_numpy(weight)):
        raise SystemExit(f"{name}: the update changed nothing.")
    shape = "x".join(map(str, batches[0][0][0].shape))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"shape": shape, "batches": settings.accumulate, "gib": peak, "recipe": recipe}


def filled(ids, length: int):
    """A list of integers, or a matrix of such, repeated along the last axis to a length."""
    import numpy as np

    rows = [np.resize(row, length) for row in (ids if np.ndim(ids[0]) else [ids])]
    return np.stack(rows) if np.ndim(ids[0]) else rows[0]


if __name__ == "__main__":
    main()
