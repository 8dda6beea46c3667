"""Length-bucketed batches: complete, reproducible, little padding, right through Keras."""

import json
import sys

import keras
import numpy as np
import pytest

import keras_extras
from keras_extras.training import BUCKETS, LengthBatches, padding_ratio
from keras_extras.training.keras_seams import UntunedBatches

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's"
)


def examples(count=500, longest=40, seed=0):
    rng = np.random.default_rng(seed)
    return [[i + 1] * n for i, n in enumerate(rng.integers(3, longest, count))]


def first_tokens(batches):
    """The rows of an epoch by their first token, batch by batch."""
    return [x[:, 0].tolist() for (x,), *_ in (batches[i] for i in range(len(batches)))]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("buckets", [None, BUCKETS])
def test_every_example_is_in_exactly_one_batch(shuffle, buckets):
    rows = examples()
    batches = LengthBatches([rows], np.arange(500), 32, buckets, shuffle, window=5)
    seen = []
    for i in range(len(batches)):
        (x,), y = batches[i]
        for padded, target in zip(x, y, strict=True):
            row = rows[target]
            assert padded[: len(row)].tolist() == row
            assert not padded[len(row) :].any()
            seen.append(target)
        if buckets:
            assert x.shape[1] in BUCKETS
    assert sorted(seen) == list(range(500))
    assert sorted(len(batch) for batch in batches.batches) == [20] + [32] * 15


def test_order_depends_on_seed_and_epoch_alone():
    def epochs(seed):
        batches = LengthBatches([examples()], shuffle=True, seed=seed)
        found = []
        for _ in range(3):
            found.append(first_tokens(batches))
            batches.on_epoch_end()
        return found

    first = epochs(7)
    assert first == epochs(7)
    assert first[0] != first[1] != first[2]
    assert first[0] != epochs(8)[0]
    resumed = LengthBatches([examples()], shuffle=True, seed=7)
    resumed.set_epoch(2)
    assert first_tokens(resumed) == first[2]


def test_rows_of_a_window_are_sorted_and_windows_differ():
    batches = LengthBatches([examples(640)], batch_size=32, shuffle=True, window=10)
    spans = [np.ptp(batches.lengths[rows]) for rows in batches.batches]
    assert np.mean(spans) < 6  # 10 batches share lengths 3 to 39: about 4 each, not 36


def test_first_two_batches_differ_in_length_wherever_any_do():
    for seed in range(20):
        batches = LengthBatches([examples(200, 20, seed)], shuffle=True, seed=seed, buckets=BUCKETS)
        assert batches[0][0][0].shape[1] == 32
        assert batches[1][0][0].shape[1] == 16


@pytest.mark.parametrize("shuffle", [False, True])
def test_padding_does_not_change_the_order(shuffle):
    """So that a training can go on where batches are padded otherwise."""
    orders = []
    for padding in ({"multiple": 1}, {"multiple": 8}, {"buckets": BUCKETS}, {"full_batches": True}):
        batches = LengthBatches([examples(100)], batch_size=8, shuffle=shuffle, **padding)
        batches.set_epoch(1)
        orders.append([rows.tolist() for rows in batches.batches])
    assert orders[0] == orders[1] == orders[2] == orders[3]


def test_padding_ratio_by_hand():
    rows = [[1] * n for n in (10, 10, 2, 2)]
    # sorted: 2 x 10 and 2 x 2; to a multiple of 4: 12 would be longer than any row, so 10 and 4
    assert padding_ratio(LengthBatches([rows], batch_size=2, multiple=1)) == 1
    assert padding_ratio(LengthBatches([rows], batch_size=2, multiple=4)) == 28 / 24
    assert padding_ratio(LengthBatches([rows], batch_size=2, buckets=[16])) == 64 / 24


def test_padding_on_clue_is_as_small_as_promised(clue_data):
    with open(clue_data / "ocnli" / "dev.json", encoding="utf-8", newline="\n") as lines:
        pairs = [json.loads(line) for line in lines]
    rows = [[1] * min(128, len(p["sentence1"]) + len(p["sentence2"]) + 3) for p in pairs]
    assert padding_ratio(LengthBatches([rows], shuffle=True, multiple=1)) < 1.03
    assert padding_ratio(LengthBatches([rows], shuffle=True, multiple=4)) < 1.07
    assert padding_ratio(LengthBatches([rows], shuffle=True)) < 1.12
    assert padding_ratio(LengthBatches([rows], shuffle=True, buckets=BUCKETS)) < 1.25


