"""Weights of a bert4keras model, loaded from a checkpoint and saved as one.

Which variable belongs to which layer is bert4keras' ``variable_mapping``. Its own loader pairs a
layer's trainable weights with variable names and stops at the shorter list, so that a frozen layer
or a wrong architecture stays random without a word. Here everything is compared first, all that
does not fit is told in one error, and only then the weights are assigned.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_extras.bert4keras.checkpoints import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    tensor_files,
)

_LISTED = 20


def load_variable(self, checkpoint, name: str) -> np.ndarray:
    """Reads one variable; ``bert4keras.models.Transformer.load_variable``, which subclasses extend.

    Args:
        checkpoint: a ``Checkpoint``, a dict of arrays, or anything that ``open_checkpoint`` takes.
        name: bert4keras' name of the variable.

    Raises:
        KeyError: the checkpoint has no such variable.
    """
    if not isinstance(checkpoint, Mapping):
        checkpoint = open_checkpoint(checkpoint, _architecture(self))
    value = np.asarray(checkpoint[name])
    half = value.dtype == np.float16 or value.dtype.name == "bfloat16"
    return value.astype("float32") if half else value


def create_variable(self, name: str, value, dtype: str | None = None) -> tuple[str, np.ndarray]:
    """Turns one weight into a variable; ``bert4keras.models.Transformer.create_variable``.

    Returns:
        the name and the array; subclasses change the value (a transpose, say) and call this.
    """
    return name, np.asarray(value).astype(as_numpy_dtype(dtype or keras.config.floatx()))


def as_numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of a name, ``"bfloat16"`` included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def load_weights(transformer, checkpoint, mapping: Mapping[str, list[str]] | None = None):
    """Loads the weights of a built bert4keras model; ``Transformer.load_weights_from_checkpoint``.

    Frozen layers are loaded too. Weights that a condition adds to a layer normalisation start as
    they are built.

    Args:
        transformer: a built ``bert4keras.models.Transformer``. Its ``ignore_invalid_weights`` makes
            a warning of the error, and loads what fits; its ``autoresize_weights`` resizes weights
            of another shape; its ``truncated`` says that it is meant to be less deep than the
            checkpoint.
        checkpoint: a ``Checkpoint``, a dict of arrays, or anything that ``open_checkpoint`` takes.
        mapping: dict from layer names to lists of variable names. Default:
            ``transformer.variable_mapping()``.

    Raises:
        CheckpointError: (a ValueError) variables are missing, superfluous or of another shape; all
            are listed, and no weight has been changed.
    """
    checkpoint = open_checkpoint(checkpoint, _architecture(transformer))
    checkpoint.read_names.clear()
    assignments, problems = [], []
    for layer, names in _present(transformer, mapping).items():
        pairs, misfit = _pairs(transformer.layers[layer], names)
        problems += misfit
        for index, (weight, name) in enumerate(pairs):
            try:
                value = transformer.load_variable(checkpoint, name)
            except Exception as error:
                if not (isinstance(error, KeyError) or type(error).__name__ == "NotFoundError"):
                    raise
                problems.append(f"{name} is missing (for {layer}, {tuple(weight.shape)})")
                continue
            if value is None:  # an own load_variable that leaves this weight as it is
                continue
            shape = tuple(weight.shape)
            stored = value.shape
            if stored != shape and transformer.autoresize_weights:
                value = _resize(transformer, transformer.layers[layer], index, value, shape)
            if value is None or value.shape != shape:
                problems.append(f"{name} has shape {stored}, but {layer} needs {shape}")
            else:
                assignments.append((weight, value))
    if mapping is None:
        problems += [f"{name} is superfluous" for name in _superfluous(transformer, checkpoint)]
    if problems:
        _report(problems, checkpoint, transformer.ignore_invalid_weights)
    _warn_of_unmapped(transformer, mapping)
    for weight, value in assignments:
        weight.assign(value)


def save_weights(
    transformer, filename, mapping: Mapping[str, list[str]] | None = None, dtype: str | None = None
):
    """Saves the weights of a bert4keras model; ``Transformer.save_weights_as_checkpoint``.

    Args:
        transformer: a built ``bert4keras.models.Transformer``.
        filename: a name that ends with ``.safetensors``, or a TensorFlow checkpoint prefix
            (``model.ckpt``; needs TensorFlow), which original bert4keras and ``tf.train`` read.
            Variable names are bert4keras'.
        mapping: dict from layer names to lists of variable names. Default:
            ``transformer.variable_mapping()``.
        dtype: of the stored arrays: ``"float32"``, ``"float16"`` … Default:
            ``keras.config.floatx()``.
    """
    write(filename, collect(transformer, mapping, dtype))


def collect(
    transformer, mapping: Mapping[str, list[str]] | None = None, dtype: str | None = None
) -> dict[str, np.ndarray]:
    """The weights of a bert4keras model as a dict from variable names to arrays in TF1 layout."""
    arrays: dict[str, np.ndarray] = {}
    for layer, names in _present(transformer, mapping).items():
        pairs, misfit = _pairs(transformer.layers[layer], names)
        if misfit:
            raise CheckpointError(f"The model cannot be saved: {'; '.join(misfit)}.")
        for weight, name in pairs:
            value = keras.ops.convert_to_numpy(weight)
            name, value = transformer.create_variable(name, value, dtype)
            if name in arrays and not np.array_equal(arrays[name], value):
                raise CheckpointError(
                    f"Several layers of the model stand for the one variable {name} but hold "
                    "different values (ALBERT with unshared layers, trained): no checkpoint of "
                    "this architecture can hold them. Save the Keras model with model.save instead."
                )
            arrays[name] = value
    return arrays


def write(filename, arrays: Mapping[str, np.ndarray]):
    """Writes arrays under bert4keras' names, as safetensors or TensorFlow checkpoint by the file's
    name."""
    filename = os.path.expanduser(os.fspath(filename))
    if filename.endswith(".safetensors"):
        tensor_files.write_safetensors(filename, arrays, {"names": "bert4keras"})
    else:
        tensor_files.write_tensorflow(filename, arrays)


def _architecture(transformer) -> str | None:
    """Which names the model asks for, where Hugging Face's files leave it open."""
    if str(getattr(transformer, "version", "")).startswith("mt5"):
        return "mt5"
    kinds = {kind.__name__ for kind in type(transformer).__mro__}
    return "t5" if "T5_Base" in kinds else "electra" if "ELECTRA" in kinds else None


