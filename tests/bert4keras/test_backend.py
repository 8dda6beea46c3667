"""`bert4keras.backend` on Keras 3: K and the helpers, against NumPy and by hand."""
# ruff: noqa: E501  (a table of calls, one in a line)

import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_extras.bert4keras import backend
from keras_extras.bert4keras.backend import K

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 12)).astype("float32")
IDS = np.array([[1, 2, 3, 0, 0], [1, 1, 1, 1, 1]])

# name, the call on K, what NumPy says
CALLS = [
    ("abs", lambda x: K.abs(x), np.abs),
    ("argmax", lambda x: K.argmax(x), lambda x: x.argmax(-1)),
    ("argmin", lambda x: K.argmin(x, axis=1), lambda x: x.argmin(1)),
    ("all", lambda x: K.all(x > 0, axis=1), lambda x: (x > 0).all(1)),
    ("any", lambda x: K.any(x > 2, axis=-1, keepdims=True), lambda x: (x > 2).any(-1)[..., None]),
    ("batch_flatten", lambda x: K.batch_flatten(x), lambda x: x.reshape(2, 60)),
    ("cast", lambda x: K.cast(x > 0, "int32"), lambda x: (x > 0).astype("int32")),
    ("clip", lambda x: K.clip(x, -0.5, 0.5), lambda x: x.clip(-0.5, 0.5)),
    ("concatenate", lambda x: K.concatenate([x, x]), lambda x: np.concatenate([x, x], -1)),
    ("cumsum", lambda x: K.cumsum(x, axis=1), lambda x: x.cumsum(1)),
    ("dot", lambda x: K.dot(x, K.ones((12, 3))), lambda x: x @ np.ones((12, 3))),
    ("exp", lambda x: K.exp(x), np.exp),
    ("expand_dims", lambda x: K.expand_dims(x), lambda x: x[..., None]),
    ("flatten", lambda x: K.flatten(x), lambda x: x.reshape(-1)),
    ("flatten 1", lambda x: K.flatten(x, 1), lambda x: x.reshape(2, 60)),
    ("flatten 0 2", lambda x: K.flatten(x, 0, 2), lambda x: x.reshape(10, 12)),
    ("greater", lambda x: K.greater(x, 0), lambda x: x > 0),
    ("hard_sigmoid", lambda x: K.hard_sigmoid(x), lambda x: (0.2 * x + 0.5).clip(0, 1)),
    ("log", lambda x: K.log(K.square(x)), lambda x: np.log(x**2)),
    ("logsumexp", lambda x: K.logsumexp(x, -1), lambda x: scipy.special.logsumexp(x, -1)),
    ("max", lambda x: K.max(x, axis=1), lambda x: x.max(1)),
    ("mean", lambda x: K.mean(x, axis=[0, 1]), lambda x: x.mean((0, 1))),
    ("minimum", lambda x: K.minimum(x, 0.0), lambda x: np.minimum(x, 0)),
    ("not_equal", lambda x: K.not_equal(x, 0), lambda x: x != 0),
    ("ones_like", lambda x: K.ones_like(x, dtype="bool"), lambda x: np.ones(x.shape, bool)),
    ("permute", lambda x: K.permute_dimensions(x, pattern=(1, 0, 2)), lambda x: x.transpose(1, 0, 2)),
    ("pow", lambda x: K.pow(x, a=2), lambda x: x**2),
    ("prod", lambda x: K.prod(x, axis=-1), lambda x: x.prod(-1)),
    ("relu", lambda x: K.relu(x, alpha=0.1, max_value=1), lambda x: np.where(x < 0, x / 10, x.clip(max=1))),
    ("repeat_elements", lambda x: K.repeat_elements(x, rep=2, axis=-1), lambda x: x.repeat(2, -1)),
    ("reshape", lambda x: K.reshape(x, (-1, 6)), lambda x: x.reshape(-1, 6)),
    ("reshape axis", lambda x: K.reshape(x, (3, -1), 2), lambda x: x.reshape(2, 5, 3, 4)),
    ("reverse", lambda x: K.reverse(x, axes=1), lambda x: x[:, ::-1]),
    ("sign", lambda x: K.sign(x), np.sign),
    ("softmax", lambda x: K.softmax(x), lambda x: scipy.special.softmax(x, -1)),
    ("sqrt", lambda x: K.sqrt(x), lambda x: np.sqrt(x.clip(0))),
    ("stack", lambda x: K.stack([x, x], 1), lambda x: np.stack([x, x], 1)),
    ("std", lambda x: K.std(x, axis=-1), lambda x: x.std(-1)),
    ("sum", lambda x: K.sum(x, axis=-1, keepdims=True), lambda x: x.sum(-1)[..., None]),
    ("switch", lambda x: K.switch(x > 0, x, 0 * x), lambda x: x.clip(0)),
    ("tanh", lambda x: K.tanh(x), np.tanh),
    ("temporal_padding", lambda x: K.temporal_padding(x, (1, 2)), lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0)))),
    ("tile", lambda x: K.tile(x, [1, 2, 1]), lambda x: np.tile(x, [1, 2, 1])),
    ("where", lambda x: K.where(x > 0, x, -np.inf), lambda x: np.where(x > 0, x, -np.inf)),
    ("where broadcast", lambda x: K.where(x[:, :1] > 0, 1.0, x), lambda x: np.where(x[:, :1] > 0, 1, x)),
    ("zeros_like", lambda x: K.zeros_like(x), np.zeros_like),
    ("divisible", lambda x: backend.divisible_temporal_padding(x, 4), lambda x: np.pad(x, ((0, 0), (0, 3), (0, 0)))),
    ("pool1d", lambda x: backend.pool1d(x, 2), lambda x: np.maximum(x[:, 1:], x[:, :-1])),
    ("pool1d avg", lambda x: backend.pool1d(x, 2, 2, pool_mode="avg"), lambda x: (x[:, :4:2] + x[:, 1:4:2]) / 2),
    ("swish", lambda x: backend.swish(x), lambda x: x * scipy.special.expit(x)),
    ("leaky_relu", lambda x: backend.leaky_relu(x), lambda x: np.where(x > 0, x, 0.2 * x)),
    ("gelu_erf", lambda x: backend.gelu_erf(x), lambda x: x * scipy.special.ndtr(x)),
]  # fmt: skip


