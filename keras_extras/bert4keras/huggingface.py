"""Hugging Face's variable names and layout, translated to bert4keras' (TF1) ones and back.

transformers stores a Dense kernel as (out, in), TF1 as (in, out); GPT2 keeps (in, out) but fuses query, key and
value; T5's relative attention bias is turned; every model has its own words for the same things. Each line of the
tables below names one layer on both sides and how its arrays correspond.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from keras_extras.bert4keras.checkpoints import Checkpoint, CheckpointError, Entry

# kind: (suffix in Hugging Face, suffix in TF1, transposed?) of each array of the layer
_KINDS = {
    "dense": ((".weight", "/kernel", True), (".bias", "/bias", False)),
    "conv1d": ((".weight", "/kernel", False), (".bias", "/bias", False)),
    "norm": ((".weight", "/gamma", False), (".bias", "/beta", False)),
    "table": ((".weight", "", False),),
    "matrix": ((".weight", "", True),),
    "kernel": ((".weight", "/kernel", True),),
    "scale": ((".weight", "/scale", False),),
    "array": (("", "", False),),
}

# "model" stands for the model's own prefix: bert, ernie, roformer, transformer …; ROOT for bert4keras' one.
_BERT_BODY = """
table model.embeddings.word_embeddings ROOT/embeddings/word_embeddings
table model.embeddings.position_embeddings ROOT/embeddings/position_embeddings
table model.embeddings.token_type_embeddings ROOT/embeddings/token_type_embeddings
norm model.embeddings.LayerNorm ROOT/embeddings/LayerNorm
dense model.encoder.layer.{i}.attention.self.query ROOT/encoder/layer_{i}/attention/self/query
dense model.encoder.layer.{i}.attention.self.key ROOT/encoder/layer_{i}/attention/self/key
dense model.encoder.layer.{i}.attention.self.value ROOT/encoder/layer_{i}/attention/self/value
dense model.encoder.layer.{i}.attention.output.dense ROOT/encoder/layer_{i}/attention/output/dense
norm model.encoder.layer.{i}.attention.output.LayerNorm ROOT/encoder/layer_{i}/attention/output/LayerNorm
dense model.encoder.layer.{i}.intermediate.dense ROOT/encoder/layer_{i}/intermediate/dense
dense model.encoder.layer.{i}.output.dense ROOT/encoder/layer_{i}/output/dense
norm model.encoder.layer.{i}.output.LayerNorm ROOT/encoder/layer_{i}/output/LayerNorm
"""
_BERT_HEADS = """
dense model.pooler.dense bert/pooler/dense
table cls.seq_relationship cls/seq_relationship/output_weights
array cls.seq_relationship.bias cls/seq_relationship/output_bias
dense cls.predictions.transform.dense cls/predictions/transform/dense
norm cls.predictions.transform.LayerNorm cls/predictions/transform/LayerNorm
array cls.predictions.bias cls/predictions/output_bias
array cls.predictions.decoder.bias cls/predictions/output_bias
"""
_BERT = _BERT_BODY.replace("ROOT", "bert") + _BERT_HEADS
_ROFORMER = _BERT + "dense model.embeddings_project bert/encoder/embedding_hidden_mapping_in"
_ELECTRA = (
    _BERT_BODY.replace("ROOT", "electra")
    + """
