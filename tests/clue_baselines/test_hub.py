"""Fetching from the Hugging Face hub, against a local server that HF_ENDPOINT points to."""

import hashlib
import http.server
import json
import threading
import time

import pytest

from clue_baselines import data
from clue_baselines.data import DataError, hub
from clue_baselines.data.hub import COMMIT
from clue_baselines.tasks import task_class

pyarrow = pytest.importorskip("pyarrow")

ROWS = {
    "train": [("ＡＢ股市大涨", 12, 0), ("球队夺冠", 3, 1)],
    "validation": [("新车上市", 6, 0)],
    "test": [("第二条", -1, 1), ("第一条", -1, 0)],  # out of order: sorted by idx
}


class Hub:
    """A server with the hub's two addresses that are used; its files can be changed."""

    def __init__(self, folder):
        self.files, self.stated, self.requests = {}, {}, []
        self.commit = COMMIT
        self.breaks_off = lambda path: False  # whether more bytes are announced than sent
        for split, rows in ROWS.items():
            keys = ("sentence", "label", "idx")
            self.add(f"tnews/{split}", [dict(zip(keys, row, strict=True)) for row in rows])
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                self.answer(*outer.reply(self.path))

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + 9 * outer.breaks_off(self.path)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, *parts):
        """Puts rows into a split's parquet file, or into several."""
        import io

        import pyarrow.parquet

        for number, rows in enumerate(parts):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file := io.BytesIO())
            path = f"{name}-{number:05d}-of-{len(parts):05d}.parquet"
            self.files[path] = file.getvalue()
            self.stated[path] = hashlib.sha256(self.files[path]).hexdigest()

    def reply(self, path):
        if path == f"/api/datasets/clue/clue/revision/{COMMIT}?blobs=true":
            siblings = [{"rfilename": "README.md", "size": 3}]
            siblings += [
                {"rfilename": name, "lfs": {"sha256": digest}}
                for name, digest in self.stated.items()
            ]
            return 200, json.dumps({"sha": self.commit, "siblings": siblings}).encode()
        name = path.removeprefix(f"/datasets/clue/clue/resolve/{COMMIT}/")
        if name not in self.files:
            return 404, b"not found"
        return 200, self.files[name]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CLUE_DATA", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub_server = Hub(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", hub_server.address)
    yield hub_server
    hub_server.server.shutdown()
    hub_server.server.server_close()


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_fetched_files_have_the_official_format(server):
    source = data.find("tnews")
    assert source.kind == "hub"
    assert rows(source.path("train")) == [
        {"label": "114", "label_desc": "news_stock", "sentence": "ＡＢ股市大涨", "keywords": ""},
        {"label": "103", "label_desc": "news_sports", "sentence": "球队夺冠", "keywords": ""},
    ]
    assert rows(source.path("dev"))[0]["label"] == "107"
    assert rows(source.path("test")) == [
        {"id": 0, "sentence": "第一条", "keywords": ""},
        {"id": 1, "sentence": "第二条", "keywords": ""},
    ]
    assert not source.has("test1.0") and "test1.0" in data.LACKING["hub"]["tnews"]
    assert [p.name for p in source.folder.iterdir() if p.suffix != ".json"] == []


def test_second_time_nothing_is_asked_and_files_are_checked(server):
    source = data.find("tnews")
    asked = len(server.requests)
    assert data.find("tnews") == source
    assert len(server.requests) == asked
    with source.path("dev").open("a") as file:
        file.write("{}\n")
    problem = "dev.json does not have the SHA-256 that .*clue.lock.json states; delete the file"
    with pytest.raises(DataError, match=problem):
        data.find("tnews")
    source.path("dev").unlink()  # as it says
    assert rows(data.find("tnews").path("dev"))[0]["label"] == "107"


def test_the_pinned_commit_is_asked_for(server):
    source = data.find("tnews")
    lock = json.loads((source.folder.parent / "clue.lock.json").read_text())
    assert lock["commit"] == COMMIT
    assert lock["files"]["tnews/test-00000-of-00001.parquet"] in server.stated.values()
    asked = f"/api/datasets/clue/clue/revision/{COMMIT}?blobs=true"
    assert server.requests[0] == asked
    # the same commit with other content is refused
    source.path("dev").unlink()
    name = "tnews/validation-00000-of-00001.parquet"
    server.files[name] = server.files["tnews/train-00000-of-00001.parquet"]
    server.stated[name] = server.stated["tnews/train-00000-of-00001.parquet"]
    lock_path = source.folder.parent / "clue.lock.json"
    problem = f"{COMMIT}/{name} does not have .* {lock_path} states; delete {lock_path} and run"
    with pytest.raises(DataError, match=problem):
        data.find("tnews")
    lock_path.unlink()  # as it says
    assert len(rows(data.find("tnews").path("dev"))) == 2


