"""Text → token ids, and where words begin, by jieba's segmentation."""

import unicodedata
from collections.abc import Iterator

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.vocabulary import is_cjk, is_punctuation

__all__ = ["WordTokenizer", "words_of"]

MOST_REMEMBERED = 500_000


def words_of(text: str) -> Iterator[str]:
    """jieba's words; what it cuts inside a word of letters is glued again.

    jieba knows ASCII letters and takes others one by one, which would change the word pieces of
    "naïve", "привет" or "37℃".

    >>> list(words_of("北京大学的naïve学生"))
    ['北京大学', '的', 'naïve', '学生']
    """
    import jieba

    word = ""
    for piece in jieba.cut(text):
        if word and in_word(word[-1]) and in_word(piece[0]):
            word += piece
        else:
            if word:
                yield word
            word = piece
    if word:
        yield word


def in_word(character: str) -> bool:
    """Whether WordPiece cuts no word here: no space, punctuation or ideograph."""
    space = character in "\n\r\t" or unicodedata.category(character)[0] == "Z"
    return not (space or is_cjk(character) or is_punctuation(character))


class WordTokenizer:
    """Ids of `WordPieceTokenizer`, and which of them begin a word.

    Args:
        tokenizer: gives the pieces of a word.

    Example:

    >>> vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "北", "京", "大", "学", "的"]
    >>> tokenizer = WordPieceTokenizer({token: i for i, token in enumerate(vocab)})
    >>> ids, starts = WordTokenizer(tokenizer).encode("北京大学的")
    >>> ids.tolist(), starts.tolist()
    ([5, 6, 7, 8, 9], [True, False, False, False, True])
    """

    def __init__(self, tokenizer: WordPieceTokenizer):
        self.tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids (uint16) of a text without start and end token, and starts of words (bool)."""
        ids, starts = [], []
        for word in words_of(text):
            found = self._ids.get(word)
            if found is None:
                found = self.tokenizer.encode(word)[0][1:-1]
                if len(self._ids) < MOST_REMEMBERED:
                    self._ids[word] = found
            ids += found
            starts += [True] + [False] * (len(found) - 1) if found else []
        return np.array(ids, "uint16"), np.array(starts, "bool")
