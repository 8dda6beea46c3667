"""Factors in the layers of a model that exists: added, merged, unmerged, removed."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import keras

from keras_extras.layers.embedding import Embedding
from keras_extras.layers.keras_seams import flatten, remove_part, unlocked
from keras_extras.layers.low_rank import dense_call, embedding_call, make_factors, save_merged
from keras_extras.layers.low_rank_factors import LowRankFactors, check_settings
from keras_extras.optimizers.selecting import check_patterns, path_of

#: which layers can be trained through factors, and what they compute then
ADAPTED = {keras.layers.Dense: dense_call, Embedding: embedding_call}


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
    layers = matrices(model)
    chosen = _search(include, layers, "include")
    kept = set(_search(train, weights_of(model), "train"))
    for index, path in enumerate(chosen):
        check(layers[path], path)
        if has_factors(layers[path]):
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
        adapt(layers[path], settings)
    freeze(model, kept)
    forget_compiled(model)
    return list(chosen)


def merge_low_rank(model: keras.Model) -> None:
    """Add the products of the factors to the matrices: ``W ← W + ΔW``, and the factors rest.

    The model computes the same, also through functions that were compiled before. Merged factors
    do not train. Nothing happens where they are merged already.

    Raises:
        ValueError: no layer has factors.
    """
    for layer in adapted(model).values():
        layer.low_rank.merge()


def unmerge_low_rank(model: keras.Model) -> None:
    """Undo `merge_low_rank`: ``W ← W − ΔW``, up to rounding, and the factors work again.

    Raises:
        ValueError: no layer has factors.
    """
    for layer in adapted(model).values():
        layer.low_rank.unmerge()


def remove_low_rank(model: keras.Model) -> None:
    """Merge the factors and make plain layers of their layers again, which cost what they did.

    Everything trains again, as in a new model. Layers that were made as `LowRankDense` or
    `LowRankEmbedding` stay what they are, merged. Compile the model afterwards.

    Raises:
        ValueError: no layer has factors.
    """
    layers = list(adapted(model).values())
    for layer in layers:
        layer.low_rank.merge()
        if type(layer) in ADAPTED:
            del layer.call, layer.save_own_variables
            remove_part(layer, "low_rank")
    _thaw(model)
    for layer in filter(has_factors, layers):
        for weight in (layer.low_rank.matrix(), layer.low_rank.a, layer.low_rank.b):
            weight.trainable = False
    forget_compiled(model)


def matrices(model) -> dict[str, keras.layers.Layer]:
    """The layers of a model that have or may have factors.

    Args:
        model: a built model.

    Returns:
        Layers by path (``"attention/q_dense"``), in the order of the model's weights.

    Raises:
        ValueError: a layer is not built, or two have the same path.
    """
    layers = {}
    for layer in flatten(model):
        if type(layer) in ADAPTED or has_factors(layer):
            if not layer.built:
                raise ValueError(f"The layer {layer.name} is not built yet: call the model first.")
            path = path_of(layer.weights[0]).rpartition("/")[0]
            if layers.setdefault(path, layer) is not layer:
                raise ValueError(f"Two layers have the path {path}: give them different names.")
    order = {id(weight): index for index, weight in enumerate(model.weights)}
    return dict(sorted(layers.items(), key=lambda item: order[id(item[1].weights[0])]))


def has_factors(layer) -> bool:
    """Whether a layer learns through factors, which `low_rank` holds then."""
    return isinstance(getattr(layer, "low_rank", None), LowRankFactors)


def adapted(model) -> dict[str, keras.layers.Layer]:
    """The layers of a model that have factors, by path, as `matrices`.

    Raises:
        ValueError: there are none.
    """
    layers = {path: layer for path, layer in matrices(model).items() if has_factors(layer)}
    if not layers:
        raise ValueError("No layer of the model has factors: call add_low_rank first.")
    return layers


def factors_of(path: str, layer) -> dict:
    """The two factors of a layer by their paths, ``path/low_rank/a`` and ``path/low_rank/b``."""
    return {f"{path}/low_rank/{name}": getattr(layer.low_rank, name) for name in "ab"}


def weights_of(model) -> dict:
    """The weights of a model without the factors, by path.

    Raises:
        ValueError: two have the same path.
    """
    own = {
        id(weight)
        for layer in flatten(model)
        if has_factors(layer)
        for weight in layer.low_rank.weights
    }
    weights = {}
    for weight in model.weights:
        if id(weight) not in own and weights.setdefault(weight.path, weight) is not weight:
            raise ValueError(f"Two weights have the path {weight.path}: name their layers.")
    return weights


def _search(patterns, paths, setting) -> dict:
    """The paths that a pattern is found in, in their order, as keys of a dict to be filled.

    Args:
        patterns: regular expressions.
        paths: all paths that could be meant.
        setting: the argument that the patterns come from, for the error.

    Raises:
        ValueError: a pattern is found in no path.
    """
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"The pattern {pattern!r} of `{setting}` is found in none of these paths: "
                f"{', '.join(paths)}."
            )
    return {path: None for path in paths if any(re.search(p, path) for p in patterns)}


def check(layer, path: str) -> None:
    """Refuse a layer with which Keras does what the factors would not know of.

    Raises:
        ValueError: `layer`, which the error calls `path`, is quantized, has a constraint, or has
            factors of Keras' own.
    """
    if layer.quantization_mode is not None or layer.lora_enabled:
        raise ValueError(f"{path} is quantized, or has Keras' own LoRA: it cannot have factors.")
    if getattr(layer, "kernel_constraint", getattr(layer, "embeddings_constraint", None)):
        raise ValueError(f"{path} has a constraint, which W + ΔW would not keep.")


def adapt(layer, settings: dict) -> None:
    """Give one layer factors, in place.

    Args:
        layer: a built layer of one of the classes in `ADAPTED`.
        settings: arguments of `make_factors`: rank, alpha, mode, seed, and dropout of Dense.
    """
    with unlocked(layer):
        layer.low_rank = make_factors(layer, **settings)
    # methods of this layer alone: with another class, Keras would name it otherwise in its files
    layer.call = functools.partial(ADAPTED[type(layer)], layer)
    layer.save_own_variables = functools.partial(save_merged, layer)


def forget_compiled(model) -> None:
    """Have a model and the models in it trace their functions anew: their graph has changed."""
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


def freeze(model, kept) -> None:
    """Let only the factors and the weights `kept` train.

    Args:
        model: a model of which some layers have factors; merged factors rest.
        kept: paths of weights; what Keras itself never trains stays as it is.
    """
    _thaw(model)  # a frozen layer would freeze its factors
    for path, weight in weights_of(model).items():
        weight.trainable = weight.trainable and path in kept
    for layer in adapted(model).values():
        for factor in factors_of("", layer).values():
            factor.trainable = not layer.low_rank.merged
