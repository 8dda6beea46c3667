"""New parts in a layer that is built: Keras locks its state, and has no public name to unlock it.

Keras' own `enable_lora` unlocks the same tracker. Tried with Keras 3.12 and 3.15;
`tests/layers/test_low_rank.py` fails when a name moves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """State may be added to `layer` inside, and is named as if `layer` had made it in `build`."""
    locked = layer._tracker.locked
    layer._tracker.unlock()
    with contextlib.ExitStack() as scopes:
        for part in layer.variables[0].path.split("/")[:-1]:
            scopes.enter_context(keras.name_scope(part))
        yield
    if locked:
        layer._tracker.lock()


def remove_part(layer: keras.layers.Layer, name: str) -> None:
    """Take a part out of `layer`, which forgets its weights."""
    with unlocked(layer):
        layer._tracker.untrack(getattr(layer, name))
        delattr(layer, name)


def flatten(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Every layer of `model`, those inside of other layers too, each once."""
    return list({id(layer): layer for layer in model._flatten_layers(include_self=True)}.values())
