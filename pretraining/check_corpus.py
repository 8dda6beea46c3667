"""Searches a built corpus for dev and test sentences: there must be none.

    python -m pretraining.check_corpus corpus --exclude CLUE

It reads the token ids that are trained on, not the text that they were made from.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.vocabulary import load_vocab
from pretraining.held_back import HeldBack, sentences_of

STEP = 2000  # rows at once


def find(corpus: Path, held_back: HeldBack) -> list[str]:
    """The sentences that stand in the rows of the training part.

    Rows are joined in their order, so that a sentence across two rows is found too; `[UNK]`,
    special tokens and what stands at the ends of documents separate.
    """
    from tqdm import tqdm

    tokens = [token.removeprefix("##") for token in load_vocab(corpus / "vocab.txt")]
    tokens = np.array(["\n" if t.startswith("[") and len(t) > 1 else t for t in tokens], object)
    rows = np.load(corpus / "train.tokens.npy", mmap_mode="r")
    found, rest = [], ""
    for start in tqdm(range(0, len(rows), STEP), desc="rows", unit_scale=STEP):
        inside = rows[start : start + STEP, 1:-1]
        *documents, rest = (rest + "".join(tokens[inside.ravel()])).split("\n")
        found += filter(None, map(held_back.found_in, documents))
    return found + list(filter(None, [held_back.found_in(rest)]))


def unseen(corpus: Path, sentences: Iterable[str]) -> int:
    """How many of the sentences `find` cannot see: the vocabulary lacks some of their tokens."""
    tokenizer = WordPieceTokenizer(corpus / "vocab.txt", do_lower_case=True)
    lacking = (s for s in sentences if tokenizer.unknown_id in tokenizer.encode(s)[0])
    return HeldBack(lacking).count


def main(argv: list[str] | None = None):
    """Runs from the command line; exit code 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder made by pretraining.corpus")
    parser.add_argument(
        "--exclude", type=Path, required=True, help="folder with dev and test files"
    )
    options = parser.parse_args(argv)
    try:
        sentences = list(sentences_of(options.exclude))
        held_back = HeldBack(sentences)
        found = find(options.corpus, held_back)
        hidden = unseen(options.corpus, sentences)
    except (OSError, ValueError) as error:
        sys.exit(f"ERROR: {error}")
    print(f"{len(found)} of {held_back.count} dev and test sentences stand in the training text.")
    print(f"{hidden} of the {held_back.count} hold a token that the vocabulary lacks: unseen here.")
    for sentence in found[:10]:
        print(f"  {sentence}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
