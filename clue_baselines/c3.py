"""C3: questions on dialogues and stories, with two to four choices each.

    [CLS] passage [SEP] question [SEP] choice [SEP]  ->  BERT  ->  vector of [CLS]  ->  score

The sentences of a passage are joined by ||; questions with fewer than four choices get 无效答案
(no valid answer) in their place. The scores of the four choices are the logits of a cross-entropy.
The score is the accuracy on dev, mixed (m-*.json) and dialogue (d-*.json) questions together; the
submissions have one line {"id", "label"} per question, the label being the choice's number.

    python clue_baselines/c3.py
    python clue_baselines/c3.py --data CLUE_FOLDER --model hfl/chinese-roberta-wwm-ext
"""

try:
    from clue_baselines import data, experiment
    from clue_baselines.multiple_choice import MultipleChoice
    from clue_baselines.task import Example
except ImportError as error:
    raise SystemExit(
        f"{error}. Install the project first: pip install uv && uv run clue_baselines/c3.py"
    ) from None

NO_CHOICE = "无效答案"
FILES = {"train": ("m-train", "d-train"), "dev": ("m-dev", "d-dev")}


class C3(MultipleChoice):
    """A record is one question with its passage."""

    name = "c3"
    choices = 4
    submissions = {"test1.0": "c310_predict.json", "test1.1": "c311_predict.json"}
    # 16 questions an update, in batches with which BERT-base stays within 16 GiB
    defaults = {"maxlen": 512, "batch_size": 2, "accumulate": 8}

    def read(self, source, split, limit=None):
        """The questions of a split; a limit takes half of them from either of its files."""
        files = [questions(source.path(name)) for name in FILES.get(split, (split,))]
        if limit is not None:
            files[0] = files[0][: limit - min(limit // 2, len(files[1]))]
            files[1] = files[1][: limit - len(files[0])]
        return [question for file in files for question in file]

    def texts(self, record):
        """Passage, question and choices; of more than four choices the first four, as the author.

        The training data has no more than four, the tests 1.1 six questions.
        """
        passage = "||".join(record.list_of_texts("passage"))
        choices = record.list_of_texts("choice")[: self.choices]
        padding = [NO_CHOICE] * (self.choices - len(choices))
        return [passage, record.text("question"), *choices, *padding]

    def examples(self, record, tokenizer, training):
        """One row per choice; the longest of the three texts is cut first."""
        passage, question, *choices = map(tokenizer.tokenize, self.texts(record))
        rows, segments = [], []
        for choice in choices:
            parts = [choice[1:], question[1:], list(passage)]  # one [CLS] is enough
            while sum(map(len, parts)) > self.settings.maxlen:
                max(parts, key=len).pop(-2)  # keeps [SEP]
            choice, question_part, passage_part = parts
            rows.append(tokenizer.tokens_to_ids(passage_part + question_part + choice))
            second = 0 if self.settings.segment_ids == "zero" else 1
            rest = len(question_part) + len(choice)
            segments.append([0] * len(passage_part) + [second] * rest)
        target = self.truth(record) if training else None
        return [Example((rows, segments), target)]

    def predict(self, record, examples, outputs):
        """The choice with the greatest score, but none that was only filled in."""
        return int(outputs[0][: len(record["choice"])].argmax())

    def truth(self, record):
        return record.index("answer", record["choice"][: self.choices])

    def say(self, record, answer):
        return record["choice"][answer]

    def answer(self, record, prediction):
        return {"id": str(record["id"]), "label": str(prediction)}


def questions(path) -> list[data.Record]:
    """All questions of a file, each with its passage."""
    records = []
    for number, entry in enumerate(data.read_document(path, list), 1):
        where = f"{path}, passage {number}"
        try:
            passage, asked = entry[:2]
            found = [data.Record({**question, "passage": passage}) for question in asked]
        except (TypeError, ValueError):
            raise data.DataError(f"{where}: not a list of sentences and questions.") from None
        for record in found:
            record.where = where
        records += found
    if not records:
        raise data.DataError(f"{path} holds no question.")
    return records


if __name__ == "__main__":
    experiment.main(C3)
