"""State and time of every optimizer and extension, beside Keras' own and optax.

    python benchmarks/optimizers.py
    python benchmarks/optimizers.py --only lookahead ema --rounds 9

Two cases: 20 matrices of 1024 × 1024 (21 million parameters) with dense gradients, and an embedding
of 21128 × 768 with a gradient for 1024 of its rows. A step is `optimizer.apply` in a `tf.function`.
Each row is measured against its reference in one process, in turns A B A B …, and the table shows
the medians of the turns and the median of their ratios; so whatever else the machine does meets
both alike. optax runs in a process of its own (`optax_side.py`) and takes its turn after the two;
it compiles a step with XLA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_extras import optimizers as ours  # noqa: E402

RATE = 1e-4
theirs = keras.optimizers


@dataclass(frozen=True)
class Row:
    """An optimizer, the one that it is compared with, and its name in `optax_side.py`."""

    make: callable
    reference: str = ""
    optax: str = ""
    bar: float = 0.0  # greatest ratio of the times that we allow ourselves
    steps: int = 1  # steps after which its work repeats


def extended(extend, reference="keras Adam", optax="", steps=1, **settings) -> Row:
    """A row of an extension of Keras' Adam, which may take half as long again."""
    return Row(lambda: extend(theirs.Adam)(RATE, **settings), reference, optax, 1.5, steps)


MATRICES = {
    "keras SGD": Row(lambda: theirs.SGD(RATE)),
    "keras Adam": Row(lambda: theirs.Adam(RATE), "keras SGD", "adam"),
    "keras AdamW": Row(lambda: theirs.AdamW(RATE), "keras Adam", "adamw"),
    "keras Lion": Row(lambda: theirs.Lion(RATE), "keras Adam", "lion"),
    "keras Adafactor": Row(lambda: theirs.Adafactor(RATE), "keras Adam", "adafactor"),
    "keras Lamb": Row(lambda: theirs.Lamb(RATE), "keras Adam", "lamb"),
    "keras Adam, use_ema": Row(lambda: theirs.Adam(RATE, use_ema=True), "keras Adam"),
    "keras Adam, accumulating": Row(
        lambda: theirs.Adam(RATE, gradient_accumulation_steps=4), "keras Adam", steps=4
    ),
    "Adam": Row(lambda: ours.Adam(RATE), "keras Adam", "adam"),
    "Lion": Row(lambda: ours.Lion(RATE), "keras Lion", "lion"),
    "AdaFactor": Row(lambda: ours.AdaFactor(RATE), "keras Adafactor", "adafactor", 1.05),
    "AdaFactor, beta1 0.9": Row(lambda: ours.AdaFactor(RATE, beta1=0.9), "keras Adafactor"),
    "AdaX": Row(lambda: ours.AdaX(RATE), "keras Adam"),
    "Tiger": Row(lambda: ours.Tiger(RATE), "keras Lion"),
    "weight_decay": extended(ours.extend_with_weight_decay, optax="adamw"),
    "layer_adaptation": extended(ours.extend_with_layer_adaptation, optax="lamb"),
    "piecewise_linear_lr": extended(
        ours.extend_with_piecewise_linear_lr, lr_schedule={10**6: 1, 10**7: 0}
    ),
    "gradient_accumulation": extended(
        ours.extend_with_gradient_accumulation, optax="accumulation", steps=4, grad_accum_steps=4
    ),
    "lookahead": extended(ours.extend_with_lookahead, optax="lookahead", steps=5),
    "lazy_optimization": extended(
        ours.extend_with_lazy_optimization, include_in_lazy_optimization=[".*"]
    ),
    "exponential_moving_average": extended(
        ours.extend_with_exponential_moving_average, optax="ema"
    ),
    "parameter_wise_lr": extended(
        ours.extend_with_parameter_wise_lr, paramwise_lr_schedule={"kernel": 2.0}
    ),
    "child_tuning F": extended(ours.extend_with_child_tuning, child_tuning_seed=1),
    "child_tuning D": extended(ours.extend_with_child_tuning, child_tuning_mode="D"),
    "update dropout": extended(
        ours.extend_with_child_tuning, child_tuning_mode="update", child_tuning_seed=1
    ),
    "low_rank": extended(ours.extend_with_low_rank, rank=8, low_rank_seed=1),
    "gradient_centralization": extended(ours.extend_with_gradient_centralization),
}
EMBEDDING = {
    "keras SGD": Row(lambda: theirs.SGD(RATE)),
    "keras Adam": Row(lambda: theirs.Adam(RATE), "keras SGD"),
    "Adam": Row(lambda: ours.Adam(RATE), "keras Adam"),
    "lazy_optimization": extended(
        ours.extend_with_lazy_optimization, include_in_lazy_optimization=[".*"]
    ),
    "lazy_optimization, lazy_moments": Row(
        lambda: ours.extend_with_lazy_optimization(theirs.Adam)(
            RATE, include_in_lazy_optimization=[".*"], lazy_moments=True
        ),
        "keras Adam",
        bar=0.2,
    ),
}


