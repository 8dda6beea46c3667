"""Run the scripts of CLUE-bert4keras and bert4keras' examples on Keras 3, and write the table.

    python benchmarks/legacy_scripts.py --clue-scripts CLUE-bert4keras/src \
        --examples bert4keras/examples --data CLUE --output LEGACY.md

The scripts are copied unchanged but for what `edits` lists: paths, epochs and steps. They run on
the first rows of the real CLUE data and on tiny random checkpoints, so the table says whether a
script trains, evaluates and writes its predictions, not how well. What has no data in CLUE gets
data of its format made from CLUE's texts; what cannot be made is listed as lacking.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import itertools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BERT = {
    "vocab_size": 21128,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}

#: Where the scripts look for models, under /root/kg/bert: architecture, extra configuration.
MODELS = {
    "chinese_L-12_H-768_A-12/bert": ("bert", {}),
    "chinese_wwm_L-12_H-768_A-12/bert": ("bert", {}),
    "chinese_roberta_wwm_ext_L-12_H-768_A-12/bert": ("bert", {}),
    "chinese_simbert_L-12_H-768_A-12/bert": ("bert", {}),
    "uer/mixed_corpus_bert_base_model/bert": ("bert", {}),
    "albert_small_zh_google/albert": ("albert", {"embedding_size": 32}),
    "chinese_nezha_gpt_L-12_H-768_A-12/": ("bert", {}),
    "gpt2_ml/": ("gpt2_ml", {}),
}

#: The last layer norm gets an offset: like those of trained models, the vectors of all tokens have
#: much in common, and GlobalPointer unlearns in tens of steps, not in hundreds, to find all spans.
#: Long vectors let scores move faster: AdaFactor changes a weight by 0.05 % of its size a step.
MAKE_MODEL = """
import json, sys
import keras
from keras_extras.bert4keras import build_transformer_model
config, checkpoint, model, options = json.loads(sys.argv[1])
keras.utils.set_random_seed(0)
bert = build_transformer_model(config, model=model, return_keras_model=False, **options)
norm = bert.layers.get(f"Transformer-{bert.num_hidden_layers - 1}-FeedForward-Norm")
if norm is not None:
    norm.beta.assign(keras.random.normal(norm.beta.shape))
    norm.gamma.assign(4 * keras.ops.ones(norm.gamma.shape))
bert.save_weights_as_checkpoint(checkpoint)
"""


def head(path: Path, rows: int) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return list(itertools.islice(file, rows))


def write(path: Path, text: str, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def write_lines(path: Path, rows: Iterable):
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
    write(path, "".join(line.rstrip("\n") + "\n" for line in lines))


# --- Models and data -------------------------------------------------------------------------


def make_models(root: Path, vocabulary: Path, environment: dict):
    """Tiny random checkpoints in TensorFlow's format, where the scripts look for them."""
    made = {}
    for place, (architecture, extra) in MODELS.items():
        folder, prefix = root / "kg/bert" / os.path.dirname(place), os.path.basename(place)
        prefix = f"{prefix}_" if prefix else ""
        write(folder / f"{prefix}config.json", json.dumps({**BERT, **extra}))
        shutil.copy(vocabulary, folder / "vocab.txt")
        name = {"gpt2_ml/": "model.ckpt-100000", "chinese_nezha_gpt_L-12_H-768_A-12/": "gpt.ckpt"}
        checkpoint = folder / name.get(place, f"{prefix}model.ckpt")
        if architecture in made:
            for part in made[architecture].parent.glob(made[architecture].name + ".*"):
                shutil.copy(part, f"{checkpoint}{part.suffix}")
            continue
        options = {} if architecture == "gpt2_ml" else {"with_nsp": True, "with_mlm": True}
        arguments = [str(folder / f"{prefix}config.json"), str(checkpoint), architecture, options]
        subprocess.run(
            [sys.executable, "-c", MAKE_MODEL, json.dumps(arguments)], check=True, env=environment
        )
        made[architecture] = checkpoint


