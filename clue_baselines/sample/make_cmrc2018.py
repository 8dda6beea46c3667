"""Writes an invented sample in CMRC2018's official format: passages with questions.

    python clue_baselines/sample/make_cmrc2018.py

Every passage tells of a place, firm, book or team that does not exist. It is a chain of sentences
from the templates below in an order of its own, so the answers stand anywhere; some passages are
longer than BERT's 512 tokens.
"""

import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent / "cmrc2018"
PASSAGES = {"train": 12, "dev": 6, "test": 4}

SUBJECTS = {
    "city": [a + b for a in "青白云金绿石" for b in ("山市", "河镇", "岭县", "湖城")],
    "firm": [a + b for a in "长风 蓝海 新月 大地 晨光 远山".split()
             for b in ("集团", "公司", "Motors", "实业")],
    "book": [f"《{a}{b}》" for a in "山中 河边 雨夜 北方 旧日 星空".split()
             for b in ("来信", "故事", "之歌", "的灯")],
    "team": [a + b for a in "红星 飞鹰 海浪 闪电 雪山 草原".split()
             for b in ("足球队", "篮球队", "FC", "俱乐部")],
}  # fmt: skip
PEOPLE = [a + b for a in "赵钱孙李周吴郑王冯陈" for b in ("明", "丽华", "伟", "芳", "文涛", "静")]
PLACES = "云岭县 东海镇 石桥镇 南湖区 金沙市 绿洲县 黑水沟 柳林村".split()

# kind of subject: sentences with an answer in {a}, the question, and how the answer is made
FACTS = {
    "city": [
        ("{s}位于{a}以东，是一座古老的城镇。", "{s}位于哪里以东？", "place"),
        ("据记载，{s}建于{a}。", "{s}建于哪一年？", "year"),
        ("这里的人口约为{a}。", "{s}的人口约为多少？", "count"),
        ("最早的城墙由{a}主持修建。", "{s}的城墙由谁主持修建？", "person"),
        ("当地最有名的特产是{a}。", "{s}最有名的特产是什么？", "product"),
    ],
    "firm": [
        ("{s}由{a}创立，总部几经搬迁。", "{s}由谁创立？", "person"),
        ("该企业成立于{a}，", "{s}成立于什么时候？", "year"),
        ("目前总部设在{a}。", "{s}的总部设在哪里？", "place"),
        ("它的主要产品是{a}，远销海外。", "{s}的主要产品是什么？", "product"),
        ("全公司共有员工{a}。", "{s}共有多少员工？", "count"),
    ],
    "book": [
        ("{s}是{a}的第一部长篇小说。", "{s}的作者是谁？", "person"),
        ("小说于{a}首次出版。", "{s}首次出版于哪一年？", "year"),
        ("故事发生在{a}，讲的是一家人的生活。", "{s}的故事发生在哪里？", "place"),
        ("首印{a}很快售完。", "{s}首印有多少册？", "count"),
        ("书中反复出现的物件是{a}。", "{s}中反复出现的物件是什么？", "product"),
    ],
    "team": [
        ("{s}的主场在{a}。", "{s}的主场在哪里？", "place"),
        ("球队在{a}第一次夺得冠军。", "{s}哪一年第一次夺得冠军？", "year"),
        ("现任主教练是{a}。", "{s}的现任主教练是谁？", "person"),
        ("主场可以容纳{a}观众。", "{s}的主场可以容纳多少观众？", "count"),
        ("球迷常常带着{a}到场助威。", "{s}的球迷带着什么到场助威？", "product"),
    ],
}
FILLERS = [
    "关于这一点，还有许多不同的说法。", "多年以来，人们一直没有忘记这段往事。",
    "天气好的时候，常常有人从远处赶来。", "不过，也有人认为这只是一个传说。",
    "后来的变化，谁也没有想到。", "报纸和电视都作过详细的报道。",
    "老人们说起当年的事情，总是很高兴。", "在困难的日子里，大家互相帮助。",
]  # fmt: skip


def made(kind: str, rng: random.Random) -> str:
    """An answer."""
    if kind == "year":
        return f"{rng.randrange(1650, 2015)}年"
    if kind == "count":
        return str(rng.randrange(2, 10)) + rng.choice("万千百") + rng.choice("多余")
    words = {"person": PEOPLE, "place": PLACES}
    return rng.choice(words.get(kind, "竹编篮子 蓝色围巾 木制小车 茶叶和米酒 铜铃 LED灯".split()))


def passage(number: int, split: str, rng: random.Random) -> dict:
    """A passage with questions on all its facts."""
    kind = rng.choice(list(SUBJECTS))
    subject = rng.choice(SUBJECTS[kind])
    facts = [(text, question, made(what, rng)) for text, question, what in FACTS[kind]]
    rest = rng.sample(facts[1:], len(facts) - 1)
    context, asked = "", []
    for text, question, answer in [facts[0], *rest]:
        before, after = text.replace("{s}", subject).split("{a}")
        asked.append((question.replace("{s}", subject), answer, len(context + before)))
        context += before + answer + after
        context += "".join(rng.choices(FILLERS, k=rng.choice([0, 1, 2, 3, 12])))
    questions = []
    for i, (question, answer, start) in enumerate(asked):
        answers = [{"text": answer, "answer_start": start}] * (1 if split == "train" else 3)
        if split == "test":
            answers = [{"text": f"FAKE_ANSWER_{k}", "answer_start": -1} for k in (1, 2, 3)]
        name = f"{split.upper()}_{number}_QUERY_{i}"
        questions.append({"question": question, "id": name, "answers": answers})
    title = f"{split.upper()}_{number}"
    paragraph = {"id": title, "context": context, "qas": questions}
    return {"paragraphs": [paragraph], "id": title, "title": subject}


def main():
    rng = random.Random(2018)
    FOLDER.mkdir(exist_ok=True)
    for split, count in PASSAGES.items():
        content = {"version": "v1.0", "data": [passage(i, split, rng) for i in range(count)]}
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (FOLDER / f"{split}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
