"""WordPieceTokenizer against original bert4keras, text by text."""

import json
import random
import sys

import pytest

from keras_extras.tokenization import WordPieceTokenizer, load_vocab
from keras_extras.vocabulary import save_vocab

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
                        t.encode(a, b, maxlen=12), t.encode(a, b, 12, 'S*ES*E', 'left'),
                        t.encode(a, b, maxlen=12, truncate_from=2),
                        t.decode(t.encode(a)[0]), t.decode([], tokens), mapping])
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
            ours.append(t.encode(a, b, 12, "S*ES*E", "left"))
            ours.append(t.encode(a, b, maxlen=12, truncate_from=2))
            assert [list(pair) for pair in ours] == encoded[:-2], (a, b, lower)
            assert [t.decode(t.encode(a)[0]), t.decode([], tokens)] == encoded[-2:], (a, lower)
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


# Hashes of the ids of every text, and with jieba before (WoBERT), a translation, and a smaller
# vocabulary; prints seconds and number of texts, too
EVERY = """
import hashlib, json, sys, time
import jieba
if sys.argv[3] == "ours":
    from keras_extras.tokenization import WordPieceTokenizer as Tokenizer, load_vocab
else:
    from bert4keras.tokenizers import Tokenizer, load_vocab
jieba.setLogLevel(60)
vocab, kind = sys.argv[1], sys.argv[4]
options = {"do_lower_case": True}
texts = json.load(open(sys.argv[2], encoding="utf-8"))
if kind == "jieba":
    vocab = load_vocab(vocab)
    vocab |= {word: len(vocab) + i for i, word in enumerate(["新闻", "中国", "可以", "没有"])}
    options["pre_tokenize"] = lambda text: jieba.cut(text, HMM=False)
elif kind == "simplified":
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocab, keep = load_vocab(vocab, simplified=True, startswith=first)
    print(hashlib.sha256(json.dumps([vocab, keep]).encode()).hexdigest())
elif kind == "translate":
    options["token_translate"] = {"的": "[unused1]", "##s": "[unused2]", "[UNK]": "的"}
tokenizer, digest = Tokenizer(vocab, **options), hashlib.sha256()
began = time.perf_counter()
ids = [tokenizer.encode(text)[0] for text in texts]
seconds = time.perf_counter() - began
for row in ids:
    digest.update(json.dumps(row).encode())
print(digest.hexdigest())
print(seconds, len(texts), sum(map(len, ids)), file=sys.stderr)
"""


def compare_hashes(texts, vocab, kinds, run_python, legacy_python, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    legacy = {"TF_KERAS": 1, "TF_USE_LEGACY_KERAS": 1}
    for kind in kinds:
        ours, theirs = (
            run_python(
                python, EVERY, vocab, tmp_path / "texts.json", who, kind, timeout=1800, **env
            )
            for who, python, env in (("ours", sys.executable, {}), ("b4k", legacy_python, legacy))
        )
        assert ours == theirs, kind


@pytest.mark.slow
def test_equals_bert4keras_on_every_text_of_clue(clue_data, legacy_python, run_python, tmp_path):
    texts = []

    def collect(value):
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, (dict, list)):
            for each in value.values() if isinstance(value, dict) else value:
                collect(each)

    for path in sorted(clue_data.glob("*/*.json")):
        content = path.read_text(encoding="utf-8")
        try:
            collect(json.loads(content))
        except json.JSONDecodeError:
            collect([json.loads(line) for line in content.split("\n") if line.strip()])
    for path in sorted(clue_data.glob("sts/*.data")):
        texts += [t for line in path.read_text("utf-8").split("\n") for t in line.split("\t")]
    texts = sorted(set(texts))
    assert len(texts) > 500_000
    vocab = clue_data / "vocab.txt"
    compare_hashes(texts, vocab, ["plain"], run_python, legacy_python, tmp_path)
    kinds = ["jieba", "simplified", "translate"]
    compare_hashes(texts[::50], vocab, kinds, run_python, legacy_python, tmp_path)


TRANSLATED = """
import json, sys
from bert4keras.tokenizers import Tokenizer, load_vocab
task = json.load(open(sys.argv[1], encoding='utf-8'))
cut = lambda text: [text[i:i + 2] for i in range(0, len(text), 2)]
results = []
for lower in (True, False):
    for options in ({'pre_tokenize': cut}, {'token_translate': {'新': '[MASK]', 'e': 'x'}},
                    {'token_start': None, 'token_end': None}):
        t = Tokenizer(task['vocab'], do_lower_case=lower, **options)
        results.append([[t.tokenize(a), t.encode(a, a, maxlen=9)] for a in task['texts']])
results.append(load_vocab(sys.argv[3], simplified=True, startswith=['[UNK]', '[CLS]']))
json.dump(results, open(sys.argv[2], 'w'))
"""


def test_words_translations_and_smaller_vocabularies(legacy_python, run_python, tmp_path):
    vocab = {t: i for i, t in enumerate([*VOCAB, "新闻", "是x", "##闻", "##!", "xx", "e "])}
    texts = NASTY + fuzz(200, random.Random(1))
    task, out, file = (tmp_path / name for name in ("task.json", "out.json", "vocab.txt"))
    task.write_text(json.dumps({"vocab": vocab, "texts": texts}), encoding="utf-8")
    save_vocab(file, {t: i for t, i in vocab.items() if " " not in t})
    run_python(legacy_python, TRANSLATED, task, out, file, TF_KERAS=1, TF_USE_LEGACY_KERAS=1)
    *expected, simplified = json.loads(out.read_text())
    expected = iter(expected)
    for lower in (True, False):
        for options in (
            {"pre_tokenize": lambda text: [text[i : i + 2] for i in range(0, len(text), 2)]},
            {"token_translate": {"新": "[MASK]", "e": "x"}},
            {"token_start": None, "token_end": None},
        ):
            t = WordPieceTokenizer(vocab, do_lower_case=lower, **options)
            for text, (tokens, pair) in zip(texts, next(expected), strict=True):
                assert t.tokenize(text) == tokens, (text, lower, options)
                assert list(t.encode(text, text, maxlen=9)) == pair, (text, lower, options)
    smaller, keep = load_vocab(file, simplified=True, startswith=["[UNK]", "[CLS]"])
    assert [smaller, keep] == simplified
    assert "##闻" not in smaller and "新闻" not in smaller and keep[:2] == [1, 2]


def test_batches_and_attributes_of_bert4keras(tokenizer):
    ids, segments = tokenizer.encode_batch(["新闻", "是"], ["是", "新"], maxlen=5)
    assert (ids[0], segments[0]) == tokenizer.encode("新闻", "是", maxlen=5)
    assert (ids[1], segments[1]) == tokenizer.encode("是", "新")
    assert tokenizer._token_mask_id == VOCAB.index("[MASK]")
    assert tokenizer._token_end_id == VOCAB.index("[SEP]")
    assert tokenizer._vocab_size == len(VOCAB) == len(tokenizer._token_dict)
    with pytest.raises(ValueError, match="zip"):
        tokenizer.encode_batch(["新"], [])


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
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        load_vocab(tmp_path / "gbk.txt")
    with pytest.raises(ValueError, match="lacks 旧, old"):
        load_vocab(tmp_path / "vocab.txt", simplified=True, startswith=["旧", "[UNK]", "old"])
    with pytest.raises(ValueError, match=r"lacks \[CLS\]"):
        WordPieceTokenizer({"[UNK]": 0, "[SEP]": 1})
