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
from clue_baselines.data.footnotes import SENTENCES
from clue_baselines.report import beside
from clue_baselines.report.page import average_line
from clue_baselines.report.published import Cell, Row, named, published, ranks, yardsticks

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
    make_run(results, "tnews", "mini-sample-seed0", 0.9, n=300, data="sample", train_rows=900)
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
    assert "n of our scores: tnews 300 or 10,000; iflytek 2,599; afqmc 4,316." in lines
    people = next(line for line in lines if line.startswith("human, people"))
    (mark,) = (line[1] for line in lines if line.endswith(" another sample of rows"))
    assert people.split()[2:] == [
        *["71.00", f"({mark})", "66.00", f"({mark})", "81.00", f"({mark})"], *["–"] * 6,
    ]  # fmt: skip
    assert lines[-2] == f"Wrote {output}"


def table_of(results, *flags):
    """The report's rows by name, the marks, and what it says of the means."""
    runs = report.finished_runs(results)
    ours = report.rows_of(runs)
    average = report.shared_tasks(ours)
    return {r.model: r.means(average) for r in ours}, average, average_line(average, ours)


def test_one_sample_or_partial_run_takes_no_mean_from_the_others(results):
    before, average, _ = table_of(results)
    assert average == ["tnews", "afqmc"] and all(before.values())
    make_run(results, "tnews", "mini-sample-seed0", 0.9, n=300, data="sample", train_rows=900)
    make_run(results, "afqmc", "part-folder-seed0", 0.8, n=4316, train_rows=2000)
    make_run(results, "afqmc", "one-folder-seed0", 0.8, n=4316, train_rows=34334)
    means, average, said = table_of(results)
    assert average == ["tnews", "afqmc"]
    assert means == before | dict.fromkeys(["mini-sample", "part-folder", "one-folder"])
    assert said.endswith(" Of ours without mean and rank: one-folder (lacks tnews).")
    make_run(results, "csl", "small-folder-seed0", 0.8, n=3000, train_rows=20000)  # the fullest
    means, average, said = table_of(results)
    assert average == ["tnews", "afqmc", "csl"]
    assert [name for name, mean in means.items() if mean] == ["small-folder"]
    assert "one-folder (lacks tnews, csl)" in said and "roberta-folder (lacks csl)" in said


def test_no_means_where_nothing_can_be_compared(tmp_path):
    make_run(tmp_path, "tnews", "mini-sample-seed0", 0.9, n=300, data="sample", train_rows=900)
    assert table_of(tmp_path)[1:] == ([], "No means: none of our scores is comparable.")


def test_curves_and_mistakes_prefer_runs_that_can_be_compared(tmp_path):
    sample = {"n": 300, "data": "sample", "train_rows": 900}

    def shown():
        runs = report.preferred(report.finished_runs(tmp_path, "tnews"))
        return report.mistakes_of(runs)[0], [curve.name for curve in report.curves_of(runs)]

    make_run(tmp_path, "tnews", "mini-sample-seed0", 0.9, **sample)
    assert shown() == ("mini-sample-seed0", ["mini-sample"])
    make_run(tmp_path, "tnews", "part-seed0", 0.8, n=10000, train_rows=2000)
    assert shown() == ("part-seed0", ["part"])
    make_run(tmp_path, "tnews", "real-seed0", 0.5, n=10000, train_rows=53360)
    make_run(tmp_path, "tnews", "other-seed0", 0.6, n=10000, train_rows=53360)
    assert shown() == ("other-seed0", ["other", "real"])


def test_people_and_yardsticks_stand_in_the_main_table_as_not_on_dev(tmp_path, capsys):
    for task, n, train in (("ocnli", 2950, 50437), ("cluener", 1343, 10748)):
        make_run(tmp_path, task, "bert-folder-seed0", 0.7, n=n, train_rows=train)
    report.main(["--results", str(tmp_path), "--output", str(tmp_path / "report.html")])
    lines = capsys.readouterr().out.split("\n")
    (mark,) = (line[1] for line in lines if line.endswith(" on test"))
    (bilstm,) = (line for line in lines if line.startswith("BiLSTM + CRF, CLUENER"))
    assert bilstm.split()[4:] == ["70.00", f"({mark})", *["–"] * 6]  # no mean, no rank
    (people,) = (line for line in lines if line.startswith("human, people"))
    assert people.split()[2:4] == ["90.30", f"({mark})"] and people.split()[-6:] == ["–"] * 6
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    main_table = page[: page.index("Published scores on test")]
    assert "<td>human<br>" in main_table and "<td>BiLSTM + CRF<br>" in main_table
    assert not any(row.means(["ocnli"]) or row.means(["cluener"]) for row in yardsticks())


