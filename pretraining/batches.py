"""Batches of a packed corpus, masked anew in every pass."""

import json
from pathlib import Path

import keras
import numpy as np

from keras_extras.vocabulary import load_vocab
from pretraining.masking import mask_words
from pretraining.sentence_order import SENTENCE_ENDS, exchange_segments

__all__ = ["MaskedBatches"]

SPECIAL = 5  # [PAD] [UNK] [CLS] [SEP] [MASK] come first in a corpus's vocabulary


class MaskedBatches(keras.utils.PyDataset):
    """Masked sequences for `fit`: ((tokens, segments, positions), labels, weights).

    An epoch is `steps` batches; a pass over the corpus takes as many epochs as it needs. Order and
    masks of step i depend on `seed` and i alone, so an interrupted training goes on with the batch
    that comes next (see `keras_extras.training.Resume`, which calls `set_epoch`). Without `steps`
    every epoch is the same pass, for evaluation: the rows of each batch are spread evenly over all
    of the part, so that the first batches stand for it.

    With the order of sentences to be told, labels and weights are dicts of "words" and "order".

    Args:
        folder: made by `pretraining.corpus`.
        part: "train" or "heldout".
        batch_size: sequences per batch; those left over at the end of a pass are dropped.
        steps: batches per epoch. Default: one pass.
        seed: of order and masks. Default 0.
        rate: share of the tokens to predict. Default 0.15.
        sentence_order: rows become two segments, half of them exchanged (see
            `pretraining.sentence_order`). Default False.

    Raises:
        ValueError: the folder holds no corpus, or fewer sequences than a batch.
    """

    def __init__(
        self,
        folder: Path,
        part: str = "train",
        batch_size: int = 32,
        steps: int | None = None,
        seed: int = 0,
        rate: float = 0.15,
        sentence_order: bool = False,
    ):
        super().__init__()
        folder = Path(folder)
        try:
            self.about = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
            self.vocabulary = load_vocab(folder / "vocab.txt")
            self.tokens = np.load(folder / f"{part}.tokens.npy", mmap_mode="r")
            self.starts = np.load(folder / f"{part}.starts.npy", mmap_mode="r")
        except OSError as error:
            raise ValueError(
                f"{folder} is no corpus ({error}); make one with python -m pretraining.corpus."
            ) from None
        self.batch_size, self.seed, self.rate = batch_size, seed, rate
        self.sentence_order = sentence_order
        self.shuffle = steps is not None
        self.steps_per_pass = len(self.tokens) // batch_size
        if not self.steps_per_pass:
            raise ValueError(
                f"The {part} part of {folder} has {len(self.tokens)} sequences, fewer than a "
                f"batch of {batch_size}."
            )
        self.steps = steps or self.steps_per_pass
        self.window = 0  # of sorted lengths, which are all the same here
        self.lengths = np.full(self.steps * batch_size, self.tokens.shape[1])
        self.set_epoch(0)

    def set_epoch(self, epoch: int, skip: int = 0):
        """Goes to an epoch, without its first `skip` batches."""
        first = epoch * self.steps if self.shuffle else 0
        self.batches = list(range(first + skip, first + self.steps))
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        step = self.batches[index]
        rows = np.sort(self.rows(step))
        rng = np.random.default_rng((self.seed, 1, step))
        ids = self.vocabulary
        tokens, starts = np.asarray(self.tokens[rows]), np.asarray(self.starts[rows])
        segments = np.zeros(tokens.shape, "int32")
        if self.sentence_order:
            ends = [ids[token] for token in SENTENCE_ENDS if token in ids]
            tokens, starts, segments, exchanged = exchange_segments(
                tokens, starts, ends, ids["[SEP]"], rng
            )
        masked = mask_words(tokens, starts, ids["[MASK]"], len(ids), SPECIAL, rng, self.rate)
        inputs = masked.tokens, segments, masked.positions
        if not self.sentence_order:
            return inputs, masked.labels, masked.weights
        labels = {"words": masked.labels, "order": exchanged.astype("int32")}
        weights = {"words": masked.weights, "order": np.ones(len(rows), "float32")}
        return inputs, labels, weights

    def rows(self, step: int) -> np.ndarray:
        """Which sequences are in the batch of a step."""
        passes, place = divmod(step, self.steps_per_pass)
        if not self.shuffle:
            return np.arange(place, len(self.tokens), self.steps_per_pass)[: self.batch_size]
        if self._order is None or self._order[0] != passes:
            rng = np.random.default_rng((self.seed, 0, passes))
            self._order = passes, rng.permutation(len(self.tokens))
        order = self._order[1]
        return order[place * self.batch_size : (place + 1) * self.batch_size]
