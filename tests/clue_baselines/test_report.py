"""Means, ranks, notes, the terminal table, and the page in a real browser."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import urllib.parse
from html.parser import HTMLParser

import pytest

from clue_baselines import report
from clue_baselines.report.published import Cell, Row, published, ranks

CLASSIFICATION = "iflytek tnews afqmc cmnli ocnli wsc csl".split()
ELEVEN = [*CLASSIFICATION, "cmrc2018", "c3", "chid", "cluener"]


def make_run(results, task, folder, score, seed=0, n=1000, data="folder", curve=(), **more):
    """The files of a finished run, as `experiment` writes them."""
    path = results / task / folder
    path.mkdir(parents=True)
    metric = {"cluener": "f1", "cmrc2018": "exact_match"}.get(task, "accuracy")
    result = {"task": task, "metric": metric, "score": score, "standard_error": 0.01, "n": n}
    result |= {"seed": seed, "data": data, "epochs": len(curve), **more}
    (path / "result.json").write_text(json.dumps(result))
    (path / "settings.json").write_text(json.dumps({"task": task, "settings": {}}))
    with (path / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", f"dev_{metric}"])
        writer.writerows((i + 1, 1 / (i + 1), value) for i, value in enumerate(curve or [score]))
    mistake = {"where": "dev.json, line 1", "text": "<b>一&二</b>", "said": "story", "right": "car"}
    (path / "mistakes.json").write_text(json.dumps([mistake]))
    return path


@pytest.fixture
def results(tmp_path):
    """Two models with seeds on tasks of the official size, one on the sample, one on few rows."""
    folder = tmp_path / "results"
    for seed, score in enumerate((0.56, 0.58)):
        name, curve = f"roberta-folder-seed{seed}", (0.5, score)
        make_run(folder, "tnews", name, score, seed, 10000, train_rows=53360, curve=curve)
    make_run(folder, "afqmc", "roberta-folder-seed0", 0.74, n=4316, train_rows=34334)
    make_run(folder, "tnews", "small-folder-seed0", 0.50, n=10000, train_rows=53360)
    make_run(folder, "afqmc", "small-folder-seed0", 0.70, n=4316, train_rows=34334)
    make_run(folder, "iflytek", "small-folder-seed0", 0.30, n=2599, train_rows=5622)
    return folder


def row(scores, tasks=None):
    cells = {task: Cell(score) for task, score in zip(tasks or "abcdefghijk", scores, strict=False)}
    return Row("", "", "dev", "", cells)


@pytest.mark.parametrize(
    "scores, expected",
    [
        ((90, 90, 90, 30), (75, 68.3852, 60)),
        ((75, 75, 75, 60), (71.25, 70.9306, 70.5882)),
        ((50, 0), (25, 0, 0)),
    ],
)
def test_means_by_hand(scores, expected):
    means = row(scores).means(list("abcdefghijk")[: len(scores)])
    assert list(means) == ["arithmetic", "geometric", "harmonic"]
    assert list(means.values()) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    "tasks, model, by, expected",
    [
        (CLASSIFICATION, "BERT-base", "CLUE, as the author found it", (71.18, 70.6665, 70.1273)),
        (CLASSIFICATION, "BERT-base", "the author", (71.4043, 70.8126, 70.1972)),
        (CLASSIFICATION, "RoBERTa-wwm-ext", "the author", (73.6814, 73.0138, 72.3169)),
        (ELEVEN, "BERT-base", "CLUE, as the author found it", (72.2927, 71.8340, 71.3521)),
        (ELEVEN, "BERT-base", "the author", (72.4609, 71.8746, 71.2664)),
        (ELEVEN, "RoBERTa-wwm-ext", "the author", (74.8818, 74.3238, 73.7365)),
    ],
)
def test_means_of_published_rows(tasks, model, by, expected):
    rows = [r for r in published("test") if r.source == "8739" and r.by.startswith(by)]
    (found,) = (r for r in rows if r.model == model)
    for cell in found.cells.values():  # the article takes CLUE's for comparable
        cell.notes.clear()
    assert list(found.means(tasks).values()) == pytest.approx(expected, abs=5e-5)


def test_a_mean_needs_every_task_comparable():
    incomplete = row((80, 70), "ab")
    assert incomplete.means(["a", "b"])["arithmetic"] == 75
    assert incomplete.means(["a", "b", "c"]) is None
    assert incomplete.means([]) is None
    incomplete.cells["b"].notes.append("another test set")
    assert incomplete.means(["a", "b"]) is None


def test_ranks():
    assert ranks([71.4, None, 71.3, 73.7, 71.3]) == [2, None, 3, 1, 3]
    assert ranks([None]) == [None]


def test_published_rows_say_what_cannot_be_compared():
    author = next(r for r in published("dev") if r.source == "9052")
    assert author.cells["cmrc2018"].score == 56.17
    assert "not the official EM" in author.cells["cmrc2018"].notes[0]
    assert not author.cells["tnews"].notes
    for found in published("dev"):
        if found.by == "CLUE (official)":
            assert "older WSC" in found.cells["wsc"].notes[0]
    found = next(r for r in published("test") if r.by == "CLUE, as the author found it")
    noted = [task for task, cell in found.cells.items() if cell.notes]
    assert noted == ["tnews", "wsc"] and "another version" in found.cells["tnews"].notes[0]
    human = next(r for r in published("test") if r.model == "human")
    assert all(cell.notes for cell in human.cells.values())


def test_rows_of_runs(results):
    for folder, score in (("roberta-folder-seed1-10", 0.60), ("roberta-folder-seed1-2", 0.1)):
        make_run(results, "tnews", folder, score, 1, 10000, curve=(0.1, score), train_rows=53360)
    make_run(results, "tnews", "mini-sample-seed0", 0.9, n=300, data="sample", train_rows=900)
    make_run(results, "wsc", "small-folder-seed0", 0.6, n=290, train_rows=1244)
    rows = {r.model: r for r in report.rows_of(report.finished_runs(results))}
    assert set(rows) == {"roberta-folder", "small-folder", "mini-sample"}
    tnews = rows["roberta-folder"].cells["tnews"]  # of seed 1 the later run
    assert (tnews.score, tnews.seeds, tnews.notes) == (pytest.approx(58), 2, [])
    assert tnews.deviation == pytest.approx(math.sqrt(((56 - 58) ** 2 + (60 - 58) ** 2) / 1))
    single = rows["roberta-folder"].cells["afqmc"]
    assert (single.score, single.deviation, single.seeds) == (74, pytest.approx(1), 1)
    cells = rows["small-folder"].cells
    assert cells["iflytek"].notes == ["trained on 5,622 instead of 12,133 rows"]
    assert cells["wsc"].notes == ["scored on 290 instead of 304"]
    assert "invented sample" in rows["mini-sample"].cells["tnews"].notes[0]


def test_other_settings_under_one_name_are_a_row_of_their_own(results):
    more = {"n": 10000, "curve": (0.5, 0.9)}
    paths = [
        make_run(results, "tnews", "roberta-folder-seed0-2", 0.8, 0, train_rows=53360, **more),
        make_run(results, "tnews", "roberta-folder-seed2", 0.9, 2, train_rows=53360, **more),
        make_run(results, "tnews", "roberta-folder-seed3", 0.4, 3, n=10000, train_rows=53360),
        make_run(results, "tnews", "roberta-folder-seed4", 0.3, 4, train_rows=53360, **more),
        make_run(results, "tnews", "roberta-folder-seed5", 0.6, 5, train_rows=100, **more),
    ]
    rate = {"settings": {"learning_rate": 1e-4, "strategy": "mirrored", "can": False}}
    for path in (results / "tnews").glob("roberta*"):
        changed = {"settings": {"learning_rate": 0.0, "seed": [1]}}
        path.joinpath("settings.json").write_text(json.dumps(changed))
    for path in paths[:2]:
        path.joinpath("settings.json").write_text(json.dumps(rate))
    other = {"settings": {}, "data": {"sha256": {"dev.json": "0"}}}
    paths[3].joinpath("settings.json").write_text(json.dumps(other))

    rows = {r.model: r.cells for r in report.rows_of(report.finished_runs(results))}
    (data,) = (name for name in rows if name.startswith("roberta-folder (folder data "))
    assert set(rows) == {
        "roberta-folder", "roberta-folder (learning-rate 0.0001)", "roberta-folder (epochs 0)",
        data, "small-folder",
    }  # fmt: skip
    plain = rows["roberta-folder"]["tnews"]
    assert (plain.score, plain.seeds) == (pytest.approx(58), 3)  # 56, 58 and 60
    assert plain.notes == ["trained on 100 instead of 53,360 rows"]  # of one seed only
    changed = rows["roberta-folder (learning-rate 0.0001)"]["tnews"]
    assert (changed.score, changed.seeds, changed.notes) == (pytest.approx(85), 2, [])
    assert rows[data]["tnews"].score == 30


def test_the_terminal_table(results, tmp_path, capsys):
    make_run(results, "sentence_embeddings", "other-seed0", 0.5)  # no task of CLUE
    output = tmp_path / "report.html"
    report.main(["--results", str(results), "--output", str(output)])
    lines = capsys.readouterr().out.split("\n")
    head = lines[0].split()
    assert head[:3] == ["tnews", "iflytek", "afqmc"]
    assert head[3:] == ["arithmetic", "rank", "geometric", "rank", "harmonic", "rank"]
    ours = next(line for line in lines if line.startswith("roberta-folder"))
    assert "57.00 ± 1.41" in ours and "74.00 ± 1.00" in ours
    assert "65.50" in ours and f"{math.sqrt(57 * 74):.2f}" in ours
    small = next(line for line in lines if line.startswith("small-folder"))
    assert "30.00 ± 1.00 (a)" in small
    assert "(a) trained on 5,622 instead of 12,133 rows" in lines
    assert "Means are over tnews, afqmc," in "\n".join(lines)
    assert lines[-2] == f"Wrote {output}"


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="ERROR: no finished run in"):
        report.main(["--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="There is no task 'news'"):
        make_run(tmp_path, "tnews", "a-seed0", 0.5)
        report.main(["--results", str(tmp_path), "--average", "news"])


class Page(HTMLParser):
    """Whether tags are closed in order, and what a page would load."""

    VOID = {"meta", "link", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.loads = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(results, tmp_path):
    output = tmp_path / "report.html"
    report.main(["--results", str(results), "--output", str(output)])
    return output


def test_the_page_is_whole_and_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    parser = Page()
    parser.feed(text)
    assert parser.open == [] and parser.loads == ["data:,"]
    assert "&lt;b&gt;一&amp;二&lt;/b&gt;" in text and "<b>一" not in text
    assert text.count("<svg") == 3  # one picture per task with runs
    assert "<title>roberta-folder, seed 1</title>" in text
    assert not re.search(r"https?://", text)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROBE = """
