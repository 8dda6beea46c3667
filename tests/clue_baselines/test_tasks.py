"""Every task by hand: which tokens a record becomes, which line its prediction."""

import importlib
import itertools
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from clue_baselines import backbone, data, experiment, predictions
from clue_baselines.chid import Chid, assign, centred
from clue_baselines.data import DataError, Record, Source
from clue_baselines.sample import make_samples
from clue_baselines.task import Task
from clue_baselines.wsc import marked
from keras_extras.tokenization import WordPieceTokenizer
from tests.clue_baselines.conftest import CONFIG

CHARACTERS = "小明说他饿帮红水土稻高产书在桌上哪里下天地不知无效答案猫狗鱼一二三四五六七八九十好"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", *"_[]|:，；：？", *CHARACTERS]
TOKENIZER = WordPieceTokenizer({t: i for i, t in enumerate(TOKENS)}, do_lower_case=True)


def task(name: str, **settings) -> Task:
    """The task of a script, with its defaults but for some settings."""
    module = importlib.import_module(f"clue_baselines.{name}")
    kinds = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Task)]
    kind = next(kind for kind in kinds if getattr(kind, "name", "") == name)
    return kind(kind.options(**{**kind.defaults, **settings}))


def record(**content) -> Record:
    found = Record(content)
    found.where = "train.json, line 7"
    return found


def tokens(ids) -> str:
    return " ".join(TOKENIZER.ids_to_tokens(ids))


@pytest.fixture
def write(tmp_path):
    """Writes files (JSON lines, or a document) into a task's folder; returns its source."""

    def into(name: str, **files) -> Source:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for split, content in files.items():
            rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in content]
            text = json.dumps(content, ensure_ascii=False) if split in DOCUMENTS else "".join(rows)
            (folder / f"{split}.json".replace("_", "-", split[1] == "_")).write_text(text)
        return Source(folder, "folder")

    return into


DOCUMENTS = ("m_train", "d_train", "test1", "train_answer")


@pytest.mark.parametrize("name, colon", [("tnews", ":"), ("iflytek", "：")])
def test_single_texts(name, colon):
    (example,) = task(name, maxlen=6).examples(
        record(sentence="小明 說：“他，饿”"), TOKENIZER, False
    )
    assert tokens(example.inputs[0]) == f"[CLS] 小 明 [UNK] {colon} [SEP]"
    assert example.inputs[1] == [0] * 6 and example.target is None


@pytest.mark.parametrize("name", ["afqmc", "ocnli", "cmnli"])
def test_pairs(name):
    pair = record(sentence1="小明在哪里？", sentence2="他饿")
    (example,) = task(name).examples(pair, TOKENIZER, False)
    assert tokens(example.inputs[0]) == "[CLS] 小 明 在 哪 里 ？ [SEP] 他 饿 [SEP]"
    assert example.inputs[1] == [0] * 11
    (example,) = task(name, segment_ids="one").examples(pair, TOKENIZER, False)
    assert example.inputs[1] == [0] * 8 + [1] * 3
    (example,) = task(name, maxlen=8).examples(pair, TOKENIZER, False)
    assert tokens(example.inputs[0]) == "[CLS] 小 明 在 [SEP] 他 饿 [SEP]"  # the longer is cut


def test_targets_are_the_labels_places():
    pair = {"sentence1": "小", "sentence2": "明"}
    for name, label, place in [
        ("afqmc", "1", 1), ("ocnli", "entailment", 0), ("cmnli", "contradiction", 2),
    ]:  # fmt: skip
        (example,) = task(name).examples(record(**pair, label=label), TOKENIZER, True)
        assert example.target == place
    with pytest.raises(DataError, match="line 7: unknown label '2'"):
        task("afqmc").examples(record(**pair, label="2"), TOKENIZER, True)
    assert task("iflytek").truth(record(label="118")) == 118
    with pytest.raises(DataError, match="unknown label '119'"):
        task("iflytek").truth(record(label="119"))


@pytest.mark.parametrize("name", ["ocnli", "cmnli"])
def test_rows_without_an_agreed_label_are_left_out_and_no_others(name, write, capsys):
    rows = [{"sentence1": "小", "sentence2": "明", "label": x} for x in ("-", "neutral", "–", "")]
    test = [{"id": 0, "sentence1": "小", "sentence2": "明", "label": "-"}]
    source = write(name, train=rows, test=test)
    kept = task(name).read(source, "train")
    assert [row["label"] for row in kept] == ["neutral", "–", ""]
    assert "Left out 1 rows of" in capsys.readouterr().out
    with pytest.raises(DataError, match="line 3: unknown label '–'"):
        task(name).truth(kept[1])
    assert len(task(name).read(source, "test")) == 1
    assert capsys.readouterr().out == ""


