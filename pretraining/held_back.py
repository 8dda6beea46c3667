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
        text = normalize(text)
        span = self.span_in(text)
        return text[slice(*span)] if span else None

    def span_in(self, normal: str) -> tuple[int, int] | None:
        """Where in a normalised text the first of the sentences begins and ends, or None."""
        starts = self._by_start
        for i in range(len(normal) - SHORTEST + 1):
            for sentence in starts.get(normal[i : i + SHORTEST], ()):
                if normal.startswith(sentence, i):
                    return i, i + len(sentence)
        return None


def sentences_of(folder: Path) -> Iterator[str]:
    """All sentences of the dev and test files (JSON, JSON lines, TSV) under a folder.

    Raises:
        ValueError: there is no such file, or one cannot be read.
    """
    found = False
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and any(name in path.stem for name in SPLITS):
            found = True
            try:
                for text in texts_of(path):
                    yield from sentences_in(text)
            except ValueError as error:
                raise ValueError(f"{path} cannot be read ({error}).") from None
    if not found:
        raise ValueError(f"{folder} holds no dev or test file; --exclude names CLUE's data folder.")


def sentences_in(text: str) -> list[str]:
    """The sentences of a text, or all of it as one if none has `SHORTEST` letters.

    >>> sentences_in("举目四海！五州亲，怎么对？")
    ['举目四海！五州亲，怎么对？']
    """
    sentences = SENTENCE_END.split(text)
    long_enough = any(len(normalize(sentence)) >= SHORTEST for sentence in sentences)
    return sentences if long_enough else [text]


def texts_of(path: Path) -> Iterator[str]:
    """All strings of a file."""
    content = path.read_text(encoding="utf-8-sig")
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
