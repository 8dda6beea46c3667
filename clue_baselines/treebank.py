"""English words as the Penn Treebank cuts them: what CMRC2018's script counts beside Chinese.

The official script of CMRC2018 hands every run of characters that are not Chinese to NLTK's
`word_tokenize`. These are its rules for what reaches it there: lower-case text without the signs
that the script drops. NLTK also splits the text into sentences first, by a trained model. That is
left out: it matters only to a period followed by a space inside an answer
(`benchmarks/cmrc_metric.py` compares scores with the official script's).

Source: the Treebank tokenizer, www.cis.upenn.edu/~treebank/tokenization.html, as changed by NLTK.
"""

import re

CLOSING = "\\])}>\"'» "
QUOTE_OPENS = [
    (r"([«‘„])", r" \1 "),
    (r'^"', "``"),
    (r"(``)", r" \1 "),
    (r"([ (\[{<])(?:\"|'')", r"\1 `` "),
    (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
]
PUNCTUATION = [
    (rf"([^.])\.([{CLOSING}]*)\s*$", r"\1 . \2 "),  # only the last period ends a sentence
    (r"(,)([^\d])", r" \1 \2"),  # 3,000 stays whole
    (r"(,)$", r" \1 "),
    (r"(\.{2,}|[;@#$%&?!‒-―])", r" \1 "),
    (r"([^'])' ", r"\1 ' "),
    (r"([\][(){}<>])", r" \1 "),
]
QUOTE_CLOSES = [
    (r"(»)", r" \1 "),
    (r"''|\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[smd]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
]
CONTRACTIONS = [
    (r"\b(can)(not)\b", r" \1 \2 "),
    (r"\b(d)('ye)\b", r" \1 \2 "),
    (r"\b(gim|lem)(me)\b", r" \1 \2 "),
    (r"\b(gon)(na)\b", r" \1 \2 "),
    (r"\b(got)(ta)\b", r" \1 \2 "),
    (r"\b(more)('n)\b", r" \1 \2 "),
    (r"\b(wan)(na)(?=\s)", r" \1 \2 "),
]


def compiled(rules):
    """Rules with compiled patterns."""
    return [(re.compile(pattern), replacement) for pattern, replacement in rules]


BEFORE_PADDING = compiled(QUOTE_OPENS + PUNCTUATION)
AFTER_PADDING = compiled(QUOTE_CLOSES + CONTRACTIONS)


def words(text: str) -> list[str]:
    """Words and punctuation of lower-case English text.

    >>> words('the "f16" can\\'t cost $3,000.50 (u.s. money).')
    ['the', '``', 'f16', "''", 'ca', "n't", 'cost', '$', '3,000.50', '(', 'u.s.', 'money', ')', '.']
    """
    for pattern, replacement in BEFORE_PADDING:
        text = pattern.sub(replacement, text)
    text = f" {text} "
    for pattern, replacement in AFTER_PADDING:
        text = pattern.sub(replacement, text)
    return text.split()
