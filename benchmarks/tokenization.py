"""Tokens a second: ours, original bert4keras' and the Rust library's, on the same texts of CLUE.

    python benchmarks/tokenization.py CLUE_FOLDER           # needs bert4keras and tokenizers
    python benchmarks/tokenization.py CLUE_FOLDER --tasks   # encoding of whole training sets

All encode with CLUE_FOLDER/vocab.txt in turns, in one process. `ours, first time` begins with an
empty tokenizer, `ours` has seen the words; `2 processes` hands out chunks to forked processes and
fetches the ids. The Rust library runs `encode_batch_fast` on all cores (RAYON_NUM_THREADS). The
last column counts rows with other ids than ours. `--tasks` is what the task scripts do before the
first step: reading, encoding (the first time and again, from the file of that size that they keep),
and sorting into batches.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_extras.tokenization import WordPieceTokenizer, load_vocab

TASKS = "tnews ocnli afqmc iflytek csl wsc cluener cmrc2018 chid c3".split()


def texts_of(folder: Path) -> dict[str, list[list[str]]]:
    """The columns of texts of every data set."""

    def lines(name: str, *keys: str) -> list[list[str]]:
        with (folder / name).open(encoding="utf-8", newline="\n") as file:
            rows = [json.loads(line) for line in file]
        return [[row[key] for row in rows] for key in keys]

    articles = json.loads((folder / "cmrc2018/train.json").read_text(encoding="utf-8"))["data"]
    passages = [part["context"] for article in articles for part in article["paragraphs"]]
    return {
        "TNEWS, titles": lines("tnews/train.json", "sentence"),
        "OCNLI, pairs": lines("ocnli/train.json", "sentence1", "sentence2"),
        "CMRC2018, passages": [passages],
    }


def rust(vocab: dict[str, int]):
    """The Rust tokenizer with BERT's rules."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    piece = models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=200)
    tokenizer = Tokenizer(piece)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def encode_chunk(chunk: list[list[str]]) -> list[list[int]]:
    """What a forked process does, with the tokenizer that it inherits."""
    return shared.encode_batch(*chunk)[0]


def rows_of(*columns: list[str]) -> list:
    """Texts, or pairs of texts, as the Rust library takes them."""
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def in_processes(*columns: list[str], count: int = 2, chunks: int = 8) -> list[list[int]]:
    """Ids from several processes, in the order of the texts."""
    size = -(-len(columns[0]) // chunks)
    parts = [[c[i : i + size] for c in columns] for i in range(0, len(columns[0]), size)]
    with multiprocessing.get_context("fork").Pool(count) as pool:
        return [ids for part in pool.map(encode_chunk, parts) for ids in part]


def compare(folder: Path, rounds: int):
    """Prints the table of tokenizers."""
    from bert4keras.tokenizers import Tokenizer

    global shared
    path = str(folder / "vocab.txt")
    ours, original = WordPieceTokenizer(path, True), Tokenizer(path, do_lower_case=True)
    library = rust(load_vocab(path))
    print("| texts | rows | tokenizer | seconds | CPU seconds | other ids |\n" + "|---" * 6 + "|")
    sides = {
        "ours, first time": lambda *texts: WordPieceTokenizer(path, True).encode_batch(*texts)[0],
        "ours": lambda *texts: ours.encode_batch(*texts)[0],
        "ours, 2 processes": in_processes,
        "Rust": lambda *texts: [row.ids for row in library.encode_batch_fast(rows_of(*texts))],
        "bert4keras": lambda *texts: [original.encode(*row)[0] for row in zip(*texts, strict=True)],
    }
    shared = ours
    for name, columns in texts_of(folder).items():
        ids, times = {}, {side: [] for side in sides}
        for _ in range(rounds):
            for side, encode in sides.items():
                ids[side], taken = timed(encode, *columns)
                times[side].append(taken)
        for side, taken in times.items():
            wall, cpu = (statistics.median(t[i] for t in taken) for i in (0, 1))
            other = sum(a != b for a, b in zip(ids[side], ids["ours"], strict=True))
            shown = "–" if "processes" in side else f"{cpu:.2f}"
            print(
                f"| {name} | {len(columns[0])} | {side} | {wall:.2f} | {shown} | {other} |",
                flush=True,
            )


def timed(function: Callable, *arguments) -> tuple:
    """What a function returns, and its seconds of wall clock and of this process's CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def prepare_tasks(folder: Path):
    """Prints CPU seconds before the first step of a training, task by task."""
    from clue_baselines import backbone, data, encoding, settings
    from clue_baselines.tasks import task_class
    from keras_extras.training import LengthBatches

    print("| task | examples | reading | encoding | again | MB | batches |\n" + "|---" * 7 + "|")
    for name in TASKS:
        kind = task_class(name)
        with tempfile.TemporaryDirectory() as output:
            flags = ["--data", str(folder), "--output", output]
            given = settings.parse(kind.options, name, "", kind.defaults, flags)
            this, source = kind(given), data.find(name, str(folder))
            records, (_, reading) = timed(this.read, source, "train", None)
            tokenizer = backbone.tokenizer_for(settings.SCRATCH, source, [], this.tokens)
            arguments = this, records, tokenizer, True
            grouped, (_, first) = timed(encoding.examples_of, *arguments)
            _, (_, again) = timed(encoding.examples_of, *arguments)
            size = sum(file.stat().st_size for file in Path(output).rglob("*.npz")) / 1e6
        examples = [example for group in grouped for example in group]
        columns = list(zip(*(example.inputs for example in examples), strict=True))
        targets = [np.asarray(example.target, "int32") for example in examples]
        _, (_, sorting) = timed(LengthBatches, columns, targets, given.batch_size)
        times = f"{reading:.1f} | {first:.1f} | {again:.1f} | {size:.0f} | {sorting:.1f}"
        print(f"| {name} | {len(examples)} | {times} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with CLUE's data and vocab.txt")
    parser.add_argument("--tasks", action="store_true", help="time whole training sets instead")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    given = parser.parse_args()
    if given.tasks:
        prepare_tasks(given.folder)
    else:
        compare(given.folder, given.rounds)


if __name__ == "__main__":
    main()
