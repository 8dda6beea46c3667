"""Sentences that must not be in the training text: those of a benchmark's dev and test parts."""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["HeldBack", "normalize", "sentences_of"]

SHORTEST = 8  # characters; shorter sentences are everybody's
SPLITS = ("dev", "test", "valid", "trial")
SUFFIXES = (".json", ".tsv", ".txt", ".data")
SENTENCE_END = re.compile(r"[。！？!?；;\n]")


def normalize(text: str) -> str:
    """Letters, digits and ideographs of a text, in one width and lower case.

    >>> normalize("ＡＢ，你 好！")
    'ab你好'
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


class HeldBack:
    """Finds sentences in texts, however they are punctuated.

    Args:
        sentences: any texts; those of fewer than `SHORTEST` normalised characters are left out.

    Example:

    >>> held_back = HeldBack(["今天天气真的不错。", "好"])
    >>> held_back.found_in("他说：今天天气，真的不错！"), held_back.found_in("今天天气很好。")
    ('今天天气真的不错', None)
    """

    def __init__(self, sentences: Iterable[str]):
        normal = {normalize(sentence) for sentence in sentences}
        normal = sorted(sentence for sentence in normal if len(sentence) >= SHORTEST)
        self._by_start: dict[str, list[str]] = defaultdict(list)
        for sentence in normal:
            self._by_start[sentence[:SHORTEST]].append(sentence)
        self.count = len(normal)

    def found_in(self, text: str) -> str | None:
        """The first of the sentences that stands in a text, or None."""
        text, starts = normalize(text), self._by_start
        for i in range(len(text) - SHORTEST + 1):
            for sentence in starts.get(text[i : i + SHORTEST], ()):
                if text.startswith(sentence, i):
                    return sentence
        return None


def sentences_of(folder: Path) -> Iterator[str]:
    """All sentences of the dev and test files (JSON, JSON lines, TSV) under a folder.

    Raises:
        ValueError: there is no such file.
    """
    found = False
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and any(name in path.stem for name in SPLITS):
            found = True
            for text in texts_of(path):
                yield from SENTENCE_END.split(text)
    if not found:
        raise ValueError(f"{folder} holds no dev or test file; --exclude names CLUE's data folder.")


def texts_of(path: Path) -> Iterator[str]:
    """All strings of a file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        for line in content.split("\n"):
            yield from line.split("\t")
        return
    try:
        yield from strings(json.loads(content))
    except json.JSONDecodeError:
        for line in content.split("\n"):
            if line.strip():
                yield from strings(json.loads(line))


def strings(value) -> Iterator[str]:
    """All strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