@dataclass
class Result:
    """Of a row: bytes of state per parameter, seconds of a step in each turn, their ratios."""

    name: str
    reference: str
    bar: float
    state: float
    first: float
    wall: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    optax: list = field(default_factory=list)
    ratios: list = field(default_factory=list)
    cpu_ratios: list = field(default_factory=list)
    optax_state: float | None = None


class Matrices:
    """20 matrices with gradients that are normal numbers."""

    rows = MATRICES

    def __init__(self, side: int = 1024, number: int = 20):
        self.title = f"{number} matrices of {side} × {side}"
        self.shapes = [(side, side)] * number
        self.variables = [
            keras.Variable(keras.random.normal(shape, stddev=0.02), name=f"layer_{i}_kernel")
            for i, shape in enumerate(self.shapes)
        ]

    def gradients(self):
        return [tf.random.normal(v.shape, stddev=1e-3) for v in self.variables]


class Embedding:
    """A large table of which a batch touches few rows."""

    rows = EMBEDDING

    def __init__(self, tokens: int = 21128, width: int = 768, touched: int = 1024):
        self.title = f"an embedding of {tokens} × {width}, {touched} rows touched"
        self.shapes = [(tokens, width)]
        self.touched = touched
        self.variables = [
            keras.Variable(keras.random.normal((tokens, width), stddev=0.02), name="embeddings")
        ]

    def gradients(self):
        tokens, width = self.shapes[0]
        indices = np.random.default_rng(0).permutation(tokens)[: self.touched]
        values = tf.random.normal((self.touched, width), stddev=1e-3)
        return [tf.IndexedSlices(values, tf.constant(indices), tf.constant([tokens, width]))]


class Runner:
    """Steps of an optimizer on the variables of a case."""

    def __init__(self, row: Row, case):
        self.row = row
        self.optimizer = row.make()
        self.optimizer.build(case.variables)
        if getattr(self.optimizer, "child_tuning_mode", "") == "D":
            random = np.random.default_rng(0)
            self.optimizer.set_child_network([random.random(shape) for shape in case.shapes])
        self.step = tf.function(lambda grads: self.optimizer.apply(grads, case.variables))
        self.grads = case.gradients()
        self.steps = row.steps
        state = sum(int(np.prod(v.shape)) * itemsize(v.dtype) for v in self.optimizer.variables)
        self.state = state / sum(int(np.prod(shape)) for shape in case.shapes)
        start = time.perf_counter()
        self.run(1)
        self.first = time.perf_counter() - start

    def prepare(self, seconds: float):
        """Choose how many steps make a turn of about that length."""
        self.run(self.steps)
        taken = self.run(self.steps)["wall"]
        self.steps = self.row.steps * max(1, min(50, round(seconds / (taken * self.row.steps))))

    def run(self, steps: int = 0) -> dict:
        """Seconds of a step, of wall clock and of CPU."""
        steps = steps or self.steps
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step(self.grads)
        self.optimizer._iterations.numpy()
        return {
            "wall": (time.perf_counter() - wall) / steps,
            "cpu": (time.process_time() - cpu) / steps,
        }


