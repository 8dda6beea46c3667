"""bert4keras on Keras 3: its models, tokenizers and snippets over our layers and optimizers.

>>> from keras_extras.bert4keras import build_transformer_model, Tokenizer

After this import, or after `install()`, ``import bert4keras.models`` and the rest work as well.
"""

from keras_extras.bert4keras.install import install

install()

from bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab  # noqa: E402

from keras_extras.bert4keras.huggingface.export import save_pretrained  # noqa: E402
from keras_extras.bert4keras.models import build_transformer_model, data_parallel  # noqa: E402

__all__ = [
    "SpTokenizer",
    "Tokenizer",
    "build_transformer_model",
    "data_parallel",
    "install",
    "load_vocab",
    "save_pretrained",
]
