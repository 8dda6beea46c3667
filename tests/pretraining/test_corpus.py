"""From text to packed sequences."""

import json
import shutil

import jieba
import numpy as np
import pytest

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.vocabulary import load_vocab
from pretraining import check_corpus, corpus
from pretraining.held_back import HeldBack, sentences_of
from pretraining.words import WordTokenizer
from tests.pretraining.conftest import HELD_BACK, arguments, sentences


def rows(folder, part="train"):
    return np.load(folder / f"{part}.tokens.npy"), np.load(folder / f"{part}.starts.npy")


def test_sequences_are_full_and_hold_all_text(built):
    vocab = load_vocab(built / "vocab.txt")
    tokens = {i: token.removeprefix("##") for token, i in vocab.items()}
    assert list(vocab)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    text = ""
    for part in ("train", "heldout"):
        ids, starts = rows(built, part)
        assert ids.dtype == "uint16" and ids.shape == starts.shape and ids.shape[1] == 16
        assert (ids[:, 0] == vocab["[CLS]"]).all() and (ids[:, -1] == vocab["[SEP]"]).all()
        assert not (ids == vocab["[PAD]"]).any()
        text += "".join(tokens[i] for i in ids[:, 1:-1].ravel())
    kept = sum(s.replace("ï", "i") in text for s in sentences())
    assert kept > 0.95 * len(sentences())  # two ends shorter than a row are dropped


def test_words_begin_where_jieba_says(texts):
    tokenizer = WordPieceTokenizer(str(texts / "vocab.txt"), do_lower_case=True)
    words = WordTokenizer(tokenizer)
    for sentence in sentences():
        ids, starts = words.encode(sentence)
        assert ids.tolist() == tokenizer.encode(sentence)[0][1:-1]
        found = [tokenizer.id_to_token(i).removeprefix("##") for i in ids]
        pieces = "".join(" " * bool(s) + t for t, s in zip(found, starts, strict=True)).split()
        expected = " ".join(jieba.lcut(sentence)).replace("na ï ve", "naive").split()
        assert pieces == expected


@pytest.mark.parametrize(
    "text",
    [
        "气温37℃以上",
        "3×4=12",
        "A→b2",
        "€100起",
        "4★级",
        "👍🏻ok好",
        "a\u200bb中\u200b国",
        "x\x0by z≠1",
    ],
)
def test_words_have_the_pieces_of_the_whole_text(texts, text):
    characters = [c for c in dict.fromkeys(text) if c.isprintable() and not c.isspace()]
    pieces = [*characters, *(f"##{c}" for c in characters)]
    vocab = [*load_vocab(texts / "vocab.txt"), *pieces]
    tokenizer = WordPieceTokenizer(
        {token: i for i, token in enumerate(dict.fromkeys(vocab))}, do_lower_case=True
    )
    assert WordTokenizer(tokenizer).encode(text)[0].tolist() == tokenizer.encode(text)[0][1:-1]


def test_dev_sentences_are_removed_and_not_found_afterwards(texts, built, tmp_path, capsys):
    about = json.loads((built / "corpus.json").read_text(encoding="utf-8"))
    assert about["files"]["second.txt.xz"]["removed"] == 1
    assert about["files"]["first.txt"]["removed"] == 0
    with pytest.raises(SystemExit) as stop:
        check_corpus.main([str(built), "--exclude", str(texts / "clue")])
    said = capsys.readouterr().out
    assert not stop.value.code and "0 of 1 dev and test" in said
    assert "1 of the 1 hold a token that the vocabulary lacks" in said
    # the checker is not blind: without --exclude the sentence is there
    command = arguments(texts, tmp_path)
    del command[command.index("--exclude") : command.index("--exclude") + 2]
    corpus.main([*command, "--heldout", "0"])
    with pytest.raises(SystemExit) as stop:
        check_corpus.main([str(tmp_path), "--exclude", str(texts / "clue")])
    said = capsys.readouterr().out
    assert stop.value.code and HELD_BACK in said and "0 of the 1 hold a token" in said


def test_a_match_across_paragraphs_takes_these_alone(texts):
    encoder = corpus.Encoder(texts / "vocab.txt", HeldBack([HELD_BACK, "小猫老师喜欢苹果"]), 0.0)
    across = [f"有人说，{HELD_BACK[:6]}", HELD_BACK[6:]]
    assert encoder.without_held_back(["起初。", *across, "后来。"]) == ["起初。", "后来。"]
    assert encoder.without_held_back(["甲。", "小猫老师", *across, "喜欢苹果！"]) == ["甲。"]


