"""AFQMC: whether two questions to a payment service mean the same.

    [CLS] question 1 [SEP] question 2 [SEP]  ->  BERT  ->  vector of [CLS]  ->  2 logits

The loss is the cross-entropy, the score the accuracy on dev (69.0 % of its pairs differ), the
submission one line {"id", "label"} per test pair.

    python clue_baselines/afqmc.py
    python clue_baselines/afqmc.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.classification import Classification
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/afqmc.py"
    ) from None


class Afqmc(Classification):
    """Classification of pairs; segment ids are zero unless --segment-ids one."""

    name = "afqmc"
    labels = ["0", "1"]
    classes = ["different", "same"]
    submissions = {"test": "afqmc_predict.json"}

    def texts(self, record):
        """The two questions; if too long, the longer one is cut first."""
        return [record.text("sentence1"), record.text("sentence2")]


if __name__ == "__main__":
    experiment.main(Afqmc)
