"""Resume: an interrupted training ends as an undisturbed one, and bad states do no harm."""

import json
import resource
import signal
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_extras
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


def test_weights_that_are_not_finite_are_not_saved(tmp_path, capsys):
    """The loss shows one step too late that an update went wrong."""

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                self.model.weights[0].assign(np.full(self.model.weights[0].shape, np.nan))

    model, batches = training.make_model(), training.make_batches()
    resume = Resume(tmp_path, batches, save_every=2)
    resume.fit(model, 1, [Break()], verbose=0)
    said = capsys.readouterr().err
    assert "not finite" in said and f"the state in {resume.last} remains" in said
    assert [path.name[12:20] for path in sorted(tmp_path.iterdir())] == ["00000002", "00000004"]


def test_a_moving_mean_that_is_not_finite_is_not_saved(tmp_path, capsys):
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                self.model.get_layer("norm").moving_mean.assign([np.nan] * 3)

    model, batches = training.make_model(), training.make_batches()
    outputs = keras.layers.BatchNormalization(name="norm")(model.output)
    model = keras.Model(model.inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    resume = Resume(tmp_path, batches, save_every=2)
    resume.fit(model, 1, [Break()], verbose=0)
    assert "not finite (norm/moving_mean)" in capsys.readouterr().err
    assert [path.name[12:20] for path in sorted(tmp_path.iterdir())] == ["00000002", "00000004"]


def poisoned(where):
    """A model that skips, batches of two of whose five one of an epoch holds NaN, its examples."""
    rows, targets = [[i] for i in range(10)], np.arange(10.0)
    batches = LengthBatches([rows], targets, batch_size=2, shuffle=True)
    examples = batches.batches[where].tolist()
    targets[examples] = np.nan
    inputs = keras.Input((None,), dtype="int32")
    vectors = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(10, 2)(inputs))
    model = keras_extras.Model([inputs], keras.layers.Dense(1)(vectors))
    return model, LengthBatches([rows], targets, batch_size=2, shuffle=True), examples


@on_tensorflow
def test_nothing_left_but_steps_to_skip(tmp_path):
    """As without the interruption, after which a step is left that is not finite."""
    results = []
    for name, stops in (("whole", [[]]), ("parts", [[StopAt(step=4)], []])):
        for callbacks in stops:
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
            model, batches, _ = poisoned(-1)
            model.compile("sgd", "mse", on_nan="skip")
            resume = Resume(tmp_path / name, batches, save_every=1)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                resume.fit(model, 1, callbacks, verbose=0)
        said = [str(each.message) for each in caught if "not finite" in str(each.message)]
        results.append((model.get_weights(), said))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    (whole,), (parts,) = (said for _, said in results)
    assert whole.startswith("1 of 5 steps of epoch 1 had")
    assert parts.startswith("1 of the last 1 steps of epoch 1 had")


@on_tensorflow
def test_nan_is_placed_within_the_whole_epoch(tmp_path):
    model, batches, examples = poisoned(3)
    model.compile("sgd", "mse")
    Resume(tmp_path, batches, save_every=1).fit(model, 1, [StopAt(step=2)], verbose=0)
    model, batches, _ = poisoned(3)
    model.compile("sgd", "mse")
    place = r"step 4 of epoch 1 \(batch 3 of the epoch, counted from 0, with the examples {}, {};"
    with pytest.raises(FloatingPointError, match=place.format(*examples)):
        Resume(tmp_path, batches).fit(model, 1, verbose=0)


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


