"""Reading CLUE's files: what is right is read, what is wrong is named with file and line."""

import json

import pytest

from clue_baselines import data
from clue_baselines.data import DataError
from clue_baselines.settings import Settings
from clue_baselines.tasks import task_class
from clue_baselines.tnews import SECTIONS


@pytest.fixture
def file(tmp_path):
    """Writes bytes into a file and returns its path."""

    def write(content: bytes):
        path = tmp_path / "train.json"
        path.write_bytes(content)
        return path

    return write


def test_texts_stay_as_they_are_but_for_blanks(file):
    row = {"sentence": " ＡＢＣ：“１２３”，Ok！\u3000", "label": "100"}
    path = file(json.dumps(row, ensure_ascii=False).encode())
    assert data.read_records(path)[0].text("sentence") == "ＡＢＣ：“１２３”，Ok！"


def test_unicode_line_separators_byte_order_mark_and_blank_lines(file):
    first = json.dumps({"sentence": "甲\u2028乙\x85丙"}, ensure_ascii=False).encode()
    path = file(b"\xef\xbb\xbf" + first + b'\r\n\n{"sentence": "x"}')
    records = data.read_records(path)
    assert [r["sentence"] for r in records] == ["甲\u2028乙\x85丙", "x"]
    assert records[1].where == f"{path}, line 3"


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"sentence": "a"}\n{"sentence": \n', "line 2: not a JSON object"),
        (b'{"sentence": "a"}\n"text"\n', "line 2: not a JSON object"),
        (b"[1, 2]\n", "line 1: not a JSON object"),
        ('{"sentence": "新闻"}'.encode("gbk"), "line 1: not UTF-8"),
        (b"\n\n", "is empty"),
    ],
)
def test_broken_files(file, content, message):
    with pytest.raises(DataError, match=f"train.json.*{message}"):
        data.read_records(file(content))


@pytest.mark.parametrize(
    "content, message",
    [
        ('[1,\n\n "新闻"]'.encode("gb18030"), "train.json, line 3: not UTF-8"),
        (b"\xef\xbb\xbf[\n\xff]", "train.json, line 2: not UTF-8"),
        (b'{"a":\n[}', "train.json: not JSON .*line 2"),
    ],
)
def test_broken_documents_are_named_with_their_line(file, content, message):
    with pytest.raises(DataError, match=message):
        data.read_document(file(content), list)


def test_a_document_with_byte_order_mark_and_line_separators(file):
    path = file(b"\xef\xbb\xbf" + json.dumps(["甲\u2028\x85"], ensure_ascii=False).encode())
    assert data.read_document(path, list) == ["甲\u2028\x85"]


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="dev.json is missing"):
        data.read_records(tmp_path / "dev.json")


@pytest.mark.parametrize(
    "row, message",
    [
        ({"sentence": "", "label": "100"}, "line 1: the text under 'sentence' is empty"),
        ({"sentence": " \u3000", "label": "100"}, "is empty"),
        ({"sentence": 5, "label": "100"}, "no text under 'sentence'"),
        ({"label": "100"}, "no text under 'sentence'"),
        ({"sentence": "x", "label": "105"}, "line 1: unknown label '105'; .* 100, 101, 102"),
        ({"sentence": "x"}, "line 1: no 'label'"),
    ],
)
def test_bad_records(file, row, message):
    record = data.read_records(file(json.dumps(row).encode()))[0]
    with pytest.raises(DataError, match=message):
        record.text("sentence")
        record.index("label", list(SECTIONS))


def test_limit_reads_the_first_rows(file):
    path = file(b'{"n": 1}\n{"n": 2}\nbroken\n')
    assert [r["n"] for r in data.read_records(path, limit=2)] == [1, 2]


def test_where_data_is_looked_for(tmp_path, monkeypatch):
    (tmp_path / "given" / "tnews").mkdir(parents=True)
    (tmp_path / "env" / "tnews").mkdir(parents=True)
    monkeypatch.setenv("CLUE_DATA", str(tmp_path / "env"))
    assert data.find("tnews", str(tmp_path / "given")).folder == tmp_path / "given" / "tnews"
    assert data.find("tnews").folder == tmp_path / "env" / "tnews"
    assert data.find("tnews", "sample").kind == "sample"
    with pytest.raises(DataError, match="--data is .*nowhere.* no folder"):
        data.find("tnews", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CLUE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="CLUE_DATA is .*nowhere"):
        data.find("tnews")


def test_ocnli_as_in_its_archive(tmp_path):
    """It holds training sets of several sizes; the whole one counts, by whichever name."""
    folder = tmp_path / "ocnli"
    folder.mkdir()
    for size, name in ((1, "train.3k"), (2, "train.10k")):
        (folder / f"{name}.json").write_text("{}\n" * size)
    source = data.find("ocnli", str(tmp_path))
    assert not source.has("train") and source.path("train") == folder / "train.json"
    row = '{"sentence1": "甲", "sentence2": "乙", "label": "neutral"}\n'
    (folder / "train.50k.json").write_text(row * 3, encoding="utf-8")
    assert source.has("train") and source.path("train") == folder / "train.50k.json"
    assert "train.50k.json" in source.checksums()
    assert len(task_class("ocnli")(Settings()).read(source, "train")) == 3
    (folder / "train.json").write_text(row * 4, encoding="utf-8")
    assert source.path("train") == folder / "train.json"
    (tmp_path / "cmnli").mkdir()
    (tmp_path / "cmnli" / "train.50k.json").write_text(row, encoding="utf-8")
    assert not data.find("cmnli", str(tmp_path)).has("train")


def test_shipped_sample_is_what_its_script_writes(tmp_path, monkeypatch):
    from clue_baselines.sample import make_tnews

    monkeypatch.setattr(make_tnews, "FOLDER", tmp_path)
    make_tnews.main()
    for name in ("vocab.txt", "tnews/train.json", "tnews/dev.json", "tnews/test.json"):
        assert (tmp_path / name).read_bytes() == (data.SAMPLE / name).read_bytes(), name


def test_shipped_sample_has_all_classes_and_no_title_twice():
    source = data.find("tnews", "sample")
    titles = []
    for split in ("train", "dev", "test1.0", "test"):
        records = data.read_records(source.path(split))
        titles += [record.text("sentence") for record in records]
        if split in ("train", "dev"):
            assert {record.index("label", list(SECTIONS)) for record in records} == set(range(15))
    assert len(titles) == len(set(titles)) == 1500


def test_real_tnews_is_read_whole(clue_data):
    source = data.find("tnews", str(clue_data))
    sizes = {"train": 53360, "dev": 10000, "test": 10000, "test1.0": 10000}
    for split, size in sizes.items():
        records = data.read_records(source.path(split))
        assert len(records) == size
        assert all(record.text("sentence") for record in records)
