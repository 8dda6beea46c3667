"""Everything that the runner changes in Keras so that scripts of 2020-2023 run on Keras 3.

`apply` is called by ``python -m keras_extras.bert4keras script.py`` and by nothing else: it changes
Keras for the whole process. `PATCHES` lists all there is; the docstring of each says what it does
and why Keras 3 needs it. They were tried with Keras 3.15.1 on TensorFlow 2.21. What a script needs
beyond them works as Keras 3 has it.
"""

from __future__ import annotations

import importlib

import keras

from keras_extras.bert4keras import legacy_files, legacy_layers, legacy_names, legacy_training

PATCHES = (
    legacy_layers.keep_masks,
    legacy_names.alias_modules,
    legacy_names.register_bare_names,
    legacy_layers.accept_old_optimizer_arguments,
    legacy_layers.accept_old_layer_methods,
    legacy_training.accept_old_losses,
    legacy_training.accept_old_fit,
    legacy_training.accept_old_predict,
    legacy_files.accept_old_files,
    legacy_training.accept_old_callbacks,
    legacy_layers.accept_symbolic_losses,
    legacy_training.accept_train_functions,
    legacy_names.accept_tensorflow_on_symbols,
    legacy_names.accept_tensorflow_1,
)


def apply() -> None:
    """Apply all patches once.

    Raises:
        RuntimeError: the backend is not TensorFlow, which these scripts were written for.
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras runs on {keras.config.backend()}, but scripts of Keras 2 need TensorFlow: "
            "set KERAS_BACKEND=tensorflow."
        )
    if getattr(keras, "_keras_extras_legacy", False):
        return
    keras._keras_extras_legacy = True
    importlib.import_module("keras._tf_keras.keras")  # so that tf.keras shows the same names
    for patch in PATCHES:
        patch()
