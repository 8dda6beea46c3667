"""Between characters and tokens: where tokens stand in a text, and spans in both."""

from bisect import bisect_right

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer


class Tokens:
    """The tokens of a text without start and end token, each with its first and last character.

    ids: token ids. places: array (tokens, 2), first and last character of each token.

    >>> tokenizer = WordPieceTokenizer({"[UNK]": 0, "于": 1, "2008": 2, "年": 3},
    ...     token_start=None, token_end=None)
    >>> tokens = Tokens("于 2008年", tokenizer)
    >>> tokens.places.tolist()
    [[0, 0], [2, 5], [6, 6]]
    >>> tokens.of_characters(2, 6), tokens.of_characters(1, 1)
    ((1, 2), None)
    """

    def __init__(self, text: str, tokenizer: WordPieceTokenizer):
        tokens = tokenizer.tokenize(text)
        mapping = tokenizer.rematch(text, tokens)
        kept = [(token, m) for token, m in zip(tokens, mapping, strict=True) if m]
        self.ids = tokenizer.tokens_to_ids([token for token, _ in kept])
        places = [(m[0], m[-1]) for _, m in kept]
        self.places = np.array(places, "int32").reshape(-1, 2)

    def of_characters(self, first: int, last: int) -> tuple[int, int] | None:
        """First and last token of a span of characters; None if it holds none.

        Tokens are not cut: a token that the span cuts belongs to it.
        """
        start = bisect_right(self.places[:, 1].tolist(), first - 1)
        end = bisect_right(self.places[:, 0].tolist(), last) - 1
        return (start, end) if start <= end else None
