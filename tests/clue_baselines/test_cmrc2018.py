"""CMRC2018: windows, targets, the way back to the passage, and the submission's format."""

import json

import numpy as np
import pytest

from clue_baselines import experiment, predictions, results
from clue_baselines.cmrc2018 import (
    BestSpan,
    Cmrc2018,
    CmrcSettings,
    Piece,
    SpanSoftmax,
    place,
    questions,
    windows,
)
from clue_baselines.data import DataError, Record, Source
from keras_extras.tokenization import WordPieceTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"谁年一二三四五六七", "ａｔｉ", "2008", "，", "."]


@pytest.fixture
def tokenizer():
    vocab = {token: i for i, token in enumerate(TOKENS)}
    return WordPieceTokenizer(vocab, do_lower_case=True)


def task(**settings):
    return Cmrc2018(CmrcSettings(**{"maxlen": 10, "stride": 3, **settings}))


def record(context, *answers):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    made = Record(id="Q1", question="谁？", context=context, answers=answers)
    made.where = "dev.json, passage 1"
    return made


@pytest.mark.parametrize("length", [1, 4, 6, 7, 9, 10, 23, 100])
@pytest.mark.parametrize("room, stride", [(6, 3), (6, 6), (3, 5), (7, 1), (200, 128)])
def test_windows_cover_the_passage(length, room, stride):
    found = list(windows(length, room, stride))
    assert {i for left, right in found for i in range(left, right)} == set(range(length))
    assert all(right - left <= room for left, right in found)
    assert all(b[0] - a[0] == min(stride, room) for a, b in zip(found, found[1:], strict=False))
    assert [right == length for _, right in found] == [False] * (len(found) - 1) + [True]


def test_an_answer_is_inside_a_window_only_if_all_of_it_is(tokenizer):
    # 9 tokens; the question takes [CLS] 谁 ? [SEP] and one [SEP] ends the window: 5 places
    text = "一二三四五六七年2008"
    ours = task()
    for start in range(8):
        for length in range(1, 9 - start):
            row = record(text, (text[start : start + length], start))
            examples = ours.examples(row, tokenizer, training=True)
            lefts = [example.about.first for example in examples]
            assert lefts == [0, 3, 6]
            for left, example in zip(lefts, examples, strict=True):
                right = min(left + 5, 9)
                inside = left <= start and start + length <= right
                first = 4 + start - left
                expected = [first, first + length - 1] if inside else [0, 0]
                assert example.target == expected