@pytest.mark.parametrize("name, call, expected", CALLS, ids=[c[0] for c in CALLS])
def test_function_on_values_and_on_symbols(name, call, expected):
    want = expected(X.astype("float64") if name not in ("zeros_like",) else X)
    np.testing.assert_allclose(
        K.eval(call(keras.ops.convert_to_tensor(X))), want, rtol=2e-5, atol=1e-5
    )
    symbol = keras.Input((None, 12))
    output = call(symbol)
    got = K.function([symbol], output)([X])
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


def test_masked_loss_of_a_language_model_written_on_symbols():
    tokens = keras.Input((None,))
    logits = keras.Input((None, 12))
    probabilities = K.softmax(logits)
    mask = K.cast(K.not_equal(tokens[:, 1:], 0), K.floatx())
    loss = K.sparse_categorical_crossentropy(tokens[:, 1:], probabilities[:, :-1])
    loss = K.sum(loss * mask) / K.sum(mask)
    got = K.function([tokens, logits], loss)([IDS, X])
    log_p = scipy.special.log_softmax(X[:, :-1].astype("float64"), -1)
    picked = np.take_along_axis(log_p, IDS[:, 1:, None], -1)[..., 0]
    want = -(picked * (IDS[:, 1:] != 0)).sum() / (IDS[:, 1:] != 0).sum()
    assert got == pytest.approx(want, rel=1e-5)


def test_crossentropies_against_numpy():
    p = scipy.special.softmax(X.astype("float64"), -1)
    y = RANDOM.integers(0, 12, size=(2, 5))
    want = -np.log(np.take_along_axis(p, y[..., None], -1))[..., 0]
    for target in (y, y[..., None], y.astype("float32")):
        got = K.sparse_categorical_crossentropy(target, X, from_logits=True)
        np.testing.assert_allclose(K.eval(got), want, rtol=1e-5)
    got = K.categorical_crossentropy(K.one_hot(y, 12), K.softmax(X))
    np.testing.assert_allclose(K.eval(got), want, rtol=1e-5)
    bits = (X > 0).astype("int32")
    got = K.binary_crossentropy(bits, X, from_logits=True)
    want = np.logaddexp(0, X) - bits * X
    np.testing.assert_allclose(K.eval(got), want, rtol=1e-4, atol=1e-6)


