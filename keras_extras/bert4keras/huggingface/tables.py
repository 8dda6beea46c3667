"""Which variable of a Hugging Face model is which of bert4keras': one line for each layer.

transformers stores a Dense kernel as (out, in), TF1 as (in, out); GPT2 keeps (in, out) but fuses
query, key and value; every model has its own words for the same things.
"""

from __future__ import annotations

import re
from typing import NamedTuple

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

# "model" stands for the model's own prefix: bert, ernie, roformer, transformer …; ROOT for
# bert4keras' one.
_BERT_BODY = """
table model.embeddings.word_embeddings ROOT/embeddings/word_embeddings
table model.embeddings.position_embeddings ROOT/embeddings/position_embeddings
table model.embeddings.token_type_embeddings ROOT/embeddings/token_type_embeddings
norm model.embeddings.LayerNorm ROOT/embeddings/LayerNorm
dense HF.attention.self.query TF/attention/self/query
dense HF.attention.self.key TF/attention/self/key
dense HF.attention.self.value TF/attention/self/value
dense HF.attention.output.dense TF/attention/output/dense
norm HF.attention.output.LayerNorm TF/attention/output/LayerNorm
dense HF.intermediate.dense TF/intermediate/dense
dense HF.output.dense TF/output/dense
norm HF.output.LayerNorm TF/output/LayerNorm
""".replace("HF", "model.encoder.layer.{i}").replace("TF", "ROOT/encoder/layer_{i}")
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
ARCHITECTURES = {
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
SUPPORTED = tuple(ARCHITECTURES)

# Arrays that transformers stores and that hold nothing of their own: constants, and copies of tied
# weights.
DERIVED = re.compile(
    r".*position_ids|.*\.token_type_ids|.*embed_positions\.weight|.*positions_encoding"
    r"|.*\.attn\.(masked_)?bias|(cls\.)?predictions\.decoder\.weight|generator_lm_head\.weight"
    r"|.*EncDecAttention\.relative_attention_bias\.weight"
)


class Rule(NamedTuple):
    pattern: re.Pattern  # of the Hugging Face name
    reverse: re.Pattern  # of the (first) TF name
    hf: str
    tf: tuple[str, ...]
    transpose: bool


def rules_of(model_type: str) -> list[Rule]:
    rules = []
    for line in ARCHITECTURES[model_type][1].split("\n"):
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


def _rule(hf: str, tf: tuple[str, ...], transpose: bool) -> Rule:
    def pattern(template: str) -> re.Pattern:
        pieces = re.split(r"\{i(?::03d)?\}", template)
        return re.compile(r"(\d+)".join(map(re.escape, pieces)))

    return Rule(pattern(hf), pattern(tf[0]), hf, tf, transpose)