def small_model():
    tokens = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(600, 8, mask_zero=True)(tokens)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(vectors))
    return keras.Model([tokens], outputs)


@pytest.mark.parametrize("buckets", [None, BUCKETS])
def test_fit_and_predict_through_keras(buckets):
    keras.utils.set_random_seed(0)
    rows = examples()
    targets = np.arange(500) % 3
    model = small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    train = LengthBatches([rows], targets, shuffle=True, window=3, buckets=buckets)
    history = model.fit(train, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    test = LengthBatches([rows], batch_size=64, buckets=buckets)
    outputs = test.restore(model.predict(test, verbose=0))
    embedding, kernel, bias = model.get_weights()
    for i in (0, 123, 499):  # row i consists of token i + 1 only, so its mean is one vector
        expected = embedding[i + 1] @ kernel + bias
        np.testing.assert_allclose(outputs[i], expected, atol=1e-5)


def test_matrices_of_candidates():
    candidates = [[[1, 2, 3], [4]], [[5], []], [[6] * 9, [7] * 9]]
    segments = [[[0] * len(row) for row in rows] for rows in candidates]
    batches = LengthBatches([candidates, segments], [0, 1, 0], batch_size=2, multiple=4)
    assert batches.lengths.tolist() == [3, 1, 9]
    (ids, zeros), labels = batches[0]
    assert ids.shape == zeros.shape == (2, 2, 9) and ids.dtype == "int32"
    assert ids[0].tolist() == [[6] * 9, [7] * 9]
    assert ids[1].tolist() == [[1, 2, 3] + [0] * 6, [4] + [0] * 8]
    assert labels.tolist() == [0, 0]
    assert batches[1][0][0].tolist() == [[[5, 0, 0, 0], [0] * 4]]
    # 2 x 2 x 9 + 2 x 4 computed, 3 + 1 + 1 + 9 + 9 real
    assert batches.tokens() == (44, 23)


def test_targets_of_unequal_size():
    rows = [[1] * n for n in (3, 5, 2)]
    # one label per token follows the inputs' padding
    batches = LengthBatches([rows], rows, batch_size=2, multiple=4, target_padding=-1)
    assert batches[0][1].tolist() == [[1] * 5, [1, 1, 1, -1, -1]]
    assert batches[1][1].tolist() == [[1, 1, -1, -1]]
    # so does each such axis of a matrix; other axes take the longest of all examples
    squares = [np.ones((n, n)) for n in (3, 5, 2)]
    assert LengthBatches([rows], squares, batch_size=2, buckets=[16])[0][1].shape == (2, 16, 16)
    # also where all examples are equally long
    rows = [[1] * 20] * 4
    x, y = LengthBatches([rows], rows, batch_size=2, buckets=BUCKETS, target_padding=-1)[0]
    assert x[0].shape == y.shape == (2, 32) and y[0].tolist() == [1] * 20 + [-1] * 12
    # and a label per example is no such axis
    assert LengthBatches([rows], range(4), batch_size=2, buckets=BUCKETS)[0][1].shape == (2,)


def test_ids_take_little_room():
    """One array per column, of the smallest type; batches are int32 all the same."""
    rows = [[1, 255], [], [7]]
    for top, kind in ((255, "uint8"), (21127, "uint16"), (70000, "uint32"), (2**31 - 1, "uint32")):
        batches = LengthBatches([[*rows, [top]], [[-1] * n for n in (2, 0, 1, 1)]])
        assert [column.ids.dtype for column in batches.inputs] == [kind, "int8"]
        assert [column.ids.size for column in batches.inputs] == [4, 4]
        (ids, minus), *_ = batches[0]
        assert ids.dtype == minus.dtype == "int32"
        assert ids.tolist() == [[1, 255], [7, 0], [top, 0], [0, 0]]
        assert minus.tolist() == [[-1, -1], [-1, 0], [-1, 0], [0, 0]]
    (ids,), *_ = LengthBatches([[[-1, 300], [2]]])[0]
    assert ids.tolist() == [[-1, 300], [2, 0]]
    (ids,), *_ = LengthBatches([[[], []]])[0]
    assert ids.shape == (2, 0) and ids.dtype == "int32"


def test_ragged_targets_have_the_type_that_holds_them_all():
    rows = [[1, 2, 3], [4, 5]]
    assert LengthBatches([rows], [[1, 0, 1], [0.5, 0.5]])[0][1].tolist() == [
        [1, 0, 1],
        [0.5] * 2 + [0],
    ]
    assert LengthBatches([rows], [[], [7, 8]], batch_size=1)[0][1].dtype == "int64"


def test_spans_take_the_longest_of_all():
    rows = [[1] * n for n in (3, 5, 2)]
    spans = [[[0, 1]], [], [[0, 1], [1, 1], [1, 2]]]
    spans = [np.reshape(s, (-1, 2)) for s in spans]
    assert [y.shape for _, y in LengthBatches([rows], spans, batch_size=2)] == [
        (2, 3, 2),
        (1, 3, 2),
    ]


@pytest.mark.parametrize("shuffle", [False, True])
def test_full_batches_lose_nothing_and_add_only_rows_of_weight_zero(shuffle):
    rows = examples(100)
    batches = LengthBatches([rows], np.arange(100), 32, BUCKETS, shuffle, full_batches=True)
    seen = []
    for (x,), y, weights in batches:
        assert len(x) == len(y) == len(weights) == 32
        assert not x[weights == 0].any() and not y[weights == 0].any()
        seen += y[weights > 0].tolist()
        assert weights.sum() == 32
    assert sorted(seen) == list(range(100))
    outputs = np.concatenate([x[:, 0] for (x,), _, _ in batches])
    if shuffle:
        with pytest.raises(ValueError, match="restore needs batches made with shuffle=False"):
            batches.restore(outputs)
    else:
        restored = batches.restore({"ids": outputs, "negative": -outputs})
        assert restored["ids"].tolist() == list(range(1, 101))
        assert restored["negative"].tolist() == list(range(-1, -101, -1))
    assert batches.tokens()[0] == sum(x.size for (x,), _, _ in batches)


def test_a_skipped_beginning_leaves_the_rest_as_it_was():
    whole = LengthBatches([examples()], shuffle=True)
    whole.set_epoch(3)
    rest = LengthBatches([examples()], shuffle=True)
    rest.set_epoch(3, skip=7)
    assert first_tokens(rest) == first_tokens(whole)[7:]


@on_tensorflow
@pytest.mark.parametrize("full", [False, True])
def test_as_tf_data(full):
    rows = examples(100)
    options = dict(buckets=BUCKETS, shuffle=True, full_batches=full)
    batches = LengthBatches([rows, rows], np.arange(100), 32, **options)
    again = LengthBatches([rows, rows], np.arange(100), 32, **options)
    dataset = batches.to_tf_dataset()
    (ids, _), *_ = dataset.element_spec
    assert ids.shape.as_list() == [32 if full else None, None]
    for epoch in range(2):
        again.set_epoch(epoch)
        for ours, theirs in zip(again, dataset.as_numpy_iterator(), strict=True):
            flat = [*theirs[0], *theirs[1:]], [*ours[0], *ours[1:]]
            for a, b in zip(*flat, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def one_length_in_the_first_epoch(**options):
    """Batches that are padded to 32 tokens in the first epoch, and later to 16, too."""
    options = {"batch_size": 2, "shuffle": True, "window": 1, "buckets": BUCKETS, **options}
    for seed in range(1000):
        lengths = [16] * 4 + [20] * 4
        rows = [[i + 1] * n for i, n in enumerate(lengths)]
        batches = LengthBatches([rows], [i % 2 for i in range(8)], seed=seed, **options)
        if {batches.padded_length(rows) for rows in batches.batches} == {32}:
            batches.set_epoch(1)
            if {batches.padded_length(rows) for rows in batches.batches} == {16, 32}:
                batches.set_epoch(0)
                return batches
    raise AssertionError("no such seed")


@on_tensorflow
@pytest.mark.parametrize("full", [False, True])
def test_a_later_epoch_may_hold_another_length(full):
    batches = one_length_in_the_first_epoch(full_batches=full)
    dataset = batches.to_tf_dataset()
    shapes = [[x.shape for (x,), *_ in dataset.as_numpy_iterator()] for _ in range(2)]
    assert shapes[0] == [(2, 32)] * 4 and (2, 16) in shapes[1]

    inputs = keras.Input((None,), dtype="int32")
    vectors = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 2)(inputs))
    model = keras_extras.Model([inputs], keras.layers.Dense(2)(vectors))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches.set_epoch(0)
    model.fit(batches, epochs=2, shuffle=False, verbose=0)
    model.evaluate(batches, verbose=0)