def test_batch_dot_contracts_the_axes_of_keras_2():
    a, b = RANDOM.normal(size=(3, 2, 4)), RANDOM.normal(size=(3, 4, 5))
    np.testing.assert_allclose(K.eval(K.batch_dot(a, b)), a @ b)
    np.testing.assert_allclose(K.eval(K.batch_dot(a, a, axes=2)), a @ a.transpose(0, 2, 1))
    v = RANDOM.normal(size=(3, 4))
    np.testing.assert_allclose(K.eval(K.batch_dot(v, v)), (v * v).sum(1)[:, None])


def test_rnn_sums_and_keeps_state_under_the_mask():
    def step(x, states):
        return x + states[0], [x + states[0]]

    x = keras.ops.convert_to_tensor(X)
    last, outputs, states = K.rnn(step, x, [keras.ops.zeros((2, 12))], mask=IDS > 0)
    np.testing.assert_allclose(K.eval(outputs)[1], X[1].cumsum(0), rtol=1e-5)
    np.testing.assert_allclose(K.eval(last)[0], X[0, :3].sum(0), rtol=1e-5)
    np.testing.assert_allclose(K.eval(states[0]), K.eval(last))
    _, backwards, _ = K.rnn(step, x, [keras.ops.zeros((2, 12))], go_backwards=True)
    np.testing.assert_allclose(K.eval(backwards)[0], X[0, ::-1].cumsum(0), rtol=1e-5, atol=1e-6)


def test_in_train_phase_follows_the_call_and_the_learning_phase():
    x = keras.Input((3,))
    y = K.in_train_phase(2 * x, lambda: x)
    function = K.function([x, K.learning_phase()], [y])
    ones = np.ones((1, 3), "float32")
    assert function([ones, 0])[0].sum() == 3
    assert function([ones, 1])[0].sum() == 6
    model = keras.Model(x, y)
    assert K.eval(model(ones, training=True)).sum() == 6
    assert K.eval(model(ones)).sum() == 3


def test_gradients_inside_a_layer_and_on_symbols():
    class Gradient(keras.layers.Layer):
        def call(self, inputs):
            x, y = inputs
            return K.gradients(y, [x])[0]

        def compute_output_shape(self, input_shape):
            return input_shape[0]

    x = keras.Input((3,))
    hidden = keras.layers.Dense(3, kernel_initializer="ones")(x)
    y = K.sum(K.pow(hidden, 3), axis=-1)
    model = keras.Model(x, Gradient()([hidden, y]))
    value = np.array([[1.0, 2.0, 3.0]], "float32")
    np.testing.assert_allclose(model.predict(value, verbose=0), [[108, 108, 108]], rtol=1e-5)
    function = K.function([x], K.gradients(K.sum(K.pow(x, 3)), [x]))
    np.testing.assert_allclose(function([value])[0], [[3, 12, 27]], rtol=1e-5)


def test_gradients_of_values_are_refused_with_the_way_to_go():
    with pytest.raises(RuntimeError, match="tf.GradientTape"):
        K.gradients(keras.ops.ones(()), [keras.ops.ones(())])


def test_values_of_variables():
    variable = K.variable([1.0, 2.0])
    K.set_value(variable, [3, 4])
    K.batch_set_value([(variable, K.get_value(variable) + 1)])
    assert K.batch_get_value([variable])[0].tolist() == [4, 5]
    K.update_add(variable, 1.0)
    assert K.eval(variable).tolist() == [5, 6]
    assert K.count_params(variable) == 2
    with pytest.raises(ValueError, match="is symbolic"):
        K.eval(keras.Input((3,)))
    with pytest.raises(ValueError, match="needs a variable"):
        K.set_value(keras.ops.ones(2), 1)


def test_what_needs_a_session_says_so():
    with pytest.raises(NotImplementedError, match="session of TensorFlow 1"):
        K.get_session()
    with pytest.raises(NotImplementedError, match="updates"):
        K.function([], [], updates=[1])
    with pytest.raises(AttributeError, match="K.ctc_decode_beam_search_2015 is not among"):
        _ = K.ctc_decode_beam_search_2015


