"""TNEWS: which of 15 sections a news title belongs to.

    [CLS] title [SEP]  ->  BERT  ->  vector of [CLS]  ->  15 logits  ->  cross-entropy

The score is the accuracy on dev, the submission one line {"id", "label"} per test title.

    python clue_baselines/tnews.py
    python clue_baselines/tnews.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    import keras

    from clue_baselines import experiment
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/tnews.py"
    ) from None

SECTIONS = {
    "100": "story", "101": "culture", "102": "entertainment", "103": "sports", "104": "finance",
    "106": "house", "107": "car", "108": "edu", "109": "tech", "110": "military",
    "112": "travel", "113": "world", "114": "stock", "115": "agriculture", "116": "game",
}  # fmt: skip
LABELS = list(SECTIONS)


class Tnews(experiment.Task):
    """Classification of single sentences."""

    name = "tnews"
    texts = ("sentence",)
    classes = list(SECTIONS.values())
    submissions = {"test1.0": "tnews10_predict.json", "test": "tnews11_predict.json"}

    def encode(self, record, tokenizer, maxlen):
        """[CLS] title [SEP]; the segment ids are all zero."""
        return tokenizer.encode(record.text("sentence"), maxlen=maxlen)

    def target(self, record):
        return record.index("label", LABELS)

    def build(self, bert):
        """The vector of [CLS] and a linear layer on it."""
        first = bert.model.output[:, 0]
        head = keras.layers.Dense(
            len(LABELS), kernel_initializer=bert.initializer, dtype="float32", name="logits"
        )
        return keras.Model(bert.model.inputs, head(first))

    def loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def predict(self, outputs):
        """The class with the greatest logit."""
        return outputs.argmax(axis=-1)

    def score(self, predicted, truth):
        """Accuracy."""
        return (predicted == truth).mean()

    def answer(self, record, prediction):
        return {"id": str(record["id"]), "label": LABELS[prediction]}


if __name__ == "__main__":
    experiment.main(Tnews())
