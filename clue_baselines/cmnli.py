"""CMNLI: whether a sentence follows from another, contradicts it, or neither.

The pairs are those of the English MNLI and XNLI, translated.

    [CLS] premise [SEP] hypothesis [SEP]  ->  BERT  ->  vector of [CLS]  ->  3 logits

The loss is the cross-entropy, the score the accuracy on dev, the submission one line
{"id", "label"} per test pair. Rows labelled "-" have no agreed label and are left out.

    python clue_baselines/cmnli.py
    python clue_baselines/cmnli.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.inference import Inference
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/cmnli.py"
    ) from None


class Cmnli(Inference):
    """Three classes of pairs: see `Inference`."""

    name = "cmnli"
    submissions = {"test": "cmnli_predict.json"}


if __name__ == "__main__":
    experiment.main(Cmnli)
