"""What losses add to a training step, and what search, whitening and CAN take.

    python benchmarks/costs.py CLUE_FOLDER

Steps train a BERT of 4 layers × 256 on TensorFlow: one with the loss, one with the mean square of
the same outputs, in turns; the ratio is the median over the turns. The search finds the 10 nearest
of 10,000 titles of TNEWS by WRD and WMD of their tokens' vectors in keras-extras-mini, beside
solving all 10,000 transport problems. Whitening streams 100,000 vectors of 768 numbers. CAN
corrects 10,000 rows of 119 classes.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np

from clue_baselines.backbone import model_folder
from clue_baselines.data import read_records
from keras_extras import losses
from keras_extras.bert4keras import build_transformer_model
from keras_extras.layers import GlobalPointer
from keras_extras.postprocess import can
from keras_extras.similarity import NearestSentences, RunningMoments, sentence_encoder
from keras_extras.tokenization import WordPieceTokenizer

CONFIG = {
    "model": "bert",
    "vocab_size": 8000,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
ROWS, LENGTH, TYPES = 32, 64, 10


def mean_square(y_true, y_pred):
    """A loss that costs next to nothing."""
    return keras.ops.mean(keras.ops.square(keras.ops.cast(y_pred, "float32")))


def step(head, loss, targets):
    """A training step of a fresh model, as a function without arguments."""
    bert = build_transformer_model(**CONFIG)
    model = keras.Model(bert.inputs, head(bert))
    model.compile(keras.optimizers.Adam(1e-5), loss)
    ids = np.random.default_rng(0).integers(1, 8000, (ROWS, LENGTH))
    return lambda: model.train_on_batch([ids, np.zeros_like(ids)], targets)


def cases():
    """Name, head and loss with its targets."""
    grades = np.repeat(np.random.default_rng(1).integers(0, 6, ROWS // 2), 2)
    spans = np.zeros((ROWS, TYPES, LENGTH, LENGTH), "float32")
    spans[:, :3, 2, 5] = 1
    starts_and_ends = np.zeros((ROWS, TYPES, 4), "int32")
    starts_and_ends[:, :3, 0] = 2 * LENGTH + 5

    def vector(bert):
        return sentence_encoder(bert)(bert.inputs)

    def pointer(bert):
        return GlobalPointer(TYPES, 64)(bert.output)

    def flat(bert):
        return keras.layers.Reshape((TYPES, LENGTH * LENGTH))(pointer(bert))

    yield "CoSENT", vector, losses.CoSENT(), grades
    yield "SimCSE", vector, losses.SimCSE(), np.zeros(ROWS)
    yield "multi-label", pointer, losses.MultilabelCategoricalCrossentropy(), spans
    sparse = losses.SparseMultilabelCategoricalCrossentropy(mask_zero=True)
    yield "multi-label, sparse", flat, sparse, starts_and_ends


def alternate(first, second, turns: int, steps: int) -> tuple[float, float, float]:
    """Milliseconds of a step of both, and the median of their ratios."""
    taken = []
    for call in (first, second):
        call()
    for _ in range(turns):
        pair = []
        for call in (first, second):
            start = time.perf_counter()
            for _ in range(steps):
                call()
            pair.append(1000 * (time.perf_counter() - start) / steps)
        taken.append(pair)
    columns = [statistics.median(column) for column in zip(*taken, strict=True)]
    return *columns, statistics.median(a / b for a, b in taken)


def sentences_of(clue: Path, n: int) -> list[np.ndarray]:
    """Matrices of token vectors of the first titles of TNEWS."""
    model = build_transformer_model("keras-extras-mini")
    table = keras.ops.convert_to_numpy(model.get_layer("Embedding-Token").weights[0])
    vocab = model_folder("keras-extras-mini") / "vocab.txt"
    tokenizer = WordPieceTokenizer(vocab, True, token_start=None, token_end=None)
    titles = read_records(clue / "tnews" / "train.json", n)
    return [table[tokenizer.encode(title.text("sentence"))[0]] for title in titles]


def resident() -> float:
    """MiB that this process holds at most so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clue", type=Path, help="folder with CLUE's data")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="of each turn")
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=10_000)
    given = parser.parse_args()

    rng = np.random.default_rng(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident(), time.perf_counter()
    moments = RunningMoments()
    for _ in range(100):
        moments.update(rng.normal(size=(1000, 768)))
    seconds = time.perf_counter() - start
    print(f"whitening 100,000 × 768: {seconds:.1f} s, {resident() - before:.0f} MiB more")

    logits = rng.normal(size=(10_000, 119)) * np.where(np.arange(10_000) % 3, 8, 1)[:, None]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    start = time.process_time()
    can(p, np.ones(119))
    print(f"CAN 10,000 × 119: {time.process_time() - start:.3f} s of CPU")

    sentences = sentences_of(given.clue, given.sentences + given.queries)
    queries = sentences[given.sentences :]
    for distance in ("wrd", "wmd"):
        index = NearestSentences(sentences[: given.sentences], distance)
        ratios = []
        for query in queries:
            start = time.process_time()
            every = index.distances(query)
            middle = time.process_time()
            numbers, found = index.nearest(query, 10)
            end = time.process_time()
            ratios.append((middle - start) / (end - middle))
            assert np.allclose(np.sort(every)[:10], found), "the nearest are not the nearest"
        said = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"10 nearest of {given.sentences:,} by {distance}: {said} times as fast as all")

    print("\n| loss | with it, ms | mean square, ms | ratio |\n|---|---|---|---|", flush=True)
    for name, head, loss, targets in cases():
        sides = step(head, loss, targets), step(head, mean_square, targets)
        ours, plain, ratio = alternate(*sides, given.turns, given.steps)
        print(f"| {name} | {ours:.0f} | {plain:.0f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
