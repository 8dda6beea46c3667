"""Writes an invented sample in CLUENER2020's official format: texts with names of ten types.

    python clue_baselines/sample/make_cluener.py

Every text is put together from the templates and names below; no person, firm or place is meant.
Some words are names of different types in different templates (a city and a city's team), so that
a model has to read what stands around them.
"""

import json
import random
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "cluener"
ROWS = {"train": 120, "dev": 50, "test": 20}

SURNAMES, GIVEN = "赵钱孙李周吴郑王冯陈林何", "明华丽伟芳军静磊洋勇燕玲文涛"
CITIES = "青山市 白河市 云岭县 东海镇 石桥镇 南湖区 金沙市 绿洲县".split()
NAMES = {
    "address": [*CITIES, *(city + road for city in CITIES[:4] for road in ("人民路", "中山北路"))],
    "book": "《山中来信》 《时间的河》 《小城旧事》 《星星的孩子》 《北方的雪》".split(),
    "company": "长风集团 蓝天科技公司 大地银行 新月汽车 海星电子 Sunrise公司".split(),
    "game": "龙之谷地 星际矿工 足球大师 Mini Farm 迷宫猎人".split(),
    "government": [city + office for city in CITIES[:5] for office in ("公安局", "教育局", "法院")],
    "movie": "《雨夜的灯》 《追风少年》 《时间的河》 《最后一班车》 《沙漠之花》".split(),
    "organization": "白河队 青山队 绿洲大学 市音乐家协会 云岭志愿者协会 红星足球俱乐部".split(),
    "position": "记者 市长 总经理 主教练 教授 导演 工程师 局长".split(),
    "scene": "金沙公园 石桥古塔 白河大峡谷 云岭博物馆 南湖湿地".split(),
}
TEMPLATES = [
    "{company}{position}{name}昨天在{address}表示，今年的销售好于去年。",
    "{name}的新书{book}在{address}的书店里卖得很好，",
    "周末，{organization}以2比1战胜了{organization}，{position}{name}说大家踢得不错。",
    "{government}提醒市民：前往{scene}请提前预约，",
    "{position}{name}的{movie}下周上映，主演是{name}和{name}。",
    "据{government}一位{position}介绍，{company}将在{address}建新厂。",
    "很多玩家喜欢{game}，也有人说{game}更有意思，",
    "{name}是{organization}的{position}，他常去{scene}散步。",
    "{company}开发的{game}昨天上线，首日有3万人下载",
    "如果你到{address}旅游，不要错过{scene}和{scene}。",
    "读完{book}，再看由它改编的{movie}，感觉完全不同。",
    "天气转冷，请大家注意保暖，出门多穿衣服。",
]


def filled(template: str, rng: random.Random) -> dict:
    """A text made of the template, with the places of its names."""
    text, label = "", {}
    for part in re.split(r"(\{\w+\})", template):
        kind = part.strip("{}")
        if part == kind:
            text += part
            continue
        name = person(rng) if kind == "name" else rng.choice(NAMES[kind])
        places = label.setdefault(kind, {}).setdefault(name, [])
        places.append([len(text), len(text) + len(name) - 1])
        text += name
    return {"text": text, "label": label}


def person(rng: random.Random) -> str:
    """The name of a person."""
    return rng.choice(SURNAMES) + "".join(rng.sample(GIVEN, rng.choice([1, 2])))


def main():
    rng = random.Random(2020)
    rows = {}
    while len(rows) < sum(ROWS.values()):
        row = filled(rng.choice(TEMPLATES), rng)
        if len(row["text"]) <= 50:
            rows[row["text"]] = row
    rows = list(rows.values())
    FOLDER.mkdir(exist_ok=True)
    for split, count in ROWS.items():
        part, rows = rows[:count], rows[count:]
        if split == "test":
            part = [{"id": i, "text": row["text"]} for i, row in enumerate(part)]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
        (FOLDER / f"{split}.json").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
