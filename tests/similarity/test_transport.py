"""Transport distances against worked examples and the assignment problem."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from keras_extras.similarity import (
    NearestSentences,
    earth_mover_distance,
    nearest,
    transport,
    word_centroid_distance,
    word_mover_distance,
    word_rotator_bound,
    word_rotator_distance,
)

RNG = np.random.default_rng(0)
TEXTS = [RNG.normal(size=(n, 5)) + 0.5 for n in (3, 7, 4, 1, 7)]
SOLVERS = ["by_scipy", "by_pot"]


def by_assignment(p, q, cost):
    """Weights that are multiples of 1/N are N equal parts, each assigned to one."""
    n = 60
    rows, columns = np.repeat(np.arange(len(p)), p), np.repeat(np.arange(len(q)), q)
    assert len(rows) == len(columns) == n
    full = cost[rows][:, columns]
    return full[linear_sum_assignment(full)].sum() / n


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_are_exact(solver):
    if solver == "by_pot":
        pytest.importorskip("ot")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        p, q = rng.multinomial(60, np.ones(6) / 6), rng.multinomial(60, np.ones(9) / 9)
        cost = rng.random((6, 9))
        ours = getattr(transport, solver)(p / 60, q / 60, cost)
        assert ours == pytest.approx(by_assignment(p, q, cost), abs=1e-9)


def test_earth_mover_distance():
    p, q = np.array([10, 20, 30]), np.array([15, 15, 15, 15])
    cost = RNG.random((3, 4))
    expected = by_assignment(p, q, cost)
    assert earth_mover_distance(p / 60, q / 60, cost) == pytest.approx(expected)
    assert earth_mover_distance([0.25, 0.75], [1], [[4], [8]]) == 7


def test_worked_examples():
    x, y = [[0, 0], [2, 0]], [[1, 0], [1, 2]]
    assert word_mover_distance(x, y) == pytest.approx(1.618034, abs=1e-6)
    assert word_mover_distance(x, y) / np.sqrt(2) == pytest.approx(1.144123, abs=1e-6)
    assert word_centroid_distance(x, y) == 1
    assert word_mover_distance([[0, 0]], [[3, 4], [0, 1]]) == 3
    # weights 3/4 and 1/4 against 1: 3/4 · 0 + 1/4 · (1 - 0)
    assert word_rotator_distance([[3, 0], [0, 1]], [[2, 0]]) == pytest.approx(0.25)
    assert word_rotator_distance([[1, 0]], [[-5, 0]]) == pytest.approx(2)


@pytest.mark.parametrize(
    "distance, bound",
    [
        (word_mover_distance, word_centroid_distance),
        (word_rotator_distance, word_rotator_bound),
    ],
)
def test_properties(distance, bound):
    for x in TEXTS:
        assert distance(x, x) == pytest.approx(0, abs=1e-12)
        for y in TEXTS:
            d = distance(x, y)
            assert d == pytest.approx(distance(y, x), abs=1e-9)
            assert d == pytest.approx(distance(x[::-1], RNG.permutation(y)), abs=1e-9)
            assert bound(x, y) <= d + 1e-9
            if distance is word_mover_distance:
                for z in TEXTS:
                    assert d <= distance(x, z) + distance(z, y) + 1e-9
            else:
                assert 0 <= d <= 2
                assert d == pytest.approx(distance(x * 7, y), abs=1e-9)


def test_vectors_far_from_0():
    """Where they lie does not matter, and costs no digits."""
    x, y = TEXTS[1] + 1000, TEXTS[4] + 1000
    assert word_mover_distance(x, x) == pytest.approx(0, abs=1e-12)
    near = word_mover_distance(TEXTS[1], TEXTS[4])
    assert word_mover_distance(x, y) == pytest.approx(near, rel=1e-11)


def test_equally_many_words_are_an_assignment():
    x, y = TEXTS[1], TEXTS[4]
    cost = np.linalg.norm(x[:, None] - y, axis=-1)
    expected = cost[linear_sum_assignment(cost)].mean()
    assert word_mover_distance(x, y) == pytest.approx(expected)


def test_words_of_zeros_weigh_nothing():
    x = np.concatenate([TEXTS[0], np.zeros((2, 5))])
    assert word_rotator_distance(x, TEXTS[1]) == word_rotator_distance(TEXTS[0], TEXTS[1])
    with pytest.raises(ValueError, match="no direction"):
        word_rotator_distance(np.zeros((2, 5)), x)


def test_refused():
    for text in (np.zeros((0, 5)), np.ones(5), [[np.nan] * 5]):
        with pytest.raises(ValueError, match="one word at least"):
            word_mover_distance(text, TEXTS[0])
    with pytest.raises(ValueError, match="5 and 3 dimensions"):
        word_mover_distance(TEXTS[0], TEXTS[0][:, :3])
    with pytest.raises(ValueError, match="add up to 1"):
        earth_mover_distance([0.5, 0.4], [1], [[1], [1]])
    with pytest.raises(ValueError, match=r"not \(1, 2\)"):
        earth_mover_distance([0.5, 0.5], [1], [[1, 1]])
    with pytest.raises(ValueError, match="'wmd' and 'wrd'"):
        NearestSentences(TEXTS, "cosine")
    with pytest.raises(ValueError, match="the 6 nearest"):
        NearestSentences(TEXTS).nearest(TEXTS[0], 6)
    with pytest.raises(ValueError, match="of one size"):
        NearestSentences([TEXTS[0], TEXTS[0][:, :3]])
    with pytest.raises(ValueError, match="one sentence at least"):
        NearestSentences([])
    for search in (NearestSentences(TEXTS).nearest, NearestSentences(TEXTS).distances):
        with pytest.raises(ValueError, match="have 5 dimensions, and those of the query 3"):
            search(TEXTS[0][:, :3])


@pytest.mark.parametrize("distance", ["wmd", "wrd"])
def test_nearest_are_those_of_all_distances(distance, monkeypatch):
    rng = np.random.default_rng(3)
    vocabulary = rng.normal(size=(40, 8))
    sentences = [vocabulary[rng.integers(0, 40, rng.integers(1, 7))] for _ in range(60)]
    sentences[7] = sentences[3]  # equally near
    index = NearestSentences(sentences, distance)
    exact = {"wmd": word_mover_distance, "wrd": word_rotator_distance}[distance]
    solved = []
    monkeypatch.setattr(
        nearest, "earth_mover_distance", lambda *a: solved.append(1) or earth_mover_distance(*a)
    )
    for query in (sentences[3], vocabulary[rng.integers(0, 40, 5)]):
        every = np.array([exact(query, sentence) for sentence in sentences])
        np.testing.assert_allclose(index.distances(query), every, atol=1e-7)
        assert (index.bounds(*arguments(index, query)) <= every + 1e-7).all()
        for k in (1, 2, 5, 60):
            solved.clear()
            numbers, distances = index.nearest(query, k)
            np.testing.assert_allclose(distances, np.sort(every)[:k], atol=1e-7)
            np.testing.assert_allclose(every[numbers], distances, atol=1e-7)
            assert len(set(numbers)) == k <= len(solved) and (k > 5 or len(solved) < 40)
    assert index.nearest(sentences[3], 2)[0].tolist() == [3, 7]


def arguments(index, query):
    query = index.kind.read(query)
    return query, index.kind.cost(index.points, query.points)