def test_inputs_by_hand(tokenizer):
    context = "一二三四五六"
    first, second = task().examples(record(context, ("五六", 4)), tokenizer, training=True)
    ids, segments, here = first.inputs
    shown = [TOKENS[i] for i in ids]
    assert shown == ["[CLS]", "谁", "[UNK]", "[SEP]", *"一二三四五", "[SEP]"]
    assert segments == [0] * 10
    assert here == [1, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    assert first.target == [0, 0]
    assert [TOKENS[i] for i in second.inputs[0]][4:] == [*"四五六", "[SEP]"]
    assert second.target == [5, 6]
    assert second.inputs[2] == [1, 0, 0, 0, 1, 1, 1, 0]


def test_a_long_question_leaves_half_of_the_window(tokenizer):
    row = record("一二三四五六", ("一", 0))
    row["question"] = "谁" * 30
    for example in task().examples(row, tokenizer, training=False):
        assert [TOKENS[i] for i in example.inputs[0]][:5] == ["[CLS]", "谁", "谁", "谁", "[SEP]"]
        assert len(example.inputs[0]) <= 10


def test_the_answer_is_cut_from_the_passage_as_it_stands(tokenizer):
    context = "一 ＡＴＩ，2008年……七"
    row = record(context, ("ＡＴＩ，2008年", 2))
    ours = task(maxlen=20)
    (example,) = ours.examples(row, tokenizer, training=True)
    assert [TOKENS[i] for i in example.inputs[0]][4:9] == ["一", "ａｔｉ", "，", "2008", "年"]
    assert example.target == [5, 8]
    outputs = np.array([example.target]), np.array([1.0])
    prediction = ours.predict(row, [example], outputs)
    assert prediction == Piece("ＡＴＩ，2008年", 2)
    assert ours.marks(prediction, ours.truth(row)) == {
        "exact_match": (1, 1),
        "f1": (1, 1),
        "position_accuracy": (1, 1),
    }
    part = ours.marks(Piece("2008年", 6), ours.truth(row))
    # ＡＴＩ2008|年 and 2008|年: where the comma is dropped, one word is left
    assert part["exact_match"] == (0, 1) and part["position_accuracy"] == (0, 1)
    assert part["f1"] == (0.5, 1)


def test_the_window_with_the_best_score_wins(tokenizer):
    row = record("一二三四五六七", ("七", 6))
    ours = task()
    examples = ours.examples(row, tokenizer, training=False)
    spans = np.array([[4, 5], [7, 7]])
    assert ours.predict(row, examples, (spans, np.array([3.0, 2.0]))) == Piece("一二", 0)
    assert ours.predict(row, examples, (spans, np.array([1.0, 2.0]))) == Piece("七", 6)


def test_an_answer_beside_its_place_is_found_again():
    assert place(record("一二一二一", ("一", 2))) == (2, 2)
    assert place(record("一二一二二", ("一", 3))) == (2, 2)
    assert place(record("一二一二二", (" 二 ", 4))) == (4, 4)
    assert place(record("一二", ("三", 0))) is None


def test_the_loss_is_the_softmax_over_all_spans():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 3, 3)).astype("float32")
    p = np.exp(scores.astype("float64"))
    p /= p.sum(axis=(1, 2), keepdims=True)
    loss = SpanSoftmax()(np.array([[0, 0], [1, 2]]), scores)
    assert float(loss) == pytest.approx(-(np.log(p[0, 0, 0]) + np.log(p[1, 1, 2])) / 2, rel=1e-5)


def test_the_best_span_leaves_out_cls():
    scores = np.full((2, 3, 3), -5.0, "float32")
    scores[:, 0, 0], scores[0, 1, 2], scores[1, 2, 2] = 9, 1, -1
    spans, best = BestSpan()(scores)
    assert np.array(spans).tolist() == [[1, 2], [2, 2]]
    assert np.array(best).tolist() == [1, -1]


def test_spans_keep_off_the_question_and_the_padding(tiny, tokenizer):
    from clue_baselines import backbone

    ours = task()
    bert = backbone.load(str(tiny), tokenizer, 10)
    predictor = ours.predictor(ours.build(bert))
    ids = np.array([[2, 4, 1, 3, 6, 7, 8, 3], [2, 4, 1, 3, 6, 3, 0, 0]])
    here = np.array([[1, 0, 0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 1, 0, 0, 0]])
    scores = np.array(ours.build(bert)([ids, 0 * ids, here]))
    allowed = (here[:, :, None] * here[:, None] == 1) & np.triu(np.ones((8, 8), bool))
    assert (scores[allowed] > -1e4).all() and (scores[~allowed] < -1e6).all()
    spans, _ = predictor.predict([ids, 0 * ids, here], verbose=0)
    assert 4 <= spans[0, 0] <= spans[0, 1] <= 6 and spans[1].tolist() == [4, 4]


def test_the_submission_is_byte_for_byte_as_it_must_be(tmp_path):
    ours, path = task(), tmp_path / "cmrc2018_predict.json"
    rows = [Record(id=f"TEST_0_QUERY_{i}") for i in range(2)]
    pieces = [Piece("光荣“α”", 3), Piece("1963年", 0)]
    answers = [ours.answer(*pair) for pair in zip(rows, pieces, strict=True)]
    predictions.write_predictions(path, answers, [row["id"] for row in rows], ours.one_object)
    assert path.read_text(encoding="utf-8") == (
        '{\n    "TEST_0_QUERY_0": "光荣“α”",\n    "TEST_0_QUERY_1": "1963年"\n}'
    )


