"""Put our backend, layers and optimizers in the place of bert4keras' own."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

#: The version whose models, tokenizers and snippets the bridge was written for.
VERSION = "0.11.5"

_PIP_LINE = f"pip install --no-deps bert4keras=={VERSION}"
_REPLACED = ("backend", "layers", "optimizers")


def install() -> None:
    """Make ``import bert4keras`` work on Keras 3.

    bert4keras' `backend`, `layers` and `optimizers` are bound to Keras 2; the modules of the same
    name in this package take their place in `sys.modules`. Its `models`, `tokenizers` and
    `snippets` are used as they are, with weight loading and saving from here. Calling it again
    changes nothing.

    Raises:
        ImportError: bert4keras is missing or of another version, or its own modules were
            imported before.

    >>> install()
    >>> from bert4keras.models import build_transformer_model
    """
    try:
        version = importlib.metadata.version("bert4keras")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            f"bert4keras is not installed: run `{_PIP_LINE}` "
            "(--no-deps, because bert4keras asks for a Keras of 2019)."
        ) from None
    if version != VERSION:
        raise ImportError(
            f"bert4keras {version} is installed, but the bridge needs {VERSION}: run `{_PIP_LINE}`."
        )
    ours = {name: f"keras_extras.bert4keras.{name}" for name in _REPLACED}
    if all(
        f"bert4keras.{name}" in sys.modules
        and sys.modules[f"bert4keras.{name}"] is sys.modules.get(module)
        for name, module in ours.items()
    ):
        return
    early = sorted(name for name in sys.modules if name.startswith("bert4keras."))
    if early:
        raise ImportError(
            f"{', '.join(early)} was imported before keras_extras.bert4keras: "
            "import keras_extras.bert4keras (or call its install()) first."
        )
    package = importlib.import_module("bert4keras")
    for name, module in ours.items():
        replacement = importlib.import_module(module)
        sys.modules[f"bert4keras.{name}"] = replacement
        setattr(package, name, replacement)
    importlib.import_module("keras_extras.bert4keras.models")
