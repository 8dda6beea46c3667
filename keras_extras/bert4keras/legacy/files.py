"""Patches for files of weights and models: `legacy` lists and applies them."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import zipfile

import keras

from keras_extras.bert4keras.legacy.names import show


def accept_old_files():
    """Weights and models under any name: ``save_weights('best.weights')``, ``save('x.model')``.

    Weights are written as Keras 2 wrote them (HDF5, layer by layer), so that files of the two
    exchange; models as Keras 3's zip file, whatever their name.
    Why: Keras 3 accepts only the endings .weights.h5, .keras and .h5.
    """
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    save_weights, load_weights = keras.Model.save_weights, keras.Model.load_weights
    save, load_model = keras.Model.save, keras.models.load_model

    @functools.wraps(save_weights)
    def new_save_weights(self, filepath, overwrite=True, save_format=None, **kwargs):
        filepath = os.fspath(filepath)
        if filepath.endswith(".weights.h5"):
            return save_weights(self, filepath, overwrite=overwrite)
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(f"{filepath} exists, and overwrite=False.")
        with h5py.File(filepath, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, self)

    @functools.wraps(load_weights)
    def new_load_weights(self, filepath, by_name=False, skip_mismatch=False, **kwargs):
        filepath = os.fspath(filepath)
        if not h5py.is_hdf5(filepath):
            if os.path.exists(f"{filepath}.index"):
                raise ValueError(
                    f"{filepath} is a TensorFlow checkpoint, written by tf.keras without the "
                    "ending .h5. Load it where it was written and save it again as .h5."
                )
            raise OSError(f"{filepath} is no file of weights: it does not exist or is no HDF5.")
        with h5py.File(filepath, "r") as file:
            group = file["model_weights"] if "model_weights" in file else file
            if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                if by_name:
                    return legacy_h5_format.load_weights_from_hdf5_group_by_name(
                        group, self, skip_mismatch=skip_mismatch
                    )
                return legacy_h5_format.load_weights_from_hdf5_group(group, self)
        with under_name(filepath, "x.weights.h5") as path:
            return load_weights(self, path, skip_mismatch=skip_mismatch)

    @functools.wraps(save)
    def new_save(self, filepath, overwrite=True, include_optimizer=True, **kwargs):
        filepath = os.fspath(filepath)
        if filepath.endswith(".keras"):
            return save(self, filepath, overwrite=overwrite)
        with tempfile.TemporaryDirectory() as folder:
            save(self, os.path.join(folder, "x.keras"))
            shutil.move(os.path.join(folder, "x.keras"), filepath)

    @functools.wraps(load_model)
    def new_load_model(filepath, custom_objects=None, compile=True, **kwargs):
        filepath = os.fspath(filepath)
        kwargs.setdefault("safe_mode", False)  # a script's own file, with its own Lambdas
        if os.path.isdir(filepath):
            raise ValueError(
                f"{filepath} is a SavedModel folder, which Keras 3 does not load as a model: "
                "rebuild the model in code and load its weights."
            )
        if zipfile.is_zipfile(filepath):
            with under_name(filepath, "x.keras") as path:
                return load_model(path, custom_objects, compile, **kwargs)
        with under_name(filepath, "x.h5") as path:
            return load_model(path, custom_objects, compile, **kwargs)

    keras.Model.save_weights, keras.Model.load_weights = new_save_weights, new_load_weights
    keras.Model.save = new_save
    show("load_model", new_load_model, "models")
    show("load_model", new_load_model, "saving")
    show("save_model", lambda model, *a, **k: model.save(*a, **k), "models")


class under_name:
    """A temporary second name of a file, because Keras 3 looks at the ending."""

    def __init__(self, filepath, name):
        self.filepath, self.name = os.path.abspath(filepath), name

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, self.name)
        try:
            os.symlink(self.filepath, path)
        except OSError:
            shutil.copyfile(self.filepath, path)
        return path

    def __exit__(self, *error):
        self.folder.cleanup()