ANSWERS = [{"text": "一", "answer_start": 0}]
GOOD = {"context": "一", "qas": [{"id": "Q", "question": "谁？", "answers": ANSWERS}]}


@pytest.mark.parametrize(
    "content, problem",
    [
        ([], "a JSON dict is expected"),
        ({"data": []}, "holds no question"),
        ({"data": 3}, ": not in the format of CMRC2018"),
        (
            {"data": [{"paragraphs": [{"qas": [{}]}]}]},
            r"passage 1 question 1: not in the format of CMRC2018 \(KeyError\('context'\)\)",
        ),
        ({"data": [{"paragraphs": []}, {}]}, "entry 2 of 'data': not in the format"),
        (
            {"data": [{"paragraphs": [GOOD, {"context": "一"}]}]},
            r"passage 2: not in the format of CMRC2018 \(KeyError\('qas'\)\)",
        ),
        (
            {"data": [{"paragraphs": [GOOD]}, {"paragraphs": [GOOD | {"qas": GOOD["qas"] + [7]}]}]},
            "passage 2 question 2: not in the format of CMRC2018",
        ),
        (
            {"data": [{"paragraphs": [{"context": "一", "qas": [{"id": "Q", "answers": []}]}]}]},
            "passage 1 question 1: a question without id or answer",
        ),
    ],
)
def test_bad_files(tmp_path, content, problem):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=f"{path}.*{problem}"):
        questions(path)


def test_only_a_test_set_may_lack_answers(tmp_path):
    asked = [{"id": "A", "question": "谁？"}, {"id": "B", "question": "谁？", "answers": []}]
    content = {"data": [{"paragraphs": [{"context": "一", "qas": asked}]}]}
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    source = Source(tmp_path, "folder")
    assert [record["id"] for record in task().read(source, "test")] == ["A", "B"]
    for split in ("train", "dev"):
        with pytest.raises(DataError, match=f"{split}.json"):
            task().read(source, split)


def test_mistakes_are_chosen_evenly(tmp_path):
    rows = [record("一二三", ("一", 0), ("一二", 0), ("一", 0)) for _ in range(100)]
    for i, row in enumerate(rows):
        row.where, row["question"] = f"{tmp_path}/dev.json, passage {i}", "谁?"
    # every second answer is right
    said = [Piece("一二", 0) if i % 2 else Piece("三", 2) for i in range(100)]
    ours = task()
    found = results.mistakes(ours, rows, said, [ours.truth(row) for row in rows])
    assert len(found) == 20
    assert [m["where"] for m in found[:3]] == [f"dev.json, passage {i}" for i in (0, 4, 8)]
    assert found[0]["text"] == "谁? | 一二三"
    assert (found[0]["said"], found[0]["right"]) == ("三", "一 / 一二")


def test_segment_ids_of_the_passage(tokenizer):
    row = record("一二三", ("一", 0))
    for value, second in (("zero", 0), ("one", 1)):
        (example,) = task(segment_ids=value).examples(row, tokenizer, False)
        assert example.inputs[1] == [0] * 4 + [second] * 4  # [CLS] 谁 ？ [SEP], 一 二 三 [SEP]


def test_stride_must_move():
    with pytest.raises(DataError, match="--stride must be at least 1"):
        task(stride=0)


def test_a_run(tiny, tmp_path):
    flags = ["--data", "sample", "--model", tiny, "--output", tmp_path, "--limit", 20]
    flags += ["--maxlen", 64, "--stride", 40, "--epochs", 1]
    experiment.main(Cmrc2018, [str(flag) for flag in flags])
    (folder,) = (tmp_path / "cmrc2018").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["n"] == 30 and result["metric"] == "exact_match"
    assert set(result["scores"]) == {"exact_match", "f1", "position_accuracy"}
    said = json.loads((folder / "cmrc2018_predict.json").read_text(encoding="utf-8"))
    assert len(said) == 20 and all(said.values())