def itemsize(dtype: str) -> int:
    return np.dtype(keras.backend.standardize_dtype(dtype)).itemsize


class Optax:
    """A running `optax_side.py`."""

    def __init__(self, python: str, threads: int, side: int, number: int):
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
            "OMP_NUM_THREADS": str(threads),
        }
        self.process = subprocess.Popen(
            [python, str(HERE / "optax_side.py"), str(side), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("optax_side.py died: its errors stand above.")
        return json.loads(line)

    def run(self, name: str, steps: int) -> dict:
        print(name, steps, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(name: str, case, rounds: int, seconds: float, optax: Optax | None) -> Result:
    """A row against its reference (and optax), in turns."""
    row = case.rows[name]
    subject = Runner(row, case)
    result = Result(name, row.reference, row.bar, subject.state, subject.first)
    subject.prepare(seconds)
    reference = None
    if row.reference:
        reference = Runner(case.rows[row.reference], case)
        reference.prepare(seconds)
    peer = optax if row.optax else None
    if peer:
        result.optax_state = peer.run(row.optax, row.steps)["state"]
        steps = row.steps * 2
    for _ in range(rounds):
        if reference:
            base = reference.run()
        own = subject.run()
        result.wall.append(own["wall"])
        result.cpu.append(own["cpu"])
        if reference:
            result.ratios.append(own["wall"] / base["wall"])
            result.cpu_ratios.append(own["cpu"] / base["cpu"])
        if peer:
            result.optax.append(peer.run(row.optax, steps)["wall"])
    return result


HEAD = """
| optimizer | state, bytes/parameter | ms/step | compared with | time ratio | CPU ratio | bar | \
optax: bytes/parameter | optax: ms/step |
|---|---|---|---|---|---|---|---|---|"""


def line(result: Result) -> str:
    """A row of the table."""

    def median(values, form):
        return format(statistics.median(values), form) if values else ""

    cells = [
        result.name,
        f"{result.state:.3f}",
        median([1e3 * value for value in result.wall], ".1f"),
        result.reference,
        median(result.ratios, ".2f"),
        median(result.cpu_ratios, ".2f"),
        f"≤ {result.bar:g}" if result.bar else "",
        "" if result.optax_state is None else f"{result.optax_state:.3f}",
        median([1e3 * value for value in result.optax], ".1f"),
    ]
    return f"| {' | '.join(cells)} |"


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, about")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="parts of the names of the rows to measure")
    parser.add_argument("--cases", nargs="+", default=["matrices", "embedding"])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--output", type=Path, help="write all measurements there, as JSON")
    parser.add_argument(
        "--optax-python",
        default=os.environ.get("KERAS_EXTRAS_OPTAX_PYTHON", ""),
        help="an interpreter with optax; without it there are no figures of optax",
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    tf.config.set_visible_devices([], "GPU")
    keras.utils.set_random_seed(0)
    side, number = (64, 2) if args.quick else (1024, 20)
    table = (100, 8, 10) if args.quick else (21128, 768, 1024)
    report = {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "threads": args.threads,
        "rounds": args.rounds,
        "load": os.getloadavg(),
    }
    optax = None
    if args.optax_python and "matrices" in args.cases:
        optax = Optax(args.optax_python, args.threads, side, number)
        report |= optax.versions
    print(json.dumps(report), flush=True)
    try:
        for kind, sizes in (("matrices", (side, number)), ("embedding", table)):
            if kind not in args.cases:
                continue
            case = {"matrices": Matrices, "embedding": Embedding}[kind](*sizes)
            print(f"\n### {case.title}\n{HEAD}", flush=True)
            report[kind] = []
            for name in case.rows:
                if args.only and not any(part in name for part in args.only):
                    continue
                result = compare(name, case, args.rounds, args.seconds, optax)
                print(line(result), flush=True)
                report[kind].append(asdict(result))
    finally:
        if optax:
            optax.close()
    print("\nLoad of the machine at the start and at the end:", report["load"], os.getloadavg())
    if args.output:
        args.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
