"""Everything that the runner changes in Keras so that scripts of 2020-2023 run on Keras 3.

`apply` is called by ``python -m keras_extras.bert4keras script.py`` and by nothing else: it changes
Keras for the whole process. `PATCHES` lists all there is; the docstring of each says what it does
and why Keras 3 needs it. They were tried with Keras 3.15 on TensorFlow 2.21 and Keras 3.12 on
TensorFlow 2.19. What a script needs beyond them works as Keras 3 has it.
"""

from __future__ import annotations

import importlib

import keras

from keras_extras.bert4keras.legacy import files, layers, names, training

PATCHES = (
    layers.keep_masks,
    names.alias_modules,
    names.register_bare_names,
    layers.accept_old_optimizer_arguments,
    layers.accept_old_layer_methods,
    training.accept_old_losses,
    training.accept_old_fit,
    training.accept_old_predict,
    files.accept_old_files,
    training.accept_old_callbacks,
    layers.accept_symbolic_losses,
    training.accept_train_functions,
    names.accept_tensorflow_on_symbols,
    names.accept_tensorflow_1,
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
