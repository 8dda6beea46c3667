"""Length extrapolation of position encodings: trained on 64 characters, evaluated on up to 1,024.

    python benchmarks/extrapolation.py TEXT.txt.xz

trains small causal language models of Chinese characters (2 layers × 128) on the text at length
64 and evaluates them on texts of 64 … 1,024 that were held out. What is measured at every
length are the same characters, the last 64 of each held-out text; a longer one only adds what comes
before them. `RoPE` is trained once, and evaluated with every extension that needs no training.
"""

import argparse
import json
import lzma
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np

from keras_extras import layers as L

LENGTHS = [64, 128, 256, 512, 1024]
TRAINED = LENGTHS[0]
DIM, HEADS, DEPTH = 128, 4, 2

#: model that is trained: its positions and the normalization of its scores
MODELS = {
    "RoPE": (L.RotaryPosition, "softmax"),
    "RoPE, log-n": (L.RotaryPosition, "softmax_plus"),
    "ALiBi": (L.ALiBi, "softmax"),
    "KERPLE": (L.KERPLE, "softmax"),
    "Sandwich": (lambda: L.Sandwich(DIM // HEADS), "softmax"),
    "xPos": (L.XPos, "softmax"),
}


def rerope(step=0.0):
    return L.ReRoPE(TRAINED // 2, step, causal=True)


#: model that is trained, and how it is evaluated: its positions, and a window if it is local
EVALUATED = {
    "RoPE": {
        "RoPE": (L.RotaryPosition, None),
        "RoPE, local 64": (L.RotaryPosition, TRAINED),
        "RoPE, NTK-mixed ×16": (lambda: L.RotaryPosition(extension=16), None),
        "RoPE, log-n at inference": (lambda: L.LogNScaling(L.RotaryPosition(), TRAINED), None),
        "ReRoPE 32": (rerope, None),
        "ReRoPE 32, log-n at inference": (lambda: L.LogNScaling(rerope(), TRAINED), None),
        "Leaky ReRoPE 32, 1/32": (lambda: rerope(1 / 32), None),
    },
    "RoPE, log-n": {
        "RoPE, log-n trained": (L.RotaryPosition, None),
        "ReRoPE 32, log-n trained": (rerope, None),
    },
    **{name: {name: (MODELS[name][0], None)} for name in ("ALiBi", "KERPLE", "Sandwich", "xPos")},
}


def language_model(vocabulary: int, position, normalization: str, window: int | None = None):
    """Ids to scores of the next character, for the last 64 positions of any length."""
    ids = keras.Input((None,), dtype="int32")
    past = L.LanguageModelMask()(ids)
    x = L.Embedding(vocabulary, DIM, embeddings_initializer="uniform")(ids)
    for _ in range(DEPTH):
        y = L.LayerNormalization()(x)
        options = {"position": position(), "normalization": normalization}
        if window:
            attention = L.LocalAttention(HEADS, DIM // HEADS, window, causal=True, **options)
            y = attention([y, y, y])
        else:
            attention = L.MultiHeadAttention(HEADS, DIM // HEADS, **options)
            y = attention([y, y, y, past], a_bias=True)
        x = L.Add()([x, y])
        x = L.Add()([x, L.FeedForward(4 * DIM, "gelu")(L.LayerNormalization()(x))])
    x = L.LayerNormalization()(x[:, -TRAINED:])
    return keras.Model(ids, keras.layers.Dense(vocabulary)(x))


def characters(path: Path, size: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `size` characters as ids, the last tenth of them held out; 0 is all rare ones."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read(size)
    held_out = len(text) // 10
    most = Counter(text[:-held_out]).most_common(vocabulary - 1)
    numbers = {character: i + 1 for i, (character, _) in enumerate(most)}
    ids = np.array([numbers.get(character, 0) for character in text], "int32")
    return ids[:-held_out], ids[-held_out:]


def train(model, ids: np.ndarray, steps: int, batch: int) -> float:
    """Trains on random pieces of 65 characters; returns the last loss."""
    keras.utils.set_random_seed(0)
    starts = np.random.default_rng(0).integers(0, len(ids) - TRAINED, steps * batch)
    pieces = ids[starts[:, None] + np.arange(TRAINED + 1)]
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps, warmup_target=2e-3, warmup_steps=steps // 10
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss)
    history = model.fit(
        pieces[:, :-1], pieces[:, 1:], batch_size=batch, shuffle=False, verbose=0
    ).history
    return history["loss"][-1]


def evaluate(model, texts: np.ndarray, length: int) -> tuple[float, float]:
    """Loss in nats and accuracy in per cent on the last 64 characters of each text."""
    inputs, targets = texts[:, -length - 1 : -1], texts[:, -TRAINED:]
    scores = np.concatenate([model.predict_on_batch(inputs[i : i + 8]) for i in range(0, 128, 8)])
    top = scores.max(-1, keepdims=True)
    logs = scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True))
    loss = -np.take_along_axis(logs, targets[..., None], -1).mean()
    return float(loss), float(100 * (scores.argmax(-1) == targets).mean())


def plot(rows: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5))
    worst_first = sorted(rows.items(), key=lambda item: -item[1][str(LENGTHS[-1])][0])
    for i, (name, row) in enumerate(worst_first):
        losses = [row[str(n)][0] for n in LENGTHS]
        axis.plot(LENGTHS, losses, "o-" if i < 10 else "s--", label=name)  # ten colours
    axis.set_xscale("log", base=2)
    axis.set_xticks(LENGTHS, LENGTHS)
    axis.set_xlabel("characters (trained on 64)")
    axis.set_ylabel("nats per character, of the same last 64")
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", type=Path, help="a text file, compressed by xz")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--characters", type=int, default=5_000_000, help="of the text")
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("extrapolation.json"))
    parser.add_argument("--plot", type=Path, default=Path("extrapolation.png"))
    given = parser.parse_args()
    training, held_out = characters(given.text, given.characters, given.vocabulary)
    size = max(LENGTHS) + 1
    texts = held_out[: 128 * size].reshape(128, size)
    rows = json.loads(given.output.read_text()) if given.output.exists() else {}
    for name in given.models:
        if set(EVALUATED[name]) <= set(rows):
            continue
        position, normalization = MODELS[name]
        keras.utils.set_random_seed(0)
        trained = language_model(given.vocabulary, position, normalization)
        start = time.time()
        loss = train(trained, training, given.steps, given.batch)
        print(f"{name}: loss {loss:.3f} after {time.time() - start:.0f} s", flush=True)
        for row, (position, window) in EVALUATED[name].items():
            model = language_model(given.vocabulary, position, normalization, window)
            model.set_weights(trained.get_weights())
            rows[row] = {str(length): evaluate(model, texts, length) for length in LENGTHS}
            given.output.write_text(json.dumps(rows, indent=1))
    for i, what in enumerate(("nats per character", "accuracy, %")):
        print(f"\n| {what} | " + " | ".join(map(str, LENGTHS)) + " |")
        print("|---" * (len(LENGTHS) + 1) + "|")
        for name, row in rows.items():
            print(f"| {name} | " + " | ".join(f"{row[str(n)][i]:.2f}" for n in LENGTHS) + " |")
    plot(rows, given.plot)


if __name__ == "__main__":
    main()