def make_clue(data: Path, target: Path, rows: int):
    """The first rows of every task, under the file names that the scripts open."""
    for task in ("afqmc", "cluener", "cmnli", "csl", "iflytek", "ocnli", "tnews", "wsc"):
        for file in (data / task).glob("*.json"):
            # with 119 classes, a few rows give an accuracy of 0, and then no weights are saved
            size = {("iflytek", "dev"): 8 * rows, ("cluener", "train"): 10**5}
            write_lines(target / task / file.name, head(file, size.get((task, file.stem), rows)))
    shutil.copy(target / "ocnli/train.json", target / "ocnli/train.50k.json")
    # CMNLI's training part is not to be had; OCNLI's has the same form.
    shutil.copy(target / "ocnli/train.json", target / "cmnli/train.json")
    for file in (data / "c3").glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        write(target / "c3" / file.name, json.dumps(content[: rows // 6], ensure_ascii=False))
    for file in (data / "chid").glob("*.json"):
        if file.stem.endswith("_answer"):
            shutil.copy(file, target / "chid" / file.name)
        else:
            write_lines(target / "chid" / file.name, head(file, max(rows // 15, 2)))
    for file in (data / "cmrc2018").glob("*.json"):
        if file.stem == "dev":
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        content["data"] = content["data"][:1]
        write(target / "cmrc2018" / file.name, json.dumps(content, ensure_ascii=False))
    # The script saves weights only if it finds an answer exactly, which random weights learn for
    # the questions that they are trained on.
    shutil.copy(target / "cmrc2018/train.json", target / "cmrc2018/dev.json")


def make_example_data(clue: Path, examples: Path, root: Path, rows: int):
    """Data for the examples: bert4keras' own, CLUE's, and what can be made from CLUE's texts."""
    target = root.parent / "work/here"
    for archive in (examples / "datasets").glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(target / "datasets")
    for file in (target / "datasets/sentiment").glob("*.data"):
        size = 2 * rows if "train" in file.name else rows
        write_lines(file, head(file, size))
    for file in (clue / "iflytek").glob("*.json"):
        place = "CLUE-master/baselines/CLUEdataset/iflytek"
        size = 8 * rows if file.stem == "dev" else rows
        write_lines(root / place / file.name, head(file, size))
    abstracts = [json.loads(line) for line in head(clue / "csl/train.json", rows)]
    for i, row in enumerate(abstracts):
        title, text = "，".join(row["keyword"]), row["abst"]
        write(root / f"thuctc/THUCNews/体育/{i}.txt", f"{title}\n{text}")
    for name in ("train", "val", "test"):
        lines = ["，".join(r["keyword"]) + "\t" + r["abst"].replace("\t", " ") for r in abstracts]
        write_lines(root / f"csl/{name}.tsv", lines[: rows if name == "train" else 4])
    novel = "  ".join(r["abst"].replace(".", "。") for r in abstracts)
    write(root / "金庸/书/1.txt", novel.encode("gbk", "ignore").decode("gbk"), "gbk")
    entities = [json.loads(line) for line in head(clue / "cluener/train.json", rows)]
    make_sequence_labels(entities, root)
    make_relations(entities, root)
    questions = [
        {
            "question": qa["question"],
            "passages": [{"passage": p["context"], "answer": qa["answers"][0]["text"]}],
        }
        for d in json.loads((clue / "cmrc2018/train.json").read_text(encoding="utf-8"))["data"]
        for p in d["paragraphs"]
        for qa in p["qas"]
    ][:rows]
    for name in ("WebQA", "SogouQA"):
        write(root / f"qa_datasets/{name}.json", json.dumps(questions, ensure_ascii=False))
    problems = [
        {
            "original_text": f"小明有{a}本书，又买了{b}本，一共几本？",
            "equation": f"x={a}+{b}",
            "ans": str(a + b),
        }
        for a, b in itertools.product(range(10), range(10, 16))
    ]
    for name in ("train", "valid", "test"):
        size = len(problems) if name == "train" else 4
        write_lines(root / f"ape210k/{name}.ape.json", problems[:size])


def make_sequence_labels(rows: list[dict], root: Path):
    import jieba

    blocks = []
    for row in rows:
        tags = ["O"] * len(row["text"])
        for label, spans in row["label"].items():
            for start, end in itertools.chain(*spans.values()):
                tags[start : end + 1] = [f"B-{label}", *[f"I-{label}"] * (end - start)]
        pairs = zip(row["text"], tags, strict=True)
        blocks.append("\n".join(f"{c} {t}" for c, t in pairs if not c.isspace()))
    for name in ("train", "dev", "test"):
        write(root / f"ner/china-people-daily-ner-corpus/example.{name}", "\n\n".join(blocks))
    segmented = ["  ".join(jieba.cut(row["text"])) for row in rows]
    write_lines(root / "icwb2-data/training/pku_training.utf8", segmented)


def make_relations(rows: list[dict], root: Path):
    triples, predicates = [], set()
    for row in rows:
        found = [(text, label) for label, spans in row["label"].items() for text in spans]
        spo = [
            {"subject": found[0][0], "predicate": label, "object": text}
            for text, label in found[1:]
        ]
        predicates.update(label for _, label in found[1:])
        if spo:
            triples.append({"text": row["text"], "spo_list": spo})
    write_lines(root / "kg/datasets/train_data.json", triples)
    # random weights find all spans, and GPLinker pairs them all: short sentences for evaluation
    write_lines(
        root / "kg/datasets/dev_data.json", sorted(triples, key=lambda t: len(t["text"]))[:5]
    )
    write_lines(root / "kg/datasets/all_50_schemas", [{"predicate": p} for p in sorted(predicates)])


# --- Scripts ---------------------------------------------------------------------------------


@dataclass
class Script:
    """One script: what it must print or write, and which lines are edited beside the paths."""

    name: str
    results: tuple[str, ...] = ()
    expects: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    epochs: int = 1
    lacks: str = ""
    modules: tuple[str, ...] = ()
    serves: bool = False


CLUE = [
    Script("tnews", ("tnews10_predict.json", "tnews11_predict.json"), "val_acc"),
    Script("iflytek", ("iflytek_predict.json",), "val_acc"),
    Script("afqmc", ("afqmc_predict.json",), "val_acc"),
    Script("cmnli", ("cmnli_predict.json",), "val_acc"),
    Script("ocnli", ("ocnli_50k_predict.json",), "val_acc"),
    Script("wsc", ("cluewsc10_predict.json", "cluewsc11_predict.json"), "val_acc"),
    Script("csl", ("csl_predict.json",), "val_acc"),
    # it takes the text of every span found and fails where one starts at [CLS]: its first epoch
    # must be long enough to unlearn the spans of random weights
    Script("cluener", ("cluener_predict.json",), "best f1"),
    Script("cmrc2018", ("cmrc2018_predict.json",), "val_acc", epochs=600),
    Script("chid", ("chid10_predict.json", "chid11_predict.json"), "val_acc"),
    Script("c3", ("c310_predict.json", "c311_predict.json"), "val_acc"),
]

LAYERS = (("bert_layers = 12", f"bert_layers = {BERT['num_hidden_layers']}"),)
SENTENCEPIECE = "a SentencePiece model and its checkpoint"
EXAMPLES = [
    Script("basic_extract_features", expects="reloading and predicting"),
    Script(
        "basic_gibbs_sampling_via_mlm",
        expects="部分随机采样结果",
        edits=(("steps = 10000", "steps = 60"), ("converged_steps = 1000", "converged_steps = 20")),
    ),
    Script("basic_language_model_cpm_lm", lacks=SENTENCEPIECE),
    Script("basic_language_model_gpt2_ml", expects="今天天气不错"),
    Script("basic_language_model_nezha_gen_gpt", expects="今天天气不错"),
    Script("basic_make_uncased_model_cased", expects="'##JING'"),
    Script("basic_masked_language_model"),
    Script("basic_simple_web_serving_simbert", modules=("bottle", "paste"), serves=True),
    Script("task_conditional_language_model", expects="正面采样"),
    Script("task_iflytek_adversarial_training", expects="val_acc"),
    Script("task_iflytek_bert_of_theseus", expects="val_acc"),
    Script("task_iflytek_gradient_penalty", expects="val_acc"),
    Script("task_iflytek_multigpu", expects="val_acc"),
    Script(
        "task_image_caption", lacks="COCO and ImageNet weights for MobileNetV2", modules=("cv2",)
    ),
    Script("task_language_model"),
    Script("task_language_model_chinese_chess", lacks="cchess and its games"),
    Script("task_question_answer_generation_by_seq2seq"),
    Script("task_reading_comprehension_by_mlm"),
    Script("task_reading_comprehension_by_seq2seq"),
    Script("task_relation_extraction", expects="f1"),
    Script("task_relation_extraction_gplinker", expects="f1"),
    Script("task_sentence_similarity_lcqmc", expects="val_acc"),
    Script("task_sentiment_albert", expects="val_acc"),
    Script("task_sentiment_integrated_gradients", expects="[("),
    Script("task_sentiment_virtual_adversarial_training", expects="val_acc"),
    Script("task_seq2seq_ape210k_math_word_problem", modules=("sympy", "pandas")),
    Script("task_seq2seq_autotitle"),
    Script("task_seq2seq_autotitle_csl", modules=("rouge", "nltk")),
    Script("task_seq2seq_autotitle_csl_mt5", lacks=SENTENCEPIECE),
    Script("task_seq2seq_autotitle_multigpu"),
    Script("task_sequence_labeling_cws_crf", edits=LAYERS),
    Script("task_sequence_labeling_ner_crf", expects="f1", edits=LAYERS),
]


def missing(modules: Iterable[str], environment: dict) -> str:
    code = "import importlib.util as u,sys;print(*[m for m in sys.argv[1:] if not u.find_spec(m)])"
    command = [sys.executable, "-c", code, *modules]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def edited(source: str, script: Script, root: Path) -> str:
    source = re.sub(r"\bepochs( ?= ?)\d+", rf"epochs\g<1>{script.epochs}", source)
    source = re.sub(r"\bsteps_per_epoch( ?= ?)\d+", r"steps_per_epoch\g<1>3", source)
    for old, new in script.edits:
        source = source.replace(old, new)
    return source.replace("/root/", f"{root}/")


def run(script: Script, folder: Path, environment: dict, limit: int) -> tuple[bool, str, float]:
    """Run a prepared script; (whether it did what it should, a line about it, seconds)."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "keras_extras.bert4keras", f"{script.name}.py"]
    log = folder / f"{script.name}.log"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if script.serves:
                ok, line = ask_server(process, limit)
                return ok, line, time.perf_counter() - start
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return False, f"not done after {limit} s", time.perf_counter() - start
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.perf_counter() - start
    output = log.read_text(encoding="utf-8", errors="replace")
    if code:
        errors = [x for x in output.splitlines() if re.match(r"\w*(Error|Exception|Interrupt)", x)]
        return False, (errors or output.splitlines() or ["no output"])[-1][:200], seconds
    if script.expects not in output:
        return False, f"ended without printing {script.expects!r}", seconds
    for name in script.results:
        result = folder / "results" / name
        if not result.is_file() or not result.stat().st_size:
            return False, f"did not write results/{name}", seconds
    return True, summary(output), seconds


def summary(output: str) -> str:
    """The last loss of the progress bar and the last score that the script prints."""
    losses = re.findall(r"\bloss: (\d[\d.]*(?:e[+-]\d+)?)", output)
    scores = re.findall(r"((?:val_)?(?:acc|f1|rouge-l)): ([\d.]+)", output)
    parts = [f"loss {float(losses[-1]):.3g}"] if losses else []
    parts += [f"{scores[-1][0]} {float(scores[-1][1]):.3g}"] if scores else []
    return ", ".join(parts)


def ask_server(process, limit: int) -> tuple[bool, str]:
    """Ask the web example for its answer until it has one."""
    url = "http://127.0.0.1:8864/gen_synonyms?text=abc&n=2&k=1"
    for _ in range(limit):
        time.sleep(1)
        if process.poll() is not None:
            return False, "the server ended"
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(url, timeout=limit) as answer:
                content = json.loads(answer.read())
            return content["code"] == 0, f"answers {content}"[:120]
    return False, "no answer"


def run_all(scripts, source: Path, folder: Path, root: Path, environment: dict, options):
    """Copy the scripts, run those that are asked for, and return what is known of all.

    The outcomes stand in the working folder, so that a second run with ``--only`` completes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = {script.name: script for script in scripts}
    for file in sorted(source.glob("*.py")):
        script = known.get(file.stem, Script(file.stem))
        text = edited(file.read_text(encoding="utf-8"), script, root)
        ast.parse(text)
        write(folder / file.name, text)
    store = folder / "outcomes.json"
    outcomes = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for script in scripts:
        if options.only is not None and script.name not in options.only:
            continue
        lack = script.lacks or missing(script.modules, environment)
        if lack:
            outcomes[script.name] = ("lacks", lack, 0)
        else:
            (folder.parent / "random_order.json").unlink(missing_ok=True)
            ok, line, seconds = run(script, folder, environment, options.limit)
            outcomes[script.name] = ("runs" if ok else "fails", line, round(seconds))
        print(script.name, *outcomes[script.name], sep=" | ", flush=True)
        write(store, json.dumps(outcomes, ensure_ascii=False))
    return [(s.name, *outcomes[s.name], s.edits) for s in scripts if s.name in outcomes]


def versions(environment: dict) -> str:
    code = "import keras as k, tensorflow as t; print(f'Keras {k.__version__}, TF {t.__version__}')"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return f"{output.stdout.strip()}, Python {platform.python_version()}, {os.cpu_count()} cores"


ABOUT = """# Scripts of 2020-2023 on Keras 3

    python -m keras_extras.bert4keras script.py [arguments of the script]

runs a script that was written for bert4keras on Keras 2.3 or tf.keras, unchanged. All that this
changes in Keras is listed in [legacy](keras_extras/bert4keras/legacy/__init__.py); without this
command nothing of Keras is changed.

The tables are written by

    python benchmarks/legacy_scripts.py --clue-scripts CLUE-bert4keras/src \\
        --examples bert4keras/examples --data CLUE --output LEGACY.md

(or by several calls with `--work` and `--only`, as it was done here).

The scripts are those of github.com/bojone/CLUE-bert4keras and github.com/bojone/bert4keras (0.11.5)
with other paths, one epoch, at most three steps where a script gives their number, and the further
edits named in the table. They run on random checkpoints of {layers} layers of {size} units (with
Google's vocabulary) and on the first {rows} rows of CLUE's files (OCNLI's training part for
CMNLI's, which is not to be had; all of CLUENER's training part; CHID's is not the official one;
cmrc2018.py saves weights once it finds an answer exactly, so it trains for {cmrc} epochs on the
first passage and is evaluated on that too), so the scores say nothing; "runs" means that a script
trains, evaluates, reloads its weights and writes its predictions where it does so. Examples whose
data is not in CLUE run on data of the same form made from CLUE's texts; those for several GPUs ran
on one device.

What does not run: optimizers written by overriding `get_updates` or `_resource_apply_dense`
(refused with the way to go), `tf.Session.run` and `tf.placeholder`, `multi_gpu_model`, weights
that tf.keras saved as a TensorFlow checkpoint, models saved as a folder.

Measured with {versions}, shared with other work.
"""


def table(rows) -> str:
    lines = [
        "| script | outcome | end of its training, or what is missing | seconds |",
        "|---|---|---|---|",
    ]
    for name, outcome, remark, seconds, edits in rows:
        remark = remark.replace("|", "/")
        notes = [f"edited: `{old}` to `{new}`" for old, new in edits if seconds]
        remark = "; ".join(filter(None, [remark, *notes]))
        lines.append(f"| {name} | {outcome} | {remark} | {seconds or ''} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clue-scripts", type=Path, help="src folder of CLUE-bert4keras")
    parser.add_argument("--examples", type=Path, help="examples folder of bert4keras")
    parser.add_argument("--data", type=Path, required=True, help="CLUE data and vocab.txt")
    parser.add_argument("--rows", type=int, default=120, help="rows of every file (120)")
    parser.add_argument("--limit", type=int, default=600, help="seconds for a script (600)")
    parser.add_argument("--only", nargs="*", help="names of scripts")
    parser.add_argument("--work", type=Path, help="folder to work in, kept")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work.resolve()
        root = work / "root"
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONIOENCODING": "utf-8"}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if not root.exists():
            make_models(root, options.data / "vocab.txt", environment)
            make_clue(options.data, root / "clue/datasets", options.rows)
        text = [
            ABOUT.format(
                layers=BERT["num_hidden_layers"],
                size=BERT["hidden_size"],
                cmrc=next(s.epochs for s in CLUE if s.name == "cmrc2018"),
                rows=options.rows,
                versions=versions(environment),
            ).strip()
        ]
        failed = 0
        for title, scripts, source, place in (
            ("CLUE-bert4keras", CLUE, options.clue_scripts, "clue/here"),
            ("bert4keras/examples", EXAMPLES, options.examples, "work/here"),
        ):
            if source is None:
                continue
            if source is options.examples and not (work / place / "datasets").exists():
                make_example_data(options.data, source, root, options.rows)
            rows = run_all(scripts, source, work / place, root, environment, options)
            outcomes = [outcome for _, outcome, *_ in rows]
            failed += outcomes.count("fails")
            ran = outcomes.count("runs")
            text.append(f"## {title}: {ran} of {len(rows)} run\n\n{table(rows)}")
        report = "\n\n".join(text) + "\n"
        if options.output:
            write(options.output, report)
        print(report)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
