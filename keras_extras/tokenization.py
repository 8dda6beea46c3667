"""Fast WordPiece: the token ids of bert4keras' ``Tokenizer``, several times quicker.

bert4keras walks over every character in Python. Here the same rules stand once per distinct
character in a table that ``str.translate`` applies in C, and every distinct word is cut into
pieces once. Both follow Python's own Unicode database, so the ids agree by construction; a
Rust tokenizer brings another version of Unicode and differs on rare characters.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from keras_extras.vocabulary import (
    SpacedCharacters,
    is_cjk,
    is_punctuation,
    load_vocab,
    save_vocab,
    stem,
)

__all__ = ["WordPieceTokenizer", "load_vocab"]

MAX_REMEMBERED_WORDS = 200_000
# Chinese punctuation, behind which `decode` puts no blank
WIDE_PUNCTUATION = (
    "＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛"
    "〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。"
)


class WordPieceTokenizer:
    """BERT's WordPiece with the interface and the ids of `bert4keras.tokenizers.Tokenizer`.

    A text is lower-cased and stripped of accents (if asked), split at spaces, punctuation and
    CJK characters, and every word is cut from the left into the longest pieces the vocabulary
    knows (`##` marks a continuation). A word with an unknown rest stays whole and gets `[UNK]`.

    Args:
        token_dict: path of a `vocab.txt`, or a dictionary token → id.
        do_lower_case: lower-case and drop accents first. Default False, as in bert4keras;
            Chinese BERT models want True.
        word_maxlen: words longer than this are not cut. Default 200.
        token_start, token_end: put before and after every text; None leaves them out.
        pre_tokenize: cuts the (lower-cased) text into words first; those that the vocabulary
            knows stay whole, as WoBERT wants it: `lambda text: jieba.cut(text, HMM=False)`.
        token_translate: dictionary of tokens to replace by others.

    Raises:
        ValueError: the vocabulary lacks `[UNK]`, the start or the end token.

    Source: Devlin et al., "BERT" (arXiv 1810.04805); bert4keras' tokenizers.py.

    Example:

    >>> vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "新", "闻", "ker", "##as"]
    >>> tokenizer = WordPieceTokenizer({t: i for i, t in enumerate(vocab)}, do_lower_case=True)
    >>> tokenizer.encode("Keras新闻")
    ([2, 6, 7, 4, 5, 3], [0, 0, 0, 0, 0, 0])
    """

    def __init__(
        self,
        token_dict: str | Path | dict[str, int],
        do_lower_case: bool = False,
        word_maxlen: int = 200,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: dict[str, str] | None = None,
    ):
        if not isinstance(token_dict, dict):
            token_dict = load_vocab(token_dict)
        for token in ("[UNK]", token_start, token_end):
            if token is not None and token not in token_dict:
                raise ValueError(f"The vocabulary of {len(token_dict)} tokens lacks {token}.")
        self.token_dict = token_dict
        self.do_lower_case = do_lower_case
        self.word_maxlen = word_maxlen
        self.token_start, self.token_end = token_start, token_end
        self.pre_tokenize, self.token_translate = pre_tokenize, token_translate or {}
        self.unknown_id = token_dict["[UNK]"]
        # under bert4keras' names, for scripts that use them
        special = {"pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
        for name, token in (special | {"start": token_start, "end": token_end}).items():
            setattr(self, f"_token_{name}", token)
            setattr(self, f"_token_{name}_id", token_dict.get(token))
        self._token_dict, self._vocab_size = token_dict, len(token_dict)
        self._tokens = {i: token for token, i in token_dict.items()}
        self._table = SpacedCharacters(drop_accents=do_lower_case)
        self._pieces: dict[str, list[str]] = {}  # of every word seen
        self._ids: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        """Number of rows an embedding needs: the largest id plus one."""
        return max(self._tokens) + 1

    def save_vocab(self, path: str | Path):
        """Writes the vocabulary as a `vocab.txt`."""
        save_vocab(path, self.token_dict)

    def token_to_id(self, token: str) -> int:
        """Id of a token, or that of `[UNK]`."""
        return self.token_dict.get(token, self.unknown_id)

    def tokens_to_ids(self, tokens: list[str]) -> list[int]:
        """Ids of tokens."""
        get, unknown = self.token_dict.get, self.unknown_id
        return [get(token, unknown) for token in tokens]

    def id_to_token(self, i: int) -> str:
        """Token of an id; KeyError if there is none."""
        return self._tokens[i]

    def ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Tokens of ids."""
        return [self._tokens[i] for i in ids]

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """Tokens of a text with start and end token, at most `maxlen` of them.

        Too long a text loses tokens at its end, never the end token.
        """
        tokens = [] if self.token_start is None else [self.token_start]
        for word in self._words(text):
            tokens += self._pieces.get(word) or self._cut(word)
        if self.token_end is not None:
            tokens.append(self.token_end)
        if maxlen is not None:
            self._truncate(maxlen, self._last, tokens)
        return tokens

    @property
    def _last(self) -> int:
        """Place of the last token before the end token."""
        return -1 if self.token_end is None else -2

    def _words(self, text: str) -> Iterable[str]:
        """The words that are cut into pieces."""
        if self.pre_tokenize is not None:
            return self._known_words(text)
        return self._split(text)

    def _split(self, text: str) -> list[str]:
        if self.do_lower_case:
            text = unicodedata.normalize("NFD", text.lower())
        return text.translate(self._table).split()

    def _known_words(self, text: str) -> Iterable[str]:
        """Words of `pre_tokenize` that the vocabulary knows; the others are split as always."""
        if self.do_lower_case:
            text = unicodedata.normalize("NFD", text.lower())
            text = "".join(c for c in text if unicodedata.category(c) != "Mn")
        for word in self.pre_tokenize(text):
            if word in self.token_dict:
                self._pieces.setdefault(word, [self.token_translate.get(word) or word])
                yield word
            else:
                yield from self._split(word)

    def encode(
        self,
        first_text: str | Sequence[str],
        second_text: str | Sequence[str] | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int = "right",
    ) -> tuple[list[int], list[int]]:
        """Token ids and segment ids of a text or of a pair (`[CLS] a [SEP] b [SEP]`).

        Args:
            first_text, second_text: texts, or lists of tokens as `tokenize` gives them.
            maxlen: greatest total length; the longer of two texts loses tokens first.
            pattern: `"S*E*E"` leaves out the second text's start token, any other keeps it.
            truncate_from: tokens are lost at the `"right"` (before the end token), at the
                `"left"` (behind the start token), or at this index.

        Returns:
            Two lists of equal length; segment 0 is the first text, 1 the second.
        """
        first = self._to_ids(first_text)
        second = None if second_text is None else self._to_ids(second_text)
        without_start = second is not None and pattern == "S*E*E"
        if maxlen is not None:
            index = {"right": self._last, "left": int(self.token_start is not None)}.get(
                truncate_from, truncate_from
            )
            texts = [first] if second is None else [first, second]
            self._truncate(maxlen + without_start, index, *texts)
        if without_start:
            second = second[int(bool(self.token_start)) :]
        ids = first + (second or [])
        return ids, [0] * len(first) + [1] * (len(ids) - len(first))

    def encode_batch(
        self,
        first_texts: Iterable[str],
        second_texts: Iterable[str] | None = None,
        **options,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and segment ids of many texts or pairs, as the columns of `LengthBatches`.

        Args:
            first_texts, second_texts: texts; as many of both.
            options: other arguments of `encode`.

        Example:

        >>> vocab = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "新": 3, "闻": 4}
        >>> WordPieceTokenizer(vocab).encode_batch(["新闻", "新"])
        ([[1, 3, 4, 2], [1, 3, 2]], [[0, 0, 0, 0], [0, 0, 0]])
        """
        if second_texts is None:
            rows = [self.encode(text, **options) for text in first_texts]
        else:
            pairs = zip(first_texts, second_texts, strict=True)
            rows = [self.encode(*pair, **options) for pair in pairs]
        return [ids for ids, _ in rows], [segments for _, segments in rows]

    def _to_ids(self, text: str | Sequence[str]) -> list[int]:
        """Ids of `tokenize(text)`, or of these tokens."""
        if not isinstance(text, str):
            return self.tokens_to_ids(text)
        known = self._ids
        ids = [] if self.token_start is None else [self.token_dict[self.token_start]]
        for word in self._words(text):
            pieces = known.get(word)
            if pieces is None:
                pieces = self.tokens_to_ids(self._pieces.get(word) or self._cut(word))
                known[word] = pieces
            ids += pieces
        if self.token_end is not None:
            ids.append(self.token_dict[self.token_end])
        return ids

    def decode(self, ids: Sequence[int], tokens: Sequence[str] | None = None) -> str:
        """Readable text of ids (or of tokens); special tokens are left out.

        Example:

        >>> tokenizer = WordPieceTokenizer({"[UNK]": 0, "新": 1, "ker": 2, "##as": 3, "3": 4},
        ...     token_start=None, token_end=None)
        >>> tokenizer.decode([1, 2, 3, 4])
        '新keras 3'
        """
        text = ""
        for token in tokens or self.ids_to_tokens(ids):
            if token[:1] == "[" and token[-1:] == "]":
                continue
            if token[:2] == "##":
                text += token[2:]
            elif len(token) == 1 and is_cjk(token):
                text += token
            elif len(token) == 1 and is_punctuation(token):
                text += token + " "
            elif text and is_cjk(text[-1]):
                text += token
            else:
                text += " " + token
        text = re.sub(" +", " ", text)
        text = re.sub("' (re|m|s|t|ve|d|ll) ", r"'\1 ", text)
        text = re.sub(f"([{re.escape(WIDE_PUNCTUATION + '+-/={(<[')}]) ", r"\1", text)
        return re.sub(r"(\d\.) (\d)", r"\1\2", text).strip()

    def rematch(self, text: str, tokens: list[str]) -> list[list[int]]:
        """For every token the positions of its characters in the original text.

        Special tokens (`[CLS]` …) get an empty list. The text of tokens i to j is
        `text[mapping[i][0] : mapping[j][-1] + 1]`.

        Raises:
            ValueError: the tokens are not from this text.

        Example:

        >>> tokenizer = WordPieceTokenizer({"[UNK]": 0, "é": 1, "e": 2, "中": 3},
        ...     do_lower_case=True, token_start=None, token_end=None)
        >>> tokenizer.rematch("É 中", tokenizer.tokenize("É 中"))
        [[0], [2]]
        """
        normalized, origin = self._normalized_with_origin(text)
        mapping, offset = [], 0
        for token in tokens:
            if token[:1] == "[" and token[-1:] == "]":
                mapping.append([])
                continue
            token = stem(token)
            start = normalized.find(token, offset)
            if start < 0:
                raise ValueError(f"Token {token!r} does not occur in {text[:40]!r} from there on.")
            offset = start + len(token)
            mapping.append(origin[start:offset])
        return mapping

    def _normalized_with_origin(self, text: str) -> tuple[str, list[int]]:
        """The text as `tokenize` sees it, unspaced, and where each character comes from."""
        normalized, origin, position = "", [], 0
        lowered = text.lower() if self.do_lower_case else text
        for i, character in enumerate(text):
            if self.do_lower_case:  # 'İ' becomes two characters, a final 'Σ' depends on the word
                length = len(character.lower())
                character = unicodedata.normalize("NFD", lowered[position : position + length])
                position += length
            kept = "".join(c for c in character if c == " " or self._table[ord(c)].strip())
            normalized += kept
            origin += [i] * len(kept)
        return normalized, origin

    def _cut(self, word: str) -> list[str]:
        """Longest pieces from the left, remembered per word."""
        pieces, start = [], 0
        while start < len(word) <= self.word_maxlen:
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self.token_dict:
                    break
            else:
                break
            pieces.append(piece)
            start = end
        if start < len(word):
            pieces = [word]
        if self.token_translate:
            pieces = [self.token_translate.get(piece) or piece for piece in pieces]
        if len(self._pieces) >= MAX_REMEMBERED_WORDS:
            self._pieces.clear()
            self._ids.clear()
        self._pieces[word] = pieces
        return pieces

    @staticmethod
    def _truncate(maxlen: int, index: int, *sequences: list):
        """Drops the token at this index of the longest sequence until the total fits."""
        while sum(map(len, sequences)) > maxlen:
            max(sequences, key=len).pop(index)
