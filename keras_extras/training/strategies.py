"""Which devices a training uses, chosen by one word."""

import contextlib
import glob
import json
import os

import keras

__all__ = ["get_strategy", "is_chief", "strategy_scope"]

NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu", "cpu:N")
TPU_VARIABLES = ("TPU_NAME", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES")
TPU_FILES = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")


def get_strategy(name: str = "auto", devices: int = 0):
    """The `tf.distribute` strategy of that name, or None for a single device.

    | name | strategy |
    |---|---|
    | `auto` | the first that fits: `tpu`, `multi_worker` where TF_CONFIG is set, `mirrored` where TensorFlow sees several GPUs, `one_device`; prints which and why |
    | `one_device` | none: training on a single device |
    | `mirrored` | GPUs of this machine (without GPUs `devices` logical CPUs), weights copied to each |
    | `multi_worker` | several machines or processes, described by the environment variable TF_CONFIG |
    | `tpu` | the TPU of this machine, or the one that TPU_NAME names |
    | `cpu:N` | N logical CPU devices, mirrored; to try distributed code without GPUs |

    Build and compile the model inside `strategy_scope(strategy)`; the batch size given to
    `fit` is the total over all devices. Call it at the start of the program: TensorFlow divides
    CPUs and connects workers only before its first operation.

    Args:
        name: one of the above. Default "auto".
        devices: how many devices `mirrored` takes; 0: all GPUs. Default 0.

    Returns:
        A `tf.distribute.Strategy`, or None.

    Raises:
        ValueError: the name is unknown, `devices` does not go with it (or with `auto` under
            TF_CONFIG), TF_CONFIG is missing or broken, or tf.distribute is asked for on a backend
            other than TensorFlow.
        RuntimeError: the devices that the name asks for are not there.

    Example:

    >>> get_strategy("one_device") is None
    True
    """  # noqa: E501
    kind, _, count = name.partition(":")
    known = name in NAMES[:-1] or kind == "cpu" and count.isdigit() and int(count) > 0
    if not known:
        raise ValueError(f"Unknown strategy {name!r}; choose one of {', '.join(NAMES)}.")
    if devices < 0 or devices and kind not in ("auto", "mirrored"):
        raise ValueError(f"devices={devices} goes with 'mirrored' only, not with {name!r}.")
    if kind == "auto":
        kind, reason = choose(devices)
        print(f"Strategy: {kind} ({reason})")
    if kind == "one_device":
        return None
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Strategy {name!r} is tf.distribute and needs the TensorFlow backend, but Keras runs "
            f"on {keras.backend.backend()}. Set KERAS_BACKEND=tensorflow, use strategy "
            "'one_device', or distribute with keras.distribution on JAX."
        )
    if kind == "cpu":
        return mirrored_cpus(int(count))
    if kind == "tpu":
        return tpu_strategy()
    if kind == "multi_worker":
        return multi_worker_strategy()
    return mirrored_strategy(devices)


def choose(devices: int) -> tuple[str, str]:
    """The strategy that `auto` stands for, and why."""
    if devices and os.environ.get("TF_CONFIG") and keras.backend.backend() == "tensorflow":
        raise ValueError(
            f"devices={devices} under TF_CONFIG: each worker would train alone and overwrite the "
            "others' files. Leave the number of devices away, or name the strategy: "
            "'multi_worker' connects the workers, 'mirrored' and 'one_device' leave each alone."
        )
    if devices > 1:
        return "mirrored", f"{devices} devices are asked for"
    if keras.backend.backend() != "tensorflow":
        return "one_device", f"tf.distribute is not for Keras on {keras.backend.backend()}"
    if devices == 1:
        return "one_device", "1 device is asked for"
    sign = sign_of_a_tpu()
    if sign:
        return "tpu", f"{sign} shows a TPU"
    if os.environ.get("TF_CONFIG"):
        return "multi_worker", "TF_CONFIG describes workers"
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus > 1:
        return "mirrored", f"TensorFlow sees {gpus} GPUs"
    return "one_device", "TensorFlow sees " + ("one GPU" if gpus else "no GPU and no TPU")


def sign_of_a_tpu() -> str | None:
    """The environment variable or device file that tells of a TPU.

    `/dev/vfio` also holds other devices that are handed to virtual machines, so it counts only
    beside Google's libtpu.
    """
    for variable in TPU_VARIABLES:
        if os.environ.get(variable):
            return f"the environment variable {variable}"
    accel, vfio = (sorted(glob.glob(pattern)) for pattern in TPU_FILES)
    if vfio:
        import importlib.util

        vfio = vfio if importlib.util.find_spec("libtpu") else []
    return (accel + vfio)[0] if accel or vfio else None


def is_chief(strategy) -> bool:
    """Whether this process is the one of several workers that writes results.

    Example:

    >>> is_chief(None)
    True
    """
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not resolver.task_type:
        return True
    if resolver.task_type == "worker":
        has_chief = "chief" in resolver.cluster_spec().as_dict()
        return resolver.task_id == 0 and not has_chief
    return resolver.task_type == "chief"


def strategy_scope(strategy):
    """Context in which to build and compile a model; does nothing for None."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def mirrored_strategy(devices: int):
    """GPUs of this machine, or logical CPUs if a number is given and there is no GPU."""
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    if not gpus and devices:
        return mirrored_cpus(devices)
    if not gpus:
        raise RuntimeError(
            "Strategy 'mirrored' needs a GPU and TensorFlow sees none; use 'one_device', or give "
            "a number of devices (--devices 2) to try distributed training on the CPU."
        )
    if devices > gpus:
        raise RuntimeError(f"{devices} devices are asked for, but TensorFlow sees {gpus} GPUs.")
    return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(devices or gpus)])


def mirrored_cpus(count: int):
    """Splits the CPU into logical devices, which TensorFlow allows only before it starts."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu) or []
    if len(configured) != count:
        try:
            parts = [tf.config.LogicalDeviceConfiguration()] * count
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            raise RuntimeError(
                f"{count} logical CPUs must be asked for before TensorFlow runs its first "
                "operation; call get_strategy at the start of the program."
            ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def multi_worker_strategy():
    """This process as one of the workers that TF_CONFIG names."""
    import tensorflow as tf

    check_tf_config(os.environ.get("TF_CONFIG", ""))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            "Strategy 'multi_worker' must be chosen before TensorFlow runs its first operation; "
            f"call get_strategy at the start of the program ({error})."
        ) from None


def check_tf_config(text: str):
    """Complains about a TF_CONFIG with which TensorFlow would hang or fail obscurely."""
    example = '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'
    advice = f"TF_CONFIG should be like {example}; keras_extras.training.launch sets it."
    if not text:
        raise ValueError(f"Strategy 'multi_worker' needs TF_CONFIG, which is not set. {advice}")
    try:
        config = json.loads(text)
        kind, index = config["task"]["type"], config["task"]["index"]
        addresses = config["cluster"][kind]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"TF_CONFIG is broken ({error!r}): {text[:200]} {advice}") from None
    if not 0 <= int(index) < len(addresses):
        raise ValueError(f"TF_CONFIG names {len(addresses)} {kind}s, but index {index}. {advice}")


def tpu_strategy():
    """Connects to the TPU of this machine, or to the one that TPU_NAME names."""
    import tensorflow as tf

    try:
        name = os.environ.get("TPU_NAME", "local")
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # what is raised depends on the build and on the machine
        raise RuntimeError(
            f"Strategy 'tpu' found no TPU ({type(error).__name__}: {str(error)[:200]}). "
            f"This is TensorFlow {tf.__version__}; 2.19 is the last with support for TPUs."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
