"""Hugging Face's variable names and layout, translated to bert4keras' (TF1) ones and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from keras_extras.bert4keras.checkpoints.checkpoint import Checkpoint, CheckpointError, Entry
from keras_extras.bert4keras.huggingface.tables import (
    ARCHITECTURES,
    DERIVED,
    SUPPORTED,
    Rule,
    rules_of,
)


class Source(NamedTuple):
    """How one array is made: from which arrays of the other side, by what, and of what shape."""

    names: tuple[str, ...]
    make: Callable[..., np.ndarray]
    shape: tuple[int, ...]


def has_huggingface_names(names: Iterable[str]) -> bool:
    """Whether variables are named as transformers names them (dots), not as TF1 does (slashes)."""
    names = list(names)
    return not any("/" in name for name in names) and any(
        re.search(r"\.(weight|bias|gamma|beta)$", name) for name in names
    )


def as_bert4keras(
    checkpoint: Checkpoint, model_type: str | None = None, architecture: str | None = None
) -> Checkpoint:
    """A checkpoint with Hugging Face names, presented under bert4keras' names and layout.

    Variables that no table knows (heads of a fine-tuned classifier …) keep their names.

    Args:
        checkpoint: what ``checkpoints.read`` returned.
        model_type: as in ``config.json``. Default: recognised by the names.
        architecture: what the caller expects, where the names leave it open (see
            ``open_checkpoint``).

    Raises:
        CheckpointError: the model type is not among ``SUPPORTED``.
    """
    stored = {name.removeprefix("module."): name for name in checkpoint}  # torch's DataParallel
    stored = {re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", k): v for k, v in stored.items()}
    stored = {re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", k): v for k, v in stored.items()}
    model_type = model_type or _recognise(stored, architecture)
    if {model_type, architecture} == {"t5", "mt5"}:
        model_type = architecture
    if model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"{checkpoint.source} is a Hugging Face model of type {model_type!r}, which bert4keras "
            f"has no counterpart of. Types with a mapping: {', '.join(SUPPORTED)}. (RoBERTa models "
            "trained on Chinese as chinese-roberta-wwm-ext are of type 'bert'.)"
        )
    rules = rules_of(model_type)
    names = {_without_root(name, rules): source for name, source in stored.items()}
    entries: dict[str, Entry] = {}
    done = set()
    for rule in rules:
        for name, source in names.items():
            match = rule.pattern.fullmatch(name)
            if match is None:
                continue
            done.add(name)
            index = int(match[1]) if match.groups() else None
            for part, tf in enumerate(rule.tf):
                tf = tf.format(i=index)
                if tf not in entries:
                    entries[tf] = _from_huggingface(checkpoint.entries[source], rule, part)
    for name, source in names.items():
        if name not in done and not DERIVED.fullmatch(name):
            entries[source] = checkpoint.entries[source]
    _settle(entries, model_type, checkpoint, names)
    return Checkpoint(checkpoint.source, entries, checkpoint.path)


def to_huggingface(
    shapes: dict[str, tuple], model_type: str
) -> tuple[dict[str, Source], list[str]]:
    """Which Hugging Face variables a bert4keras checkpoint gives, and how each is made.

    Args:
        shapes: dict of bert4keras' variable names to shapes.
        model_type: one of ``SUPPORTED``.

    Returns:
        dict of Hugging Face name -> ``Source``, and the list of variables that have no counterpart
        there.
    """
    root = ARCHITECTURES[model_type][0]
    plan: dict[str, Source] = {}
    used: set[str] = set()
    for rule in rules_of(model_type):
        for name in shapes:
            match = rule.reverse.fullmatch(name)
            if match is None or name in used:
                continue
            index = int(match[1]) if match.groups() else None
            sources = tuple(tf.format(i=index) for tf in rule.tf)
            lacking = [tf for tf in sources if tf not in shapes]
            if lacking:
                raise CheckpointError(f"{name} is there, but {', '.join(lacking)} is not.")
            used.update(sources)
            shape = tuple(shapes[name])
            if len(sources) > 1:
                make, shape = _concatenate, (*shape[:-1], sum(shapes[s][-1] for s in sources))
            elif rule.transpose:
                make, shape = np.transpose, shape[::-1]
            else:
                make = np.asarray
            hf = rule.hf.format(i=index)
            if hf.startswith("model."):
                hf = root + hf.removeprefix("model")
            plan[hf] = Source(sources, make, shape)
    return plan, sorted(set(shapes) - used)


def model_type_of(names: Iterable[str]) -> str:
    """The Hugging Face model type that bert4keras' variable names belong to.

    ERNIE, NEZHA and RoFormer share BERT's names: of them NEZHA and RoFormer are recognised by the
    caller only.

    Raises:
        CheckpointError: no known architecture has such names.
    """
    names = set(names)
    if any(name.startswith("bert/encoder/transformer/group_0/") for name in names):
        return "albert"
    if "gpt/output/LayerNorm/gamma" in names:
        return "gpt2"
    if any("/rms_norm/scale" in name for name in names):
        return "mt5"
    for prefix, model_type in (
        ("electra/", "electra"),
        ("gpt/", "openai-gpt"),
        ("shared/embedding", "t5"),
        ("bert/", "bert"),
    ):
        if any(name.startswith(prefix) for name in names):
            return model_type
    raise CheckpointError(
        "The variables are of no architecture that has a Hugging Face counterpart here; the first "
        f"are {', '.join(sorted(names)[:3])}."
    )


def sinusoidal_positions(length: int, size: int) -> np.ndarray:
    """The constant table ``encoder.embed_positions`` that transformers stores with RoFormer.

    Row k holds sin(k·10000^(-2i/size)) for i < size/2, then the cosines.
    """
    angles = np.arange(length)[:, None] / 10000 ** (2 * np.arange(size // 2) / size)
    return np.concatenate([np.sin(angles), np.cos(angles)], -1).astype("float32")


def _recognise(names: Iterable[str], architecture: str | None) -> str | None:
    names = set(names)

    def some(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in names)

    if some(r"\.albert_layer_groups\."):
        return "albert"
    if some(r"SelfAttention\.q\."):
        return "mt5" if architecture == "mt5" else "t5"
    if some(r"\.c_attn\.") and some(r"\b(wte|ln_f)\."):
        return "gpt2"
    if some(r"\.c_attn\.") and some(r"\btokens_embed\."):
        return "openai-gpt"
    for name in ("bert", "ernie", "nezha", "roformer", "electra", "roberta"):
        if some(rf"^{name}\."):
            return name
    if some(r"^encoder\.layer\.\d+\.attention\.self\.query\."):
        if architecture == "electra":
            return "electra"
        return "roformer" if some(r"^embeddings_project\.") else "bert"
    return None


def _without_root(name: str, rules: list[Rule]) -> str:
    """bert.encoder.…, ernie.encoder.… and (a bare BertModel) encoder.… are all model.encoder.…"""
    first, _, rest = name.partition(".")
    if first in {root for root, _ in ARCHITECTURES.values()}:
        return "model." + rest
    if first in {rule.hf.split(".")[1] for rule in rules if rule.hf.startswith("model.")}:
        return "model." + name
    return name


def _from_huggingface(entry: Entry, rule: Rule, part: int) -> Entry:
    if len(rule.tf) > 1:
        count = len(rule.tf)
        shape = (*entry.shape[:-1], entry.shape[-1] // count)
        return Entry(
            shape, lambda: np.ascontiguousarray(np.split(entry.read(), count, axis=-1)[part])
        )
    if rule.transpose:
        return Entry(entry.shape[::-1], lambda: np.ascontiguousarray(entry.read().T))
    return entry


def _concatenate(*arrays: np.ndarray) -> np.ndarray:
    return np.concatenate(arrays, axis=-1)


def _settle(
    entries: dict[str, Entry], model_type: str, checkpoint: Checkpoint, names: dict[str, str]
):
    """What is not a matter of names: ERNIE's task embedding, T5's tied or untied softmax
    weights."""
    task = names.get("model.embeddings.task_type_embeddings.weight")
    position = entries.get("bert/embeddings/position_embeddings")
    if task is not None and position is not None:
        # every token gets the embedding of task 0 unless transformers is told otherwise: it is a
        # constant
        del entries[task]
        read_task = checkpoint.entries[task].read
        entries["bert/embeddings/position_embeddings"] = Entry(
            position.shape, lambda: position.read() + read_task()[:1]
        )
    if model_type in ("t5", "mt5") and "shared/embedding" in entries:
        shared, logits = entries["shared/embedding"], entries.get("decoder/logits/kernel")
        gated = any(name.endswith("/wi_0/kernel") for name in entries)
        decodes = any(name.startswith("decoder/block_") for name in entries)
        if gated and decodes and logits is None:  # transformers stores equal weights once
            entries["decoder/logits/kernel"] = Entry(
                shared.shape[::-1], lambda: np.ascontiguousarray(shared.read().T)
            )
        elif not gated and logits is not None and np.array_equal(logits.read(), shared.read().T):
            del entries["decoder/logits/kernel"]  # T5 1.0 ties them, and has no variable for it
