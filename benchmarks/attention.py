"""Time and peak memory of full, chunked, local and linear attention by length of the text.

    python benchmarks/attention.py
    python benchmarks/attention.py --what forward --lengths 512 1024 2048 4096 8192

One layer with 4 heads of 64 attends to one text of that many tokens, forwards or with the gradient
of everything, in a TensorFlow graph. Each measurement is a process of its own. Memory is what the
process needs at most, beyond what it held before the first call. Results are kept in a JSON file as
they come, a later run measures what is missing; the table and a plot are made from the file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADS, SIZE, WINDOW, TILE = 4, 64, 512, 512
LENGTHS = [512, 1024, 2048, 4096, 8192, 16384]
VARIANTS = ["full", "chunked", "online", "local", "linear"]
#: matrices of all scores that full attention holds at once
MATRICES = {"forward": 3, "gradient": 5}


def layer_of(variant: str):
    """The attention layer that is measured."""
    from keras_extras import layers

    return {
        "full": lambda: layers.MultiHeadAttention(HEADS, SIZE),
        "chunked": lambda: layers.ChunkedAttention(HEADS, SIZE),
        "online": lambda: layers.ChunkedAttention(
            HEADS, SIZE, chunk_size=TILE, key_chunk_size=TILE
        ),
        "local": lambda: layers.LocalAttention(HEADS, SIZE, window=WINDOW),
        "linear": lambda: layers.LinearAttention(HEADS, SIZE),
    }[variant]()


def memory(line: str) -> float:
    """A line of /proc/self/status in MiB: VmRSS is what is held now, VmHWM was held at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(line + ":")[1].split()[0]) / 1024


def measure(variant: str, length: int, what: str, rounds: int, threads: int) -> dict:
    """Milliseconds (median) and MiB of one layer and length, in this process."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    layer = layer_of(variant)
    x = np.random.default_rng(0).normal(size=(1, length, HEADS * SIZE)).astype("float32")
    layer([x[:, :8]] * 3)

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer([x, x, x])
        return tape.gradient(y, [x, *(w.value for w in layer.trainable_variables)])

    graph = tf.function(run if what == "gradient" else lambda x: layer([x, x, x]))
    x = tf.constant(x)
    Path("/proc/self/clear_refs").write_text("5")  # forget what was held while importing
    before = memory("VmRSS")
    graph(x)
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = graph(x)
        (result[0] if what == "gradient" else result).numpy()
        taken.append(1000 * (time.perf_counter() - start))
        if sum(taken) > 6_000:
            break
    return {"ms": statistics.median(taken), "mib": memory("VmHWM") - before}


def table(results: dict, what: str) -> str:
    """Milliseconds and MiB in Markdown, a row for each length."""
    head = ["tokens", *(f"{variant}, {unit}" for variant in VARIANTS for unit in ("ms", "MiB"))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for length in LENGTHS:
        cells = [f"{length:,}"]
        for variant in VARIANTS:
            found = results.get(f"{what} {variant} {length}")
            cells += [f"{found[unit]:,.0f}" for unit in ("ms", "mib")] if found else ["–", "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict, path: Path) -> None:
    """Time and memory by length, forwards and with the gradient, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = [what for what in MATRICES if any(key.startswith(what) for key in results)]
    size = (9, 0.5 + 3 * len(kinds))
    figure, axes = plt.subplots(len(kinds), 2, figsize=size, sharex=True, squeeze=False)
    for row, what in zip(axes, kinds, strict=True):
        for axis, unit, label in zip(row, ("ms", "mib"), ("milliseconds", "MiB"), strict=True):
            for variant in VARIANTS:
                points = [
                    (length, results[key][unit])
                    for length in LENGTHS
                    if (key := f"{what} {variant} {length}") in results
                ]
                if points:
                    axis.loglog(*zip(*points, strict=True), marker="o", label=variant)
            axis.set_title(f"{what}: {label}")
            axis.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].legend()
    for axis in axes[-1]:
        axis.set_xlabel("tokens")
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=MATRICES, default=list(MATRICES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gib", type=float, default=14, help="the most full attention may take")
    parser.add_argument("--output", type=Path, default=Path("attention.json"))
    parser.add_argument("--plot", type=Path, default=Path("attention.png"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        what, variant, length = given.one
        found = measure(variant, int(length), what, given.rounds, given.threads)
        print(json.dumps(found))
        return
    results = json.loads(given.output.read_text()) if given.output.exists() else {}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment["PYTHONPATH"] = str(HERE.parent)
    options = ["--rounds", str(given.rounds), "--threads", str(given.threads)]
    for what in given.what:
        for variant in given.variants:
            for length in given.lengths:
                key = f"{what} {variant} {length}"
                needed = MATRICES[what] * 4 * HEADS * length**2 / 2**30
                if key in results or (variant == "full" and needed > given.gib):
                    continue
                command = [sys.executable, __file__, "--one", what, variant, str(length), *options]
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode:
                    sys.exit(f"{key} failed:\n{done.stderr[-2000:]}")
                results[key] = json.loads(done.stdout.strip().splitlines()[-1])
                given.output.write_text(json.dumps(results, indent=1))
                print(f"{key}: {results[key]['ms']:.0f} ms, {results[key]['mib']:.0f} MiB")
    for what in MATRICES:
        print(f"\n{what}\n\n{table(results, what)}")
    plot(results, given.plot)


if __name__ == "__main__":
    main()
