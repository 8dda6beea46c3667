"""Models come from a Hugging Face hub at HF_ENDPOINT, and from the cache when it is gone."""

from __future__ import annotations

import sys

import numpy as np

HUB = """
import http.server, json, os, sys, threading

FILES = {"config.json": json.dumps({"model_type": "bert"}).encode(), "vocab.txt": b"[PAD]"}
FILES["model.safetensors"] = open(sys.argv[1], "rb").read()
asked = []

class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self, body=False):
        if self.path.startswith("/api/"):
            return self.list_files()
        _, owner, model, _, revision, name = self.path.split("/", 5)
        known = model == "tiny" and name in FILES
        asked.append(name)
        self.send_response(200 if known else 404)
        if model != "tiny":
            self.send_header("X-Error-Code", "RepoNotFound")
        elif not known:
            self.send_header("X-Error-Code", "EntryNotFound")
        data = FILES[name] if known else b""
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"' + name + '"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def list_files(self):
        known = "/tiny" in self.path
        listing = {"id": "someone/tiny", "sha": "0" * 40}
        listing["siblings"] = [{"rfilename": name} for name in [*FILES, "README.md"]]
        data = json.dumps(listing).encode()
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.do_HEAD(body=True)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:%d" % server.server_port

from keras_extras.bert4keras.checkpoints import CheckpointError, open_checkpoint, resolve

checkpoint = open_checkpoint("someone/tiny")
print(checkpoint.names(), checkpoint["bert/pooler/dense/bias"].tolist())
print(sorted(os.listdir(os.path.dirname(resolve("someone/tiny").config_path))))
assert set(asked) == set(FILES), asked
try:
    open_checkpoint("someone/else")
except CheckpointError as error:
    print(error)
server.shutdown()
server.server_close()
print(open_checkpoint("someone/tiny").names())  # from the cache
try:
    open_checkpoint("someone/new")
except ConnectionError as error:
    print(error)
"""


def test_the_hugging_face_hub(tmp_path, run_python):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"bert.pooler.dense.bias": np.array([1, 2], "float32")}, path)
    printed = run_python(
        sys.executable,
        HUB,
        path,
        HF_HOME=tmp_path / "cache",
        HF_HUB_DISABLE_XET=1,
    )
    lines = printed.splitlines()
    assert lines[0] == "['bert/pooler/dense/bias'] [1.0, 2.0]"
    assert lines[1] == "['config.json', 'model.safetensors', 'vocab.txt']"
    assert "has no model of this name" in lines[2]
    assert lines[3] == "['bert/pooler/dense/bias']"
    assert "hub cannot be reached" in lines[4] and "HF_ENDPOINT" in lines[4]
