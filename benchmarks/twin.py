"""Dev accuracy of a small BERT from scratch: a task script's beside that of transformers' Trainer.

    python benchmarks/twin.py CLUE_FOLDER --torch-python PYTHON_WITH_TRANSFORMERS \\
        --tasks tnews ocnli --seeds 3 --epochs 1

Both sides train the model of `--model scratch` on the same batches of the same token ids, with
AdamW at a constant rate; what seeds decide beside them (first weights, dropout) is not the same.
The table shows mean and deviation over the seeds, and the difference in standard errors of a
difference of two means.

Ours are runs of `clue_baselines.run`, with every flag that is not known here; the other side's
results lie beside them as transformers-seed<n>.json. What is finished is not done again. Trainer
needs the package accelerate.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from clue_baselines import backbone, recipes, results, run
from clue_baselines.data import DataError
from clue_baselines.tasks import task_class
from keras_extras.training import LengthBatches

HERE = Path(__file__).resolve().parent
SCRATCH = ["--model", "scratch", "--recipe", "scratch"]
WEIGHT_DECAY = 0.01  # that of `--recipe scratch`


def prepared(job: run.Job) -> dict:
    """What the other side needs: the rows that the task's script sees, and how it trains."""
    task = task_class(job.task)(job.settings)
    source, limit = task.find(), job.settings.limit or None
    records = {"train": task.read(source, "train", limit), "dev": task.read(source, "dev")}
    texts = (text for record in records["train"] for text in task.texts(record))
    tokenizer = backbone.tokenizer_for("scratch", source, texts, task.tokens)

    def rows(split: str) -> dict:
        examples = [task.examples(record, tokenizer, True)[0] for record in records[split]]
        ids = [example.inputs[0] for example in examples]
        return {"ids": ids, "labels": [int(example.target) for example in examples]}

    config = json.loads(backbone.SMALL_BERT.read_text(encoding="utf-8"))
    config |= {
        "vocab_size": tokenizer.vocab_size,
        "max_position": config["max_position_embeddings"],
    }
    del config["max_position_embeddings"]
    settings = {
        "batch_size": job.settings.batch_size,
        "epochs": job.settings.epochs,
        "learning_rate": job.settings.learning_rate or recipes.BASES["adamw"].rate,
        "weight_decay": WEIGHT_DECAY,
        "data": run.checksums(source.folder),
        "limit": job.settings.limit,
        "maxlen": job.settings.maxlen,
    }
    return {"config": config, "settings": settings, "train": rows("train"), "dev": rows("dev")}


def batches_of(job: run.Job, rows: list[list[int]]) -> list[list[int]]:
    """The batches that the script of this seed trains on, epoch by epoch."""
    batches = LengthBatches([rows], batch_size=job.settings.batch_size, shuffle=True, seed=job.seed)
    found = []
    for epoch in range(job.settings.epochs):
        batches.set_epoch(epoch)
        found += [numbers.tolist() for numbers in batches.batches]
    return found


def other_side(python: str, job: run.Job, data: dict) -> dict:
    """The result of transformers' Trainer with one seed, from a file if it is there.

    Raises:
        DataError: the file is of other settings.
    """
    path = Path(job.settings.output) / job.task / f"transformers-seed{job.seed}.json"
    if path.is_file():
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["settings"] != data["settings"]:
            raise DataError(f"{path} is of {result['settings']}; give another --output.")
        return result
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        batches = batches_of(job, data["train"]["ids"])
        file.write_text(json.dumps({**data, "batches": batches}))
        command = [python, str(HERE / "twin_side.py"), str(file), str(job.seed)]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    result = {**json.loads(output), "settings": data["settings"]}
    results.write_json(path, result)
    print(
        f"{job.task:<10}seed {job.seed:<4}transformers: {100 * result['accuracy']:.2f}", flush=True
    )
    return result


def row_of(task: str, ours: list[float], theirs: list[float]) -> str:
    """A line of the table."""
    means = [statistics.mean(scores) for scores in (ours, theirs)]
    deviations = [statistics.stdev(scores) for scores in (ours, theirs)]
    error = sum(s**2 / len(n) for s, n in zip(deviations, (ours, theirs), strict=True)) ** 0.5
    shown = " | ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(means, deviations, strict=True))
    difference = means[0] - means[1]
    return f"| {task} | {shown} | {difference:+.2f} | {difference / error:+.1f} |"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", help="folder with CLUE's data")
    parser.add_argument("--torch-python", required=True, help="a Python with transformers on torch")
    parser.add_argument("--tasks", nargs="+", default=["tnews", "ocnli"], metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--name", default="scratch", help="of our runs (default: scratch)")
    given, flags = parser.parse_known_args()
    given.tricks = []
    if given.seeds < 2:
        parser.error("--seeds must be at least 2: the table compares means by their deviations.")
    try:
        jobs = run.make_jobs(given, ["--data", given.folder, *SCRATCH, *flags])
        if run.work_to_the_end(jobs):
            raise DataError("a run failed; its log says why.")
        lines = []
        for task in dict.fromkeys(job.task for job in jobs):
            of_task = [job for job in jobs if job.task == task]
            data = prepared(of_task[0])
            theirs = [other_side(given.torch_python, job, data) for job in of_task]
            accuracies = [100 * result["accuracy"] for result in theirs]
            lines.append(row_of(task, [job.score for job in of_task], accuracies))
    except DataError as error:
        raise SystemExit(f"ERROR: {error}") from None
    print("\n| task | ours | transformers | difference | in standard errors |\n" + "|---" * 5 + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
