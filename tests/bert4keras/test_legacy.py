"""The runner of legacy scripts: what a script of 2021 uses, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_extras.bert4keras.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run_script(script, *arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_extras.bert4keras", str(script), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
            **environment,
        },
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What legacy_script.py reports about itself."""
    folder = tmp_path_factory.mktemp("legacy")
    done = run_script(Path(__file__).with_name("legacy_script.py"), folder, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(x for x in done.stdout.splitlines() if x.startswith("REPORT "))
    return {**json.loads(line.removeprefix("REPORT ")), "folder": folder, "output": done.stdout}


def test_old_optimizer_arguments(report):
    assert report["lr"] == pytest.approx(5e-3)
    assert report["lr after"] == pytest.approx(5e-3 / 2**3)  # halved after each of three epochs


def test_a_classifier_trains_evaluates_and_reloads(report):
    assert report["output is a tensor"]
    assert report["batches"] == 3 * 15
    assert report["accuracy"] > 0.95  # the two classes share two of their 16 words
    assert len(report["evaluate"]) == 2
    assert report["predict_generator"] == [120, 2]
    assert report["reload"] < 1e-6
    assert (report["folder"] / "best_model.weights").is_file()
    assert (report["folder"] / "whole.model").is_file()


def test_predict_is_silent(report):
    """Keras 3 would draw a bar for each of the many calls of predict."""
    assert "━" not in report["output"]


def test_a_language_model_trains_on_its_loss_layer_alone(report):
    first, second = report["lm loss"]
    assert second < first < 3.1  # log 20 = 3.0 from random weights
    assert report["lm metric"] == pytest.approx(report["lm loss"], rel=1e-4)
    assert len(report["beam"]) <= 6 and report["samples"] == 3


def test_symbolic_losses_and_metrics(report):
    assert report["symbolic loss"] == pytest.approx(2.996, abs=0.3)
    assert report["unilm loss"][1] < report["unilm loss"][0]
    assert 0.4 < report["unilm metric"][0] < 1  # the share of tokens that are no padding


def test_a_crf_learns_the_tags_of_its_words(report):
    assert report["crf loss"][-1] < 0.1 * report["crf loss"][0]
    assert report["transitions"] == [4, 4]


def test_two_outputs_and_tensorflow_functions_on_symbols(report):
    assert report["pair losses"] == 3
    assert report["pair shapes"][0][:2] == [8, 2] and report["pair shapes"][1] == [8, 3]


def test_adversarial_training_moves_the_embeddings_by_their_gradient(report):
    steps, smallest_norm, smallest_step = report["adversarial steps"]
    assert steps == 30
    assert smallest_norm > 0 and smallest_step > 0
    assert report["adversarial loss"][1] < report["adversarial loss"][0]


TF_KERAS = """
import os
os.environ['TF_KERAS'] = '1'
import numpy as np
from bert4keras.backend import keras, K
import tensorflow as tf
from tensorflow.keras.layers import Concatenate, Dense, Embedding
from tensorflow.keras.models import Model
import tensorflow.keras.backend as TK
assert TK is K and tf.keras.layers.Dense is Dense is keras.layers.Dense
x = keras.layers.Input(shape=(None,), name='one')
masked = Embedding(5, 4, mask_zero=True, weights=[np.arange(20.0).reshape(5, 4)])(x)
plain = Embedding(5, 4)(x)
both = keras.layers.concatenate([keras.layers.Add()([masked, plain]), plain])
mask = Model(x, keras.layers.Lambda(lambda x, mask=None: K.cast(mask, 'int32'))(both))
assert mask.predict(np.array([[1, 2, 0]])).tolist() == [[1, 1, 0]]
pooled = keras.layers.GlobalAveragePooling1D()(masked)
model = Model([x], [pooled])
assert model.predict([[1, 1, 0], [2, 1, 0]]).tolist() == [[4, 5, 6, 7], [6, 7, 8, 9]]
assert keras.activations.get('gelu') is not None
assert float(tf.log(1.0)) == 0 and tf.to_int32(1.5) == 1
model.compile('adam', 'mse', metrics=['mae'])
scores = model.evaluate(np.array([[1, 1, 0]]), np.array([[4, 5, 6, 9]]), verbose=0)
assert dict(zip(model.metrics_names, scores)) == {'loss': 1, 'mae': 0.5}, scores
two = keras.layers.Input((None,), name='two')
named = Dense(3, name='named')(keras.layers.Lambda(lambda x: K.sum(x[0] * x[1], 1, True))([x, two]))
named = Model([x, two], named)
named.compile('sgd', 'mse')
named.fit({'one': np.ones((4, 3)), 'two': np.ones((4, 3))}, {'named': np.ones((4, 3))}, verbose=0)
model.save_weights('w.h5')
before = model.predict(np.array([[1, 2]]))
model.set_weights([0 * w for w in model.get_weights()])
model.load_weights('w.h5')
assert (model.predict(np.array([[1, 2]])) == before).all()
"""

# Files, callbacks and names of Keras 2; it runs in the process of TF_KERAS.
KERAS_2 = """
import importlib, warnings
import h5py
from keras.src.legacy.saving import legacy_h5_format
from bert4keras.models import build_transformer_model

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter('always')
    tf.compat.v1.disable_eager_execution()
assert 'stays enabled' in str(told[0].message) and tf.executing_eagerly()
K.set_session(tf.compat.v1.Session(config=tf.compat.v1.ConfigProto()))

for module, names in {
    'losses': 'kullback_leibler_divergence mse mae mape msle kld KLD MSE logcosh cosine_proximity',
    'metrics': 'kullback_leibler_divergence mse mae mape msle kld KLD MSE logcosh cosine_proximity',
    'objectives': 'mse kullback_leibler_divergence',
    'optimizers': 'adam sgd rmsprop adagrad adadelta adamax nadam',
    'preprocessing': 'text sequence',
    'preprocessing.text': 'Tokenizer',
    'preprocessing.image': 'ImageDataGenerator',
    'engine': 'Layer InputSpec',
    'engine.input_layer': 'Input InputLayer',
    'engine.sequential': 'Sequential',
    'engine.network': 'Network',
    'callbacks.callbacks': 'Callback EarlyStopping',
    'utils.io_utils': 'Progbar',
    'utils.training_utils': 'multi_gpu_model',
    'utils.layer_utils': 'count_params',
    'legacy.interfaces': 'legacy_get_updates_support',
}.items():
    for name in names.split():
        assert hasattr(importlib.import_module('keras.' + module), name), (module, name)
from tensorflow.keras.preprocessing.text import Tokenizer

# several outputs: the names fit the values, before the first batch and after
x = keras.layers.Input((3,))
double = Model(x, [Dense(1, name='q')(x), Dense(2, name='p')(x)])
double.compile('sgd', 'mse', metrics=['mae', lambda y_true, y_pred: K.max(y_pred)])
data = np.random.normal(size=(8, 3)), [np.ones((8, 1)), np.zeros((8, 2))]
names = double.metrics_names
assert names == ['loss', 'q_loss', 'p_loss', 'q_mae', 'q_lambda', 'p_mae', 'p_lambda'], names
q, p = double.predict(data[0])
losses = [((q - 1) ** 2).mean(), (p**2).mean()]
metrics = [abs(q - 1).mean(), q.max(), abs(p).mean(), p.max()]
scores = double.evaluate(*data, verbose=0)
np.testing.assert_allclose(scores, [sum(losses), *losses, *metrics], rtol=1e-5)
assert double.metrics_names == names
assert len(double.train_on_batch(*data)) == 7
assert (double.layers[1].input_shape, double.layers[1].output_shape) == ((None, 3), (None, 1))
iterations, *others = double.optimizer.get_weights()
double.optimizer.set_weights([iterations + 5, *others])
assert iterations == 1 and K.eval(double.optimizer.iterations) == 6

# generators with arguments by position, callbacks of any metric, files of any name
def batches():
    while True:
        yield data

class Seen(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.epochs = getattr(self, 'epochs', 0) + 1

C = keras.callbacks
stop = C.EarlyStopping(monitor='val_q_lambda', patience=9)
plateau = C.ReduceLROnPlateau(monitor='val_q_lambda', patience=9)
callbacks = [
    Seen(),
    stop,
    plateau,
    C.ModelCheckpoint('best_model.weights', save_weights_only=True),
    C.ModelCheckpoint('best.hdf5', monitor='val_loss', save_best_only=True),
    C.ModelCheckpoint('{epoch}.weights', save_weights_only=True, period=2),
]
double.fit_generator(batches(), 1, 3, 0, callbacks, batches(), 1)
assert callbacks[0].epochs == 3 and stop.mode == plateau.mode == 'min'
assert sorted(x for x in os.listdir() if x[0].isdigit()) == ['2.weights']
double.evaluate_generator(batches(), 1, None, 10, 1, False, 0)
assert [x.shape for x in double.predict_generator(batches(), 2)] == [(16, 1), (16, 2)]
wanted = double.get_weights()
double.compile('adam', 'mse')
for file in ('best_model.weights', 'best.hdf5'):  # the second one is a whole model
    double.set_weights([0 * w for w in wanted])
    double.load_weights(file)
    assert all((a == b).all() for a, b in zip(double.get_weights(), wanted))

# a file is kept as it is until the next one is whole
double.save('with.model')
double.save('without.model', include_optimizer=False)
assert double.optimizer is not None and not keras.models.load_model('without.model').compiled
assert keras.models.load_model('with.model').compiled
before = open('with.model', 'rb').read()
try:
    double.save('with.model', overwrite=False)
    raise AssertionError('overwritten')
except FileExistsError:
    assert open('with.model', 'rb').read() == before
write = legacy_h5_format.save_weights_to_hdf5_group
def interrupted(file, model):
    file.create_dataset('half', data=[1])
    raise KeyboardInterrupt
legacy_h5_format.save_weights_to_hdf5_group = interrupted
try:
    double.save_weights('best_model.weights')
    raise AssertionError('not interrupted')
except KeyboardInterrupt:
    double.load_weights('best_model.weights')  # the one before
legacy_h5_format.save_weights_to_hdf5_group = write
assert not [x for x in os.listdir() if x.startswith('.writing')]

# a whole model in Keras 2's format, where merge_mode='add' is read as a function
bert = build_transformer_model(
    vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
    hidden_act='gelu', max_position=8,
)
with h5py.File('old.h5', 'w') as file:
    legacy_h5_format.save_model_to_hdf5(bert, file)
ids = [np.array([[1, 2]]), np.array([[0, 0]])]
np.testing.assert_allclose(keras.models.load_model('old.h5').predict(ids), bert.predict(ids))
"""

REFUSED = [
    ("import tensorflow as tf; tf.Session().run(1)", "belongs to TensorFlow 1"),
    ("import keras; keras.utils.multi_gpu_model(None, 2)", "MirroredStrategy"),
    ("from bert4keras.backend import K; K.set_learning_phase(1)", "training=True"),
    ("import keras; keras.Sequential([keras.layers.Dense(1)]).load_weights('no')", "no file of"),
    (
        "import keras\nmodel = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])\n"
        "model.save('model.h5'); model.load_weights('model.h5', by_name=True)",
        "no layers by name",
    ),
    (
        "import keras\nclass Mine(keras.optimizers.Adam):\n"
        "    def get_updates(self, loss, params): pass\nMine()",
        "never called on Keras 3",
    ),
]


def test_tf_keras_and_keras_2_names_masks_and_files(tmp_path):
    (tmp_path / "script.py").write_text(TF_KERAS + KERAS_2)
    done = run_script("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_belongs_to_the_past_is_refused_with_the_way_to_go(tmp_path):
    """One process tries all: each error is a sentence that says what to do."""
    body = "import traceback\n" + "\n".join(
        f"try:\n    exec({code!r})\nexcept Exception as e:\n    print(type(e).__name__, e)"
        for code, _ in REFUSED
    )
    (tmp_path / "script.py").write_text(body)
    done = run_script("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for _, sentence in REFUSED:
        assert sentence in done.stdout


def test_help(capsys):
    main(["--help"])
    assert "script.py" in capsys.readouterr().out


def test_runner_without_a_script_or_on_another_backend(tmp_path):
    done = run_script("absent.py", cwd=tmp_path)
    assert done.returncode != 0 and "absent.py is no file" in done.stderr
    (tmp_path / "script.py").write_text("")
    done = run_script("script.py", cwd=tmp_path, KERAS_BACKEND="jax")
    assert done.returncode != 0 and "set KERAS_BACKEND=tensorflow" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_eleven_scripts_of_clue(clue_data, tmp_path):
    """$CLUE_BERT4KERAS is a copy of github.com/bojone/CLUE-bert4keras."""
    source = os.environ.get("CLUE_BERT4KERAS")
    if not source:
        pytest.skip("CLUE_BERT4KERAS names no copy of CLUE-bert4keras")
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "legacy_scripts.py",
            "--clue-scripts",
            Path(source) / "src",
            "--data",
            clue_data,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "CLUE-bert4keras: 11 of 11 run" in done.stdout, done.stdout[-3000:]
