"""keras-extras-mini, the model that comes with the package."""

import numpy as np
import pytest

from keras_extras.bert4keras import build_transformer_model, checkpoints
from keras_extras.tokenization import WordPieceTokenizer

NAME = "keras-extras-mini"
FOLDER = checkpoints.SHIPPED / NAME
# A word with one character hidden, which a model that has read Chinese finds.
HIDDEN = {
    "中华人民共和国宪法": "人",
    "数据库服务器的配置文件": "置",
    "人民法院应当依法作出判决": "法",
    "公安机关负责人批准": "机",
    "操作系统的内核版本": "统",
    "请在命令行中运行以下命令": "行",
    "第一条为了保护公民的合法权益": "权",
    "开发者可以使用这个工具": "用",
    "违反本法规定的处以罚款": "款",
    "安装软件包之前需要更新系统": "装",
}
TRANSFORMERS = """
import sys
import numpy as np
import torch
from transformers import RoFormerForMaskedLM

model, told = RoFormerForMaskedLM.from_pretrained(
    sys.argv[1], output_loading_info=True, dtype=torch.float32
)
assert not told["missing_keys"] and not told["unexpected_keys"], told
with torch.no_grad():
    np.save(sys.argv[3], model.eval()(torch.tensor(np.load(sys.argv[2]))).logits.numpy())
"""


@pytest.fixture(scope="module")
def model():
    return build_transformer_model(NAME, with_mlm="linear")


def masked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, row for row; where [MASK] stands; what stood there."""
    tokenizer = WordPieceTokenizer(str(FOLDER / "vocab.txt"), do_lower_case=True)
    rows, places, answers = [], [], []
    for text, hidden in HIDDEN.items():
        ids = tokenizer.encode(text)[0]
        places.append(ids.index(tokenizer.token_to_id(hidden)))
        answers.append(ids[places[-1]])
        ids[places[-1]] = tokenizer.token_to_id("[MASK]")
        rows.append(ids + [0] * (24 - len(ids)))
    return np.array(rows), np.array(places), np.array(answers)


def test_it_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    card, model = {"README.md", "curve.png"}, {"config.json", "model.safetensors", "vocab.txt"}
    assert set(files) == card | model
    assert sum(files.values()) <= 12e6


def test_it_comes_before_a_local_folder_of_its_name(tmp_path, monkeypatch):
    (tmp_path / NAME).mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkpoints.resolve(NAME).config_path == str(FOLDER / "config.json")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        checkpoints.resolve(f"./{NAME}")


def test_it_has_read_chinese(model):
    tokens, places, answers = masked()
    logits = model.predict([tokens, np.zeros_like(tokens)], verbose=0)
    logits = logits[np.arange(len(places)), places]
    found = logits.argsort(1)[:, ::-1][:, :5] == answers[:, None]
    assert found.any(1).sum() >= 8


def test_transformers_computes_the_same(model, torch_python, run_python, tmp_path):
    tokens = masked()[0]
    tokens = tokens[:, : (tokens > 0).all(0).sum()]  # no padding
    np.save(tmp_path / "tokens.npy", tokens)
    files = tmp_path / "tokens.npy", tmp_path / "logits.npy"
    run_python(torch_python, TRANSFORMERS, FOLDER, *files)
    ours = model.predict([tokens, np.zeros_like(tokens)], verbose=0)
    np.testing.assert_allclose(ours, np.load(files[1]), rtol=1e-4, atol=1e-4)
