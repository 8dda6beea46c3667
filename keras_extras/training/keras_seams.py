"""The private places of Keras that `keras_extras.Model` reaches into.

A training step that is right on many devices needs the losses before they are reduced, the loss
tracker and the class of functional models; Keras has no public names for them. All that is private
is named here or in `PRIVATE_NAMES`. Tried on one device, replicas and workers, with Keras 3.15
(TensorFlow 2.21) and 3.12 (TensorFlow 2.19); `tests/training/test_model_seams.py` fails when a name
moves.
"""

import keras
from keras.src.losses.loss import apply_mask
from keras.src.models.functional import Functional
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from keras_extras.losses.keras_seams import mask_of
from keras_extras.training.batching import LengthBatches, common_spec

__all__ = [
    "PRIVATE_NAMES",
    "Functional",
    "UntunedBatches",
    "lowest_optimizer_class",
    "mask_of",
    "merged_weights",
]

# class: attributes of it or of its instances that the room `training` uses
PRIVATE_NAMES = {
    "model": (
        "_call_has_training_arg",
        "_compile_loss",
        "_compile_metrics",
        "_distribute_strategy",
        "_flatten_layers",
        "_loss_tracker",
        "_maybe_symbolic_build",  # TensorFlow only
        "_symbolic_build",
    ),
    "layer": ("_non_trainable_variables",),
    "compile_loss": ("_flat_losses", "build", "metrics"),
    "mean_metric_wrapper": ("_fn",),
    "optimizer": (
        "_all_reduce_sum_gradients",
        "_apply_weight_decay",
        "_backend_increment_gradient_accumulators",
        "_backend_update_step",
        "_distributed_tf_update_step",
        "_iterations",
        "_overwrite_model_variables_with_average_value",
    ),
    "loss_scale_optimizer": ("_common_apply", "_tf_apply", "inner_optimizer"),
    "multi_optimizer": ("_inner_optimizers",),
}


def set_mask(tensor, mask) -> None:
    """Attaches a mask to a tensor, as Keras' layers do."""
    if mask is not None:
        tensor._keras_mask = mask


def merged_weights(sample_weight, mask, dtype):
    """Sample weights that are zero where the mask says so, or None where there is neither."""
    if sample_weight is not None:
        sample_weight = keras.ops.convert_to_tensor(sample_weight, dtype=dtype)
    if mask is not None:
        mask = keras.ops.convert_to_tensor(mask, dtype=dtype)
    return apply_mask(sample_weight, mask, dtype=dtype, reduction="mean_with_sample_weight")


def lowest_optimizer_class() -> type:
    """The class that holds what Keras' optimizers do under tf.distribute (TensorFlow only)."""
    from keras.src.backend.tensorflow.optimizer import TFOptimizer

    return TFOptimizer


class UntunedBatches(PyDatasetAdapter):
    """Batches of a `keras.utils.PyDataset` for TensorFlow, read without tf.data's autotuning.

    The shapes of `LengthBatches` are those of all its epochs; of others Keras takes what the first
    two batches share, without their number of rows.

    There is nothing to tune in a Python generator, and the tuner costs time: it sleeps 10, 20, 40 …
    ms between its rounds, and a pass over the data ends no sooner than it wakes up. Keras takes
    such an adapter in the place of the data.
    """

    def get_tf_dataset(self):
        import tensorflow as tf

        if isinstance(self.py_dataset, LengthBatches):
            extremes = [self._standardize_batch(batch) for batch in self.py_dataset.extremes()]
            self._output_signature = common_spec(extremes)
        options = tf.data.Options()
        options.autotune.enabled = False
        return super().get_tf_dataset().with_options(options)
