"""Fixtures that several rooms share: other interpreters to compare with.

What this project computes is compared with peers that cannot live in its own process: original
bert4keras on tf_keras, Hugging Face transformers on torch, and our own code on the other backends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Scripts that run in processes of their own hold no doctests, and importing them here would start
# what they are meant to start elsewhere.
collect_ignore = [
    str(path) for path in ROOT.joinpath("tests").rglob("*.py") if not path.name.startswith("test_")
]


def _peer(variable: str, default: Path | None, what: str, probe: str) -> str:
    """The interpreter named by an environment variable, if it can import what is needed."""
    python = os.environ.get(variable) or (str(default) if default and default.exists() else None)
    problem = f"{variable} is not set"
    if python:
        env = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "numpy"}
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, env=env)
        if done.returncode == 0:
            return python
        problem = f"{python} cannot run `{probe}`"
    message = f"no peer with {what}: {problem} (see CONTRIBUTING.md)"
    if os.environ.get("KERAS_EXTRAS_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Programs that tests start can be stopped by SIGINT, which a shell's `&` has them ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def float32():
    """No test leaves another precision behind."""
    import keras

    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def legacy_python() -> str:
    """An interpreter with original bert4keras and tf_keras; this one by default."""
    return _peer(
        "KERAS_EXTRAS_LEGACY_PYTHON",
        Path(sys.executable),
        "bert4keras and tf_keras",
        "import importlib.util as u; assert u.find_spec('tf_keras') and u.find_spec('bert4keras')",
    )


@pytest.fixture(scope="session")
def jax_python() -> str:
    """An interpreter with JAX, Keras and bert4keras; this one by default."""
    return _peer(
        "KERAS_EXTRAS_JAX_PYTHON",
        Path(sys.executable),
        "jax",
        "import importlib.util as u; assert u.find_spec('jax')",
    )


@pytest.fixture(scope="session")
def torch_python() -> str:
    """An interpreter with torch, transformers, Keras and bert4keras: tests/make_torch_peer.sh."""
    return _peer(
        "KERAS_EXTRAS_TORCH_PYTHON",
        ROOT / ".peers" / "torch" / "bin" / "python",
        "torch and transformers",
        "import importlib.util as u; assert u.find_spec('torch') and u.find_spec('transformers')",
    )


@pytest.fixture(scope="session")
def run_python():
    """Run a script in a process of its own and return what it printed.

    ``run_python(python, script, *args, **env)``: `script` is a path or source text; the project is
    importable in it; a failure of the script fails the test and shows the end of its errors.
    """

    def run(python, script, *args, timeout: float = 300, **env) -> str:
        script = str(script)
        command = [script] if script.endswith(".py") else ["-c", script]
        done = subprocess.run(
            [str(python), *command, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
                **{key: str(value) for key, value in env.items()},
            },
        )
        if done.returncode != 0:
            pytest.fail(f"{script[:200]} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    return run


@pytest.fixture(scope="session")
def clue_data() -> Path:
    """The folder of real CLUE data, from $CLUE_DATA."""
    folder = os.environ.get("CLUE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CLUE_DATA names no folder with CLUE data")
    return Path(folder).resolve()
