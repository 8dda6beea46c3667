"""CLUENER: targets, decoding, the submission's format, and the three heads in short runs."""

import json

import keras
import numpy as np
import pytest

from clue_baselines import backbone, experiment, heads, predictions
from clue_baselines.cluener import TYPES, Cluener, CluenerSettings
from clue_baselines.data import DataError, Record
from keras_extras.tokenization import WordPieceTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "于", "ａｔｉ", "##2", "京", "（", "）"]
TEXT = "于 ＡＴＩ2（京）"  # tokens: 于 ａｔｉ ##2 （ 京 ）
ADDRESS, COMPANY = TYPES.index("address"), TYPES.index("company")


def record(label=None, **more):
    made = Record({"text": TEXT, **more} | ({} if label is None else {"label": label}))
    made.where = "dev.json, line 7"
    return made


@pytest.fixture
def tokenizer():
    vocab = {token: i for i, token in enumerate(TOKENS)}
    return WordPieceTokenizer(vocab, do_lower_case=True)


def task(**settings):
    return Cluener(CluenerSettings(**{"maxlen": 16, **settings}))


LABEL = {"company": {"ＡＴＩ2": [[2, 5]]}, "address": {"京": [[7, 7]]}}
NAMES = {("company", 2, 5), ("address", 7, 7)}


def test_tokens_and_pointer_targets_by_hand(tokenizer):
    (example,) = task().examples(record(LABEL), tokenizer, training=True)
    ids, segments = example.inputs
    assert [TOKENS[i] for i in ids] == ["[CLS]", "于", "ａｔｉ", "##2", "（", "京", "）", "[SEP]"]
    assert segments == [0] * 8
    assert example.target.shape == (10, 1, 2)
    assert example.target[COMPANY].tolist() == [[2, 3]]
    assert example.target[ADDRESS].tolist() == [[5, 5]]
    others = [i for i in range(10) if i not in (ADDRESS, COMPANY)]
    assert (example.target[others] == -1).all()


def test_crf_targets_by_hand(tokenizer):
    (example,) = task(head="crf").examples(record(LABEL), tokenizer, training=True)
    first, further, address = 1 + 2 * COMPANY, 2 + 2 * COMPANY, 1 + 2 * ADDRESS
    assert example.target.tolist() == [0, 0, first, further, 0, address, 0, 0]


def test_names_beyond_the_greatest_length_are_lost(tokenizer):
    (example,) = task(maxlen=6).examples(record(LABEL), tokenizer, training=True)
    assert [TOKENS[i] for i in example.inputs[0]] == ["[CLS]", "于", "ａｔｉ", "##2", "（", "[SEP]"]
    assert example.target[COMPANY].tolist() == [[2, 3]]
    assert (example.target[ADDRESS] == -1).all()


@pytest.mark.parametrize("head", ["global_pointer", "crf"])
def test_outputs_become_characters_again(tokenizer, head):
    ours = task(head=head)
    examples = ours.examples(record(), tokenizer, training=False)
    if head == "crf":
        first, further, address = 1 + 2 * COMPANY, 2 + 2 * COMPANY, 1 + 2 * ADDRESS
        output = [0, 0, first, further, 0, address, 0, 0, *[0] * 8]
    else:
        # a row of zeros is nothing, nor is a span at [CLS] or [SEP]
        rows = [[COMPANY, 2, 3], [ADDRESS, 5, 5], [3, 0, 2], [3, 5, 7]]
        output = rows + [[0, 0, 0]] * 36
    assert ours.predict(record(), examples, np.array([output])) == NAMES


def test_labels_become_spans():
    head = heads.LabelHead(2, 8)
    # type 0: 1 begins, 2 goes on; type 1: 3 begins, 4 goes on
    for labels, spans in [
        ([0, 1, 2, 2, 0, 3], [(0, 1, 3), (1, 5, 5)]),
        ([1, 1, 2, 3, 4], [(0, 0, 0), (0, 1, 2), (1, 3, 4)]),
        ([2, 1, 4, 2], [(0, 1, 1)]),  # what continues nothing is nothing
        ([0, 0], []),
    ]:
        assert head.spans(np.array(labels + [0] * 3), len(labels)) == spans
    assert head.spans(np.array([0, 1, 2, 2]), 3) == [(0, 1, 2)]


