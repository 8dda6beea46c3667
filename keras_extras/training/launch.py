"""Starts a script as several workers on this machine, connected by `tf.distribute`.

    python -m keras_extras.training.launch --workers 2 train.py --epochs 3

Every worker is a process that runs the script with its own TF_CONFIG, on free ports of the
loopback interface; the script takes `get_strategy("multi_worker")` (or `"auto"`). Their output
comes line by line behind their number. When one fails, the others are ended too, since they
would wait for it forever; the exit code is then that of the first to fail. GPUs are divided among
the workers: those of CUDA_VISIBLE_DEVICES if that is set, else all that nvidia-smi lists; where
there are fewer than workers, each worker sees all.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

PATIENCE = 10  # seconds between a polite request to end and the kill


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES shows, or the numbers of all NVIDIA GPUs of this machine."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return []
        shown = answer.stdout.strip().replace("\n", ",")
    names = [name.strip() for name in shown.split(",")]
    return [name for name in names if name not in ("", "-1")]


def shares(gpus: Sequence[str], workers: int) -> list[dict[str, str]]:
    """What each worker's environment says of its GPUs; nothing if they do not suffice.

    >>> shares(["0", "1", "2"], 2)
    [{'CUDA_VISIBLE_DEVICES': '0,2'}, {'CUDA_VISIBLE_DEVICES': '1'}]
    """
    if len(gpus) < workers:
        return [{}] * workers
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i::workers])} for i in range(workers)]


class Worker:
    """One process of the job, whose lines are printed behind its number."""

    def __init__(
        self,
        index: int,
        addresses: Sequence[str],
        command: Sequence[str],
        variables: dict[str, str] | None = None,
    ):
        self.index = index
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": list(addresses)}, "task": task}
        environment = {
            "TF_CONFIG": json.dumps(config),
            "PYTHONUNBUFFERED": "1",
            **(variables or {}),
        }
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | environment | (variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the workers through us alone
        )
        self.reader = threading.Thread(target=self.forward, daemon=True)
        self.reader.start()

    def forward(self):
        """Prints what the worker prints."""
        for line in self.process.stdout:
            print(f"[{self.index}] {line}", end="" if line.endswith("\n") else "\n", flush=True)

    def signal(self, number: int):
        """Sends a signal to the worker and what it started."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def failure(self) -> str | None:
        """How it failed, or None if it runs or has ended well."""
        code = self.process.poll()
        if not code:
            return None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"Worker {self.index} {how}"


def end(workers: Sequence[Worker], number: int = signal.SIGTERM):
    """Asks all workers to end, kills those that do not, and waits for their last lines."""
    try:
        for worker in workers:
            if worker.process.poll() is None:
                worker.signal(number)
        deadline = time.monotonic() + PATIENCE
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # a second Ctrl-C has no patience
        for worker in workers:
            worker.signal(signal.SIGKILL)  # with whatever it started and left behind
    for worker in workers:
        worker.process.wait()
        worker.reader.join(PATIENCE)
        worker.process.stdout.close()


def launch(command: Sequence[str], workers: int = 2) -> int:
    """Runs a Python script as several workers and waits for them.

    Args:
        command: path of the script and its arguments.
        workers: number of processes. Default 2.

    Returns:
        0 if all workers end well, else the exit code of the first to fail (128 + number of the
        signal that killed it).
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    running: list[Worker] = []
    ended_by = signal.SIGTERM
    try:
        for index, variables in enumerate(shares(visible_gpus(), workers)):
            running.append(Worker(index, addresses, command, variables))
        while any(worker.process.poll() is None for worker in running):
            if any(worker.failure() for worker in running):
                break
            time.sleep(0.05)
        failed = [worker for worker in running if worker.failure()]
        # a killed worker is the cause, an error of another one its consequence
        failed.sort(key=lambda worker: worker.process.returncode > 0)
    except KeyboardInterrupt:
        failed, ended_by = [], signal.SIGINT
        print("Stopped; ending the workers.", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    finally:
        end(running, ended_by)
    if not failed:
        return 0
    others = "the other is" if workers == 2 else "the others are"
    print(
        f"{failed[0].failure()}; {others} ended too. Its last lines stand above behind "
        f"[{failed[0].index}]. A script that saves its state can go on from there "
        "(the task scripts: --resume FOLDER).",
        file=sys.stderr,
        flush=True,
    )
    code = failed[0].process.returncode
    return code if code > 0 else 128 - code


def main(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(
        prog="python -m keras_extras.training.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument("script", help="Python script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    given = parser.parse_args(argv)
    if given.workers < 1:
        parser.error("--workers must be at least 1.")
    if not os.path.isfile(given.script):
        parser.error(f"there is no script {given.script}.")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # a shell's `&` lets the first be ignored, which we do not; `nohup` the last, which we do
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        code = launch([given.script, *given.arguments], given.workers)
    except KeyboardInterrupt:  # a second one
        code = 128 + signal.SIGINT
    raise SystemExit(code)


if __name__ == "__main__":
    main()