def pronoun(text, span1, span2, **changed):
    """A row of WSC; a span is (index, text)."""
    target = {"span1_index": span1[0], "span1_text": span1[1]}
    target |= {"span2_index": span2[0], "span2_text": span2[1]}
    return record(text=text, target=target | changed, label="true")


@pytest.mark.parametrize(
    "text, span1, span2, expected",
    [
        ("小明说他饿", (0, "小明"), (3, "他"), "_小明_说[他]饿"),
        ("他饿，小明说", (3, "小明"), (0, "他"), "[他]饿，_小明_说"),
        ("小明他饿", (0, "小明"), (2, "他"), "_小明_[他]饿"),
        ("他小明", (1, "小明"), (0, "他"), "[他]_小明_"),
        ("小明…㎏说他", (0, "小明"), (5, "他"), "_小明_…㎏说[他]"),
    ],
)
def test_wsc_marks_both_spans_in_either_order(text, span1, span2, expected):
    row = pronoun(text, span1, span2)
    assert marked(row) == expected
    assert task("wsc").texts(row) == [expected]


def test_wsc_tokens():
    (example,) = task("wsc").examples(
        pronoun("他饿，小明说", (3, "小明"), (0, "他")), TOKENIZER, True
    )
    assert tokens(example.inputs[0]) == "[CLS] [ 他 ] 饿 ， _ 小 明 _ 说 [SEP]"
    assert example.target == 1


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"span1_index": 1}, "line 7: span1_text '小明' does not stand at span1_index 1"),
        ({"span2_text": ""}, "line 7: 'target' needs span2_index and span2_text"),
        ({"span1_index": "0"}, "'target' needs span1_index"),
        ({"span2_index": -2}, "span2_text '他' does not stand at span2_index -2"),
    ],
)
def test_wsc_refuses_spans_that_are_elsewhere(changed, message):
    with pytest.raises(DataError, match=message):
        marked(pronoun("小明说他饿", (0, "小明"), (3, "他"), **changed))


def test_csl_joins_keywords():
    row = record(id=1, abst="水稻高产。", keyword=["水稻", "土；上"], label="0")
    (example,) = task("csl").examples(row, TOKENIZER, True)
    assert tokens(example.inputs[0]) == "[CLS] 水 稻 ； 土 ； 上 [SEP] 水 稻 高 产 [UNK] [SEP]"
    assert example.inputs[1] == [0] * 14 and example.target == 0
    for keywords in ([], "水稻", ["水", 3], None):
        with pytest.raises(DataError, match="line 7: no list of texts under 'keyword'"):
            task("csl").examples(record(abst="水", keyword=keywords), TOKENIZER, True)


def test_choices_are_scored_one_by_one(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(CONFIG | {"attention_probs_dropout_prob": 0.0}))
    bert = backbone.load(str(path), TOKENIZER, 20)
    model = task("c3").build(bert)
    assert [tensor.shape for tensor in model.outputs] == [(None, 4)]
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 12, size=(3, 4))
    ids = rng.integers(1, len(TOKENS), size=(3, 4, 11)) * (np.arange(11) < lengths[..., None])
    segments = rng.integers(0, 2, size=ids.shape) * (ids > 0)
    scores = keras.ops.convert_to_numpy(model([ids, segments]))
    kernel, bias = map(keras.ops.convert_to_numpy, model.get_layer("scores").weights)
    for (i, j), length in np.ndenumerate(lengths):
        row = [x[i, j, None, :length] for x in (ids, segments)]
        first = keras.ops.convert_to_numpy(bert.model(row))[0, 0]
        assert scores[i, j] == pytest.approx(float(first @ kernel[:, 0] + bias[0]), abs=1e-5)


QUESTION = {"question": "书在哪里？", "choice": ["桌上", "地下", "不知"], "answer": "地下"}