def test_short_pieces_are_held_back_together(tmp_path):
    text = "举目四海！五州亲，怎么对？"
    row = json.dumps({"sentence": text}, ensure_ascii=False)
    (tmp_path / "dev.json").write_text(row, encoding="utf-8-sig")  # with a byte order mark
    held_back = HeldBack(sentences_of(tmp_path))
    assert held_back.count == 1 and held_back.found_in(f"他问：{text}")


def test_documents_without_end_are_cut(tmp_path):
    (tmp_path / "long.txt").write_text("一段。\n" * 450 + "\n另一篇。\n", encoding="utf-8")
    assert [len(x) for x in corpus.documents(tmp_path / "long.txt")] == [200, 200, 50, 1]


def test_an_empty_file_counts_nothing(tmp_path):
    (tmp_path / "empty.txt").touch()
    counts = corpus.write_shard(tmp_path / "empty.txt", tmp_path, "empty", pool=None)
    assert counts == {"documents": 0, "paragraphs": 0, "removed": 0, "tokens": 0}


def test_arrays_that_are_half_written_are_no_corpus(texts, built, tmp_path, monkeypatch):
    output = shutil.copytree(built, tmp_path / "again")

    def killed(*_):
        raise OSError("killed")

    monkeypatch.setattr(corpus, "finish", killed)
    with pytest.raises(SystemExit, match="killed"):
        corpus.main(arguments(texts, output))
    assert not (output / "corpus.json").exists()


def test_an_interrupted_run_goes_on(texts, built, tmp_path):
    output = tmp_path / "again"
    shutil.copytree(built, output)
    shards = output / "shards"
    untouched = (shards / "first.train.tokens").stat().st_mtime_ns
    (shards / "second.json").unlink()  # as if it had been stopped within the second file
    (shards / "second.train.tokens").write_bytes(b"half")
    corpus.main(arguments(texts, output))
    assert (shards / "first.train.tokens").stat().st_mtime_ns == untouched
    for part in ("train", "heldout"):
        for ours, theirs in zip(rows(output, part), rows(built, part), strict=True):
            assert (ours == theirs).all()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("not UTF-8", "gbk.txt cannot be read as UTF-8"),
        ("damaged", "cut.txt.xz cannot be read"),
        ("damaged benchmark", "dev.json cannot be read"),
        ("no vocabulary", "none.txt"),
        ("twice", "the same name"),
        ("--length 7", "--length must be at least 8"),
        ("--heldout 1", "--heldout must be at least 0 and less than 1"),
        ("--rare -1", "--rare must not be negative"),
    ],
)
def test_bad_input_is_said_in_one_sentence(texts, tmp_path, trouble, said):
    command = arguments(texts, tmp_path / "out")
    if trouble == "not UTF-8":
        command[0] = str(tmp_path / "gbk.txt")
        (tmp_path / "gbk.txt").write_bytes("中文".encode("gbk"))
    elif trouble == "damaged":
        command[1] = str(tmp_path / "cut.txt.xz")
        (tmp_path / "cut.txt.xz").write_bytes((texts / "second.txt.xz").read_bytes()[:-20])
    elif trouble == "damaged benchmark":
        (tmp_path / "dev.json").write_text('{"sentence": "今', encoding="utf-8")
        command[command.index("--exclude") + 1] = str(tmp_path)
    elif trouble.startswith("--"):
        command += trouble.split()
    elif trouble == "no vocabulary":
        command[command.index("--vocab") + 1] = str(tmp_path / "none.txt")
    else:
        command[1] = command[0]
    with pytest.raises(SystemExit, match=f"^ERROR: .*{said}"):
        corpus.main(command)
    assert not (tmp_path / "out/corpus.json").exists()


def test_a_benchmark_that_is_not_there_is_not_nothing(texts, built, tmp_path):
    command = arguments(texts, tmp_path)
    command[command.index("--exclude") + 1] = str(tmp_path / "typo")
    with pytest.raises(SystemExit, match="^ERROR: .* holds no dev or test file"):
        corpus.main(command)
    with pytest.raises(SystemExit, match="^ERROR: .* holds no dev or test file"):
        check_corpus.main([str(built), "--exclude", str(tmp_path / "typo")])
