"""WordPieceTokenizer against original bert4keras, text by text."""

import json
import random

import pytest

from keras_extras.tokenization import WordPieceTokenizer, load_vocab

NASTY = [
    "", " ", "\u3000\x09\x0a", "新闻", "Keras 3.15发布！！", "ＡＢＣ１２３，：（）",
    "été café Ünïcödé naïve", "[MASK]是[CLS]", "[unused1]", "a\x00b�c\x08d\x7fe",
    "零\u200b宽\u200d连\u202e接\ufeff", "𠀀𪚥𫝀龘㐀豈", "😀👨\u200d👩\u200d👧👍\U0001f3fd",
    "x" * 201, "x" * 200, "unaffable" * 30, "ΑΣ ΣΑΣ ς", "İstanbul IJ ß ﬁ",
    "e\u0301 한국어 ゆき", "1\u2028 2\u2029 3\x85 4\x1c5", "²½Ⅷ①",
    "don't@mail.com #tag_1 C++", "ไทย हिन\u094dदी עברית", "a\u0323\u0307", "𝕳𝖊𝖑𝖑𝖔", "𝅥𝅭",
    "\ue000\uffff\U0010ffff", "¥€£§©®™", "——……“”‘’《》【】",
]  # fmt: skip

VOCAB = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "新", "闻", "是", "宽",
    "un", "##aff",
    "##able", "##unaff", "k", "##eras", "ke", "##ra", "##s", "3", "15", ".", "!", "[", "]", "mask",
    "e", "ete", "cafe", "naive", "x", "##x", "σ", "α", "##σ", "##ς", "i", "##s", "##t", "a", "b",
    "龘", "㐀", "𠀀", "1", "##2", "##3", ",", "(", "don", "'", "t", "c", "+", "한", "##국",
]  # fmt: skip
VOCAB = list(dict.fromkeys(VOCAB))

# Prints tokens, ids of single texts and pairs, and rematch of original bert4keras as JSON
ORIGINAL = """
import json, sys
from bert4keras.tokenizers import Tokenizer
task = json.load(open(sys.argv[1], encoding='utf-8'))
results = []
for lower in (True, False):
    t = Tokenizer(task['vocab'], do_lower_case=lower)
    for a, b in zip(task['texts'], task['texts'][1:] + task['texts'][:1]):
        tokens = t.tokenize(a)
        try:
            mapping = t.rematch(a, tokens)
        except ValueError:
            mapping = None
        results.append([tokens, t.encode(a), t.encode(a, maxlen=9), t.encode(a, b),
                        t.encode(a, b, maxlen=12), mapping])
json.dump(results, open(sys.argv[2], 'w'))
"""


def fuzz(count, rng):
    """Random texts over all corners of Unicode."""
    corners = [(0, 0x250), (0x300, 0x370), (0x2000, 0x2100), (0x3000, 0x3100), (0x4E00, 0x9FFF),
               (0xFF00, 0xFFFF), (0x1F600, 0x1F650), (0x2B800, 0x2CF00), (0, 0x10FFFF)]  # fmt: skip
    texts = []
    for _ in range(count):
        codes = [rng.randint(*rng.choice(corners)) for _ in range(rng.randint(0, 30))]
        texts.append("".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000))
    return texts


def compare(legacy_python, run_python, tmp_path, vocab, texts):
    """All results of both tokenizers on the texts must be equal."""
    if isinstance(vocab, list):
        vocab = {token: i for i, token in enumerate(vocab)}
    task = {"vocab": vocab, "texts": texts}
    (tmp_path / "task.json").write_text(json.dumps(task), encoding="utf-8")
    arguments = (tmp_path / "task.json", tmp_path / "out.json")
    run_python(legacy_python, ORIGINAL, *arguments, TF_KERAS=1, TF_USE_LEGACY_KERAS=1)
    expected = iter(json.loads((tmp_path / "out.json").read_text()))
    for lower in (True, False):
        t = WordPieceTokenizer(vocab, do_lower_case=lower)
        for a, b in zip(texts, texts[1:] + texts[:1], strict=True):
            tokens, *encoded, mapping = next(expected)
            assert t.tokenize(a) == tokens, (a, lower)
            ours = [t.encode(a), t.encode(a, maxlen=9), t.encode(a, b), t.encode(a, b, maxlen=12)]
            assert [list(pair) for pair in ours] == encoded, (a, b, lower)
            # the original counts positions in the lower-cased text, which may be longer
            if mapping is not None and len(a.lower()) == len(a):
                assert t.rematch(a, tokens) == mapping, (a, lower)


def test_equals_bert4keras_on_nasty_texts(legacy_python, run_python, tmp_path):
    texts = NASTY + fuzz(600, random.Random(0))
    compare(legacy_python, run_python, tmp_path, VOCAB, texts)


def test_equals_bert4keras_on_clue(clue_data, legacy_python, run_python, tmp_path):
    texts = []
    files = {"tnews/dev": ["sentence"], "cluener/dev": ["text"]}
    files["ocnli/dev"] = ["sentence1", "sentence2"]
    for name, keys in files.items():
        with open(clue_data / f"{name}.json", encoding="utf-8", newline="\n") as lines:
            rows = [json.loads(line) for line, _ in zip(lines, range(400), strict=False)]
        texts += [row[key] for row in rows for key in keys]
    assert len(texts) == 1600
    compare(legacy_python, run_python, tmp_path, str(clue_data / "vocab.txt"), texts)


@pytest.fixture
def tokenizer():
    return WordPieceTokenizer({t: i for i, t in enumerate(VOCAB)}, do_lower_case=True)


def test_rematch_cuts_the_original_text(tokenizer):
    text = "  Été　NAÏVE新闻!"
    tokens = tokenizer.tokenize(text)
    mapping = tokenizer.rematch(text, tokens)
    cut = [text[m[0] : m[-1] + 1] if m else "" for m in mapping]
    assert cut == ["", "Été", "NAÏVE", "新", "闻", "!", ""]


def test_rematch_survives_characters_that_grow_in_lower_case(tokenizer):
    # 'İ'.lower() is two characters: the original's positions shift by one from there on
    text = "İ新闻"
    mapping = tokenizer.rematch(text, tokenizer.tokenize(text))
    assert [m for m in mapping if m] == [[0], [1], [2]]


def test_rematch_of_foreign_tokens_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="does not occur"):
        tokenizer.rematch("新闻", ["[CLS]", "闻", "新"])


def test_encoding_twice_gives_the_same(tokenizer):
    first = tokenizer.tokenize("unaffable unaffable", maxlen=4)
    assert first == ["[CLS]", "un", "##aff", "[SEP]"]
    assert tokenizer.tokenize("unaffable") == ["[CLS]", "un", "##aff", "##able", "[SEP]"]


def test_vocabulary_files(tmp_path, tokenizer):
    tokenizer.save_vocab(tmp_path / "vocab.txt")
    assert load_vocab(tmp_path / "vocab.txt") == tokenizer.token_dict
    (tmp_path / "twice.txt").write_text("[UNK]\n新\n新\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3.*stands twice"):
        load_vocab(tmp_path / "twice.txt")
    (tmp_path / "gbk.txt").write_bytes("[UNK]\n新\n".encode("gbk"))
    with pytest.raises(ValueError, match="not a UTF-8"):
        load_vocab(tmp_path / "gbk.txt")
    with pytest.raises(ValueError, match=r"lacks \[CLS\]"):
        WordPieceTokenizer({"[UNK]": 0, "[SEP]": 1})
