"""From text to packed sequences."""

import json
import shutil

import jieba
import numpy as np
import pytest

from keras_extras.tokenization import WordPieceTokenizer
from keras_extras.vocabulary import load_vocab
from pretraining import check_corpus, corpus
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


def test_dev_sentences_are_removed_and_not_found_afterwards(texts, built, tmp_path, capsys):
    about = json.loads((built / "corpus.json").read_text(encoding="utf-8"))
    assert about["files"]["second.txt.xz"]["removed"] == 1
    assert about["files"]["first.txt"]["removed"] == 0
    with pytest.raises(SystemExit) as stop:
        check_corpus.main([str(built), "--exclude", str(texts / "clue")])
    assert not stop.value.code and "0 of 1 dev and test" in capsys.readouterr().out
    # the checker is not blind: without --exclude the sentence is there
    command = arguments(texts, tmp_path)
    del command[command.index("--exclude") : command.index("--exclude") + 2]
    corpus.main([*command, "--heldout", "0"])
    with pytest.raises(SystemExit) as stop:
        check_corpus.main([str(tmp_path), "--exclude", str(texts / "clue")])
    assert stop.value.code and HELD_BACK in capsys.readouterr().out


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


@pytest.mark.parametrize("trouble", ["not UTF-8", "damaged", "no vocabulary", "twice"])
def test_bad_input_is_said_in_one_sentence(texts, tmp_path, trouble):
    command = arguments(texts, tmp_path / "out")
    if trouble == "not UTF-8":
        command[0] = str(tmp_path / "gbk.txt")
        (tmp_path / "gbk.txt").write_bytes("中文".encode("gbk"))
    elif trouble == "damaged":
        command[1] = str(tmp_path / "cut.txt.xz")
        (tmp_path / "cut.txt.xz").write_bytes((texts / "second.txt.xz").read_bytes()[:-20])
    elif trouble == "no vocabulary":
        command[command.index("--vocab") + 1] = str(tmp_path / "none.txt")
    else:
        command[1] = command[0]
    with pytest.raises(SystemExit, match="^ERROR: "):
        corpus.main(command)
    assert not (tmp_path / "out/corpus.json").exists()


def test_a_benchmark_that_is_not_there_is_not_nothing(texts, built, tmp_path):
    command = arguments(texts, tmp_path)
    command[command.index("--exclude") + 1] = str(tmp_path / "typo")
    with pytest.raises(SystemExit, match="^ERROR: .* holds no dev or test file"):
        corpus.main(command)
    with pytest.raises(SystemExit, match="^ERROR: .* holds no dev or test file"):
        check_corpus.main([str(built), "--exclude", str(tmp_path / "typo")])
