"""How fast BERT trains and runs here, beside original bert4keras and Hugging Face transformers.

    python benchmarks/speed.py
    python benchmarks/speed.py --models small --shapes 32x128 --sides tensorflow bert4keras

Every side is a process of its own (`sides.py`). They are started together for a model and take
turns, A B C A B C …, so that whatever else the machine does meets all of them alike. The table
shows the median milliseconds of a step, the CPU time of a step (all threads of the process; it
hardly changes when other programs run) and the ratio of the medians to the faster peer, where a
number below 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from sides import ENVIRONMENT, SIDES

HERE = Path(__file__).resolve().parent
PEERS = ("bert4keras", "transformers")
MODELS = {
    "tiny": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 100,
    },
    "small": {
        "hidden_size": 312,
        "num_hidden_layers": 4,
        "num_attention_heads": 12,
        "intermediate_size": 1200,
    },
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
COMMON = {
    "vocab_size": 21128,
    "max_position": 512,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
#: Which of our ways is meant when nobody chooses: TensorFlow without XLA, which compiles in
#: seconds and takes batches of any length.
DEFAULT = "tensorflow"


class Side:
    """A running `sides.py`."""

    def __init__(self, name: str, python: str, model: str, threads: int):
        environment = {
            **os.environ,
            **ENVIRONMENT[name],
            "CUDA_VISIBLE_DEVICES": "-1",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(
                [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_NUM_INTEROP_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
        }
        self.name = name
        self.process = subprocess.Popen(
            [python, str(HERE / "sides.py"), name, json.dumps({**COMMON, **MODELS[model]})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The side {self.name!r} died: its errors stand above.")
        return json.loads(line)

    def run(self, what: str, batch: int, length: int, steps: int) -> dict:
        """Run `steps` steps: ``{"wall": seconds, "cpu": seconds}`` for all of them."""
        print(what, batch, length, steps, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(sides: list, what: str, batch: int, length: int, rounds: int, seconds: float) -> dict:
    """Let the sides take turns; medians over the rounds, in milliseconds a step."""
    first, steps = {}, {}
    for side in sides:
        first[side.name] = side.run(what, batch, length, 1)["wall"]
        second = side.run(what, batch, length, 1)["wall"]
        steps[side.name] = max(1, min(50, round(seconds / second)))
    times = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken = side.run(what, batch, length, steps[side.name])
            times[side.name].append({k: v / steps[side.name] * 1e3 for k, v in taken.items()})
    result = {}
    for name, taken in times.items():
        result[name] = {
            "first_s": first[name],
            "steps": steps[name],
            "wall_ms": statistics.median(t["wall"] for t in taken),
            "cpu_ms": statistics.median(t["cpu"] for t in taken),
            "rounds": taken,
        }
    return result


def table(title: str, result: dict) -> str:
    """One case as Markdown."""
    peers = [name for name in PEERS if name in result]
    lines = [
        f"### {title}",
        "",
        "| side | ms/step | CPU ms/step | first step, s | time ÷ faster peer | CPU ÷ leaner peer |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        ratios = ["", ""]
        if peers and name not in peers:
            ratios = [
                f"{row[key] / min(result[peer][key] for peer in peers):.2f}"
                for key in ("wall_ms", "cpu_ms")
            ]
        lines.append(
            f"| {name}{' (default)' if name == DEFAULT else ''} | {row['wall_ms']:.0f} | "
            f"{row['cpu_ms']:.0f} | {row['first_s']:.1f} | {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines) + "\n"


def machine(threads: int) -> dict:
    """What the numbers hold for."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def interpreter(side: str, args) -> str:
    return {"bert4keras": args.legacy_python, "transformers": args.torch_python}.get(
        side.removesuffix("-xla"), sys.executable
    )


def shape(text: str) -> tuple:
    batch, length = text.split("x")
    return int(batch), int(length)


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["small", "base"])
    parser.add_argument("--shapes", nargs="+", type=shape, default=[(32, 128), (8, 128)])
    parser.add_argument("--what", nargs="+", choices=["train", "infer"], default=["train", "infer"])
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=[s for s in SIDES if s != "bert4keras-xla"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a side in a round, about")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--output", type=Path, help="write all measurements there, as JSON")
    parser.add_argument(
        "--legacy-python",
        default=os.environ.get("KERAS_EXTRAS_LEGACY_PYTHON", sys.executable),
        help="an interpreter with bert4keras and tf_keras",
    )
    parser.add_argument(
        "--torch-python",
        default=os.environ.get("KERAS_EXTRAS_TORCH_PYTHON", sys.executable),
        help="an interpreter with torch and transformers",
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.models, args.shapes, args.rounds, args.seconds = ["tiny"], [(4, 16)], 2, 0.1
    return args


def main(argv=None) -> None:
    args = parse(argv)
    report = {"machine": machine(args.threads), "cases": []}
    print(json.dumps(report["machine"]), flush=True)
    for model in args.models:
        sides = []
        try:
            for name in args.sides:
                sides.append(Side(name, interpreter(name, args), model, args.threads))
            report["versions"] = {side.name: side.versions for side in sides}
            print(json.dumps(report["versions"]), flush=True)
            for what in args.what:
                for batch, length in args.shapes:
                    result = measure(sides, what, batch, length, args.rounds, args.seconds)
                    print(f"\n{table(f'{what} {model} {batch}x{length}', result)}", flush=True)
                    case = {"model": model, "what": what, "shape": [batch, length]}
                    report["cases"].append({**case, "sides": result})
        finally:
            for side in sides:
                side.close()
        if args.output:
            args.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
