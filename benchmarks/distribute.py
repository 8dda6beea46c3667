"""Where training on several devices ends in the weights of one device, in Keras and here.

    python benchmarks/distribute.py            # the table
    python benchmarks/distribute.py --rows plain accumulation
    python benchmarks/distribute.py --overhead # time of a step on one device beside plain Keras

Every row is trained on one device, on two logical CPUs (MirroredStrategy) and by two processes on
this machine (MultiWorkerMirroredStrategy), with `keras.Model` and with `keras_extras.Model`, in
graph mode through `fit` (`tests/training/matrix.py` holds the rows). The table says `right` where
the final weights differ from those of one device by at most 1e-6 (2e-3 in half precision), `wrong`
and by how much where they differ more, and `crash` or `hangs`. Every result is added to
`results/distribute.jsonl` as it comes; what stands there is not trained again, so that a broken run
goes on where it was (`--fresh` begins anew).
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SCRIPT = ROOT / "tests" / "training" / "matrix.py"
LAUNCH = ("-m", "keras_extras.training.launch", "--workers", 2)
OUTPUT = Path("results/distribute.jsonl")
STRATEGIES = ("one_device", "mirrored", "multi_worker")
LIBRARIES = {"keras": "keras.Model", "ours": "keras_extras.Model"}
PATIENCE = 180  # seconds without any result


def results(library: str, strategy: str, rows: list[str], output: Path) -> dict[str, dict]:
    """The result of each row, from as many processes as it takes, and from `output`."""
    found = {}
    for line in output.read_text().splitlines() if output.exists() else ():
        known = json.loads(line)
        if (known.pop("library"), known.pop("strategy")) == (library, strategy):
            found[known["row"]] = known

    def keep(result: dict):
        found[result["row"]] = result
        with output.open("a") as file:
            print(json.dumps({"library": library, "strategy": strategy, **result}), file=file)
        print(
            f"{time.strftime('%X')} {library} {strategy} {result['row']}: "
            + result.get("error", "trained").splitlines()[0][:150],
            file=sys.stderr,
        )

    while left := [row for row in rows if row not in found]:
        hangs = one_process(library, strategy, left, keep)
        missing = [row for row in left if row not in found]
        if missing:
            keep({"row": missing[0], "error": "hangs" if hangs else "ended"})
    return {row: found[row] for row in rows}


def one_process(library: str, strategy: str, rows: list[str], keep) -> bool:
    """Keeps results until the process (or pair of workers) ends; whether it had to be ended."""
    command = [SCRIPT, library, strategy, *rows]
    if strategy == "multi_worker":
        command = [*LAUNCH, *command]
    environment = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    lines = queue.SimpleQueue()

    def read():
        for line in process.stdout:
            lines.put(line.removeprefix("[0] "))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                return True
            if line is None:
                return False
            if line.startswith("ROW "):
                keep(json.loads(line[4:]))
                deadline = time.monotonic() + PATIENCE
    finally:  # also if this is interrupted
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # the launcher then ends its workers
        process.wait(60)


def verdict(one: dict, many: dict, tolerance: float) -> str:
    """What the table says of a row."""
    from tests.training.matrix import differences

    if "error" in many:
        return many["error"] if many["error"] in ("hangs", "ended") else "crash"
    if "error" in one:
        return "one device: crash"
    difference = differences(one, many)["weights"]
    if difference <= tolerance:
        return f"right ({difference:.0e})"
    return f"**wrong** ({difference:.2g})"  # NaN comes here, too


def table(rows: list[str], libraries: list[str], output: Path) -> str:
    """The whole table in Markdown."""
    from tests.training.matrix import ROWS

    output.parent.mkdir(parents=True, exist_ok=True)
    every = [(library, strategy) for library in libraries for strategy in STRATEGIES]
    found = {pair: results(*pair, rows, output) for pair in every}
    columns = [(library, strategy) for strategy in STRATEGIES[1:] for library in libraries]
    names = {"mirrored": "2 replicas", "multi_worker": "2 workers"}
    head = [f"{names[strategy]}, {LIBRARIES[library]}" for library, strategy in columns]
    lines = ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for row in rows:
        cells = [
            verdict(found[library, "one_device"][row], found[library, strategy][row],
                    ROWS[row].tolerance)
            for library, strategy in columns
        ]  # fmt: skip
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def overhead(rounds: int, seconds: float) -> str:
    """Time of a step of `fit` here and in plain Keras, on one device, in turns."""
    import keras
    import numpy as np

    import keras_extras
    from keras_extras.layers import MultiHeadAttention

    random = np.random.default_rng(0)

    def dense(Model):
        inputs = keras.Input((16,))
        h = keras.layers.Dense(16, "relu")(inputs)
        return Model(inputs, keras.layers.Dense(4)(h)), random.normal(size=(32, 16))

    def encoder(Model):
        inputs = keras.Input((None,), dtype="int32")
        h = keras.layers.Embedding(5000, 128)(inputs)
        for _ in range(2):
            attended = MultiHeadAttention(4, 32)([h, h, h])
            h = keras.layers.LayerNormalization()(h + attended)
            h = keras.layers.LayerNormalization()(
                h + keras.layers.Dense(128)(keras.layers.Dense(512, "gelu")(h))
            )
        return Model(inputs, keras.layers.Dense(4)(h[:, 0])), random.integers(0, 5000, (32, 64))

    lines = ["| | keras.Model | keras_extras.Model | ours ÷ Keras, wall | CPU |", "|---" * 5 + "|"]
    for name, build in {
        "2 dense layers, 32 × 16": dense,
        "encoder 2 × 128, 32 × 64": encoder,
    }.items():
        steps, times = {}, {"keras": [], "ours": []}
        for library, Model in (("keras", keras.Model), ("ours", keras_extras.Model)):
            model, x = build(Model)
            model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
            y = random.normal(size=(len(x), 4))
            steps[library] = forever(model, x, y)
        count = 20
        while min(steps[library](count)[0] for library in steps) * count < seconds:
            count *= 2
        for _ in range(rounds):
            for library in steps:
                times[library].append(steps[library](count))
        wall, cpu = (
            {library: statistics.median(t[i] for t in times[library]) for library in times}
            for i in (0, 1)
        )
        lines.append(
            f"| {name} | {wall['keras'] * 1e3:.2f} ms ({cpu['keras'] * 1e3:.2f}) "
            f"| {wall['ours'] * 1e3:.2f} ms ({cpu['ours'] * 1e3:.2f}) "
            f"| {wall['ours'] / wall['keras']:.3f} | {cpu['ours'] / cpu['keras']:.3f} |"
        )
    return "\n".join(lines)


def forever(model, x, y):
    """A function of a number of steps: seconds per step of `fit`, of wall clock and of CPU."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((x, y)).cache().repeat()

    def run(count: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        model.fit(data, steps_per_epoch=count, verbose=0)
        return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count

    run(2)
    return run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", help="rows of the table (default: all)")
    parser.add_argument(
        "--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="default: both"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    parser.add_argument("--fresh", action="store_true", help="remove earlier results first")
    parser.add_argument("--overhead", action="store_true", help="time a step on one device")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a turn (default: 2)")
    given = parser.parse_args()
    if given.overhead:
        print(overhead(given.rounds, given.seconds))
        return
    from tests.training.matrix import ROWS

    unknown = set(given.rows or ()) - set(ROWS)
    if unknown:
        parser.error(f"unknown rows {sorted(unknown)}; there are {', '.join(ROWS)}.")
    if given.fresh:
        given.output.unlink(missing_ok=True)
    begin = time.monotonic()
    print(table(given.rows or list(ROWS), given.libraries, given.output))
    print(f"{(time.monotonic() - begin) / 60:.0f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
