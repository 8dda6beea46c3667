"""What original bert4keras on tf_keras computes: ``legacy.py folder [all]``.

Needs TF_KERAS=1 and TF_USE_LEGACY_KERAS=1. Writes

- ``folder/goldens.npz``: outputs and gradients of the cases (all of them, or those of
  `cases.LIVE`), with the weights that `cases.randomize` draws, and what the original refuses;
- ``folder/<case>.ckpt`` and ``folder/loaded.npz``: TensorFlow checkpoints under the original's
  variable names, and the outputs after it has loaded them (without ``all``).

``legacy.py tests/parity all`` made the goldens that stand in this folder.
"""

import os
import sys

import cases
import numpy as np
import tensorflow as tf
from bert4keras.backend import keras
from bert4keras.models import build_transformer_model


def build(case):
    return cases.build(case, build_transformer_model, keras.layers.Input)


def outputs_of(name, case, transformer):
    inputs = [tf.constant(x) for x in cases.feed(name, case, transformer.inputs)]
    outputs = transformer.model(inputs if len(inputs) > 1 else inputs[0])
    return outputs if isinstance(outputs, list) else [outputs]


def golden(name, case, results):
    transformer = build(case)
    cases.randomize(name, transformer)
    with tf.GradientTape(persistent=True) as tape:
        outputs = outputs_of(name, case, transformer)
        total = sum(
            tf.reduce_sum(output * cases.cotangent(name, i, output.shape))
            for i, output in enumerate(outputs)
        )
    for i, output in enumerate(outputs):
        results[f"{name}|output|{i}"] = output.numpy()
    if name in cases.WITH_GRADIENTS:
        for layer_name, layer in cases.layers_of(transformer).items():
            for i, weight in enumerate(layer.trainable_weights):
                gradient = tf.convert_to_tensor(tape.gradient(total, weight))
                results[f"{name}|gradient|{layer_name}|{i}"] = gradient.numpy()


def loaded(name, case, folder, results):
    """A checkpoint of the whole vocabulary, and the outputs of what the original makes of it."""
    whole = dict(case, options=dict(case["options"]))
    chosen = [whole["options"].pop(key, None) for key in ("keep_tokens", "compound_tokens")]
    transformer = build(whole)
    cases.randomize(name, transformer)
    variables = {}
    for layer_name, names in transformer.variable_mapping().items():
        layer = transformer.layers.get(transformer.prefixed(layer_name))
        for variable, weight in zip(names, layer.trainable_weights if layer else [], strict=False):
            variables[variable] = transformer.create_variable(variable, weight.numpy())[1]
    path = os.path.join(folder, name + ".ckpt")
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )
    if any(chosen):
        transformer = build(case)
    transformer.load_weights_from_checkpoint(path)
    for i, output in enumerate(outputs_of(name, case, transformer)):
        results[f"{name}|output|{i}"] = output.numpy()


def main(folder, everything=False):
    goldens = {}
    for name in cases.CASES if everything else cases.LIVE:
        golden(name, cases.CASES[name], goldens)
    for name, case in cases.REFUSED.items():
        try:
            build(case)
        except Exception as error:
            goldens[f"{name}|refused"] = np.array(type(error).__name__)
    np.savez_compressed(os.path.join(folder, "goldens.npz"), **goldens)
    if not everything:
        results = {}
        for name, case in cases.FROM_CHECKPOINT.items():
            loaded(name, case, folder, results)
        np.savez(os.path.join(folder, "loaded.npz"), **results)


if __name__ == "__main__":
    main(sys.argv[1], "all" in sys.argv[2:])
