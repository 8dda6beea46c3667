"""``load_saved_models.py folder``: load its models with nothing but ``import keras_extras``.

The models are loaded in safe mode; the outputs are written to ``folder/outputs.npz``.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_extras


def main(folder):
    assert "bert4keras" not in sys.modules and keras_extras
    results = {}
    with np.load(folder / "inputs.npz") as inputs:
        for path in sorted(folder.glob("*.keras")):
            model = keras.models.load_model(path)
            arrays = [inputs[f"{path.stem}|{i}"] for i in range(len(model.inputs))]
            outputs = model(arrays if len(arrays) > 1 else arrays[0])
            outputs = outputs if isinstance(outputs, list) else [outputs]
            for i, output in enumerate(outputs):
                results[f"{path.stem}|{i}"] = np.asarray(output)
    assert "bert4keras" not in sys.modules
    np.savez(folder / "outputs.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
