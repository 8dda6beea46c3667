"""What one task says about itself; everything else is common to all.

record  --examples-->  token ids and targets  --build, loss-->  model outputs
        --predict-->   one answer per record  --marks-->  scores
                                              --answer-->  the prediction file
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from clue_baselines import data, tricks
from clue_baselines.backbone import Backbone
from clue_baselines.data import DataError, Record, Source
from clue_baselines.settings import Settings
from clue_baselines.trained import TwiceInARow
from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.training import LengthBatches


@dataclass
class Example:
    """What the model sees at once: a text, a window of a text, or a set of choices.

    inputs: token ids, segment ids and whatever else the model takes, each an integer list
        (length,) or matrix (choices, length).
    target: what the loss compares the output with: an integer, or an array of integers. A batch
        fills arrays of several sizes up with -1. None outside of training.
    about: what `predict` has to know of this example, such as where a window starts.
    """

    inputs: tuple[Any, ...]
    target: Any = None
    about: Any = None


class Task:
    """What distinguishes one task from another.

    A script overrides `texts`, `examples`, `build`, `loss`, `predict`, `truth` and `answer`, or
    starts from `Classification` or `MultipleChoice`. `self.settings` are the settings of the run.

    name: name of the task's data folder and of its script.
    submissions: test split -> name of the file that the leaderboard wants.
    one_object: whether that file is a single JSON object, not one object per line.
    defaults: settings whose default differs from that in `Settings`.
    options: class of the settings; a task with flags of its own extends `Settings`.
    metric: name of the score on dev that decides which epoch is best.
    training_metrics: what Keras shows while it trains.
    tokens: special tokens that the vocabulary must have.
    unit: what is counted in a score, in the plural.
    takes: the tricks (see `tricks.py`) that mean something here.
    trains: whether there is a training at all.
    compares_neighbours: whether the loss compares neighbouring rows of a batch.
    """

    name: str
    submissions: dict[str, str]
    one_object = False
    defaults: dict[str, Any] = {}
    options = Settings
    metric = "accuracy"
    training_metrics: Sequence[str] = ()
    tokens: Sequence[str] = ()
    unit = "rows"
    takes: Sequence[str] = tricks.OF_A_STEP
    trains = True
    compares_neighbours = False

    def __init__(self, settings: Settings):
        tricks.check(self.name, self.takes, settings)
        self.settings = settings

    def find(self) -> Source:
        """Where the data is."""
        return data.find(self.name, self.settings.data)

    def read(self, source: Source, split: str, limit: int | None = None) -> list[Record]:
        """The records of a split: what gets one answer each. By default the lines of its file."""
        return data.read_records(source.path(split), limit)

    def learn_about(self, records: Sequence[Record]):
        """Takes from the training records what the task must know before it builds a model."""

    def texts(self, record: Record) -> list[str]:
        """All texts of a record; a vocabulary from scratch is made of them."""
        raise NotImplementedError

    def examples(
        self, record: Record, tokenizer: WordPieceTokenizer, training: bool
    ) -> list[Example]:
        """The examples of a record, with targets in training."""
        raise NotImplementedError

    def batches(self, training: bool) -> type[LengthBatches]:
        """How examples become batches."""
        return TwiceInARow if training and self.settings.r_drop else LengthBatches

    def build(self, bert: Backbone) -> keras.Model:
        """The backbone with the task's head."""
        raise NotImplementedError

    def loss(self):
        """The training loss."""
        raise NotImplementedError

    def predictor(self, model: keras.Model) -> keras.Model:
        """The model that predicts; it may decode inside the graph.

        Its outputs (one array or several) must have a fixed size per example, whatever the
        length of the batch. A `keras_extras.Model` predicts on any number of devices.
        """
        return model

    def predict(self, record: Record, examples: Sequence[Example], outputs: Any) -> Any:
        """The answer to a record.

        Args:
            outputs: what the predictor gave, one row per example of the record; an array, or a
                list of arrays where the predictor has several outputs.
        """
        raise NotImplementedError

    def correct(self, outputs: Any) -> Any:
        """All outputs of a split, changed by what comes after training (`--can`)."""
        return outputs

    def truth(self, record: Record) -> Any:
        """The right answer to a record of dev."""
        raise NotImplementedError

    def marks(self, prediction: Any, truth: Any) -> dict[str, tuple[float, float]]:
        """What a record adds to the parts and wholes of the scores.

        A score is the sum of its parts over all records divided by the sum of its wholes:
        (right, 1) gives accuracy, (2 * true positives, predicted + real) gives micro F1.
        """
        return {self.metric: (float(prediction == truth), 1)}

    def more_scores(
        self, predictions: Sequence, truths: Sequence
    ) -> dict[str, tuple[float, float]]:
        """Scores that are no ratio of sums, each with its standard error."""
        return {}

    def test_scores(
        self, split: str, records: Sequence[Record], predictions: Sequence
    ) -> dict[str, tuple[float, float]]:
        """Scores on a test set whose answers are known; their names begin with that of the set."""
        return {}

    def size(self, record: Record) -> int:
        """How many of the task's `unit` a record holds."""
        return 1

    def say(self, record: Record, answer: Any) -> str:
        """An answer, predicted or right, in words."""
        return str(answer)

    def tables(self, folder: Path, predictions: Sequence, truths: Sequence, title: str):
        """Writes what the task shows beside its scores, such as a confusion matrix."""

    def ids(self, record: Record) -> list[str]:
        """The ids under which the prediction file answers a test record."""
        if "id" not in record:
            raise DataError(f"{record.where}: a test record needs an 'id'.")
        return [str(record["id"])]

    def answer(self, record: Record, prediction: Any) -> dict:
        """A test record's line of the prediction file, or its entries if that is one object."""
        raise NotImplementedError
