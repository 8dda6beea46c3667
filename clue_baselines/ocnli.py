"""OCNLI: whether a sentence follows from another, contradicts it, or neither.

Premises and hypotheses were written in Chinese.

    [CLS] premise [SEP] hypothesis [SEP]  ->  BERT  ->  vector of [CLS]  ->  3 logits

The loss is the cross-entropy, the score the accuracy on dev, the submission one line
{"id", "label"} per test pair. Rows labelled "-" have no agreed label and are left out. The training
set is train.json, or train.50k.json as the official archive calls it.

    python clue_baselines/ocnli.py
    python clue_baselines/ocnli.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import experiment
    from clue_baselines.inference import Inference
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/ocnli.py"
    ) from None


class Ocnli(Inference):
    """Three classes of pairs: see `Inference`."""

    name = "ocnli"
    submissions = {"test": "ocnli_50k_predict.json"}


if __name__ == "__main__":
    experiment.main(Ocnli)
