"""The file of what LoRA trained: factors, and the other weights that were trained with them."""

from __future__ import annotations

import json
import os

import keras
import numpy as np
from keras import ops

from keras_extras.low_rank import adapting

_SETTINGS = "low_rank"


def save_low_rank(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the factors, and whatever else of the model is trained (a head, biases), to a file.

    Args:
        model: a model with factors, merged or not.
        path: name of the file, which ends with ``.npz``: NumPy arrays under the weights' paths.

    Raises:
        ValueError: no layer has factors, the name does not end with ``.npz``, or two weights have
            one path.
    """
    path = _npz(path)
    layers = adapting.adapted(model)
    arrays = {
        name: weight for name, weight in adapting.weights_of(model).items() if weight.trainable
    }
    for name, layer in layers.items():
        arrays.update(adapting.factors_of(name, layer))
    arrays = {name: ops.convert_to_numpy(ops.cast(w, "float32")) for name, w in arrays.items()}
    settings = {name: layer.low_rank.settings for name, layer in layers.items()}
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        np.savez(file, **{_SETTINGS: np.array(json.dumps(settings))}, **arrays)
    os.replace(partial, path)


def load_low_rank(model: keras.Model, path: str | os.PathLike) -> None:
    """Put what `save_low_rank` wrote into a model of the same layers, with or without factors.

    Afterwards exactly the weights of the file are trained, and the factors are not merged. Compile
    the model afterwards.

    Args:
        model: the model as it was before `add_low_rank`, with the same frozen weights (only their
            names and shapes can be checked); or a model with factors at the same places.
        path: name of the file.

    Raises:
        ValueError: the file is of another kind, or does not fit the model (everything that does not
            is listed); the model is unchanged.
    """
    path = _npz(path)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if _SETTINGS not in arrays:
        raise ValueError(f"{path} was not written by save_low_rank: it has no {_SETTINGS!r}.")
    settings = json.loads(str(arrays.pop(_SETTINGS)))
    layers, weights = adapting.matrices(model), adapting.weights_of(model)
    problems = []
    for name, config in settings.items():
        layer = layers.get(name)
        a, b = (arrays.pop(f"{name}/low_rank/{factor}") for factor in "ab")
        config["factors"] = (a, b)
        if layer is None:
            problems.append(f"the model has no Dense or Embedding layer {name}")
            continue
        adapting.check(layer, name)
        shape = tuple(layer.weights[0].shape)
        if shape != (a.shape[0], b.shape[1]):
            problems.append(f"{name} is {shape}, in the file {(a.shape[0], b.shape[1])}")
        elif adapting.has_factors(layer):
            for key in ("rank", "alpha", "mode"):
                ours, theirs = layer.low_rank.settings[key], config[key]
                if ours != theirs:
                    problems.append(f"{name} has {key}={ours!r}, in the file {theirs!r}")
    for name, layer in layers.items():
        if adapting.has_factors(layer) and name not in settings:
            problems.append(f"{name} has factors, but not in the file")
    for name, array in arrays.items():
        if name not in weights:
            problems.append(f"the model has no weight {name}")
        elif tuple(weights[name].shape) != array.shape:
            problems.append(f"{name} is {tuple(weights[name].shape)}, in the file {array.shape}")
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{path} does not fit the model, which was not changed:\n  {listed}\n"
            "It fits the model that save_low_rank was called with; layers are known by their "
            "paths, so give those outside of the backbone names of their own."
        )
    for name, config in settings.items():
        layer, (a, b) = layers[name], config.pop("factors")
        if not adapting.has_factors(layer):
            adapting.adapt(layer, {**config, "seed": None})
        layer.low_rank.unmerge()
        layer.low_rank.a.assign(a)
        layer.low_rank.b.assign(b)
    for name, array in arrays.items():
        weights[name].assign(array)
    adapting.freeze(model, set(arrays))
    adapting.forget_compiled(model)


def _npz(path) -> str:
    path = os.fspath(path)
    if not path.endswith(".npz"):
        raise ValueError(f"The file of the factors is a .npz file, but got {path!r}.")
    return path
