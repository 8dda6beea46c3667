"""IFLYTEK: which of 119 kinds of app a long description is about.

    [CLS] description [SEP]  ->  BERT  ->  vector of [CLS]  ->  119 logits  ->  cross-entropy

Descriptions have some 290 characters; what is beyond --maxlen tokens is cut off. The score is the
accuracy on dev, the submission one line {"id", "label"} per test description.

    python clue_baselines/iflytek.py
    python clue_baselines/iflytek.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.classification import Classification
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/iflytek.py"
    ) from None


class Iflytek(Classification):
    """Classification of single long texts."""

    name = "iflytek"
    labels = [str(number) for number in range(119)]
    submissions = {"test": "iflytek_predict.json"}

    def texts(self, record):
        """The description."""
        return [record.text("sentence")]


if __name__ == "__main__":
    experiment.main(Iflytek)
