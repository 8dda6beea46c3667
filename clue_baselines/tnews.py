"""TNEWS: which of 15 sections a news title belongs to.

    [CLS] title [SEP]  ->  BERT  ->  vector of [CLS]  ->  15 logits  ->  cross-entropy

Titles are normalised in all splits alike, by Unicode NFKC (full-width letters, digits and
punctuation become half-width): some copies of the data have lost full width in part of their
training rows, and a model would see another writing in training than in the test set.

The score is the accuracy on dev, the submission one line {"id", "label"} per test title.

    python clue_baselines/tnews.py
    python clue_baselines/tnews.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

import unicodedata

try:
    from clue_baselines import experiment
    from clue_baselines.classification import Classification
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/tnews.py"
    ) from None

SECTIONS = {
    "100": "story", "101": "culture", "102": "entertainment", "103": "sports", "104": "finance",
    "106": "house", "107": "car", "108": "edu", "109": "tech", "110": "military",
    "112": "travel", "113": "world", "114": "stock", "115": "agriculture", "116": "game",
}  # fmt: skip


class Tnews(Classification):
    """Classification of single sentences."""

    name = "tnews"
    labels = list(SECTIONS)
    classes = list(SECTIONS.values())
    submissions = {"test1.0": "tnews10_predict.json", "test": "tnews11_predict.json"}

    def texts(self, record):
        """The title alone; TNEWS' keywords are not used, as in the author's recipe."""
        return [unicodedata.normalize("NFKC", record.text("sentence"))]


if __name__ == "__main__":
    experiment.main(Tnews)