@on_tensorflow
@pytest.mark.parametrize("read", ["fit", "tf.data"])
def test_axes_are_fixed_where_no_epoch_can_differ(read):
    def shapes(batches, **options):
        if read == "tf.data":
            spec = batches.to_tf_dataset().element_spec
        else:
            spec = UntunedBatches(batches, **options).get_tf_dataset().element_spec
        return [tuple(leaf.shape) for leaf in keras.tree.flatten(spec)]

    rows, squares = [[1] * n for n in (9, 12, 14)], [np.ones((n, n)) for n in (9, 12, 14)]
    ragged = LengthBatches([rows], squares, batch_size=2, multiple=1)
    assert shapes(ragged) == [(None, None), (None, None, None)]
    assert shapes(LengthBatches([rows], squares, 2, [16])) == [(None, 16), (None, 16, 16)]
    assert shapes(LengthBatches([rows], squares, 3, [10, 16])) == [(3, None), (3, None, None)]
    assert shapes(LengthBatches([rows], range(3), 2, [10, 16])) == [(None, None), (None,)]
    full = LengthBatches([rows, rows], range(3), 2, [16], full_batches=True)
    assert shapes(full) == [(2, 16), (2, 16), (2,), (2,)]
    assert shapes(LengthBatches([[[[1], [2, 3]]] * 5], range(5), 1)) == [(1, 2, 2), (1,)]

    class Twice(LengthBatches):
        def __getitem__(self, index):
            (x,), y = super().__getitem__(index)
            return (np.repeat(x, 2, axis=0),), np.repeat(y, 2)

    assert shapes(Twice([rows], range(3), 3, [16])) == [(6, 16), (6,)]
    if read == "fit":
        weighted = LengthBatches([rows], range(3), 3)
        assert shapes(weighted, class_weight={0: 2.0}) == [(3, 14), (3,), (3,)]


