"""`keras.backend` as scripts of Keras 2 know it (their ``K``), written in `keras.ops`.

Every function works on tensors, on `keras.Variable` and on symbolic `KerasTensor`; functions that
need a dynamic shape are traced when they are given a symbolic tensor. Signatures and results are
those of Keras 2.3, with four differences: `shape` gives a tuple (integers where a dimension is
known), `zeros` and `ones` give tensors and not variables, `random_*` draw from Keras 3's
generators, and what only a TensorFlow 1 session can do raises an error that says so.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.bert4keras.keras_backend.arithmetic import *  # noqa: F403
from keras_extras.bert4keras.keras_backend.arrangement import *  # noqa: F403
from keras_extras.bert4keras.keras_backend.graph import *  # noqa: F403
from keras_extras.bert4keras.keras_backend.symbolic_calls import BackendCall  # noqa: F401
from keras_extras.bert4keras.keras_backend.values import *  # noqa: F403

_KERAS_BACKEND = keras.backend  # the runner of legacy scripts puts this module in its place


def symbolic(call):
    """Return `call` as it is (a decorator of Keras 2.3)."""
    return call


def _no_session(name):
    def refuse(*args, **kwargs):
        raise NotImplementedError(
            f"K.{name} needs a session of TensorFlow 1, which Keras 3 does not have. Tensors "
            "have values as they are: use K.eval, model.predict or K.function instead."
        )

    refuse.__name__ = name
    return refuse


get_session = _no_session("get_session")
set_session = _no_session("set_session")


def __getattr__(name):
    """What stands in today's `keras.backend` or in `keras.ops` is there too."""
    for module in (_KERAS_BACKEND, ops):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(
        f"K.{name} is not among the functions of Keras 2 that keras_extras provides, nor in "
        "keras.backend or keras.ops. Write it in keras.ops, or report the script that needs it."
    )
