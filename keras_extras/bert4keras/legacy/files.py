"""Patches for files of weights and models: `legacy` lists and applies them."""

from __future__ import annotations

import contextlib
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
    exchange; models as Keras 3's zip file, whatever their name. A file is replaced when the new
    one is whole. `load_weights` takes the weights out of either.
    Why: Keras 3 accepts only the endings .weights.h5, .keras and .h5.
    """
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    save_weights, load_weights = keras.Model.save_weights, keras.Model.load_weights
    save, load_model = keras.Model.save, keras.models.load_model

    @functools.wraps(save_weights)
    def new_save_weights(self, filepath, overwrite=True, save_format=None, **kwargs):
        filepath = os.fspath(filepath)
        with in_its_place(filepath, "x.weights.h5", overwrite) as path:
            if filepath.endswith(".weights.h5"):
                return save_weights(self, path)
            with h5py.File(path, "w") as file:
                legacy_h5_format.save_weights_to_hdf5_group(file, self)

    @functools.wraps(load_weights)
    def new_load_weights(self, filepath, by_name=False, skip_mismatch=False, **kwargs):
        filepath = os.fspath(filepath)
        whole = zipfile.is_zipfile(filepath)  # written by model.save
        if not whole and not h5py.is_hdf5(filepath):
            if os.path.exists(f"{filepath}.index"):
                raise ValueError(
                    f"{filepath} is a TensorFlow checkpoint, written by tf.keras without the "
                    "ending .h5. Load it where it was written and save it again as .h5."
                )
            raise OSError(f"{filepath} is no file of weights: it does not exist or is no HDF5.")
        if not whole:
            with h5py.File(filepath, "r") as file:
                group = file["model_weights"] if "model_weights" in file else file
                if "layer_names" in group.attrs or "layer_names0" in group.attrs:
                    if by_name:
                        return legacy_h5_format.load_weights_from_hdf5_group_by_name(
                            group, self, skip_mismatch=skip_mismatch
                        )
                    return legacy_h5_format.load_weights_from_hdf5_group(group, self)
        if by_name:
            raise ValueError(
                f"{filepath} is in Keras 3's format, which knows no layers by name: write it with "
                "model.save_weights under a name that does not end with .weights.h5."
            )
        name = "x.keras" if whole else "x.weights.h5"
        with under_name(filepath, name) as path, without_optimizer(self):
            return load_weights(self, path, skip_mismatch=skip_mismatch)

    @functools.wraps(save)
    def new_save(self, filepath, overwrite=True, include_optimizer=True, **kwargs):
        kept = contextlib.nullcontext() if include_optimizer else without_optimizer(self)
        with in_its_place(os.fspath(filepath), "x.keras", overwrite) as path, kept:
            save(self, path)

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


@contextlib.contextmanager
def in_its_place(filepath, name, overwrite):
    """A temporary path beside `filepath`, for a file called `name` that is put there when whole."""
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{filepath} exists, and overwrite=False.")
    filepath = os.path.realpath(filepath)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=os.path.dirname(filepath)) as folder:
        path = os.path.join(folder, name)
        yield path
        os.replace(path, filepath)


@contextlib.contextmanager
def without_optimizer(model):
    """The model as if it were not compiled: Keras 2's files of weights know no optimizer."""
    optimizer, compiled = getattr(model, "optimizer", None), model.compiled
    model.optimizer, model.compiled = None, False
    try:
        yield
    finally:
        model.optimizer, model.compiled = optimizer, compiled


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
