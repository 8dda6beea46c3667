"""Tasks that choose one of several texts.

    [CLS] text with choice 1 [SEP]  ->             ->  vector of [CLS]  ->  one score
    [CLS] text with choice 2 [SEP]  ->  the same   ->  vector of [CLS]  ->  one score
    …                                   BERT

The scores of the choices are the logits of a cross-entropy. An example is a matrix (choices,
length); the rows of all examples go through BERT as one batch.
"""

import keras
from keras import ops

from clue_baselines import trained, tricks
from clue_baselines.task import Task


class MultipleChoice(Task):
    """A script gives the number of choices and makes the examples.

    choices: rows of an example.
    """

    choices: int
    training_metrics = ("accuracy",)
    unit = "questions"
    takes = (*tricks.OF_A_STEP, *tricks.OF_A_CROSS_ENTROPY)

    def build(self, bert):
        """BERT over all rows, the vector of [CLS], one score per row."""
        inputs = [
            keras.Input((self.choices, None), dtype=tensor.dtype, name=f"choices-{tensor.name}")
            for tensor in bert.model.inputs
        ]
        # first the first choice of all examples, then the second …
        rows = [
            ops.concatenate([tensor[:, i] for i in range(self.choices)], axis=0)
            for tensor in inputs
        ]
        head = keras.layers.Dense(
            1, kernel_initializer=bert.initializer, dtype="float32", name="scores"
        )
        # `call` puts BERT's layers themselves into the model, where tricks can find them
        scores = head(bert.model.call(rows)[:, 0])
        return keras.Model(inputs, ops.transpose(ops.reshape(scores, (self.choices, -1))))

    def loss(self):
        return trained.cross_entropy(self.settings)