def _present(transformer, mapping) -> dict[str, list[str]]:
    """The mapping, with the model's prefix, of the layers that the model has."""
    mapping = transformer.variable_mapping() if mapping is None else mapping
    mapping = {transformer.prefixed(layer): names for layer, names in mapping.items()}
    return {layer: names for layer, names in mapping.items() if layer in transformer.layers}


def _pairs(layer, names: Iterable[str]) -> tuple[list[tuple], list[str]]:
    """A layer's weights with their variables' names, and what does not fit about them."""
    weights, names = list(layer.weights), list(names)
    extra = [] if getattr(layer, "conditional", False) else weights[len(names) :]
    problems = []
    if len(names) > len(weights):
        problems.append(
            f"{layer.name} has {len(weights)} weights, but {len(names)} variables are named for "
            f"it: {', '.join(names)}"
        )
        return [], problems
    if extra:
        problems.append(
            f"{layer.name} has weights that no variable is named for: "
            f"{', '.join(getattr(w, 'path', w.name) for w in extra)}"
        )
    return list(zip(weights, names, strict=False)), problems


def _superfluous(transformer, checkpoint: Checkpoint) -> list[str]:
    """Variables of the checkpoint's backbone that the model has no place for.

    Heads, optimizer slots and counters are normal; a deeper encoder, or positions that the model
    does not have, mean that the checkpoint is of another architecture.
    """
    mapping = transformer.variable_mapping()
    heads = {"cls", "discriminator_predictions", "generator_predictions"}
    scopes = {name.split("/")[0] for names in mapping.values() for name in names} - heads
    optional = set()
    for layer, names in mapping.items():
        if not layer.startswith("Embedding-") or layer == "Embedding-Segment":
            optional.update(names)
        elif transformer.prefixed(layer) in transformer.layers:
            optional.update(names)
    superfluous = []
    for name in checkpoint.names():
        scope, _, _ = name.partition("/")
        if name in checkpoint.read_names or name in optional or scope not in scopes:
            continue
        if is_training_state(name, checkpoint) or name.endswith(
            "EncDecAttention/relative_attention_bias"
        ):
            continue
        block = re.search(r"/(?:layer_?|block_)(\d+)/", name)
        deeper = block is not None and int(block[1]) >= transformer.num_hidden_layers
        if deeper and getattr(transformer, "truncated", False):
            continue
        superfluous.append(name)
    return superfluous