@pytest.mark.parametrize("padding", [{"buckets": [16, 32]}, {"multiple": 1}])
def test_batches_may_be_padded_otherwise(tmp_path, padding):
    """Where a compiler wants few lengths, say; what is masked and drops no tokens ends alike."""
    results = []
    for name, runs in (("whole", [([], {})]), ("parts", [([StopAt(step=13)], {}), ([], padding)])):
        for callbacks, changed in runs:
            keras.utils.clear_session()
            keras.utils.set_random_seed(3)
            tokens = keras.Input((None,), dtype="int32")
            vectors = keras.layers.Embedding(40, 16, mask_zero=True)(tokens)
            vectors = keras.layers.GlobalAveragePooling1D()(vectors)
            outputs = keras.layers.Dense(3)(keras.layers.Dropout(0.3)(vectors))
            model = keras.Model([tokens], outputs)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
            batches = training.make_batches()
            vars(batches).update(changed)
            Resume(tmp_path / name, batches, 2).fit(model, 2, callbacks, verbose=0)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


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


class StopAt(keras.callbacks.Callback):
    """Sets `stop_training` after a step of the whole training, or after an epoch."""

    def __init__(self, step=None, epoch=None):
        super().__init__()
        self.left, self.epoch = step, epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if not self.left:
                self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.model.stop_training = True


def test_stop_training_in_an_epochs_midst_is_an_interruption(whole, tmp_path):
    keras.utils.clear_session()
    training.train(tmp_path, [StopAt(step=13)], save_every=5)
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "state-00001-00000004.npz"
    path = tmp_path / "state-00001-00000004.npz"
    about = json.loads(str(np.load(path)["about"]))
    assert not about["stopped"] and len(about["notes"]["losses"]) == 1
    keras.utils.clear_session()
    # its last step, too, is no decision of a callback at the epoch's end
    training.train(tmp_path, [StopAt(step=5)], save_every=5)
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "state-00002-00000000.npz"
    keras.utils.clear_session()
    equal(training.train(tmp_path), whole[0])


def test_stop_training_at_an_epochs_end_is_for_good_unless_said_otherwise(whole, tmp_path, capsys):
    keras.utils.clear_session()
    stopped = training.train(tmp_path, [StopAt(epoch=1)])
    assert len(stopped["losses"]) == 2
    keras.utils.clear_session()
    equal(training.train(tmp_path), stopped)  # the averaged weights, as the first run ended with
    assert "A callback stopped this training after epoch 2" in capsys.readouterr().err
    keras.utils.clear_session()
    model, resume = training.make_model(), Resume(tmp_path, training.make_batches(), 2)
    assert resume.load(model) == 2 and resume.stopped
    resume.stopped = False
    resume.fit(model, training.EPOCHS, [training.Losses(resume)], verbose=0)
    weights = [weight.tolist() for weight in model.get_weights()]
    equal({"losses": resume.notes["losses"], "weights": weights}, whole[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_destructor_is_not_lost(tmp_path):
    """Python ignores what is raised there; the training stops at the next batch."""

    class Dying:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    class Pressed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.batch = batch
            if batch == 1:
                Dying()

    model, batches = training.make_model(), training.make_batches()
    pressed = Pressed()
    with pytest.raises(KeyboardInterrupt):
        Resume(tmp_path, batches).fit(model, 2, [pressed], verbose=0)
    assert pressed.batch == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_training_ends_with_the_averaged_weights_again(whole, states):
    keras.utils.clear_session()
    equal(training.train(states), whole[0])


def test_fit_without_load_does_not_replace_earlier_states(states):
    model, batches = training.make_model(), training.make_batches()
    before = sorted(states.iterdir())
    with pytest.raises(ValueError, match=r"holds states .* Call load\(model\) before model.fit"):
        model.fit(batches, callbacks=[Resume(states, batches)], verbose=0)
    assert sorted(states.iterdir()) == before


def test_notes_may_be_of_numpy(tmp_path):
    resume = Resume(tmp_path, training.make_batches())
    model = training.make_model()
    model.optimizer.build(model.trainable_variables)
    resume.set_model(model)
    resume.notes |= {"best": np.float32(0.5), "rows": np.arange(2)}
    resume.save()
    again = Resume(tmp_path, training.make_batches())
    again.load(model)
    assert again.notes == {"best": 0.5, "rows": [0, 1]}
    resume.notes["best"] = {1}
    with pytest.raises(TypeError, match=r"notes hold \{1\}, which JSON cannot"):
        resume.save()


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
