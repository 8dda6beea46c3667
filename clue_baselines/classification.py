"""Tasks that sort a text, or a pair of texts, into one of a few classes.

    [CLS] text [SEP]                ->  BERT  ->  vector of [CLS]  ->  one logit per class
    [CLS] first [SEP] second [SEP]

The loss is the cross-entropy, the score the accuracy, and a submission has one line
{"id", "label"} per test record.
"""

from collections.abc import Sequence

import keras
import numpy as np

from clue_baselines import plots, trained, tricks
from clue_baselines.metrics import mean_recall
from clue_baselines.task import Example, Task
from keras_extras.postprocess import can, soften


class Classification(Task):
    """A script gives `texts`, and the labels as they stand in the files.

    labels: the values of a record's "label".
    classes: names of the classes in tables, if the labels are not names themselves.
    """

    labels: Sequence[str]
    classes: Sequence[str] = ()
    training_metrics = ("accuracy",)
    takes = tricks.ALL

    def learn_about(self, records):
        """How many training rows each class has."""
        truths = [self.truth(record) for record in records]
        self.counts = np.bincount(truths, minlength=len(self.labels))

    def examples(self, record, tokenizer, training):
        """The text, or the pair cut to the greatest length by shortening the longer one."""
        token_ids, segment_ids = tokenizer.encode(*self.texts(record), maxlen=self.settings.maxlen)
        if self.settings.segment_ids == "zero":
            segment_ids = [0] * len(token_ids)
        target = self.truth(record) if training else None
        return [Example((token_ids, segment_ids), target)]

    def build(self, bert):
        """The vector of [CLS] and a linear layer on it."""
        first = bert.model.output[:, 0]
        head = keras.layers.Dense(
            len(self.labels), kernel_initializer=bert.initializer, dtype="float32", name="logits"
        )
        return keras.Model(bert.model.inputs, head(first))

    def loss(self):
        return trained.cross_entropy(self.settings, getattr(self, "counts", None))

    def correct(self, outputs):
        """With --can, probabilities whose unsure rows follow the shares of the classes."""
        return can(soften(outputs, 1.0), self.counts) if self.settings.can else outputs

    def predict(self, record, examples, outputs):
        """The class with the greatest logit."""
        return int(outputs[0].argmax())

    def more_scores(self, predictions, truths):
        """The mean of the classes' accuracies, in which rare classes count as much as others."""
        return {"balanced_accuracy": mean_recall(truths, predictions)}

    def truth(self, record):
        return record.index("label", self.labels)

    def answer(self, record, prediction):
        return {"id": str(record["id"]), "label": self.labels[prediction]}

    def say(self, record, answer):
        return (self.classes or self.labels)[answer]

    def tables(self, folder, predictions, truths, title):
        """Precision, recall and F1 per class, and the confusion matrix."""
        names = self.classes or self.labels
        matrix = plots.confusion_matrix(np.array(truths), np.array(predictions), len(names))
        table = plots.class_table(matrix, names)
        print(f"\n{table}")
        (folder / "classes.txt").write_text(table, encoding="utf-8")
        plots.plot_confusion(folder / "confusion.png", matrix, names, title)
