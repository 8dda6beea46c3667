"""Resume: an interrupted training ends as an undisturbed one, and bad states do no harm."""

import json
import resource
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_extras.training import LengthBatches, Resume, ResumeError
from tests.training import training

SCRIPT = Path(training.__file__)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the runs are TensorFlow's"
)


def equal(result, expected, tolerance=0.0):
    for ours, theirs in zip(result["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(result["losses"], expected["losses"], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the undisturbed training ends with, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return training.train(folder), folder


def test_stopped_again_and_again(whole, tmp_path):
    keras.utils.clear_session()
    equal(training.stopped(tmp_path), whole[0])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, request, run_python):
    python = request.getfixturevalue(f"{backend}_python")
    expected, result = json.loads(run_python(python, SCRIPT, "stopped", KERAS_BACKEND=backend))
    equal(result, expected, 1e-6)


def test_epochs_alone_with_other_data_than_ours(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(2, 40, 3)).astype("float32")

    def train(folder, *until):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
        model.compile("adam", "mse")
        for epochs in until:
            resume = Resume(folder)
            begin = resume.load(model)
            options = dict(shuffle=False, verbose=0, initial_epoch=begin, epochs=epochs)
            model.fit(x, y, callbacks=[resume], **options)
            keras.utils.set_random_seed(epochs)
            model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        Resume(folder).load(model)
        return model.get_weights()

    for a, b in zip(train(tmp_path / "a", 4), train(tmp_path / "b", 1, 3, 4), strict=True):
        np.testing.assert_array_equal(a, b)


def killed_runs(run_python, tmp_path, count, seed):
    said = run_python(sys.executable, SCRIPT, "killed", tmp_path, count, seed, timeout=3600)
    answer = json.loads(said.splitlines()[-1])
    expected, *results = answer["results"]
    assert len(results) == count
    for result in results:
        equal(result, expected)  # to the last bit
    # these really were killed on the way, with a state or in the middle of writing one
    assert any(states and "state-00003" not in states[-1] for states in answer["states"])


@on_tensorflow
def test_killed_at_two_random_moments(run_python, tmp_path):
    killed_runs(run_python, tmp_path, 2, 0)


@on_tensorflow
@pytest.mark.slow
def test_killed_at_twenty_random_moments(run_python, tmp_path):
    killed_runs(run_python, tmp_path, 20, 1)


@pytest.fixture
def states(whole, tmp_path):
    """The folder of a finished training, for spoiling."""
    for path in whole[1].glob("state-*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_last_two_states_are_kept(states):
    names = sorted(path.name for path in states.iterdir())
    assert names == ["state-00002-00000008.npz", "state-00003-00000000.npz"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "another file"])
def test_a_damaged_state_is_refused_and_the_one_before_used(states, whole, capsys, damage):
    newest = states / "state-00003-00000000.npz"
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        content = content[: len(content) * 2 // 3]
    elif damage == "empty":
        content = b""
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    if damage == "another file":
        with newest.open("wb") as file:
            np.savez(file, weights=np.zeros(3))
    keras.utils.clear_session()
    equal(training.train(states), whole[0])
    said = capsys.readouterr().err
    assert f"not used: {newest}: it is damaged" in said
    assert "going on from" in said and "state-00002-00000008.npz" in said


def test_foreign_states_are_refused_with_their_reasons(states):
    resume = Resume(states, training.make_batches())
    model = training.make_model(embedding=50)
    before = model.get_weights()
    with pytest.raises(ResumeError, match=r"has the shape \(50, 16\) here and \(40, 16\) there"):
        resume.fit(model, 4)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    plain.compile("sgd")
    with pytest.raises(ResumeError, match="it belongs to another model or optimizer .* variables"):
        resume.load(plain)
    with pytest.raises(ResumeError, match="it belongs to a training on other batches .* seed 5"):
        Resume(states, training.make_batches(seed=5)).load(training.make_model())


def test_a_full_disk_leaves_the_last_good_state(tmp_path, whole, capsys):
    """The operating system refuses to write more than 2000 bytes into a file: a real failure."""

    class DiskFull(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise training.Stopped

    keras.utils.clear_session()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(training.Stopped):
            training.train(tmp_path, [DiskFull()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "WARNING: cannot save the training's state" in said and "File too large" in said
    assert "state-00001-00000000.npz remains" in said
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["state-00000-00000008.npz", "state-00001-00000000.npz"]
    keras.utils.clear_session()
    equal(training.train(tmp_path), whole[0])


def test_only_writers_write_but_all_read(states):
    model = training.make_model()
    reader = Resume(states / "none", training.make_batches(), writes=False)
    reader.fit(model, 1, verbose=0)
    assert not (states / "none").exists()
    reader = Resume(states, training.make_batches(), writes=False)
    assert reader.load(training.make_model()) == 3


def test_bad_arguments_are_explained(tmp_path):
    with pytest.raises(ValueError, match="save_every needs `batches`"):
        Resume(tmp_path, save_every=3)
    with pytest.raises(ValueError, match="save_every must be 0 or more, not -1"):
        Resume(tmp_path, LengthBatches([[[1]]]), save_every=-1)
    with pytest.raises(ValueError, match="Resume.fit needs the batches"):
        Resume(tmp_path).fit(training.make_model(), 1)