@on_tensorflow
def test_shapes_that_are_known_are_right_on_two_replicas(run_python):
    """Full batches, batches that are all equally large, and odd ones; as on one device."""
    script = """
import keras, numpy as np, tensorflow as tf
from keras_extras import Model
from keras_extras.training import LengthBatches
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rows = [[i % 9 + 1] * (3 + i % 5) for i in range(14)]
for size, options in ((4, {"full_batches": True, "buckets": [4, 8]}), (7, {}), (2, {}), (4, {})):
    results = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        keras.utils.set_random_seed(0)
        batches = LengthBatches([rows], range(14), size, shuffle=True, window=1, **options)
        with strategy.scope():
            tokens = keras.Input((None,), dtype="int32")
            h = keras.layers.Embedding(10, 3)(tokens)
            model = Model([tokens], keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(h)))
            model.compile(keras.optimizers.SGD(0.01), "mse")
        model.fit(batches, epochs=2, shuffle=False, verbose=0)
        results.append([*model.get_weights(), model.evaluate(batches, verbose=0)])
        results[-1].append(model.predict(batches, verbose=0))
    for one, two in zip(*results):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
print("equal")
"""
    assert run_python(sys.executable, script).splitlines()[-1] == "equal"


def test_bad_arguments_are_explained():
    with pytest.raises(ValueError, match="at least one example"):
        LengthBatches([[]])
    with pytest.raises(ValueError, match="column 1"):
        LengthBatches([[[1, 2]], [[1]]])
    with pytest.raises(ValueError, match="1 examples but 2 targets"):
        LengthBatches([[[1, 2]]], [0, 1])
    with pytest.raises(ValueError, match="column 0 have between 1 and 2 lists"):
        LengthBatches([[[[1]], [[1], [2]]]])
    with pytest.raises(
        ValueError, match=r"column 1 holds a number that is no 32-bit .* \[0.5, 2\]"
    ):
        LengthBatches([[[1, 2]], [[0.5, 2]]])
    with pytest.raises(ValueError, match="same number of axes"):
        LengthBatches([[[1], [2]]], [[1], 2])
    with pytest.raises(ValueError, match="17 tokens is longer than the last bucket, 16"):
        LengthBatches([[[1] * 17]], buckets=[16])


def test_a_batch_filled_up_counts_as_its_rows_do():
    """The update of a last, smaller batch is that of its own rows."""
    rng = np.random.default_rng(0)
    rows, targets = rng.integers(1, 9, (9, 3)).tolist(), rng.normal(size=(9, 2)).astype("float32")
    weights = []
    for full in (False, True):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((None,), dtype="int32")
        vectors = keras.layers.Embedding(9, 4)(inputs)
        model = keras_extras.Model([inputs], keras.layers.Dense(2)(vectors[:, 0]))
        model.compile(keras.optimizers.SGD(0.5), "mse")
        batches = LengthBatches([rows], targets, 8, full_batches=full)
        model.fit(batches, shuffle=False, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)
