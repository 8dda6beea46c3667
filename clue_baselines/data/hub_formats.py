"""How the hub's dataset `clue/clue` writes each task, and the way back to CLUE's official files.

Labels are numbers there, in an order of their own; -1 stands in test sets. Readers flattened what
the official files nest: a passage with questions is a row per question. What is lost for good
stands in `data.LACKING`.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

TNEWS = {
    "100": "news_story", "101": "news_culture", "102": "news_entertainment", "103": "news_sports",
    "104": "news_finance", "106": "news_house", "107": "news_car", "108": "news_edu",
    "109": "news_tech", "110": "news_military", "112": "news_travel", "113": "news_world",
    "114": "news_stock", "115": "news_agriculture", "116": "news_game",
}  # fmt: skip
INFERENCE = ("neutral", "entailment", "contradiction")
DIALOGUES = {"train": 4885, "dev": 1628}  # passages of c3 that stand before the mixed ones
BLANK = re.compile(r"#idiom\d{6}#")


@dataclass(frozen=True)
class Format:
    """A task on the hub.

    folder: name of the hub's folder.
    convert: makes the contents of official files, by their names without ".json", from the rows
        of a split and its official name.
    files: names of all those files.
    splits: the hub's name of a split -> its official name.
    """

    folder: str
    convert: Callable[[list[dict], str], dict[str, str]]
    files: tuple[str, ...] = ("train", "dev", "test")
    splits: tuple[tuple[str, str], ...] = (
        ("train", "train"),
        ("validation", "dev"),
        ("test", "test"),
    )


def lines(rows: Iterable[dict]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def document(content) -> str:
    """One JSON document."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def one_by_one(convert: Callable[[dict], dict], labels: tuple[str, ...]):
    """A converter of rows that stand alone: in train and dev with a label, in test with an id."""

    def convert_all(rows: list[dict], split: str) -> dict[str, str]:
        official = []
        for row in sorted(rows, key=lambda row: row["idx"]):
            if split == "test":
                official.append({"id": row["idx"]} | convert(row))
                continue
            if not 0 <= row["label"] < len(labels):
                raise ValueError(f"label {row['label']} of row {row['idx']}")
            official.append({"label": labels[row["label"]]} | convert(row))
        return {split: lines(official)}

    return convert_all


def pair(row: dict) -> dict:
    """AFQMC, OCNLI, CMNLI."""
    return {"sentence1": row["sentence1"], "sentence2": row["sentence2"]}


def sentence(row: dict) -> dict:
    """IFLYTEK."""
    return {"sentence": row["sentence"]}


def wsc(row: dict) -> dict:
    """A text with two spans; the hub keeps their fields in another order."""
    keys = ("span1_text", "span1_index", "span2_text", "span2_index")
    return {"target": {key: row["target"][key] for key in keys}, "text": row["text"]}


def csl(row: dict) -> dict:
    """Abstract and keywords; all rows keep the id that they have in the corpus."""
    return {"id": row["corpus_id"], "abst": row["abst"], "keyword": list(row["keyword"])}


def tnews(row: dict) -> dict:
    """With the label's name beside it, and without keywords."""
    name = {"label_desc": list(TNEWS.values())[row["label"]]} if row["label"] >= 0 else {}
    return name | {"sentence": row["sentence"], "keywords": ""}


def c3(rows: list[dict], split: str) -> dict[str, str]:
    """Passages with their questions: dialogues first, then mixed ones; a test file is mixed."""
    passages, numbers = [], []
    key = (lambda row: row["context"]) if split == "test1.1" else (lambda row: row["id"])
    for _, group in groupby(rows, key):
        asked = list(group)
        questions = [{"question": q["question"], "choice": list(q["choice"])} for q in asked]
        for question, row in zip(questions, asked, strict=True):
            question |= {"id": row["id"]} if split == "test1.1" else {"answer": row["answer"]}
        passages.append([list(asked[0]["context"]), questions])
        numbers.append(asked[0]["id"])
    if split == "test1.1":
        return {split: document(passages)}
    kinds: dict[str, list] = {"d": [], "m": []}
    for passage, number in zip(passages, numbers, strict=True):
        kinds["d" if number < DIALOGUES[split] else "m"].append([*passage, str(number)])
    return {f"{kind}-{split}": document(found) for kind, found in kinds.items()}


def chid(rows: list[dict], split: str) -> dict[str, str]:
    """Groups of passages, and the answers in a file of their own."""
    rows = sorted(rows, key=lambda row: row["idx"])
    groups = [{"candidates": list(r["candidates"]), "content": list(r["content"])} for r in rows]
    found = {split: lines(groups)}
    if split in ("train", "dev"):
        answers = {}
        for row in rows:
            numbers = items(row["answers"], "candidate_id")
            answers |= zip(BLANK.findall("".join(row["content"])), numbers, strict=True)
        found[f"{split}_answer"] = document(answers)
    return found


def cmrc2018(rows: list[dict], split: str) -> dict[str, str]:
    """Passages with their questions, whose ids begin with that of the passage."""
    data = []
    for context, group in groupby(rows, lambda row: row["context"]):
        questions = []
        for row in group:
            texts, starts = (items(row["answers"], key) for key in ("text", "answer_start"))
            both = zip(texts, starts, strict=True)
            answers = [{"text": text, "answer_start": start} for text, start in both]
            questions.append({"question": row["question"], "id": row["id"], "answers": answers})
        name = questions[0]["id"].rpartition("_QUERY_")[0]
        paragraph = {"id": name, "context": context, "qas": questions}
        data.append({"paragraphs": [paragraph], "id": name, "title": ""})
    return {split: document({"version": "v1.0", "data": data})}


def items(answers: dict | list[dict], key: str) -> list:
    """One field of a sequence of answers, which parquet holds as lists or as a list of structs."""
    return list(answers[key]) if isinstance(answers, dict) else [each[key] for each in answers]


TEST_11 = (("train", "train"), ("validation", "dev"), ("test", "test1.1"))
FORMATS = {
    "tnews": Format("tnews", one_by_one(tnews, tuple(TNEWS))),
    "iflytek": Format("iflytek", one_by_one(sentence, tuple(map(str, range(119))))),
    "afqmc": Format("afqmc", one_by_one(pair, ("0", "1"))),
    "ocnli": Format("ocnli", one_by_one(pair, INFERENCE)),
    "cmnli": Format("cmnli", one_by_one(pair, INFERENCE)),
    "wsc": Format("cluewsc2020", one_by_one(wsc, ("true", "false"))),
    "csl": Format("csl", one_by_one(csl, ("0", "1"))),
    "c3": Format("c3", c3, ("d-train", "m-train", "d-dev", "m-dev", "test1.1"), TEST_11),
    "chid": Format(
        "chid", chid, ("train", "train_answer", "dev", "dev_answer", "test1.1"), TEST_11
    ),
    "cmrc2018": Format(
        "cmrc2018",
        cmrc2018,
        ("train", "dev", "trial", "test"),
        (("train", "train"), ("validation", "dev"), ("trial", "trial"), ("test", "test")),
    ),
}