<script>
window.addEventListener('load', () => {
  const errors = [];
  window.addEventListener('error', event => errors.push(event.message));
  const table = document.querySelector('table.scores');
  const heads = [...table.tHead.rows[0].cells];
  const at = name => heads.findIndex(head => head.textContent === name);
  const column = name => [...table.tBodies[0].rows].map(row => row.cells[at(name)].dataset.value);
  const click = name => heads[at(name)].querySelector('button').click();
  const seen = {columns: heads.map(head => head.textContent)};
  click('tnews'); seen.down = column('tnews');
  seen.aria = heads[at('tnews')].getAttribute('aria-sort');
  click('tnews'); seen.up = column('tnews');
  click('rank'); seen.rank = column('rank');
  const mean = document.querySelector('#mean');
  const means = () => Object.fromEntries([...table.tBodies[0].rows].map(
    row => [row.cells[0].textContent, row.cells[at('mean')].textContent]));
  seen.arithmetic = means();
  mean.value = 'harmonic'; mean.dispatchEvent(new Event('change'));
  seen.harmonic = means(); seen.rank_harmonic = column('rank');
  click('model'); seen.model = table.tBodies[0].rows[0].cells[0].textContent;
  const root = document.documentElement;
  seen.page = root.scrollWidth; seen.room = root.clientWidth; seen.window = window.innerWidth;
  seen.ground = getComputedStyle(document.body).backgroundColor;
  seen.errors = errors;
  parent.postMessage(encodeURIComponent(JSON.stringify(seen)), '*');
});
</script>
"""
FRAME = """<!DOCTYPE html><pre id="answer"></pre>
<script>
window.addEventListener('message', event => {
  document.querySelector('#answer').textContent = event.data;
});
</script>
<iframe src="probed.html" width="WIDTH" height="800" style="border: 0"></iframe>
"""


@pytest.fixture
def browse(page, tmp_path):
    """Opens the page with a probe in a headless Chromium; returns what the probe saw."""
    found = (os.environ.get("KERAS_EXTRAS_BROWSER"), *map(shutil.which, BROWSERS))
    browser = next(filter(None, found), None)
    if not browser:
        pytest.skip("no Chromium here")
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>")
    (tmp_path / "probed.html").write_text(text, encoding="utf-8")

    def run(width, *flags):
        frame = tmp_path / "frame.html"  # a window of Chromium is never as narrow as a phone
        frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
        common = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        common += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
        done = subprocess.run(
            [browser, *common, *flags, "--dump-dom", frame.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        answer = re.search(r'<pre id="answer">(.+?)</pre>', done.stdout)
        assert answer, done.stderr[-2000:]
        assert "CONSOLE" not in done.stderr
        return json.loads(urllib.parse.unquote(answer.group(1)))

    return run


def test_sorting_and_the_mean_switch_work_in_a_browser(browse):
    seen = browse(1200)
    assert seen["errors"] == []
    assert seen["columns"][0] == "model" and seen["columns"][-2:] == ["mean", "rank"]
    known = [float(value) for value in seen["down"] if value]
    assert known == sorted(known, reverse=True) and "57.0000" in seen["down"]
    assert seen["aria"] == "descending"
    assert [float(value) for value in seen["up"] if value] == sorted(known)
    assert seen["down"][len(known) :] == seen["up"][len(known) :]  # what is missing stays last
    ranked = [int(value) for value in seen["rank"] if value]
    assert ranked == sorted(ranked) and ranked[0] == 1
    assert seen["arithmetic"]["roberta-folderhere"] == "65.50"
    harmonic = 2 / (1 / 57 + 1 / 74)
    assert seen["harmonic"]["roberta-folderhere"] == f"{harmonic:.2f}"
    ranked = [int(value) for value in seen["rank_harmonic"] if value]
    assert ranked == sorted(ranked)  # sorted anew by what is shown now
    assert seen["model"].startswith("ALBERT-tiny")


def test_the_page_fits_a_phone_and_the_dark(browse):
    light, dark = browse(360), browse(360, "--blink-settings=preferredColorScheme=0")
    assert light["page"] <= light["room"] <= light["window"] == 360
    assert light["ground"] != dark["ground"]