def test_the_pointer_loss_is_the_multilabel_cross_entropy():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 2, 4, 4)).astype("float32")
    places = np.array([[[[1, 2], [3, 3]], [[-1, -1], [-1, -1]]], [[[2, 2], [-1, -1]]] * 2])
    expected = []
    for b in range(2):
        for h in range(2):
            right = [tuple(p) for p in places[b, h] if p[0] >= 0]
            wrong = [c for c in np.ndindex(4, 4) if c not in right and c != (0, 0)]
            true = sum(np.exp(-scores[b, h][c].astype("float64")) for c in right)
            false = sum(np.exp(scores[b, h][c].astype("float64")) for c in wrong)
            expected.append(np.log1p(true) + np.log1p(false))
    loss = heads.SpanCrossentropy()(places, scores)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_best_spans_are_those_above_zero():
    scores = np.full((2, 2, 3, 3), -1.0, "float32")
    scores[0, 1, 0, 2], scores[0, 0, 1, 1], scores[1, 0, 2, 2] = 5, 3, 0.5
    best = np.array(heads.BestSpans(4)(scores))
    assert best.tolist() == [
        [[1, 0, 2], [0, 1, 1], [0, 0, 0], [0, 0, 0]],
        [[0, 2, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]


def test_the_submission_is_byte_for_byte_as_it_must_be(tmp_path):
    ours, path = task(), tmp_path / "cluener_predict.json"
    twice = Record({"id": 0, "text": "京京和京"})
    found = {("address", 3, 3), ("address", 0, 0), ("address", 0, 1), ("scene", 1, 1)}
    answers = [ours.answer(twice, found), ours.answer(record(id=1), set())]
    predictions.write_predictions(path, answers, ["0", "1"])
    assert path.read_text(encoding="utf-8") == (
        '{"id": 0, "label": {"address": {"京": [[0, 0], [3, 3]], "京京": [[0, 1]]}, '
        '"scene": {"京": [[1, 1]]}}}\n'
        '{"id": 1, "label": {}}\n'
    )


def test_scores():
    marks = task().marks({("name", 0, 1), ("game", 3, 4)}, {("name", 0, 1), ("game", 3, 5)})
    assert marks["f1"] == (2, 4)
    assert (marks["f1 name"], marks["f1 game"], marks["f1 book"]) == ((2, 2), (0, 2), (0, 0))


def test_names_in_words():
    assert task().say(record(), NAMES) == "ＡＴＩ2 (company), 京 (address)"
    assert task().say(record(), set()) == "–"


@pytest.mark.parametrize(
    "label, problem",
    [
        ({"planet": {"京": [[7, 7]]}}, "'planet' is none of address"),
        ({"address": {"京": [[6, 7]]}}, "no name stands at 6 to 7"),
        ({"address": [[7, 7]]}, "'label' must be"),
        ({"address": {"京": [["7", "7"]]}}, r"\['7', '7'\] is no first and last character"),
        ({"address": {"京": [[7.0, 7.0]]}}, "is no first and last character"),
        ({"address": {"京": [[-2, -2]]}}, r"\[-2, -2\] is no first and last character"),
        ({"address": {"京）": [[7, 70]]}}, r"\[7, 70\] is no first and last character"),
        ({"address": {"京": [[8, 7]]}}, r"\[8, 7\] is no first and last character"),
        (None, "'label' must be"),
    ],
)
def test_bad_labels(label, problem):
    with pytest.raises(DataError, match=f"dev.json, line 7: .*{problem}"):
        task().truth(record(label))


@pytest.mark.parametrize("head", ["efficient_global_pointer", "crf"])
def test_other_heads_learn_a_name(head, tiny, tokenizer):
    keras.utils.set_random_seed(0)
    ours = task(head=head)
    bert = backbone.load(str(tiny), tokenizer, 16)
    model = ours.build(bert)
    model.compile(keras.optimizers.Adam(0.01), ours.loss())
    prepare = experiment.Preparation(ours, tokenizer, seed=0)
    short = record({})
    short["text"] = "于京"
    rows = [record(LABEL), short]
    model.fit(prepare(rows, training=True).batches, epochs=60, shuffle=False, verbose=0)
    dev = prepare(rows)
    outputs = ours.predictor(model).predict(dev.batches, verbose=0)
    assert [ours.predict(*row) for row in dev.by_record(outputs)] == [NAMES, set()]


def test_a_run(tiny, tmp_path):
    flags = ["--data", "sample", "--model", tiny, "--output", tmp_path, "--head", "crf"]
    experiment.main(Cluener, [*map(str, flags), "--limit", "64", "--maxlen", "48", "--epochs", "1"])
    (folder,) = (tmp_path / "cluener").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["metric"] == "f1" and 0 <= result["score"] <= 1 and result["n"] == 50
    assert set(result["scores"]) == {"f1", *(f"f1 {kind}" for kind in TYPES)}
    lines = (folder / "cluener_predict.json").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(20))
    assert (folder / "types.txt").is_file()
