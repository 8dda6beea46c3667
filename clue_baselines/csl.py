"""CSL: whether all keywords given for a scientific abstract are its own.

    [CLS] keyword；keyword；… [SEP] abstract [SEP]  ->  BERT  ->  vector of [CLS]  ->  2 logits

The loss is the cross-entropy, the score the accuracy on dev (half of its rows have a foreign
keyword), the submission one line {"id", "label"} per test abstract. Abstracts have some 200
characters; what does not fit into --maxlen tokens is cut off the abstract's end.

    python clue_baselines/csl.py
    python clue_baselines/csl.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.classification import Classification
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/csl.py"
    ) from None


class Csl(Classification):
    """Classification of pairs; segment ids are zero unless --segment-ids one."""

    name = "csl"
    labels = ["0", "1"]
    classes = ["foreign", "own"]
    submissions = {"test": "csl_predict.json"}

    def texts(self, record):
        """The keywords in one text, and the abstract."""
        return ["；".join(record.list_of_texts("keyword")), record.text("abst")]


if __name__ == "__main__":
    experiment.main(Csl)