def test_random_numbers():
    draws = K.eval(K.random_binomial((10000,), 0.3))
    assert set(np.unique(draws)) == {0, 1}
    assert draws.mean() == pytest.approx(0.3, abs=0.03)  # six standard errors
    uniform = K.eval(K.random_uniform((1000,), -2, -1))
    assert -2 <= uniform.min() and uniform.max() < -1
    integers = K.eval(K.random_uniform((1000,), 3, 6, dtype=tf.int32))
    assert set(integers) == {3, 4, 5} and integers.dtype == "int32"


RANDOM_CALLS = {
    "uniform": lambda x: K.random_uniform(x.shape, seed=np.int64(11)),
    "normal": lambda x: K.random_normal(x.shape, seed=12),
    "truncated": lambda x: K.truncated_normal(x.shape, seed=13),
    "binomial": lambda x: K.random_binomial(x.shape, 0.5, seed=14),
    "dropout": lambda x: K.dropout(x, 0.5, seed=15),
}


@pytest.mark.parametrize("call", RANDOM_CALLS.values(), ids=list(RANDOM_CALLS))
def test_a_seed_starts_a_sequence_and_does_not_repeat_a_number(call):
    ones = keras.ops.ones((40,))
    draw = tf.function(lambda: call(ones))
    draws = [K.eval(x) for x in (call(ones), call(ones), draw(), draw())]
    assert len({x.tobytes() for x in draws}) == 4


def test_indices_have_64_bits_as_in_keras_2():
    assert K.dtype(K.argmax(X)) == K.dtype(K.argmin(keras.Input((None, 12)))) == "int64"


def test_a_model_of_functions_on_symbols_is_not_saved(tmp_path):
    x = keras.Input((None, 12))
    length = K.cast(K.shape(x)[1], "float32")
    keras.Model(x, x / length).save(tmp_path / "length.keras")  # keras.ops and a dimension can be
    loaded = keras.saving.load_model(tmp_path / "length.keras")
    np.testing.assert_allclose(K.eval(loaded(X)), X / 5, rtol=1e-6)
    with pytest.raises(NotImplementedError, match=r"calls flatten .*model\.save_weights.* Lambda"):
        keras.Model(x, K.flatten(x, 1)).save(tmp_path / "flat.keras")


def test_shape_of_symbols_keeps_what_is_known():
    shape = K.shape(keras.Input((None, 12)))
    assert shape[2] == 12 and K.is_keras_tensor(shape[0])
    assert K.int_shape(keras.Input((None, 12))) == (None, None, 12)
    assert K.int_shape(3.0) is None
    assert K.ndim(keras.Input((None, 12))) == 3
    assert backend.dtype(keras.Input((3,))) == "float32" and backend.dtype(0.5) is None


@pytest.mark.parametrize("indices", [[[0, 2], [4, 4]], [[1], [0]]])
def test_batch_gather_of_vectors_and_of_scores(indices):
    indices = np.array(indices)
    got = K.eval(backend.batch_gather(X, indices))
    np.testing.assert_array_equal(got, np.stack([x[i] for x, i in zip(X, indices, strict=True)]))
    got = K.eval(backend.batch_gather(X[..., 0], indices.astype("float32")))
    np.testing.assert_array_equal(got, np.take_along_axis(X[..., 0], indices, 1))


def test_piecewise_linear():
    schedule = {1000: 1, 2000: 0.1}
    got = [float(backend.piecewise_linear(t, schedule)) for t in (0, 250, 1000, 1500, 2000, 9999)]
    np.testing.assert_allclose(got, [0, 0.25, 1, 0.55, 0.1, 0.1], rtol=1e-6)
    got = [float(backend.piecewise_linear(t, schedule, from_zero=False)) for t in (0, 999, 1500)]
    np.testing.assert_allclose(got, [1, 1, 0.55], rtol=1e-6)