def is_training_state(name: str, names) -> bool:
    """Whether a variable is an optimizer's: ``<name>/adam_m``, ``<name>_slot_vr``, a counter."""
    owner, _, _ = name.rpartition("/")
    return (
        owner in names
        or re.search(r"_slot_[a-z]+$|/\.OPTIMIZER_SLOT/", name) is not None
        or re.search(
            r"(^|/)(global_step|good_steps|bad_steps|loss_scale|beta[12]_power|save_counter)$", name
        )
        is not None
    )


def unmapped(transformer, mapping: Mapping[str, list[str]] | None = None) -> list[str]:
    """Names of the layers that have weights, but no variables of a checkpoint."""
    mapping = transformer.variable_mapping() if mapping is None else mapping
    mapped = {transformer.prefixed(layer) for layer in mapping}
    return sorted(
        name
        for name, layer in transformer.layers.items()
        if name not in mapped and getattr(layer, "trainable_weights", None)  # inputs have none
    )


def _warn_of_unmapped(transformer, mapping):
    layers = unmapped(transformer, mapping)
    if layers:
        warnings.warn(
            "No variable of a checkpoint is named for these layers, which keep the weights they "
            f"have: {', '.join(layers)}.",
            stacklevel=4,
        )


def _report(problems: list[str], checkpoint: Checkpoint, ignore: bool):
    lines = problems[:_LISTED]
    if len(problems) > _LISTED:
        lines.append(f"… and {len(problems) - _LISTED} more")
    listed = "\n  ".join(lines)
    summary = (
        f"{len(problems)} variables of {checkpoint.source} do not fit the model:\n  {listed}\n"
    )
    if ignore:
        warnings.warn(
            summary
            + "They were ignored (ignore_invalid_weights=True); what is missing stays as it was.",
            stacklevel=4,
        )
    else:
        raise CheckpointError(
            summary
            + "No weight was changed. Check that the model's name and configuration are the "
            "checkpoint's; num_hidden_layers=… loads the first layers of a deeper one, and "
            "ignore_invalid_weights=True loads what fits."
        )


def _resize(transformer, layer, index: int, value: np.ndarray, shape: tuple[int, ...]):
    """bert4keras' resizing to another width, corrected in scale; None if it cannot be done."""
    from bert4keras.snippets import orthogonally_resize

    from keras_extras.layers import FeedForward, MultiHeadAttention

    if value.ndim != len(shape):
        return None
    if not np.any(value):
        return np.zeros(shape, value.dtype)
    old = value.shape
    try:
        value = orthogonally_resize(value, shape)
    except AssertionError:  # it widens even sizes only
        return None
    per_dense = 2 if getattr(layer, "use_bias", False) else 1
    if isinstance(layer, MultiHeadAttention):
        if layer.attention_scale and index < 2 * per_dense:
            value = value * (shape[-1] / old[-1]) ** 0.25
    elif isinstance(layer, FeedForward):
        count = per_dense
        if transformer.hidden_act in ["relu", "leaky_relu"]:
            count -= 2
        if index < count:
            value = value * np.sqrt(shape[-1] / old[-1])
        else:
            value = value * np.sqrt(old[0] / shape[0])
    return value
