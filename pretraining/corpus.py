"""Text files → sequences of token ids, packed to full length, in memory-mapped files.

    python -m pretraining.corpus texts/*.txt.xz --vocab vocab.txt --exclude CLUE --output corpus

A text file (plain or .xz, UTF-8) holds one paragraph a line and a blank line between documents;
one of more than 200 paragraphs counts as several. Paragraphs in which a sentence of CLUE's dev or
test files stands are left out. jieba says where words begin, for whole-word masking. Each file
becomes a shard; a run that was interrupted goes on with the next one. At last rare tokens leave the
vocabulary and the shards become

    train.tokens.npy, heldout.tokens.npy   (sequences, length) uint16
    train.starts.npy, heldout.starts.npy   (sequences, length) bool, first tokens of words
    vocab.txt, corpus.json                 the smaller vocabulary; what it was made from
"""

import argparse
import hashlib
import json
import lzma
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.vocabulary import load_vocab
from pretraining.held_back import SPLITS, SUFFIXES, HeldBack, normalize, sentences_of
from pretraining.packing import DTYPES, PARTS, SPECIAL_TOKENS, finish, shard
from pretraining.words import WordTokenizer

DOCUMENTS_AT_ONCE = 200
SHORTEST_ROW = 8
PARAGRAPHS = 200  # of a document; what follows is another one
VERSION = 2  # of what stands in a shard
COUNTS = {"documents": 0, "paragraphs": 0, "removed": 0, "tokens": 0}


class CorpusError(Exception):
    """Input that cannot be used; the message says which and why."""