def test_search_layer_walks_up_and_into_models():
    x = keras.Input((3,))
    first = keras.layers.Dense(4, name="first")(x)
    inner = keras.Model(x, first, name="inner")
    y = keras.Input((3,), name="other")
    out = keras.layers.Dense(2, name="last")(K.tanh(inner(y)))
    assert backend.search_layer(out, "last").units == 2
    assert backend.search_layer(out, "first").units == 4
    assert backend.search_layer(out, "other") is not None
    assert backend.search_layer(out, "absent") is None
    assert backend.search_layer(backend.search_layer(out, "last"), "inner") is inner


def test_set_gelu_switches_the_table_and_leaves_keras_alone():
    before = dict(keras.saving.get_custom_objects())
    backend.set_gelu("TANH")
    assert backend.ACTIVATIONS["gelu"] is backend.gelu_tanh
    backend.set_gelu("erf")
    assert backend.ACTIVATIONS["gelu"] is backend.gelu_erf
    with pytest.raises(ValueError, match="'erf' and 'tanh'"):
        backend.set_gelu("exact")
    assert keras.saving.get_custom_objects() == before
    assert not {"gelu", "swish", "Embedding", "initializer"} & set(before)


def test_recompute_grad_gives_the_same_values_and_gradients(monkeypatch):
    def product(self, inputs):
        return K.exp(inputs[0]) * inputs[1]

    monkeypatch.setattr(backend, "do_recompute", True)

    class Recomputed(keras.layers.Layer):
        call = backend.recompute_grad(product)

    assert Recomputed.call is not product
    x = keras.Input((3,))
    function = K.function([x], K.gradients(K.sum(Recomputed()([x, x])), [x]))
    value = np.array([[0.5, 1.0, -1.0]], "float32")
    np.testing.assert_allclose(function([value])[0], (1 + value) * np.exp(value), rtol=1e-5)
    monkeypatch.setattr(backend, "do_recompute", False)
    assert backend.recompute_grad(product) is product


def test_bert4keras_sees_this_backend():
    import bert4keras.backend
    import bert4keras.optimizers
    from bert4keras.backend import K as theirs
    from bert4keras.backend import keras as their_keras
    from bert4keras.snippets import DataGenerator

    import keras_extras.optimizers as ours

    assert bert4keras.backend is backend and theirs is K and their_keras is keras
    assert bert4keras.optimizers.AdaFactor is ours.AdaFactor
    assert bert4keras.optimizers.extend_with_lookahead_v2 is ours.extend_with_lookahead
    assert DataGenerator([1, 2, 3], 2).steps == 2


ELSEWHERE = """
import json, sys
import numpy as np, keras
import keras_extras.bert4keras.keras_backend as K
x = np.linspace(-2, 2, 120).reshape(2, 5, 12).astype("float32")
t = keras.ops.convert_to_tensor(x)
symbol = keras.Input((None, 12))
outputs = K.function([symbol], [K.reshape(symbol, (3, 4), -1), K.temporal_padding(symbol, (0, 1))])
a, b = outputs([x])
loss = K.sparse_categorical_crossentropy(np.ones((2, 5)), t, from_logits=True)
last, _, _ = K.rnn(lambda i, s: (i + s[0], [i + s[0]]), t, [keras.ops.zeros((2, 12))])
if "tensorflow" not in keras.config.backend():
    assert "tensorflow" not in sys.modules
    try:
        K.gradients(symbol, [symbol])
    except NotImplementedError as error:
        assert "TensorFlow backend" in str(error)
    else:
        raise AssertionError
print(json.dumps([a.shape, b.shape, float(np.sum(K.eval(loss))), float(np.sum(K.eval(last)))]))
"""


@pytest.mark.parametrize("peer, name", [("jax_python", "jax"), ("torch_python", "torch")])
def test_the_same_on_other_backends(peer, name, request, run_python):
    python = request.getfixturevalue(peer)
    output = run_python(python, ELSEWHERE, KERAS_BACKEND=name).strip().splitlines()[-1]
    *shapes, loss, last = json.loads(output)
    x = np.linspace(-2, 2, 120).reshape(2, 5, 12)
    assert shapes == [[2, 5, 3, 4], [2, 6, 12]]
    assert loss == pytest.approx(-scipy.special.log_softmax(x, -1)[..., 1].sum(), rel=1e-5)
    assert last == pytest.approx(x.sum(), abs=1e-3)
