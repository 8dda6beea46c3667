"""Vocabularies of BERT models: files, smaller ones for Chinese, and kinds of characters."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

__all__ = ["is_cjk", "is_punctuation", "load_vocab", "save_vocab", "simplify_vocab"]

CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_cjk(character: str) -> bool:
    """Whether a character is Chinese (CJK ideographs, as BERT counts them).

    >>> is_cjk("新"), is_cjk("ゆ")
    (True, False)
    """
    code = ord(character)
    return any(first <= code <= last for first, last in CJK_RANGES)


def is_punctuation(character: str) -> bool:
    """Whether a character is punctuation: ASCII symbols and Unicode's categories P.

    >>> is_punctuation("$"), is_punctuation("。"), is_punctuation("€")
    (True, True, False)
    """
    ascii_symbol = "!" <= character <= "~" and not character.isalnum()
    return ascii_symbol or unicodedata.category(character).startswith("P")


def load_vocab(
    path: str | Path,
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Sequence[str] | None = None,
) -> dict[str, int] | tuple[dict[str, int], list[int]]:
    """Reads a vocabulary file, one token per line, into a dictionary token → id.

    Args:
        path: `vocab.txt`.
        encoding: of the file. Default UTF-8.
        simplified: also leave out what no text gives (`simplify_vocab`). Default False.
        startswith: tokens to put first in a simplified vocabulary.

    Returns:
        The dictionary; if simplified, with the list `keep_tokens` of the ids that are kept.

    Raises:
        ValueError: a token stands twice (all ids behind it would be shifted) or the file is
            not in that encoding.
    """
    vocab: dict[str, int] = {}
    try:
        with open(path, encoding=encoding) as lines:
            for number, line in enumerate(lines, 1):
                token = (line.split() or [""])[0]
                if token in vocab:
                    raise ValueError(
                        f"{path}, line {number}: token {token!r} stands twice in the vocabulary "
                        f"(first as id {vocab[token]}); remove one of the lines."
                    )
                vocab[token] = len(vocab)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in {encoding.upper()} ({error}).") from None
    return simplify_vocab(vocab, startswith or ()) if simplified else vocab


def simplify_vocab(
    vocab: dict[str, int], startswith: Sequence[str] = ()
) -> tuple[dict[str, int], list[int]]:
    """A smaller vocabulary without tokens that no text gives: several characters with CJK or
    punctuation among them, such as `##新`.

    Args:
        vocab: dictionary token → id.
        startswith: tokens to put first, such as `["[PAD]", "[UNK]", "[CLS]", "[SEP]"]` (which
            are left out otherwise, because of their brackets).

    Returns:
        The new dictionary, and the old ids of its tokens in their new order: `keep_tokens` of
        `build_transformer_model`.

    Raises:
        ValueError: a token of `startswith` is not in the vocabulary.

    Example:

    >>> simplify_vocab({"[UNK]": 0, "新": 1, "##新": 2, "##er": 3}, startswith=["[UNK]"])
    ({'[UNK]': 0, '新': 1, '##er': 2}, [0, 1, 3])
    """
    unknown = [token for token in startswith if token not in vocab]
    if unknown:
        raise ValueError(f"The vocabulary of {len(vocab)} tokens lacks {', '.join(unknown)}.")
    rest = sorted((t for t in vocab if t not in startswith and not is_redundant(t)), key=vocab.get)
    tokens = [*startswith, *rest]
    return {token: i for i, token in enumerate(tokens)}, [vocab[token] for token in tokens]


def is_redundant(token: str) -> bool:
    """Whether a token cannot come out of a text, since it would have been cut."""
    return len(token) > 1 and any(is_cjk(c) or is_punctuation(c) for c in stem(token))


def stem(token: str) -> str:
    """The token without the `##` of a continuation."""
    return token.removeprefix("##")


def save_vocab(path: str | Path, vocab: dict[str, int]):
    """Writes a vocabulary as a `vocab.txt`, in the order of the ids."""
    tokens = sorted(vocab, key=vocab.get)
    Path(path).write_text("".join(token + "\n" for token in tokens), encoding="utf-8")


class SpacedCharacters(dict):
    """Table for `str.translate`: what one character becomes before the text is cut at spaces.

    Spaces become a blank, control characters and accents vanish, punctuation and CJK
    characters get a blank on either side, everything else stays.
    """

    def __init__(self, drop_accents: bool):
        super().__init__()
        self.drop_accents = drop_accents

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = result = self.spaced(character, code, unicodedata.category(character))
        return result

    def spaced(self, character: str, code: int, category: str) -> str:
        if self.drop_accents and category == "Mn":
            return ""
        if is_punctuation(character) or is_cjk(character):
            return f" {character} "
        if character in " \n\r\t" or category == "Zs":
            return " "
        if code == 0xFFFD or category in ("Cc", "Cf"):
            return ""
        return character
