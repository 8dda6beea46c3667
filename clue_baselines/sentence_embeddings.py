"""Sentence embeddings: vectors whose cosines are in the order of the similarities of the pairs.

    [CLS] sentence [SEP]  ->  BERT  ->  pooling  ->  vector

The score is Spearman's correlation of the cosines with the labels, on dev and on test. --method is
the way to train the vectors:

    cosent             cosines in the order of the labels (kexue.fm/archives/8847)
    sentence_bert      classes from [u, v, |u - v|], cosines only for scoring (arXiv:1908.10084)
    cosine             cosines near to the labels, scaled to 0 … 1
    simcse             a sentence near to itself under another dropout, no labels
    simcse_supervised  a sentence near to its partner in the most similar pairs (arXiv:2104.08821)
    whitening          no training; mean and covariance of the vectors taken out (arXiv:2103.15316)
    none               no training

The sets are STS-B, ATEC, BQ, LCQMC and PAWSX (folder `sts` of the data) and the pairs of AFQMC,
OCNLI and CMNLI; --train-task trains on one set for another.

    python clue_baselines/sentence_embeddings.py
    python clue_baselines/sentence_embeddings.py --data CLUE_FOLDER --method simcse \
        --model hfl/chinese-roberta-wwm-ext --train-task ocnli
"""

import itertools
import math
from dataclasses import dataclass

try:
    import keras
    import numpy as np

    from clue_baselines import backbone, experiment, sentence_pairs, tricks
    from clue_baselines.data import DataError
    from clue_baselines.sentence_pairs import LABELS
    from clue_baselines.settings import Settings, setting
    from clue_baselines.task import Example, Task
    from clue_baselines.trained import TwiceInARow
    from keras_extras.losses import CoSENT, CosineContrast, SimCSE, SupervisedSimCSE
    from keras_extras.losses.layouts import targets_of_groups
    from keras_extras.similarity import (
        SentenceBERTHead,
        compute_kernel_bias,
        cosine_similarity,
        sentence_encoder,
        spearman,
    )
    from keras_extras.training import LengthBatches, Model
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: "
        "pip install uv && uv run clue_baselines/sentence_embeddings.py"
    ) from None

WITHOUT_TRAINING = ("whitening", "none")
WITHOUT_LABELS = ("simcse", *WITHOUT_TRAINING)
METHODS = ("cosent", "sentence_bert", "cosine", *WITHOUT_LABELS, "simcse_supervised")


@dataclass
class SentenceSettings(Settings):
    """The settings of all tasks, and what is trained how, on which pairs."""

    task: str = setting("STS-B", "pairs to score", choices=tuple(LABELS))
    train_task: str = setting(
        "", "pairs to train on; by default those of --task", choices=tuple(LABELS)
    )
    method: str = setting("cosent", "how the vectors are trained", choices=METHODS)
    pooling: str = setting(
        "cls", "how tokens become a vector", choices=("cls", "last-avg", "first-last-avg")
    )
    temperature: float = setting(0.05, "of the cosines in CoSENT and SimCSE")
    whitening_dim: int = setting(0, "dimensions that whitening keeps; 0: all")