dense model.embeddings_project electra/embeddings_project
dense discriminator_predictions.dense discriminator_predictions/dense
dense discriminator_predictions.dense_prediction discriminator_predictions/dense_1
dense generator_predictions.dense generator_predictions/dense
norm generator_predictions.LayerNorm generator_predictions/LayerNorm
array generator_lm_head.bias generator_predictions/output_bias
"""
)
_ALBERT = """
table model.embeddings.word_embeddings bert/embeddings/word_embeddings
table model.embeddings.position_embeddings bert/embeddings/position_embeddings
table model.embeddings.token_type_embeddings bert/embeddings/token_type_embeddings
norm model.embeddings.LayerNorm bert/embeddings/LayerNorm
dense model.encoder.embedding_hidden_mapping_in bert/encoder/embedding_hidden_mapping_in
dense HF.attention.query TF/attention_1/self/query
dense HF.attention.key TF/attention_1/self/key
dense HF.attention.value TF/attention_1/self/value
dense HF.attention.dense TF/attention_1/output/dense
norm HF.attention.LayerNorm TF/LayerNorm
dense HF.ffn TF/ffn_1/intermediate/dense
dense HF.ffn_output TF/ffn_1/intermediate/output/dense
norm HF.full_layer_layer_norm TF/LayerNorm_1
dense model.pooler bert/pooler/dense
table sop_classifier.classifier cls/seq_relationship/output_weights
array sop_classifier.classifier.bias cls/seq_relationship/output_bias
dense predictions.dense cls/predictions/transform/dense
norm predictions.LayerNorm cls/predictions/transform/LayerNorm
array predictions.bias cls/predictions/output_bias
array predictions.decoder.bias cls/predictions/output_bias
""".replace("HF", "model.encoder.albert_layer_groups.0.albert_layers.0").replace(
    "TF", "bert/encoder/transformer/group_0/inner_group_0"
)
_GPT_BLOCK = """
fused model.h.{i}.attn.c_attn gpt/transformer/layer_{i}/attention/self
conv1d model.h.{i}.attn.c_proj gpt/transformer/layer_{i}/attention/output/dense
norm model.h.{i}.ln_1 gpt/transformer/layer_{i}/attention/WHERE/LayerNorm
conv1d model.h.{i}.mlp.c_fc gpt/transformer/layer_{i}/intermediate/dense
conv1d model.h.{i}.mlp.c_proj gpt/transformer/layer_{i}/output/dense
norm model.h.{i}.ln_2 gpt/transformer/layer_{i}/WHERE/LayerNorm
"""
_GPT = """
table model.tokens_embed gpt/embeddings/word_embeddings
table model.positions_embed gpt/embeddings/position_embeddings
table lm_head gpt/embeddings/word_embeddings
""" + _GPT_BLOCK.replace("WHERE", "output")
_GPT2 = """
table model.wte gpt/embeddings/word_embeddings
table model.wpe gpt/embeddings/position_embeddings
table lm_head gpt/embeddings/word_embeddings
norm model.ln_f gpt/output/LayerNorm
""" + _GPT_BLOCK.replace("WHERE", "input")


def _t5_table() -> str:
    lines = ["table shared shared/embedding", "kernel lm_head decoder/logits"]
    for side, blocks in (("encoder", ("Self",)), ("decoder", ("Self", "EncDec"))):
        lines.append(f"table {side}.embed_tokens shared/embedding")
        lines.append(f"scale {side}.final_layer_norm {side}/final_layer_norm")
        lines.append(
            f"matrix {side}.block.0.layer.0.SelfAttention.relative_attention_bias "
            f"{side}/block_000/layer_000/SelfAttention/relative_attention_bias"
        )
        hf, tf = f"{side}.block.{{i}}.layer.", f"{side}/block_{{i:03d}}/layer_"
        for j, kind in enumerate(blocks):
            for letter in "qkvo":
                lines.append(
                    f"matrix {hf}{j}.{kind}Attention.{letter} {tf}{j:03d}/{kind}Attention/{letter}"
                )
        for j in range(len(blocks) + 1):
            lines.append(f"scale {hf}{j}.layer_norm {tf}{j:03d}/layer_norm")
        for dense in ("wi", "wi_0", "wi_1", "wo"):
            j = len(blocks)
            lines.append(
                f"kernel {hf}{j}.DenseReluDense.{dense} {tf}{j:03d}/DenseReluDense/{dense}"
            )
    return "\n".join(lines)


_T5 = _t5_table()
_MT5 = re.sub(r"/(final_)?layer_norm", "/rms_norm", _T5)

# model_type of config.json: (prefix of its variables, table)
_ARCHITECTURES = {
    "bert": ("bert", _BERT),
    "ernie": ("ernie", _BERT),
    "nezha": ("nezha", _BERT),
    "roformer": ("roformer", _ROFORMER),
    "electra": ("electra", _ELECTRA),
    "albert": ("albert", _ALBERT),
    "openai-gpt": ("transformer", _GPT),
    "gpt2": ("transformer", _GPT2),
    "t5": (None, _T5),
    "mt5": (None, _MT5),
}
SUPPORTED = tuple(_ARCHITECTURES)

# Arrays that transformers stores and that hold nothing of their own: constants, and copies of tied weights.
_DERIVED = re.compile(
    r".*position_ids|.*\.token_type_ids|.*embed_positions\.weight|.*positions_encoding"
    r"|.*\.attn\.(masked_)?bias|(cls\.)?predictions\.decoder\.weight|generator_lm_head\.weight"
    r"|.*EncDecAttention\.relative_attention_bias\.weight"
)


class _Rule(NamedTuple):
    pattern: re.Pattern  # of the Hugging Face name
    reverse: re.Pattern  # of the (first) TF name
    hf: str
    tf: tuple[str, ...]
    transpose: bool


class Source(NamedTuple):
    """How one array is made: from which arrays of the other side, by what, and of what shape."""

    names: tuple[str, ...]
    make: Callable[..., np.ndarray]
    shape: tuple[int, ...]


def _rules(model_type: str) -> list[_Rule]:
    rules = []
    for line in _ARCHITECTURES[model_type][1].split("\n"):
        if not line.strip():
            continue
        kind, hf, tf = line.split()
        if kind == "fused":
            for suffix, last in ((".weight", "/kernel"), (".bias", "/bias")):
                parts = tuple(f"{tf}/{part}{last}" for part in ("query", "key", "value"))
                rules.append(_rule(hf + suffix, parts, False))
        else:
            for suffix, last, transpose in _KINDS[kind]:
                rules.append(_rule(hf + suffix, (tf + last,), transpose))
    return rules


def _rule(hf: str, tf: tuple[str, ...], transpose: bool) -> _Rule:
    def pattern(template: str) -> re.Pattern:
        pieces = re.split(r"\{i(?::03d)?\}", template)
        return re.compile(r"(\d+)".join(map(re.escape, pieces)))

    return _Rule(pattern(hf), pattern(tf[0]), hf, tf, transpose)


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
        architecture: what the caller expects, where the names leave it open (see ``open_checkpoint``).

    Raises:
        CheckpointError: the model type is not among ``SUPPORTED``.
    """
    stored = {re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name): name for name in checkpoint}
    stored = {re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", k): v for k, v in stored.items()}
    model_type = model_type or _recognise(stored, architecture)
    if {model_type, architecture} == {"t5", "mt5"}:
        model_type = architecture
    if model_type not in _ARCHITECTURES:
        raise CheckpointError(
            f"{checkpoint.source} is a Hugging Face model of type {model_type!r}, which bert4keras has no "
            f"counterpart of. Types with a mapping: {', '.join(SUPPORTED)}. (RoBERTa models trained on Chinese "
            "as chinese-roberta-wwm-ext are of type 'bert'.)"
        )
    rules = _rules(model_type)
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
        if name not in done and not _DERIVED.fullmatch(name):
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
        dict of Hugging Face name -> ``Source``, and the list of variables that have no counterpart there.
    """
    root = _ARCHITECTURES[model_type][0]
    plan: dict[str, Source] = {}
    used: set[str] = set()
    for rule in _rules(model_type):
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

    ERNIE, NEZHA and RoFormer share BERT's names: of them NEZHA and RoFormer are recognised by the caller only.

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
        "The variables are of no architecture that has a Hugging Face counterpart here; the first are "
        f"{', '.join(sorted(names)[:3])}."
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


def _without_root(name: str, rules: list[_Rule]) -> str:
    """bert.encoder.…, ernie.encoder.… and (a bare BertModel) encoder.… are all model.encoder.…"""
    first, _, rest = name.partition(".")
    if first in {root for root, _ in _ARCHITECTURES.values()}:
        return "model." + rest
    if first in {rule.hf.split(".")[1] for rule in rules if rule.hf.startswith("model.")}:
        return "model." + name
    return name


def _from_huggingface(entry: Entry, rule: _Rule, part: int) -> Entry:
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
    """What is not a matter of names: ERNIE's task embedding, T5's tied or untied softmax weights."""
    task = names.get("model.embeddings.task_type_embeddings.weight")
    position = entries.get("bert/embeddings/position_embeddings")
    if task is not None and position is not None:
        # every token gets the embedding of task 0 unless transformers is told otherwise: it is a constant
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
