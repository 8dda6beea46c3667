"""What this project computes on the backend of KERAS_BACKEND: ``ours.py results.npz case…``."""

import sys

import cases
import numpy as np
from keras import Input

from keras_extras.bert4keras import build_transformer_model


def main(path, names):
    results = {}
    for name in names:
        transformer = cases.build(cases.CASES[name], build_transformer_model, Input)
        cases.randomize(name, transformer)
        inputs = cases.feed(name, cases.CASES[name], transformer.inputs)
        outputs = transformer.model.predict_on_batch(inputs if len(inputs) > 1 else inputs[0])
        for i, output in enumerate(outputs if isinstance(outputs, list) else [outputs]):
            results[f"{name}|output|{i}"] = output
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