class SentenceEmbeddings(Task):
    """A prediction is the vectors of both sentences (2, dim)."""

    name = "sentence_embeddings"
    submissions = {"test": "similarities.json"}
    options = SentenceSettings
    defaults = {"maxlen": 64}
    metric = "spearman"
    unit = "pairs"
    takes = tricks.OF_A_STEP
    compares_neighbours = True

    def __init__(self, settings):
        super().__init__(settings)
        if not settings.temperature > 0:
            raise DataError("--temperature must be above 0.")
        self.train_task = settings.train_task or settings.task
        self.numbers = itertools.count()
        self.trains = settings.method not in WITHOUT_TRAINING
        if not settings.name:
            parts = [backbone.short_name(settings.model), settings.task]
            parts += [f"from-{settings.train_task}"] if settings.train_task else []
            parts += [settings.method, settings.pooling, tricks.label(settings)]
            settings.name = "-".join(part for part in parts if part)

    def find(self):
        return sentence_pairs.find(self.settings.task, self.settings.data, self.train_task)

    def read(self, source, split, limit=None):
        """Pairs; where no labels are needed, those of dev take the place of missing ones."""
        method = self.settings.method
        training = split == "train"
        labels = LABELS[self.train_task if training else self.settings.task]
        if training and not source.has("train"):
            if method not in WITHOUT_LABELS:
                raise DataError(
                    f"{source.path('train')} is missing, and --method {method} learns from labels. "
                    "Train on other pairs with --train-task, or without labels with --method "
                    f"{', '.join(WITHOUT_LABELS)}."
                )
            print(f"No training pairs of {self.train_task}: the sentences of dev take their place.")
            source, split = sentence_pairs.find(self.train_task, self.settings.data), "dev"
        records = sentence_pairs.read(source.path(split), labels, limit)
        if training and method == "simcse_supervised":
            records = [r for r in records if self.truth(r) == len(labels) - 1]
            if not records:
                raise DataError(f"{source.path(split)} has no pair of the greatest similarity.")
        return records

    def texts(self, record):
        return [record.text("sentence1"), record.text("sentence2")]

    def examples(self, record, tokenizer, training):
        """Each sentence by itself; in training with labels both sentences of a pair together.

        For SimCSE the target is a running number, by which the loss knows what belongs together.
        """
        ids = [tokenizer.encode(t, maxlen=self.settings.maxlen)[0] for t in self.texts(record)]
        segments = [[0] * len(row) for row in ids]
        if training and self.settings.method not in WITHOUT_LABELS:
            supervised = self.settings.method == "simcse_supervised"
            target = next(self.numbers) if supervised else self.truth(record)
            return [Example((ids, segments), target)]
        return [Example(pair, next(self.numbers)) for pair in zip(ids, segments, strict=True)]

    def batches(self, training):
        """In training rows of a batch stand in twos: a pair, or a sentence twice."""
        if not training:
            return LengthBatches
        return TwiceInARow if self.settings.method in WITHOUT_LABELS else Pairs

    def build(self, bert):
        """The encoder; Sentence-BERT trains it under a classifier of pairs."""
        try:
            self.encoder = sentence_encoder(bert.model, self.settings.pooling)
        except ValueError as error:
            raise DataError(str(error)) from None
        if self.settings.method != "sentence_bert":
            return self.encoder
        head = SentenceBERTHead(
            len(LABELS[self.train_task]), bert.initializer, dtype="float32", name="classes"
        )
        return keras.Model(self.encoder.inputs, head(self.encoder.output))

    def predictor(self, model):
        return Model(self.encoder.inputs, self.encoder.outputs)

    def loss(self):
        tau = self.settings.temperature
        if self.settings.method == "cosent":
            return CoSENT(1 / tau)
        if self.settings.method == "cosine":
            return ScaledCosineContrast(len(LABELS[self.train_task]) - 1)
        if self.settings.method == "sentence_bert":
            return PairCrossentropy()
        if self.settings.method == "simcse_supervised":
            return SupervisedSimCSE(2, tau)
        return SimCSE(tau)

    def correct(self, outputs):
        """Whitening takes mean and covariance of the vectors that are compared."""
        if self.settings.method != "whitening":
            return outputs
        try:
            kernel, bias = compute_kernel_bias(outputs, self.settings.whitening_dim or None)
        except ValueError as error:
            raise DataError(f"--method whitening: {error} (--whitening-dim)") from None
        return (outputs + bias) @ kernel

    def predict(self, record, examples, outputs):
        return outputs

    def truth(self, record):
        if "label" not in record:
            raise DataError(f"{record.where}: no 'label'.")
        return record["label"]

    def marks(self, prediction, truth):
        """A correlation is no sum over records."""
        return {}

    def more_scores(self, predictions, truths):
        """Spearman's correlation, with the standard error of Bonett and Wright (2000)."""
        try:
            rho = spearman(cosines(predictions), truths)
        except ValueError as error:
            raise DataError(f"{error} This is so of these cosines or labels.") from None
        error = (1 - rho**2) * math.sqrt((1 + rho**2 / 2) / max(len(truths) - 3, 1))
        return {self.metric: (rho, error)}

    def test_scores(self, split, records, predictions):
        if not all("label" in record for record in records):
            return {}
        found = self.more_scores(predictions, [self.truth(record) for record in records])
        return {f"{split} {name}": score for name, score in found.items()}

    def answer(self, record, prediction):
        return {"id": str(record["id"]), "similarity": round(float(cosines([prediction])[0]), 6)}


class Pairs(LengthBatches):
    """Batches of pairs as rows 2i and 2i + 1, which have the pair's target."""

    def __getitem__(self, index):
        inputs, *others = super().__getitem__(index)
        rows = tuple(x.reshape(-1, x.shape[-1]) for x in inputs)
        return rows, *(np.repeat(x, 2, axis=0) for x in others)


@keras.saving.register_keras_serializable(package="keras_extras")
class PairCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross entropy of the logits of pairs, which stand on both rows of a pair as its label does.

    As CoSENT, it tells (NaN in a compiled step) when neighbours have different labels.
    """

    def __init__(self, name="pair_crossentropy", **kwargs):
        super().__init__(**{**kwargs, "from_logits": True}, name=name)

    def call(self, y_true, y_pred):
        _, valid = targets_of_groups(keras.ops.reshape(y_true, (-1,)), 2, self.name, y_pred.dtype)
        return super().call(y_true, y_pred) * valid


@keras.saving.register_keras_serializable(package="keras_extras")
class ScaledCosineContrast(CosineContrast):
    """`CosineContrast` of labels 0 … greatest."""

    def __init__(self, greatest: int, **kwargs):
        super().__init__(**kwargs)
        self.greatest = greatest

    def get_config(self):
        return {**super().get_config(), "greatest": self.greatest}

    def call(self, y_true, y_pred):
        return super().call(keras.ops.cast(y_true, "float32") / self.greatest, y_pred)


def cosines(predictions) -> np.ndarray:
    """The cosine of each pair of vectors."""
    vectors = np.stack(predictions)
    return cosine_similarity(vectors[:, 0], vectors[:, 1])


if __name__ == "__main__":
    experiment.main(SentenceEmbeddings)
