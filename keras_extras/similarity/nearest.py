"""The nearest sentences by WMD or WRD, of which few distances are computed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from keras_extras.similarity.transport import MOVER, ROTATOR, earth_mover_distance

KINDS = {"wmd": MOVER, "wrd": ROTATOR}


class NearestSentences:
    """Sentences to be searched for the nearest to another one, by WMD or WRD.

    The distance to a sentence is at least that of the centroids, and at least the larger of what
    it costs to send each word to its nearest word, from here to there and from there to here. These
    bounds of all sentences are a few matrix products. The transport problems are solved in their
    order, until the next bound is above the k-th distance: the result is that of solving all.
    A call takes one query.

    Args:
        sentences: one matrix ``(words, dim)`` of word vectors per sentence.
        distance: "wrd" (default) or "wmd".

    Raises:
        ValueError: unknown `distance`, no sentence, one without words, or vectors of unequal size.

    Source: kexue.fm/archives/7388; the bounds of words: Kusner et al., 2015.

    >>> index = NearestSentences([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]])
    >>> numbers, distances = index.nearest([[2.0, 0.0]], k=2)
    >>> numbers.tolist(), distances.round(4).tolist()
    ([0, 2], [0.0, 0.2929])
    """

    def __init__(self, sentences: Iterable, distance: str = "wrd"):
        if distance not in KINDS:
            raise ValueError(f"NearestSentences knows 'wmd' and 'wrd', not {distance!r}.")
        self.kind = KINDS[distance]
        texts = [self.kind.read(sentence) for sentence in sentences]
        if not texts:
            raise ValueError("NearestSentences needs one sentence at least; the list is empty.")
        if len({text.points.shape[1] for text in texts}) != 1:
            raise ValueError("NearestSentences needs sentences of word vectors of one size.")
        self.points = np.concatenate([text.points for text in texts])
        self.weights = np.concatenate([text.weights for text in texts])
        self.centroids = np.stack([text.centroid for text in texts])
        self.ends = np.cumsum([len(text.weights) for text in texts])
        self.starts = np.append(0, self.ends[:-1])

    def __len__(self) -> int:
        return len(self.ends)

    def distances(self, query) -> np.ndarray:
        """The distances of one query to all sentences ``(n,)``, all transport problems solved.

        Args:
            query: ``(words, dim)``, word vectors of a sentence.

        Raises:
            ValueError: word vectors of another size than those of the sentences.
        """
        query, cost = self.read(query)
        return np.array([self.solve(i, query, cost) for i in range(len(self))])

    def nearest(self, query, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the k nearest sentences and their distances, nearest first.

        Args:
            query: ``(words, dim)``, word vectors of one sentence.
            k: how many; 1 by default. Of equally near ones those with lower numbers come first.

        Raises:
            ValueError: k is below 1 or above the number of sentences, or word vectors of another
                size than those of the sentences.
        """
        if not 1 <= k <= len(self):
            raise ValueError(f"There are {len(self)} sentences, so the {k} nearest do not exist.")
        query, cost = self.read(query)
        bounds = self.bounds(query, cost)
        order = np.argsort(bounds, kind="stable")
        found = np.array([self.solve(i, query, cost) for i in order[:k]])
        limit = found.max()
        found = list(found)
        for i in order[k:]:
            if bounds[i] > limit + 1e-9:
                break
            found.append(self.solve(i, query, cost))
            limit = np.partition(found, k - 1)[k - 1]
        numbers, found = order[: len(found)], np.array(found)
        best = np.lexsort((numbers, found))[:k]
        return numbers[best], found[best]

    def read(self, query):
        """A query as a text, and the costs (all words, query)."""
        query = self.kind.read(query)
        width, given = self.points.shape[1], query.points.shape[1]
        if given != width:
            raise ValueError(
                f"Word vectors of the sentences have {width} dimensions, and those of the query "
                f"{given}: take both from one model."
            )
        return query, self.kind.cost(self.points, query.points)

    def bounds(self, query, cost) -> np.ndarray:
        """What the distance to each sentence is at least, given the costs (all words, query)."""
        away = np.add.reduceat(self.weights * cost.min(axis=1), self.starts)
        back = np.minimum.reduceat(cost, self.starts, axis=0) @ query.weights
        return np.maximum(np.maximum(away, back), self.kind.bound(self.centroids, query.centroid))

    def solve(self, i: int, query, cost) -> float:
        words = slice(self.starts[i], self.ends[i])
        return earth_mover_distance(self.weights[words], query.weights, cost[words])
