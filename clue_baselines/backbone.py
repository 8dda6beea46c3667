"""The language model under every task: pretrained, or a small BERT from scratch."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from clue_baselines.data import SAMPLE, DataError, Source
from clue_baselines.settings import SCRATCH
from keras_extras.layers import PositionEmbedding
from keras_extras.tokenization import WordPieceTokenizer, load_vocab

SMALL_BERT = Path(__file__).parent / "bert_small.json"  # what SCRATCH means
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass
class Backbone:
    """A model with its tokenizer.

    `model` maps (token ids, segment ids), both (batch, length), to vectors (batch, length,
    hidden); `initializer` is the one its layers start from, for the task's head; `layers` is
    their number.
    """

    model: keras.Model
    tokenizer: WordPieceTokenizer
    initializer: keras.initializers.Initializer
    pretrained: bool
    description: str
    layers: int


def tokenizer_for(
    model: str, source: Source, texts: Iterable[str], needed: Sequence[str] = (), rare: int = 2
) -> WordPieceTokenizer:
    """The tokenizer: the model's vocabulary, else the data's, else one made from the texts.

    Args:
        model: what `--model` says.
        source: the data, which may have a `vocab.txt` beside it.
        texts: training texts, for a vocabulary of their characters.
        needed: special tokens of the task; a model from scratch gets those that its vocabulary
            lacks at the end, pretrained weights have no rows for them.
        rare: a character must occur this often to get a place. Default 2.

    Raises:
        DataError: the vocabulary is missing, damaged, or lacks a token that is needed.
    """
    if is_pretrained(model):
        path = model_folder(model) / "vocab.txt"
        if not path.is_file():
            raise DataError(f"The model {model} has no vocab.txt in {path.parent}.")
    else:
        path = SAMPLE / "vocab.txt" if source.kind == "sample" else source.vocab()
    try:
        vocab = load_vocab(path) if path else characters(texts, rare)
        lacking = [token for token in needed if token not in vocab]
        if lacking and is_pretrained(model):
            raise ValueError(f"it lacks {', '.join(lacking)}, which this task needs.")
        for token in lacking:
            vocab[token] = len(vocab)
        return WordPieceTokenizer(vocab, do_lower_case=True)
    except ValueError as error:
        raise DataError(f"Vocabulary {path}: {error}") from None


def characters(texts: Iterable[str], rare: int) -> dict[str, int]:
    """A vocabulary of the characters of the texts, each also as a continuation (`##a`)."""
    counts = Counter(c for text in texts for c in text.lower() if not c.isspace())
    kept = sorted(character for character, count in counts.items() if count >= rare)
    inside_words = [f"##{c}" for c in kept if c.isalnum() and not "\u3400" <= c <= "\u9fff"]
    return {token: i for i, token in enumerate((*SPECIAL_TOKENS, *kept, *inside_words))}


def is_pretrained(model: str) -> bool:
    """Whether `--model` names weights; "scratch" or a config.json means a model from scratch."""
    return model != SCRATCH and not model.endswith(".json")


def short_name(model: str) -> str:
    """What runs with this `--model` are called."""
    path = Path(SMALL_BERT if model == SCRATCH else model)
    if path.name == "model":  # of a pretraining: results/pretraining/<run>/model
        path = path.resolve().parent
    return path.name.removesuffix(".json")


def model_folder(model: str) -> Path:
    """Local folder of a pretrained model, downloaded if it is a hub id."""
    from keras_extras.bert4keras import checkpoints

    try:
        return Path(checkpoints.locate(model)).parent
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"--model {model}: {in_one_line(error)}") from None


def load(model: str, tokenizer: WordPieceTokenizer, maxlen: int) -> Backbone:
    """Builds the model under a task's head.

    If its table of positions is shorter than `maxlen`, the table is decomposed hierarchically: n
    positions serve n² (kexue.fm/archives/7947).

    Raises:
        DataError: the model cannot be loaded, is smaller than the vocabulary, or has fewer
            positions than `maxlen`, even decomposed.
    """
    bert = build(model, tokenizer)
    if tokenizer.vocab_size > bert.vocab_size:
        raise DataError(
            f"The vocabulary has {tokenizer.vocab_size} tokens but the model only "
            f"{bert.vocab_size}: vocab.txt and weights do not belong together."
        )
    tables = [layer for layer in bert.model.layers if isinstance(layer, PositionEmbedding)]
    positions = min((table.input_dim for table in tables), default=maxlen)
    if maxlen > positions**2:
        raise DataError(
            f"--maxlen {maxlen} is more than the model's {positions} positions, and more than "
            f"their hierarchical decomposition serves: give --maxlen {positions**2} or less."
        )
    if maxlen > positions:
        bert = build(model, tokenizer, hierarchical_position=True)
    size = f"{bert.num_hidden_layers} layers x {bert.hidden_size}"
    pretrained = is_pretrained(model)
    name = model if pretrained else f"{short_name(model)} from scratch"
    decomposed = f", {positions} positions decomposed" if maxlen > positions else ""
    description = f"{name} ({size}, {tokenizer.vocab_size} tokens{decomposed})"
    layers = bert.num_hidden_layers
    return Backbone(bert.model, tokenizer, bert.initializer, pretrained, description, layers)


def build(model: str, tokenizer: WordPieceTokenizer, **options):
    """bert4keras' object of the model, with its weights, or random for a model from scratch.

    Raises:
        DataError: it cannot be loaded.
    """
    from keras_extras.bert4keras import build_transformer_model

    config = str(SMALL_BERT) if model == SCRATCH else model
    if not is_pretrained(model):
        options["vocab_size"] = tokenizer.vocab_size
    try:
        return build_transformer_model(config, return_keras_model=False, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(f"Model {model}: {in_one_line(error)}") from None


def in_one_line(error: Exception, longest: int = 500) -> str:
    """An exception's message; a long list of variables that do not fit is cut."""
    text = " ".join(str(error).split())
    return text if len(text) <= longest else text[:longest] + " …"
