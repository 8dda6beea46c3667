"""The launcher: TF_CONFIG, prefixed output, and an end for all when one fails."""

import _thread
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_extras.training.launch import Worker, end, launch, main

SAY_CONFIG = """
import json, os, sys
config = json.loads(os.environ["TF_CONFIG"])
print(json.dumps([config, sys.argv[1:]]))
"""

# Worker 1 fails in the way that is asked for; worker 0 would run for a long time
FAIL = """
import json, os, signal, sys, time
if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
    print("I am", os.getpid())
    time.sleep(100)
time.sleep(100 if sys.argv[1] == "never" else 1)
if sys.argv[1] == "exit":
    raise SystemExit("no data")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def test_every_worker_knows_all_and_itself(script, capfd):
    assert launch([script(SAY_CONFIG), "--epochs", "3"], workers=3) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] ", "[2] "]
    configs = [json.loads(line[4:]) for line in lines]
    addresses = configs[0][0]["cluster"]["worker"]
    assert len(set(addresses)) == 3
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    for index, (config, arguments) in enumerate(configs):
        assert config["cluster"] == {"worker": addresses}
        assert config["task"] == {"type": "worker", "index": index}
        assert arguments == ["--epochs", "3"]


@pytest.mark.parametrize("shown, seen", [("3,5,6,7", {"3,6", "5,7"}), ("4", {"4"}), ("-1", {"-1"})])
def test_gpus_are_divided(script, capfd, monkeypatch, shown, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    say = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    assert launch([script(say)], workers=2) == 0
    assert {line[4:] for line in capfd.readouterr().out.splitlines()} == seen


@pytest.mark.parametrize(
    "how, code, message",
    [("exit", 1, "Worker 1 ended with 1"), ("kill", 137, "Worker 1 was killed by SIGKILL")],
)
def test_when_one_fails_all_are_ended(script, capfd, how, code, message):
    started = time.monotonic()
    assert launch([script(FAIL), how]) == code
    assert time.monotonic() - started < 30
    said = capfd.readouterr()
    assert f"{message}; the other is ended too." in said.err and "--resume" in said.err
    assert ("[1] no data" in said.out) == (how == "exit")
    assert gone(int(said.out.split("I am ")[1].split()[0]))


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_command_line_and_its_end_by_a_signal(script, number):
    # by its path: `-m` would first import the whole package
    command = [sys.executable, sys.modules[launch.__module__].__file__, script(FAIL), "never"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # under `nohup` these tests would ignore a hang-up, and what they start would do so, too
    heard = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=heard, **pipes) as process:
        try:
            pid = int(process.stdout.readline().split()[-1])
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Stopped; ending the workers." in errors and "Traceback" not in errors
    assert gone(pid)


STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready")
time.sleep(100)
"""


def test_a_second_ctrl_c_kills_the_workers_at_once(script, capfd):
    worker = Worker(0, ["127.0.0.1:1"], [script(STUBBORN)])
    while "ready" not in capfd.readouterr().out:
        time.sleep(0.05)
    started = time.monotonic()
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        end([worker], signal.SIGINT)
    assert worker.process.wait(5) == -signal.SIGKILL
    assert time.monotonic() - started < 5
    worker.reader.join()
    worker.process.stdout.close()


def test_bad_arguments(tmp_path):
    for arguments in (["--workers", "0", __file__], [str(tmp_path / "none.py")], []):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
