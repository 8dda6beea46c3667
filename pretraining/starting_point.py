"""The model that a pretraining begins with: what it is, and whether it goes with the corpus."""

from pathlib import Path

from clue_baselines.backbone import in_one_line, is_pretrained
from clue_baselines.data import DataError
from keras_extras.bert4keras import checkpoints
from keras_extras.bert4keras.huggingface.config import transformer_config
from keras_extras.vocabulary import load_vocab
from pretraining.model import ARCHITECTURES
from pretraining.settings import Settings

__all__ = ["check_fit", "start"]


def start(settings: Settings, vocabulary: dict[str, int]) -> tuple[dict, str, dict]:
    """Configuration and architecture of the model to begin with, and options to build it with.

    Raises:
        DataError: it cannot be read, is of another architecture than asked for, or than can be
            pretrained, or its weights lack tokens of the corpus.
    """
    pretrained = is_pretrained(settings.model)
    try:
        path = checkpoints.resolve(settings.model).config_path if pretrained else settings.model
        config = checkpoints.read_json(path)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"--model {settings.model}: {in_one_line(error)}") from None
    asked = settings.architecture
    architecture = asked or "bert"
    if "model_type" in config or "architectures" in config:
        architecture = transformer_config(config)[0]
    if architecture not in ARCHITECTURES:
        raise DataError(
            f"--model {settings.model} is of the architecture {architecture}; only "
            f"{' and '.join(ARCHITECTURES)} can be pretrained."
        )
    if asked not in ("", architecture) and not settings.resume:
        raise DataError(
            f"--architecture {asked}: --model {settings.model} is of the architecture "
            f"{architecture}."
        )
    options = {"vocab_size": len(vocabulary)}
    if pretrained:
        options |= kept_tokens(settings.model, Path(path).with_name("vocab.txt"), vocabulary)
    return config, architecture, options


def kept_tokens(model: str, path: Path, vocabulary: dict[str, int]) -> dict[str, list[int]]:
    """bert4keras' option that takes only the corpus's tokens from a model, in the corpus's order.

    Raises:
        DataError: the model lacks some of them.
    """
    own = load_vocab(path)
    if own == vocabulary:
        return {}
    lacking = [token for token in vocabulary if token not in own]
    if lacking:
        raise DataError(
            f"--model {model} lacks {len(lacking)} tokens of the corpus ({' '.join(lacking[:5])}"
            f"{' …' * (len(lacking) > 5)}); make the corpus with --vocab {path}."
        )
    return {"keep_tokens": [own[token] for token in vocabulary]}


def check_fit(settings: Settings, bert, length: int):
    """Complains about a model that cannot take the corpus's rows.

    Raises:
        DataError: it has fewer positions, or not the segments that the order of sentences needs.
    """
    if "Embedding-Position" in bert.layers and length > bert.max_position:
        raise DataError(
            f"The corpus has rows of {length} tokens, but --model {settings.model} only "
            f"{bert.max_position} positions; make the corpus with --length {bert.max_position}."
        )
    if settings.sentence_order and bert.segment_vocab_size < 2:
        raise DataError(f"--sentence-order: --model {settings.model} knows no second segment.")
