"""LoRA for models that exist: their matrices stay, thin factors are trained, saved and merged.

>>> from keras_extras.low_rank import add_low_rank, load_low_rank, merge_low_rank, save_low_rank
>>> x = keras.Input((6,))
>>> hidden = keras.layers.Dense(4, name="hidden")(x)
>>> model = keras.Model(x, keras.layers.Dense(2, name="head")(hidden))
>>> add_low_rank(model, ["hidden"], rank=2, train=["head"])
['hidden']
>>> sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)  # 6·2 + 2·4 + 4·2 + 2
30

After training, `save_low_rank(model, "task.npz")` writes these 30 numbers; `load_low_rank` puts
them into the model, with or without factors. `merge_low_rank(model)` adds the products to the
matrices, `unmerge_low_rank(model)` takes them out again, and `remove_low_rank(model)` leaves plain
layers with what was learned.

``model.save`` writes the model as if it had been merged and made plain, and loads it so;
``model.save_weights`` writes the factors beside, so that the file fits the model with factors
(exactly as it was) and the plain one. Functions that another model compiled before
`add_low_rank` do not know of the factors: compile that model again.

As an optimizer, for any layer and without a change to the model: `extend_with_low_rank`.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_extras.layers.embedding import Embedding
from keras_extras.layers.keras_seams import flatten, remove_part, unlocked
from keras_extras.layers.low_rank import (
    LowRankFactors,
    check_settings,
    dense_call,
    embedding_call,
    make_factors,
    save_merged,
)
from keras_extras.optimizers.selecting import check_patterns, path_of

#: which layers can be trained through factors, and what they compute then
ADAPTED = {keras.layers.Dense: dense_call, Embedding: embedding_call}
_SETTINGS = "low_rank"


def add_low_rank(
    model: keras.Model,
    include: Sequence[str],
    rank: int = 8,
    alpha: float | None = None,
    mode: str = "zero_b",
    dropout: float = 0.0,
    train: Sequence[str] = (),
    seed: int | None = None,
) -> list[str]:
    """Freeze a model and let some of its matrices learn through thin factors: LoRA.

    ``W`` becomes ``W + (alpha/rank)·A·B``, and only A and B are trained. At first A·B is zero and
    the model computes what it did before. The layers are changed where they are, those inside
    of attention layers too. A head that is put on the model afterwards trains as ever. Compile the
    model afterwards.

    Args:
        model: a built model.
        include: regular expressions, searched in the paths of the `keras.layers.Dense` and
            `keras_extras.layers.Embedding` layers; ``["q_dense", "v_dense"]`` are queries and
            values of all attention layers, ``["^Transformer-1[01]-"]`` the last two of 12 blocks,
            ``["^Embedding-Token$"]`` the table of words.
        rank: r, the shorter side of A and B.
        alpha: the product is multiplied by ``alpha/rank``; None (default) means ``alpha = rank``.
        mode: "zero_b" (default), or "additive": ``ΔW = A[I…I] + [I;…;I]B``; see `LowRankDense`.
        dropout: rate of dropout on what the factors of Dense layers see.
        train: regular expressions, searched in the paths of the weights; what they find is
            trained as well, for instance ``["bias$", "^classifier/"]``.
        seed: of the factors and the dropout; every layer has numbers of its own.

    Returns:
        The paths of the layers that have factors now.

    Raises:
        ValueError: a pattern finds nothing, or a layer cannot have factors; the model is unchanged.

    Source: Hu et al., arXiv:2106.09685; kexue.fm/archives/9590.

    >>> from keras_extras.layers import MultiHeadAttention
    >>> x = keras.Input((None, 8))
    >>> model = keras.Model(x, MultiHeadAttention(2, 4, name="attention")([x, x, x]))
    >>> add_low_rank(model, ["q_dense", "v_dense"], rank=2)
    ['attention/q_dense', 'attention/v_dense']
    """
    include, train = check_patterns(include, "include"), check_patterns(train, "train")
    layers = _matrices(model)
    chosen = _search(include, layers, "include")
    kept = set(_search(train, _weights(model), "train"))
    for index, path in enumerate(chosen):
        _check(layers[path], path)
        if _has_factors(layers[path]):
            raise ValueError(f"{path} has factors already.")
        check_settings(rank, mode, dropout, layers[path].weights[0].shape)
        if layers[path].weights[0].path in kept:
            raise ValueError(f"The matrix of {path} has factors, so `train` cannot ask for it too.")
        settings = {
            "rank": rank,
            "alpha": alpha,
            "mode": mode,
            "seed": None if seed is None else seed + index,
        }
        if isinstance(layers[path], keras.layers.Dense):
            settings["dropout"] = dropout
        chosen[path] = settings
    for path, settings in chosen.items():
        _adapt(layers[path], settings)
    _freeze(model, kept)
    _forget_compiled(model)
    return list(chosen)


def merge_low_rank(model: keras.Model) -> None:
    """Add the products of the factors to the matrices: ``W ← W + ΔW``, and the factors rest.

    The model computes the same, also through functions that were compiled before. Merged factors
    do not train. Nothing happens where they are merged already.

    Raises:
        ValueError: no layer has factors.
    """
    for layer in _adapted(model).values():
        layer.low_rank.merge()


def unmerge_low_rank(model: keras.Model) -> None:
    """Undo `merge_low_rank`: ``W ← W − ΔW``, up to rounding, and the factors work again.

    Raises:
        ValueError: no layer has factors.
    """
    for layer in _adapted(model).values():
        layer.low_rank.unmerge()


def remove_low_rank(model: keras.Model) -> None:
    """Merge the factors and make plain layers of their layers again, which cost what they did.

    Everything trains again, as in a new model. Layers that were made as `LowRankDense` or
    `LowRankEmbedding` stay what they are, merged. Compile the model afterwards.

    Raises:
        ValueError: no layer has factors.
    """
    layers = list(_adapted(model).values())
    for layer in layers:
        layer.low_rank.merge()
        if type(layer) in ADAPTED:
            del layer.call, layer.save_own_variables
            remove_part(layer, "low_rank")
    _thaw(model)
    for layer in filter(_has_factors, layers):
        for weight in (layer.low_rank.matrix(), layer.low_rank.a, layer.low_rank.b):
            weight.trainable = False
    _forget_compiled(model)


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
    layers = _adapted(model)
    arrays = {name: weight for name, weight in _weights(model).items() if weight.trainable}
    for name, layer in layers.items():
        arrays.update(_factors(name, layer))
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
    layers, weights = _matrices(model), _weights(model)
    problems = []
    for name, config in settings.items():
        layer = layers.get(name)
        a, b = (arrays.pop(f"{name}/low_rank/{factor}") for factor in "ab")
        config["factors"] = (a, b)
        if layer is None:
            problems.append(f"the model has no Dense or Embedding layer {name}")
            continue
        _check(layer, name)
        shape = tuple(layer.weights[0].shape)
        if shape != (a.shape[0], b.shape[1]):
            problems.append(f"{name} is {shape}, in the file {(a.shape[0], b.shape[1])}")
        elif _has_factors(layer):
            for key in ("rank", "alpha", "mode"):
                ours, theirs = layer.low_rank.settings[key], config[key]
                if ours != theirs:
                    problems.append(f"{name} has {key}={ours!r}, in the file {theirs!r}")
    for name, layer in layers.items():
        if _has_factors(layer) and name not in settings:
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
        if not _has_factors(layer):
            _adapt(layer, {**config, "seed": None})
        layer.low_rank.unmerge()
        layer.low_rank.a.assign(a)
        layer.low_rank.b.assign(b)
    for name, array in arrays.items():
        weights[name].assign(array)
    _freeze(model, set(arrays))
    _forget_compiled(model)


def _matrices(model) -> dict[str, keras.layers.Layer]:
    """The layers of a model that have or may have factors, by path."""
    layers = {}
    for layer in flatten(model):
        if type(layer) in ADAPTED or _has_factors(layer):
            if not layer.built:
                raise ValueError(f"The layer {layer.name} is not built yet: call the model first.")
            path = path_of(layer.weights[0]).rpartition("/")[0]
            if layers.setdefault(path, layer) is not layer:
                raise ValueError(f"Two layers have the path {path}: give them different names.")
    order = {id(weight): index for index, weight in enumerate(model.weights)}
    return dict(sorted(layers.items(), key=lambda item: order[id(item[1].weights[0])]))


def _has_factors(layer) -> bool:
    return isinstance(getattr(layer, "low_rank", None), LowRankFactors)


def _adapted(model) -> dict[str, keras.layers.Layer]:
    layers = {path: layer for path, layer in _matrices(model).items() if _has_factors(layer)}
    if not layers:
        raise ValueError("No layer of the model has factors: call add_low_rank first.")
    return layers


def _factors(path, layer):
    return {f"{path}/low_rank/{name}": getattr(layer.low_rank, name) for name in "ab"}


def _weights(model) -> dict:
    """The weights of a model without the factors, by path."""
    own = {
        id(weight)
        for layer in flatten(model)
        if _has_factors(layer)
        for weight in layer.low_rank.weights
    }
    weights = {}
    for weight in model.weights:
        if id(weight) not in own and weights.setdefault(weight.path, weight) is not weight:
            raise ValueError(f"Two weights have the path {weight.path}: name their layers.")
    return weights


def _search(patterns, paths, setting) -> dict:
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"The pattern {pattern!r} of `{setting}` is found in none of these paths: "
                f"{', '.join(paths)}."
            )
    return {path: None for path in paths if any(re.search(p, path) for p in patterns)}


def _check(layer, path):
    """What Keras does with a matrix that the factors would not know of."""
    if layer.quantization_mode is not None or layer.lora_enabled:
        raise ValueError(f"{path} is quantized, or has Keras' own LoRA: it cannot have factors.")
    if getattr(layer, "kernel_constraint", getattr(layer, "embeddings_constraint", None)):
        raise ValueError(f"{path} has a constraint, which W + ΔW would not keep.")


def _adapt(layer, settings):
    with unlocked(layer):
        layer.low_rank = make_factors(layer, **settings)
    # methods of this layer alone: with another class, Keras would name it otherwise in its files
    layer.call = functools.partial(ADAPTED[type(layer)], layer)
    layer.save_own_variables = functools.partial(save_merged, layer)


def _forget_compiled(model):
    for layer in flatten(model):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None


def _thaw(model):
    """Let everything train, as in a new model.

    Not `model.trainable = True`, which does nothing on TensorFlow if that is what it was already,
    whatever the parts of the model are.
    """
    for value in (False, True):
        for layer in flatten(model):
            layer.trainable = value


def _freeze(model, kept):
    """Let only the factors and the weights `kept` train."""
    _thaw(model)  # a frozen layer would freeze its factors
    for path, weight in _weights(model).items():
        weight.trainable = weight.trainable and path in kept
    for layer in _adapted(model).values():
        for factor in _factors("", layer).values():
            factor.trainable = not layer.low_rank.merged


def _npz(path) -> str:
    path = os.fspath(path)
    if not path.endswith(".npz"):
        raise ValueError(f"The file of the factors is a .npz file, but got {path!r}.")
    return path
