"""sentence-transformers and transformers compute the same losses."""

import json

import numpy as np
import pytest

from keras_extras import losses as L

ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
LABELS = np.array([3, 1, 4.5, 1, 0, 3], "float32")
LOGITS, CLASSES = ROWS[:6, :4], np.array([0, 1, 2, 3, 1, 1])
SCRIPT = f"""
import importlib.util, json, torch
from transformers.trainer_pt_utils import LabelSmoother
rows, labels = torch.tensor({ROWS.tolist()}), torch.tensor({LABELS.tolist()})
classes = torch.tensor({CLASSES.tolist()})
found = {{"smoothing": float(LabelSmoother(0.1)({{"logits": rows[:6, :4]}}, classes))}}
if importlib.util.find_spec("sentence_transformers"):
    from sentence_transformers import losses
    def columns(n):
        return [{{"sentence_embedding": rows[i::n]}} for i in range(n)]
    model = torch.nn.Identity()
    ranking = losses.MultipleNegativesRankingLoss(model)
    found["cosent"] = float(losses.CoSENTLoss(model)(columns(2), labels))
    found["pairs"] = float(ranking(columns(2), None))
    found["triplets"] = float(ranking(columns(3), None))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def peers(torch_python, run_python):
    return json.loads(run_python(torch_python, SCRIPT).splitlines()[-1])


def test_label_smoothing_is_that_of_transformers(peers):
    loss = L.SparseLogitAdjustedCategoricalCrossentropy(label_smoothing=0.1)
    assert float(loss(CLASSES, LOGITS)) == pytest.approx(peers["smoothing"], rel=1e-6)


def test_similarity_losses_are_those_of_sentence_transformers(peers):
    if len(peers) == 1:
        pytest.skip("sentence-transformers is not installed beside torch")
    ours = {
        "cosent": L.CoSENT()(np.repeat(LABELS, 2), ROWS),
        "pairs": L.SupervisedSimCSE(2)(L.group_numbers(6), ROWS),
        "triplets": L.SupervisedSimCSE(3)(L.group_numbers(4, 3), ROWS),
    }
    for name, value in ours.items():
        assert float(value) == pytest.approx(peers[name], rel=1e-6), name
