"""`fit`, `evaluate` and `predict` that read a `PyDataset` without tf.data's autotuner."""

import keras

from keras_extras.training.keras_seams import UntunedBatches

POSITIONAL = 4  # of `fit` after x and y: batch_size, epochs, verbose, callbacks


class UntunedTrainer:
    """Hands Keras' trainer `UntunedBatches` in the place of a `PyDataset`."""

    def fit(self, x=None, y=None, *args, **kwargs):
        if is_dataset(x) and len(args) <= POSITIONAL and alone(y, kwargs):
            shuffle = kwargs.get("shuffle", True)
            x = UntunedBatches(x, class_weight=kwargs.pop("class_weight", None), shuffle=shuffle)
        if is_dataset(kwargs.get("validation_data")):
            kwargs["validation_data"] = UntunedBatches(kwargs["validation_data"])
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        if is_dataset(x) and len(args) <= 2 and alone(y, kwargs):  # batch_size, verbose
            x = UntunedBatches(x)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        return super().predict(UntunedBatches(x) if is_dataset(x) else x, *args, **kwargs)


def is_dataset(x) -> bool:
    """Whether the data are a `PyDataset`."""
    return isinstance(x, keras.utils.PyDataset)


def alone(y, arguments: dict) -> bool:
    """Whether the data come without what Keras refuses beside a `PyDataset`."""
    return y is None and arguments.get("sample_weight") is None
