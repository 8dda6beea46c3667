"""Compares our CMRC2018 metric with the official script, question by question.

    python benchmarks/cmrc_metric.py cmrc2018_evaluate.py CLUE_FOLDER/cmrc2018/dev.json

The script is that of github.com/ymcui/cmrc2018 (squad-style-data); it needs NLTK. It was written
for Python 2; the few words that Python 3 no longer knows are replaced before it runs. Predictions
are the answers of dev, each disturbed by chance: as it stands, cut, prolonged, in upper case with
punctuation, another part of the passage, or empty.
"""

import argparse
import functools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from clue_baselines.metrics import answer_f1, exact_match

PYTHON_2 = {
    "reload(sys)": "",
    "sys.setdefaultencoding('utf8')": "",
    ".decode('utf-8')": "",
    "ur'": "r'",
    "import pdb": "",
}


def main():
    """Prints both totals for every seed and the questions whose scores differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("script", type=Path, help="the official cmrc2018_evaluate.py")
    parser.add_argument("data", type=Path, help="dev.json of CMRC2018")
    parser.add_argument("--seeds", type=int, default=3, help="how often all answers are disturbed")
    settings = parser.parse_args()
    official = load(settings.script)
    data = json.loads(settings.data.read_text(encoding="utf-8"))["data"]
    different = 0
    for seed in range(settings.seeds):
        totals, questions = [0.0] * 4, 0
        for answers, said in disturbed(data, random.Random(seed)):
            ours = exact_match(answers, said), answer_f1(answers, said)
            theirs = official.calc_em_score(answers, said), official.calc_f1_score(answers, said)
            if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > 1e-12:
                different += 1
                print(f"{answers} / {said!r}: ours {ours}, official {theirs}")
            totals = [a + b for a, b in zip(totals, (*ours, *theirs), strict=True)]
            questions += 1
        em, f1, official_em, official_f1 = (100 * total / questions for total in totals)
        print(
            f"seed {seed}, {questions} questions: EM {em:.3f}, F1 {f1:.3f}; "
            f"official EM {official_em:.3f}, F1 {official_f1:.3f}"
        )
    print(f"{different} questions with different scores")


def load(path: Path) -> SimpleNamespace:
    """The official script's functions."""
    source = path.read_text(encoding="utf-8")
    for old, new in PYTHON_2.items():
        source = source.replace(old, new)
    found = {"__name__": "official"}
    exec(compile(source, str(path), "exec"), found)
    nltk = found["nltk"]
    if not sentences_are_there(nltk):
        print("NLTK's sentence model is not installed: its words are cut without it")
        cut = functools.partial(nltk.word_tokenize, preserve_line=True)
        found["nltk"] = SimpleNamespace(word_tokenize=cut)
    return SimpleNamespace(**found)


def sentences_are_there(nltk) -> bool:
    """Whether NLTK can split sentences."""
    try:
        nltk.word_tokenize("a")
    except LookupError:
        return False
    return True


def disturbed(data: list[dict], rng: random.Random) -> Iterator[tuple[list[str], str]]:
    """Answers and a disturbed prediction for every question."""
    for paragraph in (p for document in data for p in document["paragraphs"]):
        context = paragraph["context"]
        for question in paragraph["qas"]:
            answers = [answer["text"] for answer in question["answers"]]
            answer = rng.choice(answers)
            start = max(context.find(answer), 0)
            end, place = start + len(answer), rng.randrange(len(context))
            choices = [
                answer,
                context[max(0, start - rng.randrange(12)) : end + rng.randrange(12)],
                context[max(0, start - rng.randrange(60)) : end + rng.randrange(60)],
                context[start + rng.randrange(4) : max(start + 1, end - rng.randrange(4))],
                context[place : place + rng.randrange(40)],
                f"。{answer.upper()}，",
                f" {answer} .",
                "",
            ]
            yield answers, rng.choice(choices)


if __name__ == "__main__":
    main()