def test_a_download_that_differs_from_the_listing_is_refused(server):
    name = "tnews/validation-00000-of-00001.parquet"
    server.files[name] = b"something else"
    with pytest.raises(DataError, match=f"{server.address}.*{name} .* hub's own listing.* HF_END"):
        data.find("tnews")
    assert not list(hub.cache_folder().glob("*.part"))


TROUBLES = ["no such file", "not parquet", "unknown label", "no listing", "not JSON", "broken off"]
TROUBLES += ["other commit"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_at_the_hub_leads_to_the_sample(server, capsys, trouble):
    name = "tnews/validation-00000-of-00001.parquet"
    if trouble == "no such file":
        del server.files[name]
    elif trouble == "not parquet":
        server.files[name] = b"text"
        server.stated[name] = hashlib.sha256(b"text").hexdigest()
    elif trouble == "unknown label":
        import io

        import pyarrow.parquet

        table = pyarrow.table({"sentence": ["x"], "label": [15], "idx": [0]})
        pyarrow.parquet.write_table(table, buffer := io.BytesIO())
        server.files[name] = buffer.getvalue()
        server.stated[name] = hashlib.sha256(server.files[name]).hexdigest()
    elif trouble == "no listing":
        server.stated.clear()
    elif trouble == "not JSON":
        server.reply = lambda path: (200, b"<html>log in first</html>")
    elif trouble == "other commit":
        server.commit = "0123456789abcdef0123456789abcdef01234567"
    else:
        server.breaks_off = lambda path: "/resolve/" in path
    assert data.find("tnews").kind == "sample"
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("Could not fetch CLUE from the Hugging Face hub")


def test_offline_is_said_in_one_line_and_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CLUE_DATA", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    started = time.monotonic()
    assert data.find("tnews").kind == "sample"
    assert time.monotonic() - started < hub.TIMEOUT + 1
    assert len(capsys.readouterr().out.strip().splitlines()) == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert data.find("tnews").kind == "sample"
    assert "HF_HUB_OFFLINE" in capsys.readouterr().out


PAIR = {"sentence1": "甲\u2028乙", "sentence2": "丙"}
ONE_BY_ONE = {  # task: hub's folder, a row of train, one of test, and what they become
    "iflytek": ("iflytek", {"sentence": "描述", "label": 118},
                {"label": "118", "sentence": "描述"}, {"sentence": "描述"}),
    "afqmc": ("afqmc", PAIR | {"label": 1}, {"label": "1"} | PAIR, PAIR),
    "ocnli": ("ocnli", PAIR | {"label": 2}, {"label": "contradiction"} | PAIR, PAIR),
    "cmnli": ("cmnli", PAIR | {"label": 1}, {"label": "entailment"} | PAIR, PAIR),
}  # fmt: skip
SPANS = {"span1_text": "小明", "span1_index": 0, "span2_text": "他", "span2_index": 3}
ABSTRACT = {"abst": "摘要", "keyword": ["一", "二"]}
ONE_BY_ONE["wsc"] = (
    "cluewsc2020",
    {"text": "小明说他饿", "target": SPANS, "label": 0},
    {"label": "true", "target": SPANS, "text": "小明说他饿"},
    {"target": SPANS, "text": "小明说他饿"},
)
ONE_BY_ONE["csl"] = (
    "csl",
    ABSTRACT | {"corpus_id": 9, "label": 1},
    {"label": "1", "id": 9} | ABSTRACT,
    {"id": 9} | ABSTRACT,
)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("task", ONE_BY_ONE)
def test_rows_that_stand_alone(server, task):
    folder, row, official, tested = ONE_BY_ONE[task]
    server.add(f"{folder}/train", [row | {"idx": 0}], [row | {"idx": 1}])  # two files
    server.add(f"{folder}/validation", [row | {"idx": 0}])
    server.add(f"{folder}/test", [row | {"label": -1, "idx": i} for i in (1, 0)])
    source = data.find(task)
    assert source.kind == "hub"
    assert lines_of(source.path("train")) == [official] * 2
    assert lines_of(source.path("dev")) == [official]
    assert lines_of(source.path("test")) == [{"id": i} | tested for i in (0, 1)]
    kind = task_class(task)
    kind = kind(kind.options(**kind.defaults))
    (record,) = kind.read(source, "dev")
    assert kind.labels[kind.truth(record)] == official["label"] and kind.texts(record)


def test_c3_gets_its_passages_back(server):
    def rows(numbers, **more):
        asked = {"question": "问", "choice": ["甲", "乙"], "answer": "乙"} | more
        return [asked | {"id": n, "context": [f"文{n}"]} for n in numbers]

    server.add("c3/train", rows([0, 0, 4884, 4885]))
    server.add("c3/validation", rows([1627, 1628, 1628]))
    test = rows([7], answer="") + rows([8], answer="")
    server.add("c3/test", [row | {"context": ["同"]} for row in test])
    source = data.find("c3")
    question = {"question": "问", "choice": ["甲", "乙"]}
    answered = question | {"answer": "乙"}
    expected = {
        "d-train": [[["文0"], [answered] * 2, "0"], [["文4884"], [answered], "4884"]],
        "m-train": [[["文4885"], [answered], "4885"]],
        "d-dev": [[["文1627"], [answered], "1627"]],
        "m-dev": [[["文1628"], [answered] * 2, "1628"]],
        "test1.1": [[["同"], [question | {"id": 7}, question | {"id": 8}]]],
    }
    for name, passages in expected.items():
        assert data.read_document(source.path(name), list) == passages
    kind = task_class("c3")
    kind = kind(kind.options(**kind.defaults))
    assert [len(kind.read(source, split)) for split in ("train", "dev", "test1.1")] == [4, 3, 2]


@pytest.mark.parametrize("as_structs", [False, True])
def test_chid_gets_its_file_of_answers_back(server, as_structs):
    idioms = [f"成语{i}甲" for i in range(10)]

    def row(index, blank, answers):
        content = [f"文#idiom{blank:06d}#和#idiom{blank + 1:06d}#。"]
        found = {"text": [idioms[i] for i in answers], "candidate_id": list(answers)}
        if as_structs:
            found = [dict(zip(found, pair, strict=True)) for pair in zip(*found.values())]  # noqa: B905
        return {"idx": index, "candidates": idioms, "content": content, "answers": found}

    server.add("chid/train", [row(1, 2, (9, 0)), row(0, 0, (3, 4))])
    server.add("chid/validation", [row(0, 4, (5, 6))])
    server.add("chid/test", [{**row(0, 6, (1, 1)), "answers": {"text": [], "candidate_id": []}}])
    source = data.find("chid")
    kind = task_class("chid")
    kind = kind(kind.options(**kind.defaults))
    train = kind.read(source, "train")
    assert [record["answers"] for record in train] == [[3, 4], [9, 0]]
    assert [record["blanks"] for record in train][1] == ["#idiom000002#", "#idiom000003#"]
    assert data.read_document(source.path("dev_answer"), dict) == {
        "#idiom000004#": 5, "#idiom000005#": 6,
    }  # fmt: skip
    assert kind.ids(kind.read(source, "test1.1")[0]) == ["#idiom000006#", "#idiom000007#"]


def test_cmrc2018_gets_its_passages_back(server):
    def row(split, passage, number, start):
        answers = {"text": ["文"], "answer_start": [start]}
        name = f"{split}_{passage}_QUERY_{number}"
        return {"id": name, "context": f"课文{passage}", "question": "问？", "answers": answers}

    for hub_split, split in (("train", "TRAIN"), ("validation", "DEV"), ("trial", "TRIAL")):
        server.add(f"cmrc2018/{hub_split}", [row(split, 5, i, 1) for i in (0, 1)])
    server.add("cmrc2018/test", [row("TEST", 0, 0, -1)])
    source = data.find("cmrc2018")
    (passage,) = data.read_document(source.path("dev"), dict)["data"]
    answers = [{"text": "文", "answer_start": 1}]
    assert passage["paragraphs"] == [
        {
            "id": "DEV_5",
            "context": "课文5",
            "qas": [
                {"question": "问？", "id": f"DEV_5_QUERY_{i}", "answers": answers} for i in (0, 1)
            ],
        }
    ]
    kind = task_class("cmrc2018")
    kind = kind(kind.options(**kind.defaults))
    assert [len(kind.read(source, s)) for s in ("train", "dev", "trial", "test")] == [2, 2, 2, 1]


def test_answers_that_do_not_fit_their_blanks(server, capsys):
    row = {"idx": 0, "candidates": ["成语"] * 10, "content": ["文#idiom000001#"]}
    server.add("chid/train", [row | {"answers": {"text": [], "candidate_id": []}}])
    assert data.find("chid").kind == "sample"
    assert "chid/train-00000-of-00001.parquet has an unknown form" in capsys.readouterr().out


def test_what_the_hub_lacks(server, capsys):
    assert data.find("cluener").kind == "sample"
    assert "it has no usable copy of cluener" in capsys.readouterr().out
