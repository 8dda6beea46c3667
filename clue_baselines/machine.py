"""What a run computes with: backend, devices, versions."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras

from clue_baselines.data import DataError
from clue_baselines.settings import Settings
from keras_extras.training import is_chief

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "bert4keras")


def devices() -> list[str]:
    """The devices the backend sees, such as `CPU:0` or `GPU:0`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices()
        return [device.name.removeprefix("/physical_device:") for device in found]
    if backend == "jax":
        import jax

        return [f"{device.platform.upper()}:{device.id}" for device in jax.devices()]
    import torch

    return ["CPU:0"] + [f"GPU:{i}" for i in range(torch.cuda.device_count())]


def invisible_gpu(visible: list[str]) -> str | None:
    """A warning if this machine has an NVIDIA GPU and the backend sees none."""
    if any(not device.startswith("CPU") for device in visible):
        return None
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None  # hidden on purpose
    if not (Path("/proc/driver/nvidia/version").exists() or nvidia_smi_lists_a_gpu()):
        return None
    backend = keras.backend.backend()
    return (
        f"WARNING: this machine has an NVIDIA GPU, but this build of {backend} does not see it and "
        "computes on the CPU. Install the CUDA build (see the README), or hide the GPU on purpose "
        "with CUDA_VISIBLE_DEVICES=-1."
    )


def nvidia_smi_lists_a_gpu() -> bool:
    """Whether `nvidia-smi` is there and finds a GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict:
    """Backend, devices, versions and processor, printed at the start and kept with the run."""
    return {
        "backend": keras.backend.backend(),
        "devices": devices(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "platform": platform.platform(),
        "versions": versions(),
    }


def announce() -> dict:
    """Prints backend and devices, warns about a GPU that is not used; returns `describe()`."""
    facts = describe()
    version = facts["versions"].get(facts["backend"]) or facts["versions"].get("tensorflow-cpu", "")
    print(
        f"Keras {keras.__version__} on {facts['backend']} {version}, "
        f"devices: {', '.join(facts['devices'])} ({facts['cores']} cores)"
    )
    warning = invisible_gpu(facts["devices"])
    if warning:
        print(warning)
    return facts


def is_tpu(strategy) -> bool:
    """Whether a strategy computes on TPUs, which want every batch of the same few shapes."""
    return type(strategy).__name__.startswith("TPUStrategy")


def padding_multiple() -> int:
    """What lengths are rounded up to: tensor cores want 8, a CPU computes any length as well."""
    return 8 if any(not device.startswith("CPU") for device in devices()) else 1


def make_deterministic():
    """Makes equal runs give equal bits; call it before anything is computed.

    Raises:
        DataError: this is offered for TensorFlow only.
    """
    if keras.backend.backend() != "tensorflow":
        raise DataError(f"--deterministic is for TensorFlow, not for {keras.backend.backend()}.")
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def is_lost_worker(error: Exception) -> bool:
    """Whether tf.distribute failed because another worker does not answer any more."""
    return type(error).__name__ in ("UnavailableError", "AbortedError", "DeadlineExceededError")


@contextlib.contextmanager
def only_the_chief_writes(settings: Settings, strategy) -> Iterator[None]:
    """Of several workers, the others do all the same, silently and in a temporary folder."""
    if is_chief(strategy):
        yield
        return
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        if settings.resume:
            run = Path(settings.resume)
            settings.resume = str(shutil.copytree(run, Path(folder) / run.name))
        settings.output = folder
        with contextlib.redirect_stdout(nowhere):
            yield