def documents(path: Path) -> Iterator[list[str]]:
    """Documents of a file: lists of up to `PARAGRAPHS` paragraphs.

    Raises:
        CorpusError: the file is not UTF-8, or a damaged .xz.
    """
    opened = lzma.open if path.suffix == ".xz" else open
    paragraphs: list[str] = []
    try:
        with opened(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                blank = not line.strip()
                if not blank:
                    paragraphs.append(line.strip())
                if paragraphs and (blank or len(paragraphs) == PARAGRAPHS):
                    yield paragraphs
                    paragraphs = []
    except (lzma.LZMAError, EOFError, UnicodeDecodeError, OSError) as error:
        raise CorpusError(f"{path} cannot be read as UTF-8 text ({error}).") from None
    if paragraphs:
        yield paragraphs


class Encoder:
    """What a worker process does with documents."""

    def __init__(self, vocab: Path, held_back: HeldBack, heldout: float):
        tokenizer = WordPieceTokenizer(str(vocab), do_lower_case=True)
        self.words = WordTokenizer(tokenizer)
        self.separator = tokenizer.token_to_id("[SEP]")
        self.held_back, self.heldout = held_back, heldout

    def __call__(self, texts: list[list[str]]) -> tuple[dict, dict]:
        """Arrays by (part, kind), in which `[SEP]` ends every document; and counts."""
        streams = {(part, kind): [] for part in PARTS for kind in DTYPES}
        counts = {**COUNTS, "documents": len(texts)}
        for paragraphs in texts:
            kept = self.without_held_back(paragraphs)
            counts["paragraphs"] += len(paragraphs)
            counts["removed"] += len(paragraphs) - len(kept)
            encoded = [pair for pair in map(self.words.encode, kept) if len(pair[0])]
            if encoded:
                ids, starts = zip(*encoded, strict=True)
                part = PARTS[self.is_held_out(paragraphs)]
                streams[part, "tokens"] += [*ids, [self.separator]]
                streams[part, "starts"] += [*starts, [True]]
                counts["tokens"] += sum(map(len, ids)) + 1
        joined = {
            place: np.concatenate(arrays).astype(DTYPES[place[1]])
            for place, arrays in streams.items()
            if arrays
        }
        return joined, counts

    def without_held_back(self, paragraphs: list[str]) -> list[str]:
        """Those paragraphs in which no sentence to hold back stands, or a part of one."""
        kept = [text for text in paragraphs if not self.held_back.found_in(text)]
        while True:
            normal = [normalize(text) for text in kept]
            span = self.held_back.span_in("".join(normal))
            if span is None:
                return kept
            ends = np.cumsum([len(text) for text in normal])
            first, last = np.searchsorted(ends, [span[0], span[1] - 1], side="right")
            del kept[first : last + 1]

    def is_held_out(self, paragraphs: list[str]) -> bool:
        """Whether a document is for evaluation; depends on its text alone."""
        return zlib.crc32("\n".join(paragraphs).encode()) < self.heldout * 2**32


_encoder: Encoder


def _start_worker(*settings):
    global _encoder
    import jieba

    jieba.setLogLevel("WARNING")
    jieba.initialize()
    _encoder = Encoder(*settings)


def _encode(texts):
    return _encoder(texts)


def write_shard(path: Path, folder: Path, name: str, pool: ProcessPoolExecutor) -> dict:
    """Encodes a file into `name.<part>.<kind>`, complete or not at all; returns counts."""
    from tqdm import tqdm

    files = {(part, kind): shard(folder, name, part, kind) for part in PARTS for kind in DTYPES}
    temporary = {place: file.with_name(file.name + ".tmp") for place, file in files.items()}
    opened = {place: file.open("wb") for place, file in temporary.items()}
    total = dict(COUNTS)
    bar = tqdm(desc=path.name, unit=" tokens", unit_scale=True)
    try:
        for joined, counts in in_order(pool, chunks(documents(path), DOCUMENTS_AT_ONCE)):
            for place, array in joined.items():
                array.tofile(opened[place])
            total = {key: total[key] + n for key, n in counts.items()}
            bar.update(counts["tokens"])
    finally:
        bar.close()
        for file in opened.values():
            file.close()
    for place, file in files.items():
        temporary[place].replace(file)
    return total


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of up to `size` items."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def in_order(pool: ProcessPoolExecutor, texts: Iterator[list]) -> Iterator:
    """Results in the order of the texts, with few texts in memory."""
    waiting = []
    for chunk in texts:
        waiting.append(pool.submit(_encode, chunk))
        if len(waiting) > 4 * (os.cpu_count() or 1):
            yield waiting.pop(0).result()
    for each in waiting:
        yield each.result()


def write_json(path: Path, content: dict):
    """Writes JSON under another name first."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def fingerprint(path: Path, vocab: Path, exclude: Path | None, heldout: float) -> str:
    """Changes with anything that a shard depends on."""
    digest = hashlib.sha256(path.read_bytes() + vocab.read_bytes())
    for file in sorted(exclude.rglob("*")) if exclude else []:
        if file.suffix in SUFFIXES and any(name in file.stem for name in SPLITS):
            digest.update(file.read_bytes())
    digest.update(json.dumps([VERSION, heldout]).encode())
    return digest.hexdigest()


def build(options: argparse.Namespace) -> dict:
    """Makes the shards that are not there yet, then the arrays; returns what it says."""
    vocab = load_vocab(options.vocab)
    lacking = [token for token in SPECIAL_TOKENS if token not in vocab]
    if lacking:
        raise CorpusError(f"{options.vocab} lacks {', '.join(lacking)}.")
    if len(vocab) > 2**16:
        raise CorpusError(f"{options.vocab} has {len(vocab)} tokens; 65536 is the most.")
    held_back = HeldBack(sentences_of(options.exclude) if options.exclude else ())
    names = [path.name.split(".")[0] for path in options.texts]
    if len(set(names)) < len(names):
        raise CorpusError("Two text files have the same name up to the first dot; rename one.")
    shards = options.output / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    encoder = options.vocab, held_back, options.heldout
    files = {}
    with ProcessPoolExecutor(options.processes, None, _start_worker, encoder) as pool:
        for path, name in zip(options.texts, names, strict=True):
            about = shards / f"{name}.json"
            mark = fingerprint(path, options.vocab, options.exclude, options.heldout)
            done = json.loads(about.read_text()) if about.is_file() else {}
            if done.get("fingerprint") != mark:
                about.unlink(missing_ok=True)
                done = {"fingerprint": mark, **write_shard(path, shards, name, pool)}
                write_json(about, done)
            files[path.name] = {k: v for k, v in done.items() if k != "fingerprint"}
    finished = options.output / "corpus.json"
    finished.unlink(missing_ok=True)  # it belongs to the arrays that are replaced now
    content = {
        "files": files,
        "length": options.length,
        "rare": options.rare,
        "dev_and_test_removed": bool(options.exclude),
        **finish(shards, names, options),
    }
    write_json(finished, content)
    return content


def show(content: dict):
    """Prints what a corpus holds."""
    print(f"{'file':34}{'documents':>10}{'paragraphs':>12}{'removed':>9}{'tokens':>12}")
    for name, row in content["files"].items():
        numbers = f"{row['documents']:10}{row['paragraphs']:12}{row['removed']:9}{row['tokens']:12}"
        print(f"{name:34}{numbers}")
    removed = sum(row["removed"] for row in content["files"].values())
    print(f"{removed} paragraphs removed, for a dev or test sentence in them")
    sizes = " and ".join(f"{n} ({part})" for part, n in content["sequences"].items())
    print(f"{sizes} sequences of {content['length']}, {content['vocabulary']} tokens in vocab.txt")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line.

    Raises:
        CorpusError: a value makes no sense.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="+", type=Path, help="text files, plain or .xz")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt to cut down")
    parser.add_argument("--output", type=Path, required=True, help="folder of the result")
    parser.add_argument("--exclude", type=Path, help="folder whose dev and test sentences stay out")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence (128)")
    parser.add_argument("--rare", type=int, default=20, help="tokens seen less often go (20)")
    parser.add_argument(
        "--heldout", type=float, default=0.005, help="share of documents for evaluation (0.005)"
    )
    parser.add_argument("--processes", type=int, help="worker processes (one per core)")
    options = parser.parse_args(argv)
    if options.length < SHORTEST_ROW:
        raise CorpusError(f"--length must be at least {SHORTEST_ROW}: [CLS], [SEP] and some text.")
    if not 0 <= options.heldout < 1:
        raise CorpusError("--heldout must be at least 0 and less than 1.")
    if options.rare < 0:
        raise CorpusError("--rare must not be negative.")
    return options


def main(argv: list[str] | None = None):
    """Runs from the command line."""
    try:
        show(build(parse(argv)))
    except (CorpusError, OSError, ValueError) as error:
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command goes on with the files that are missing.")


if __name__ == "__main__":
    main()