def test_another_published_metric_is_compared_with_our_score_of_that_metric(tmp_path):
    """Position accuracy is 56.17 in the author's table, which calls it EM."""
    for seed, place in enumerate((0.55, 0.56)):
        scores = {"position_accuracy": {"score": place, "standard_error": 0.0087, "n": 3219}}
        more = {"n": 3219, "train_rows": 10142, "scores": scores}
        make_run(tmp_path, "cmrc2018", f"own-seed{seed}", 0.64, seed, **more)
    runs = report.finished_runs(tmp_path)
    (author,) = beside.compare(runs, named("bert-base"))
    assert (author.task, author.ours, author.published) == ("cmrc2018", "55.50 ± 0.71", 56.17)
    assert author.difference == pytest.approx(-0.67) and author.error == pytest.approx(0.87)
    assert author.verdict == "agrees" and "cmrc2018 (position accuracy)" in beside.text([author])
    (clue,) = beside.compare(runs, named("clue-bert-base"))  # the official EM
    assert (clue.ours, clue.published, clue.error) == ("64.00 ± 0.00", 64.77, pytest.approx(1))
    (path,) = tmp_path.glob("cmrc2018/own-seed1/result.json")  # of an older run
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "scores"})
    )
    (author,) = beside.compare(report.finished_runs(tmp_path), named("bert-base"))
    assert author.ours == "64.00 ± 0.00"
    assert author.verdict.startswith("not comparable: ") and "not the official EM" in author.verdict
    assert not named("bert-base").means(["cmrc2018"])  # its column is that of the official EM


def test_footnotes_mark_a_cell_and_exclude_nothing(results, tmp_path, capsys):
    """The altered copy of TNEWS is known by its checksum, WSC is small in every copy."""
    altered = next(key for key in SENTENCES["tnews"])
    for path in (results / "tnews").glob("roberta*/settings.json"):
        change = {"task": "tnews", "settings": {}, "data": {"sha256": {"train.json": altered}}}
        path.write_text(json.dumps(change))
    make_run(results, "wsc", "roberta-folder-seed0", 0.6, n=304, train_rows=1244)
    make_run(results, "wsc", "mini-sample-seed0", 0.6, n=50, data="sample")
    rows = {row.model: row.cells for row in report.rows_of(report.finished_runs(results))}
    (tnews,), (wsc,) = (rows["roberta-folder"][task].footnotes for task in ("tnews", "wsc"))
    assert "altered copy: 22,157 titles" in tnews and "304 rows only" in wsc
    assert not rows["roberta-folder"]["tnews"].notes and not rows["small-folder"]["tnews"].marked
    assert not rows["mini-sample"]["wsc"].footnotes
    output = tmp_path / "report.html"
    report.main(["--results", str(results), "--output", str(output)])
    said = capsys.readouterr().out
    assert "57.00 ± 1.41 (1)" in said and f"(1) {tnews}\n" in said and f"(2) {wsc}\n" in said
    assert "Means are over tnews, afqmc, wsc," in said
    page = output.read_text(encoding="utf-8")
    assert f"<sup>1</sup> {tnews}" in page and "1.41</small><sup>1</sup></td>" in page


def test_a_cell_says_n_and_standard_error(page):
    text = page.read_text(encoding="utf-8")
    several = 'title="2 seeds, each with n 10,000 and standard error 1.00" data-value="57.0000"'
    assert several in text
    assert 'title="n 4,316 and standard error 1.00" data-value="74.0000"' in text


def test_tricks_are_paired_by_the_files_of_their_data(tmp_path):
    """Whether the folder was named by CLUE_DATA or by --data."""

    def table(*checksums):
        for i, (data, used, sha) in enumerate(
            zip(("", "/clue"), (0.0, 4.0), checksums, strict=True)
        ):
            path = make_run(tmp_path / sha, "tnews", f"{i}-seed0", 0.5 + i / 100)
            settings = {"data": data, "r_drop": used}
            seen = {"sha256": {"train.json": sha}}
            path.joinpath("settings.json").write_text(
                json.dumps({"settings": settings, "data": seen})
            )
        runs = [run for sha in set(checksums) for run in report.finished_runs(tmp_path / sha)]
        return report.trick_table.table(runs)

    assert table("same", "same") == [("tnews", "r-drop4", "+1.00 (1 seed)")]
    assert table("one", "other") == []


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
