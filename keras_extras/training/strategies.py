"""Which devices a training uses, chosen by one word."""

import contextlib

import keras

__all__ = ["get_strategy"]

NAMES = ("auto", "one", "mirrored", "multiworker", "tpu", "cpu:N")


def get_strategy(name: str = "auto"):
    """The `tf.distribute` strategy of that name, or None for a single device.

    | name | strategy |
    |---|---|
    | `auto` | `mirrored` where TensorFlow sees several GPUs, else `one` |
    | `one` | none: Keras' ordinary single-device training |
    | `mirrored` | all GPUs of this machine, weights copied to each |
    | `multiworker` | several machines, described by the environment variable TF_CONFIG |
    | `tpu` | the TPU of this machine |
    | `cpu:N` | N logical CPU devices, mirrored; to try distributed code without GPUs |

    Build and compile the model inside `strategy_scope(strategy)`; the batch size given to
    `fit` is the total over all devices.

    Args:
        name: one of the above. Default "auto".

    Returns:
        A `tf.distribute.Strategy`, or None.

    Raises:
        ValueError: the name is unknown, or asks for tf.distribute on a backend other than
            TensorFlow.
        RuntimeError: the devices that the name asks for are not there.

    Example:

    >>> get_strategy("one") is None
    True
    """
    kind, _, count = name.partition(":")
    known = kind in NAMES and not count or kind == "cpu" and count.isdigit() and int(count) > 0
    if not known:
        raise ValueError(f"Unknown strategy {name!r}; choose one of {', '.join(NAMES)}.")
    if kind == "one":
        return None
    if keras.backend.backend() != "tensorflow":
        if kind == "auto":
            return None
        raise ValueError(
            f"Strategy {name!r} is tf.distribute and needs the TensorFlow backend, but Keras runs "
            f"on {keras.backend.backend()}. Set KERAS_BACKEND=tensorflow, use strategy 'one', "
            "or distribute with keras.distribution on JAX."
        )
    import tensorflow as tf

    if kind == "cpu":
        return tf.distribute.MirroredStrategy(logical_cpus(int(count)))
    if kind == "tpu":
        return tpu_strategy()
    if kind == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if kind == "mirrored" and not gpus:
        raise RuntimeError(
            "Strategy 'mirrored' needs a GPU and TensorFlow sees none; use 'one', or 'cpu:2' to "
            "try distributed training on the CPU."
        )
    return tf.distribute.MirroredStrategy() if kind == "mirrored" or len(gpus) > 1 else None


def strategy_scope(strategy):
    """Context in which to build and compile a model; does nothing for None."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def logical_cpus(count: int) -> list[str]:
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
                f"Strategy 'cpu:{count}' must be chosen before TensorFlow runs its first "
                "operation; call get_strategy at the start of the program."
            ) from None
    return [f"CPU:{i}" for i in range(count)]


def tpu_strategy():
    """Connects to the TPU of this machine."""
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # what is raised depends on the build and on the machine
        raise RuntimeError(
            f"Strategy 'tpu' found no TPU ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
