"""What R-Drop, FGM, gradient penalty, CAN and logit adjustment give on real data.

    python benchmarks/tricks.py CLUE_FOLDER

fine-tunes keras-extras-mini three times with and without each trick: on the first rows of TNEWS, on
the first tokens of IFLYTEK, and on a long-tailed cut of TNEWS, where what counts is the balanced
accuracy. What is finished is not done again. The table is in Markdown.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clue_baselines.results import mean_and_deviation

COMMON = ["--epochs", "2", "--precision", "mixed_bfloat16"]
TRICKS = ["none", "can", "r-drop", "fgm", "gradient-penalty"]
#: part: task, metric, tricks, further flags
PARTS = {
    "tnews": ("tnews", "accuracy", TRICKS, ["--limit", "5000"]),
    "iflytek": ("iflytek", "accuracy", TRICKS, ["--maxlen", "32"]),
    "long-tailed tnews": ("tnews", "balanced_accuracy", ["none", "logit-adjustment"], []),
}
HEAD, RATIO = 2000, 100


def cut_long_tailed(clue: Path, folder: Path) -> None:
    """TNEWS with geometrically fewer rows from class to class, 2,000 … 20, and its whole dev set.

    The classes keep their order by frequency, and of each the first rows stay.
    """
    rows = defaultdict(list)
    for line in (clue / "tnews" / "train.json").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            rows[json.loads(line)["label"]].append(line)
    order = sorted(rows, key=lambda label: (-len(rows[label]), label))
    sizes = [round(HEAD / RATIO ** (i / (len(order) - 1))) for i in range(len(order))]
    kept = [line for label, n in zip(order, sizes, strict=True) for line in rows[label][:n]]
    random.Random(0).shuffle(kept)
    (folder / "tnews").mkdir(parents=True, exist_ok=True)
    (folder / "tnews" / "train.json").write_text("\n".join(kept) + "\n", encoding="utf-8")
    shutil.copyfile(clue / "tnews" / "dev.json", folder / "tnews" / "dev.json")


def scores(folder: Path, metric: str) -> dict[str, list[float]]:
    """Trick → the scores of its seeds, in percent."""
    found = defaultdict(list)
    for path in sorted(folder.glob("*-seed*/result.json")):
        trick = path.parent.name.rsplit("-seed", 1)[0].partition("-")[2] or "none"
        found[trick].append(100 * json.loads(path.read_text())["scores"][metric]["score"])
    return found


def row(part: str, trick: str, found: list[float], plain: list[float]) -> str:
    """A line of the table: mean ± deviation, and of the differences seed by seed."""
    cells = [part, trick, "{:.2f} ± {:.2f}".format(*mean_and_deviation(found))]
    differences = [a - b for a, b in zip(found, plain, strict=True)]
    cells.append(
        "" if trick == "none" else "{:+.2f} ± {:.2f}".format(*mean_and_deviation(differences))
    )
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clue", type=Path, help="folder with CLUE's data")
    parser.add_argument("--output", type=Path, default=Path("results-tricks"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    lines = ["| data | trick | dev | difference |", "|---|---|---|---|"]
    for part in given.parts:
        task, metric, tricks, flags = PARTS[part]
        output, data = given.output / part.replace(" ", "-"), given.clue
        if part.startswith("long"):
            data = output / "data"
            cut_long_tailed(given.clue, data)
        run = [sys.executable, "-m", "clue_baselines.run", "--tasks", task, "--name", "run"]
        run += ["--data", str(data), "--output", str(output), "--seeds", str(given.seeds)]
        subprocess.run([*run, "--tricks", *tricks, *COMMON, *flags], check=True)
        found = scores(output / task, metric)
        plain = found.pop("none")
        lines += [
            row(part, name, values, plain) for name, values in [("none", plain), *found.items()]
        ]
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
