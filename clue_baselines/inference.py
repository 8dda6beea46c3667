"""Natural language inference, common to OCNLI and CMNLI: does a premise imply a hypothesis?"""

from clue_baselines.classification import Classification

UNDECIDED = "-"


class Inference(Classification):
    """Classification of pairs; segment ids are zero unless --segment-ids one."""

    labels = ["entailment", "neutral", "contradiction"]

    def read(self, source, split, limit=None):
        """Leaves out rows to learn from and to score on whose label was not agreed on; says so."""
        records = super().read(source, split, limit)
        if split not in ("train", "dev"):
            return records  # every test row is answered
        kept = [record for record in records if record.get("label") != UNDECIDED]
        if len(kept) < len(records):
            undecided = len(records) - len(kept)
            print(f"Left out {undecided} rows of {source.path(split)} labelled {UNDECIDED!r}.")
        return kept

    def texts(self, record):
        """Premise and hypothesis; if too long, the longer one is cut first."""
        return [record.text("sentence1"), record.text("sentence2")]
