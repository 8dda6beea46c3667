"""Writes the sample of sentence pairs: invented sentences in the format of the Chinese STS-B.

    python clue_baselines/sample/make_sts.py

A sentence says who does what, where and when; the more of these its partner shares, the more
similar they are. No sentence is real.
"""

import random
from pathlib import Path

try:
    from clue_baselines.sample.make_samples import NAMES, PLACES, TIMES
except ImportError:
    from make_samples import NAMES, PLACES, TIMES

FOLDER = Path(__file__).parent
ROWS = {"train": 90, "valid": 50, "test": 50}
# the same thing said in two ways
DEEDS = [
    ("看书", "读一本书"),
    ("喝茶", "喝一杯茶"),
    ("等朋友", "等他的朋友"),
    ("拍照", "拍一些照片"),
    ("买雨伞", "买一把雨伞"),
    ("打电话", "给人打电话"),
    ("跑步", "慢慢地跑步"),
    ("听音乐", "听几首音乐"),
]
SHAPES = ("{who}{when}在{where}{deed}。", "{when}，{who}在{where}{deed}。")


def pair(similarity: int, rng: random.Random) -> tuple[str, str]:
    """Two sentences that share `similarity` − 1 of who, when, where and deed; 5: all of them."""
    first = [rng.choice(part) for part in (NAMES, TIMES, PLACES, DEEDS)]
    kept = rng.sample(range(4), max(similarity - 1, 0))
    second = [
        old if i in kept else rng.choice([x for x in part if x != old])
        for i, (old, part) in enumerate(zip(first, (NAMES, TIMES, PLACES, DEEDS), strict=True))
    ]
    if similarity == 0:  # another kind of sentence
        return say(first, 0, 0), f"{second[2]}离{rng.choice(PLACES)}很远。"
    return say(first, 0, 0), say(second, rng.randrange(2), 1)


def say(facts, shape: int, way: int) -> str:
    who, when, where, deed = facts
    return SHAPES[shape].format(who=who, when=when, where=where, deed=deed[way])


def main():
    rng = random.Random(8847)
    (FOLDER / "sts").mkdir(exist_ok=True)
    for split, number in ROWS.items():
        rows = [(*pair(i % 6, rng), i % 6) for i in range(number)]
        rng.shuffle(rows)
        text = "".join(f"{first}\t{second}\t{label}\n" for first, second, label in rows)
        (FOLDER / "sts" / f"STS-B.{split}.data").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
