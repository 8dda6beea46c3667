"""Fetching from the Hugging Face hub, against a local server that HF_ENDPOINT points to."""

import hashlib
import http.server
import json
import threading
import time

import pytest

from clue_baselines import data, hub
from clue_baselines.data import DataError
from clue_baselines.hub import COMMIT

pyarrow = pytest.importorskip("pyarrow")

ROWS = {
    "train": [("ＡＢ股市大涨", 12, 0), ("球队夺冠", 3, 1)],
    "validation": [("新车上市", 6, 0)],
    "test": [("第二条", -1, 1), ("第一条", -1, 0)],  # out of order: sorted by idx
}


class Hub:
    """A server with the hub's two addresses that are used; its files can be changed."""

    def __init__(self, folder):
        import pyarrow.parquet

        self.files, self.stated, self.requests = {}, {}, []
        self.commit = COMMIT
        self.breaks_off = lambda path: False  # whether more bytes are announced than sent
        for split, rows in ROWS.items():
            path = folder / f"{split}.parquet"
            columns = dict(zip(("sentence", "label", "idx"), zip(*rows, strict=True), strict=True))
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
            name = f"tnews/{split}-00000-of-00001.parquet"
            self.files[name] = path.read_bytes()
            self.stated[name] = hashlib.sha256(self.files[name]).hexdigest()
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
    with pytest.raises(DataError, match="dev.json does not have the SHA-256 that .*clue.lock.json"):
        data.find("tnews")


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
    with pytest.raises(DataError, match="SHA-256"):
        data.find("tnews")


def test_a_download_that_differs_from_the_listing_is_refused(server):
    server.files["tnews/validation-00000-of-00001.parquet"] = b"something else"
    with pytest.raises(DataError, match="hub's own listing"):
        data.find("tnews")


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