def test_c3_rows():
    row = record(passage=["小明：", "书在地下"], **QUESTION)
    (example,) = task("c3").examples(row, TOKENIZER, True)
    text = "[CLS] 小 明 ： | | 书 在 地 下 [SEP] 书 在 哪 里 ？ [SEP]"
    assert [tokens(ids) for ids in example.inputs[0]] == [
        f"{text} 桌 上 [SEP]",
        f"{text} 地 下 [SEP]",
        f"{text} 不 知 [SEP]",
        f"{text} 无 效 答 案 [SEP]",
    ]
    assert example.target == 1
    assert example.inputs[1] == [[0] * 20] * 3 + [[0] * 22]
    (example,) = task("c3", segment_ids="one", maxlen=14).examples(row, TOKENIZER, False)
    cut = "[CLS] 小 明 ： | [SEP] 书 在 哪 里 [SEP]"  # of equally long ones the question first
    assert tokens(example.inputs[0][0]) == f"{cut} 桌 上 [SEP]"
    assert example.inputs[1][0] == [0] * 6 + [1] * 8


def test_c3_never_chooses_what_was_filled_in():
    row = record(passage=["小"], **QUESTION)
    assert task("c3").predict(row, [], np.array([[0.1, 0.3, 0.2, 9.0]])) == 1


def test_c3_reads_two_files_and_a_limit_takes_half_of_each(write):
    entries = [[["甲"], [{**QUESTION, "question": f"{i}"}], "7-1"] for i in range(4)]
    source = write("c3", m_train=entries, d_train=entries[:3])
    names = [row["question"] for row in task("c3").read(source, "train")]
    assert names == ["0", "1", "2", "3", "0", "1", "2"]
    for limit, expected in ((4, "0101"), (5, "01201"), (1, "0"), (7, "0123012"), (6, "012012")):
        rows = task("c3").read(source, "train", limit)
        assert "".join(row["question"] for row in rows) == expected
    assert rows[0].where.endswith("m-train.json, passage 1")


@pytest.mark.parametrize(
    "content, message",
    [
        ([[["甲"]]], "passage 1: not a list of sentences and questions"),
        ([[["甲"], ["q"]]], "passage 1: not a list"),
        ([3], "passage 1: not a list"),
        ([], "holds no question"),
        ({}, "a JSON list is expected"),
    ],
)
def test_c3_refuses_files_of_another_form(write, content, message):
    source = write("c3", m_train=content, d_train=[])
    with pytest.raises(DataError, match=message):
        task("c3").read(source, "train")


