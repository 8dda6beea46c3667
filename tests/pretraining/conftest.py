"""A small corpus of invented sentences, made by the real builder."""

import json
import lzma

import pytest

from pretraining import corpus

SUBJECTS = ("小猫", "老师", "北京大学", "天气预报", "人工智能", "图书馆")
VERBS = ("喜欢", "研究", "离开", "看见", "告诉", "帮助")
OBJECTS = ("苹果", "naïve学生", "上海", "3.14", "篮球比赛", "中国音乐")
HELD_BACK = "图书馆昨天突然关门三个小时"


def sentences():
    """216 sentences, each of three words that jieba knows."""
    return [f"{s}{v}{o}。" for s in SUBJECTS for v in VERBS for o in OBJECTS]


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Two text files (one compressed), a vocabulary, and a benchmark with a dev part."""
    folder = tmp_path_factory.mktemp("texts")
    lines = sentences()
    documents = ["\n".join(lines[i : i + 4]) for i in range(0, len(lines), 4)]
    (folder / "first.txt").write_text("\n\n".join(documents[:30]) + "\n", encoding="utf-8")
    leaking = f"有人说，{HELD_BACK[:6]}，{HELD_BACK[6:]}！"
    with lzma.open(folder / "second.txt.xz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join([*documents[30:], leaking + "\n后来又开了。"]))
    characters = sorted(set("".join(lines) + leaking + "后来又开了"))
    pieces = ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    special = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ascii_letters = [c for c in "naive" if c not in characters]
    vocab = [*special, *characters, *ascii_letters, *pieces]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)) + "\n", encoding="utf-8")
    (folder / "clue/tnews").mkdir(parents=True)
    row = json.dumps({"sentence": f"{HELD_BACK}。好", "label": "1"}, ensure_ascii=False)
    (folder / "clue/tnews/dev.json").write_text(row + "\n", encoding="utf-8")
    return folder


def arguments(texts, output):
    """Command line that builds the corpus of `texts`."""
    files = [str(texts / "first.txt"), str(texts / "second.txt.xz")]
    options = {"vocab": texts / "vocab.txt", "exclude": texts / "clue", "output": output}
    options |= {"length": 16, "rare": 1, "heldout": 0.2, "processes": 2}
    return files + [str(x) for name, value in options.items() for x in (f"--{name}", value)]


@pytest.fixture(scope="session")
def built(texts, tmp_path_factory):
    """Folder of a finished corpus."""
    output = tmp_path_factory.mktemp("corpus")
    corpus.main(arguments(texts, output))
    return output