def test_documents_that_are_none(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match="x.json is missing"):
        data.read_document(path, list)
    for content, message in ((b"[1,", ": not JSON"), ("甲".encode("gbk"), ", line 1: not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"x.json{message}"):
            data.read_document(path, list)


IDIOMS = [f"{a}{b}天地" for a in "一二三四五" for b in "六七"]
GROUP = {
    "candidates": IDIOMS,
    "content": ["小明#idiom000003#说他饿#idiom000004#。猫狗鱼", "#idiom000005#好"],
}
ANSWERS = {"#idiom000003#": 9, "#idiom000004#": 0, "#idiom000005#": 2}


def test_chid_rows(write):
    source = write("chid", train=[GROUP], train_answer=ANSWERS)
    (group,) = task("chid").read(source, "train")
    examples = task("chid").examples(group, TOKENIZER, True)
    assert [example.target for example in examples] == [9, 0, 2]
    blank, end = "[MASK] [MASK] [MASK] [MASK]", "[UNK] 猫 狗 鱼 [SEP]"
    first, second, third = ([tokens(ids) for ids in e.inputs[0]] for e in examples)
    assert len(first) == len(second) == len(third) == 10
    assert first[0] == f"[CLS] 一 六 天 地 [SEP] 小 明 [unused1] 说 他 饿 {blank} {end}"
    assert second[9] == f"[CLS] 五 七 天 地 [SEP] 小 明 {blank} 说 他 饿 [unused1] {end}"
    assert third[1] == "[CLS] 一 七 天 地 [SEP] [unused1] 好 [SEP]"
    assert examples[2].inputs[1] == [[0] * 9] * 10
    # seven places for the text: the blank stays in the middle, one more to its left
    cut, _, _ = task("chid", maxlen=13, segment_ids="one").examples(group, TOKENIZER, False)
    assert tokens(cut.inputs[0][0]) == "[CLS] 一 六 天 地 [SEP] 小 明 [unused1] 说 他 饿 [SEP]"
    _, cut, _ = task("chid", maxlen=13).examples(group, TOKENIZER, False)
    assert tokens(cut.inputs[0][0]) == "[CLS] 一 六 天 地 [SEP] 说 他 饿 [unused1] [UNK] 猫 [SEP]"


def blanks_and_text(tokens):
    """How long the runs of [MASK] are, and how many other tokens there are."""
    runs = [len(list(run)) for token, run in itertools.groupby(tokens) if token == "[MASK]"]
    return runs, sum(token != "[MASK]" for token in tokens)


def test_chid_cuts_no_blank_and_balances_text_alone():
    a, b, blank = list("abcdef"), list("uvwxyz"), ["[MASK]"] * 4
    assert centred([a, b], [a], 17) == (["f", *blank, *b], a)
    assert centred([a, b], [a], 16) == (b, a)  # the last token of a text goes with its blank
    assert centred([b, [], a], [a], 99) == (b + blank + blank + a, a)
    assert centred([a], [b, a], 17) == (a, [*b, *blank, "a"])
    assert centred([a], [b, a], 14) == (a, b)
    assert centred([[], a], [[]], 9) == (a, [])
    assert centred([[], []], [[]], 3) == ([], []) == centred([a], [b], -1)
    rng = np.random.default_rng(0)
    for _ in range(300):
        left, right = (
            [["t"] * n for n in rng.integers(0, 9, rng.integers(1, 4))] for _ in range(2)
        )
        room = int(rng.integers(0, 40))
        sides = centred(left, right, room)
        whole = [sum(map(len, side)) for side in (left, right)]
        runs, texts = zip(*map(blanks_and_text, sides), strict=True)
        assert all(run % 4 == 0 for run in (*runs[0], *runs[1]))
        assert sum(map(len, sides)) <= room
        for i in (0, 1):  # what was cut is about as long as the other side
            assert texts[i] == whole[i] or texts[i] >= texts[1 - i] - 1


def test_real_chid_rows_have_whole_blanks(clue_data):
    source = data.find("chid", str(clue_data))
    vocab = (clue_data / "vocab.txt").read_text(encoding="utf-8").split("\n")
    tokenizer = WordPieceTokenizer({t: i for i, t in enumerate(vocab)}, do_lower_case=True)
    ours, cut = task("chid"), 0
    for record in ours.read(source, "dev"):
        for example in ours.examples(record, tokenizer, False):
            rows = [tokenizer.ids_to_tokens(ids) for ids in example.inputs[0]]
            assert max(map(len, rows)) <= 64
            cut += max(map(len, rows)) > 56
            assert all(run % 4 == 0 for run in blanks_and_text(rows[0])[0])
    assert cut > 100


def test_chid_solves_a_group_at_once(write):
    source = write("chid", train=[GROUP], train_answer=ANSWERS)
    (group,) = task("chid").read(source, "train")
    scores = np.zeros((3, 10))
    scores[0, [3, 4]], scores[1, [3, 4]], scores[2, 7] = (5, 4), (6, 1), 1
    assert task("chid").predict(group, [], scores) == [4, 3, 7]
    assert task("chid", hungarian=False).predict(group, [], scores) == [3, 3, 7]
    assert task("chid").marks([4, 3, 7], [4, 0, 7]) == {"accuracy": (2.0, 3)}
    assert task("chid").size(group) == 3


def test_hungarian_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for blanks in range(1, 5):
        for scores in rng.normal(size=(20, blanks, 6)):
            found = assign(scores)
            assert len(set(found)) == blanks
            total = scores[range(blanks), found].sum()
            sums = [
                sum(scores[i, j] for i, j in enumerate(columns))
                for columns in itertools.permutations(range(6), blanks)
            ]
            assert total == pytest.approx(max(sums))
            taken = []  # greedy: every blank takes the best idiom that is left
            for row in scores:
                taken.append(max(set(range(6)) - set(taken), key=row.__getitem__))
            assert total >= scores[range(blanks), taken].sum() - 1e-12
    assert assign(np.array([[1.0], [2.0], [3.0]])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "group, answers, message",
    [
        (GROUP, {**ANSWERS, "#idiom000004#": 10}, "answer to #idiom000004# is 10"),
        (GROUP, {}, "line 1: the answer to #idiom000003# is None"),
        (GROUP | {"candidates": IDIOMS[:9]}, ANSWERS, "line 1: blanks and ten candidates"),
        (GROUP | {"content": ["小明"]}, ANSWERS, "line 1: blanks and ten candidates"),
    ],
)
def test_chid_refuses(write, group, answers, message):
    source = write("chid", train=[group], train_answer=answers)
    with pytest.raises(DataError, match=message):
        task("chid").read(source, "train")


def logits(*classes, of=3):
    """One array of logits per record, greatest at the given class."""
    return [np.eye(of)[[c]] for c in classes]


IDS = [{"id": 5}, {"id": 6}]


@pytest.mark.parametrize(
    "name, rows, outputs, expected",
    [
        ("tnews", IDS, logits(0, 14, of=15),
         {"test1.0": "tnews10_predict.json", "test": "tnews11_predict.json"}),
        ("iflytek", IDS, logits(118, 3, of=119), {"test": "iflytek_predict.json"}),
        ("afqmc", IDS, logits(1, 0, of=2), {"test": "afqmc_predict.json"}),
        ("ocnli", IDS, logits(2, 1), {"test": "ocnli_50k_predict.json"}),
        ("cmnli", IDS, logits(0, 2), {"test": "cmnli_predict.json"}),
        ("wsc", IDS, logits(1, 0, of=2),
         {"test1.0": "cluewsc10_predict.json", "test": "cluewsc11_predict.json"}),
        ("csl", IDS, logits(0, 1, of=2), {"test": "csl_predict.json"}),
        ("c3", [{"id": 5, "choice": list("abcd")}, {"id": 6, "choice": ["a", "b"]}],
         logits(3, 0, of=4), {"test1.0": "c310_predict.json", "test1.1": "c311_predict.json"}),
        ("chid", [{"blanks": ["#idiom000007#", "#idiom000009#"]}, {"blanks": ["#idiom000010#"]}],
         [np.eye(10)[[2, 8]], np.eye(10)[[0]]],
         {"test1.0": "chid10_predict.json", "test1.1": "chid11_predict.json"}),
    ],
)  # fmt: skip
def test_prediction_files(name, rows, outputs, expected, tmp_path):
    kind = task(name)
    records = [record(**row) for row in rows]
    answers = [
        kind.answer(row, kind.predict(row, [], output))
        for row, output in zip(records, outputs, strict=True)
    ]
    assert kind.submissions == expected
    ids = predictions.test_ids(kind, records)
    path = tmp_path / next(iter(expected.values()))
    predictions.write_predictions(path, answers, ids, kind.one_object)
    assert path.read_bytes() == (GOLDEN / f"{name}_predict.json").read_bytes()


def test_a_run_that_answers_groups_with_one_object(tiny, tmp_path, capsys):
    flags = ["--data", "sample", "--model", tiny, "--maxlen", 24, "--epochs", 1, "--limit", 8]
    experiment.main(Chid, [str(flag) for flag in (*flags, "--output", tmp_path)])
    said = capsys.readouterr().out
    folder = tmp_path / "chid" / "tiny-sample-seed0"
    result = json.loads((folder / "result.json").read_text())
    blanks = data.read_document(data.SAMPLE / "chid" / "dev_answer.json", dict)
    assert result["n"] == len(blanks) and f"{len(blanks)} blanks, seed 0" in said
    assert result["scores"]["accuracy"]["score"] == result["score"]
    for split, number in (("test1.0", 10), ("test1.1", 11)):
        answers = data.read_document(folder / f"chid{number}_predict.json", dict)
        text = (data.SAMPLE / "chid" / f"{split}.json").read_text(encoding="utf-8")
        assert list(answers) == re.findall(r"#idiom\d{6}#", text)
        assert all(0 <= answer <= 9 for answer in answers.values())


def test_pretrained_weights_without_a_token_that_the_task_needs(pretrained, capsys):
    flags = ["--data", "sample", "--model", str(pretrained()), "--maxlen", "24"]
    with pytest.raises(SystemExit, match=r"vocab.txt: it lacks \[unused1\], which this task needs"):
        experiment.main(Chid, flags)


@pytest.mark.parametrize("name", ["iflytek", "afqmc", "ocnli", "cmnli", "wsc", "csl", "c3", "chid"])
def test_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        experiment.main(type(task(name)), ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0 and f"python clue_baselines/{name}.py" in said
    assert ("--no-hungarian" in said) == (name == "chid")


GOLDEN = Path(__file__).parent / "predictions"


def test_shipped_samples_are_what_their_script_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_samples, "FOLDER", tmp_path)
    make_samples.main()
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.json"))
    assert len(written) == 31
    for name in written:
        assert (tmp_path / name).read_bytes() == (data.SAMPLE / name).read_bytes(), name
