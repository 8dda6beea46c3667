"""Writes the samples of eight tasks: invented texts in CLUE's official formats.

    python clue_baselines/sample/make_samples.py

Every text is put together from the phrases below; none is real. The samples show the formats and
let every script run without data; they are far too small to learn the tasks from.
"""

import json
import random
from itertools import count
from pathlib import Path

FOLDER = Path(__file__).parent
ROWS = {"train": 80, "dev": 40, "test": 12}

NAMES = "小李 小张 老王 阿明 小刘 老赵 小陈 阿强".split()
PLACES = "图书馆 火车站 超市 公园 医院 咖啡店 电影院 体育馆".split()
THINGS = "雨伞 钥匙 书包 手表 茶杯 照片 地图 礼物".split()
TIMES = "早上七点 中午十二点 下午三点 晚上八点 明天上午 星期六 下个月 国庆节".split()


def lines(rows) -> str:
    """Rows as one JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def distinct(make, number: int) -> list[dict]:
    """So many different rows; `make` invents one."""
    rows = {}
    while len(rows) < number:
        row = make()
        rows.setdefault(json.dumps(row, sort_keys=True), row)
    return list(rows.values())


def splits(make, tests=("test",), labels=("label", "label_des")) -> dict[str, str]:
    """Files of train, dev and tests; test rows have an id and no label."""
    sizes = [ROWS["train"], ROWS["dev"], *(ROWS["test"] for _ in tests)]
    rows, files = distinct(make, sum(sizes)), {}
    for name, size in zip(("train", "dev", *tests), sizes, strict=True):
        part, rows = rows[:size], rows[size:]
        if name in tests:
            part = [
                {"id": i} | {key: row[key] for key in row if key not in labels}
                for i, row in enumerate(part)
            ]
        files[name] = lines(part)
    return files


APPS = {  # label: (name, what the app does)
    "0": ("打车", "叫车 拼车 查看司机位置 预约专车"),
    "8": ("公共交通", "查询公交 乘坐地铁 扫码进站 到站提醒"),
    "17": ("休闲益智", "消除方块 闯过关卡 猜出谜语 收集星星"),
    "36": ("小说", "阅读小说 收藏书架 追更章节 离线看书"),
    "48": ("音乐", "播放歌曲 下载歌词 收听歌单 发现歌手"),
    "56": ("英语", "背诵单词 练习口语 纠正发音 模拟考试"),
    "88": ("菜谱", "学做家常菜 搜索菜谱 记录火候 搭配食材"),
    "91": ("运动健身", "记录跑步 制定训练 计算热量 学习体操"),
    "98": ("记账", "记录支出 统计账单 设置预算 导出报表"),
    "103": ("相机", "拍摄照片 添加滤镜 设置光圈 连拍合影"),
}


def iflytek(rng):
    def row():
        label = rng.choice(list(APPS))
        name, uses = APPS[label]
        first, second = rng.sample(uses.split(), 2)
        text = rng.choice(
            [
                f"这是一款可以{first}的应用，你还能随时{second}，界面简洁，操作方便。",
                f"想要{first}？打开就能用，支持{second}，新版本更加稳定。",
                f"我们帮助{rng.choice(['学生', '家长', '年轻人', '上班族'])}轻松{first}，"
                f"并且提供{second}等功能。",
            ]
        )
        return {"label": label, "label_des": name, "sentence": text}

    return splits(row)


QUESTIONS = [  # each line: ways to ask the same
    "怎么开通{t}|如何才能使用{t}|{t}在哪里申请",
    "怎么关闭{t}|如何取消{t}|我不想再用{t}了",
    "{t}为什么扣钱|{t}怎么收费了|用{t}要付手续费吗",
    "{t}的额度能提高吗|怎样增加{t}额度|{t}额度太少了",
    "{t}还款日是哪天|什么时候要还{t}|{t}几号还钱",
    "{t}密码忘了怎么办|怎样找回{t}的密码|{t}登录不了",
]
SERVICES = "小额贷 零钱包 分期卡 信用付 积分宝".split()


def afqmc(rng):
    def row():
        first = rng.choice(QUESTIONS)
        same = rng.random() < 0.4
        second = first if same else rng.choice([q for q in QUESTIONS if q != first])
        one = rng.choice(first.split("|"))
        two = rng.choice([q for q in second.split("|") if q != one])
        service = rng.choice(SERVICES)
        row = {"sentence1": one.format(t=service), "sentence2": two.format(t=service)}
        return row | {"label": str(int(same))}

    return splits(row)


def pair(rng) -> dict:
    """Premise, hypothesis and label."""
    (name, other), (place, elsewhere) = rng.sample(NAMES, 2), rng.sample(PLACES, 2)
    thing, time = rng.choice(THINGS), rng.choice(TIMES)
    label = rng.choice(["entailment", "neutral", "contradiction"])
    hypotheses = {
        "entailment": [f"{name}去过{place}", f"{name}和{other}见了面", f"有人在{place}"],
        "neutral": [f"{name}是{other}的哥哥", f"{name}很喜欢{place}", f"{other}要送{name}{thing}"],
        "contradiction": [f"{name}没有去{place}", f"{name}一直在{elsewhere}", f"{other}没见{name}"],
    }  # fmt: skip
    premise = f"{time}，{name}在{place}遇到了{other}，还捡到一个{thing}"
    return {"sentence1": premise, "sentence2": rng.choice(hypotheses[label]), "label": label}


def ocnli(rng):
    number = count()

    def row():
        undecided = {"label": "-"} if rng.random() < 0.03 else {}
        row = {"level": rng.choice(["easy", "medium", "hard"]), **pair(rng), **undecided}
        return row | {"genre": "lit", "prem_id": f"lit_{next(number)}"}

    return splits(row, labels=("label", "level", "genre", "prem_id"))


def cmnli(rng):
    return splits(lambda: pair(rng))


STORIES = [  # {a}, {b}: two people, {p}: the pronoun; then whom it means
    ("{a}打碎了{b}的{t}，{p}连忙道歉。", "a"),
    ("{a}帮{b}找到了{t}，{p}非常感激。", "b"),
    ("{a}把{t}借给{b}，因为{p}自己暂时用不着。", "a"),
    ("{a}向{b}借{t}，可是{p}也没有。", "b"),
    ("{a}送{b}去{l}，{p}在路上一直说头疼，送的人很担心。", "b"),
    ("因为{p}忘了带{t}，{a}只好请{b}帮忙。", "a"),
    ("听说{p}丢了{t}，{a}马上去{l}安慰{b}。", "b"),
]


def wsc(rng):
    def row():
        story, meant = rng.choice(STORIES)
        a, b = rng.sample(NAMES, 2)
        asked = rng.choice("ab")
        words = {"a": a, "b": b, "p": "他", "t": rng.choice(THINGS), "l": rng.choice(PLACES)}
        text = story.format(**words)
        target = {"span2_index": text.index("他"), "span1_index": text.index(words[asked])}
        target |= {"span1_text": words[asked], "span2_text": "他"}
        return {"target": target, "label": str(asked == meant).lower(), "text": text}

    return splits(row, tests=("test1.0", "test"))


FIELDS = [  # keywords of a field of study
    "水稻 产量 氮肥 土壤 灌溉 病虫害",
    "神经网络 图像识别 特征提取 分类器 训练样本 算法",
    "混凝土 抗压强度 裂缝 钢筋 桥梁 荷载",
    "高血压 患者 临床疗效 药物治疗 并发症 血糖",
    "通货膨胀 货币政策 利率 居民消费 出口 财政",
]


def csl(rng):
    number = count(1)

    def row():
        field = rng.choice(FIELDS)
        own = rng.sample(field.split(), 4)
        abstract = (
            f"目的研究{own[0]}与{own[1]}的关系.方法选取{rng.randrange(20, 300)}组数据,"
            f"以{own[2]}为指标进行对照分析.结果表明,{own[3]}对{own[0]}有明显影响,"
            f"{own[1]}提高了{rng.randrange(2, 40)}%.结论可为{own[2]}的改进提供参考."
        )
        keywords, foreign = own[:3], rng.random() < 0.5
        if foreign:
            other = rng.choice([f for f in FIELDS if f != field])
            keywords[rng.randrange(3)] = rng.choice(other.split())
        label = str(int(not foreign))
        return {"id": next(number), "abst": abstract, "keyword": keywords, "label": label}

    return splits(row, labels=("label", "id"))


def c3(rng):
    numbers = count()

    def entry(dialogue: bool, test: bool):
        name, other = rng.sample(NAMES, 2)
        place, thing, time = rng.choice(PLACES), rng.choice(THINGS), rng.choice(TIMES)
        if dialogue:
            passage = [
                f"男：{time}你有空吗？我想去{place}。",
                f"女：好啊，我正好要买{thing}，叫上{name}吧。",
            ]
            asked = [("男的想去哪里？", place, PLACES), ("女的要买什么？", thing, THINGS)]
        else:
            passage = [
                f"{name}约{other}{time}在{place}见面。{other}到得很早，手里拿着一个{thing}。"
                f"{name}觉得奇怪，{other}笑着说这是给他的。"
            ]
            asked = [
                ("他们在哪里见面？", place, PLACES),
                (f"{other}拿着什么？", thing, THINGS),
                ("他们什么时候见面？", time, TIMES),
            ]
        questions = []
        for question, answer, others in rng.sample(asked, 2):
            wrong = rng.sample([o for o in others if o != answer], rng.choice([1, 2, 3, 3, 3]))
            choices = rng.sample([answer, *wrong], len(wrong) + 1)
            last = {"id": next(numbers)} if test else {"answer": answer}
            questions.append({"question": question, "choice": choices} | last)
        return [passage, questions] if test else [passage, questions, str(next(numbers))]

    def file(number: int, kinds: tuple[bool, ...], test=False) -> str:
        entries = [entry(rng.choice(kinds), test) for _ in range(number)]
        return json.dumps(entries, ensure_ascii=False, indent=0) + "\n"

    files = {}
    for split, number in (("train", 20), ("dev", 10)):
        files |= {f"m-{split}": file(number, (False,)), f"d-{split}": file(number, (True,))}
    return files | {name: file(6, (False, True), test=True) for name in ("test1.0", "test1.1")}


IDIOMS = {  # idiom: sentences with a blank for it
    "画蛇添足": "这幅画已经完成，再加一笔反而是□。|文章写得很好，最后一段却□。",
    "守株待兔": "他不肯努力，整天□，等着好运上门。|做生意不能□，要主动去找客户。",
    "亡羊补牢": "这次考试没考好，现在认真复习也算□。|漏洞被发现后公司□，换了新的门锁。",
    "井底之蛙": "不出去看看世界，就会成为□。|他只读过一本书就骄傲，真是□。",
    "半途而废": "学习钢琴要坚持，千万不能□。|他登山到一半就□，没有看到日出。",
    "一目了然": "这张地图画得清楚，路线□。|把数据做成表格，结果就□了。",
    "津津有味": "孩子们听故事听得□。|他坐在树下□地吃着西瓜。",
    "恍然大悟": "老师讲完以后，大家才□。|听了他的解释，我□，原来是钥匙拿错了。",
    "风雨同舟": "多年来他们夫妻□，度过了许多难关。|全村人□，一起战胜了洪水。",
    "车水马龙": "节日的大街上□，十分热闹。|从前的小路如今□，两边都是商店。",
    "目不转睛": "小猫□地盯着鱼缸。|观众□地看着台上的表演。",
    "迫不及待": "一放学他就□地跑回家拆礼物。|她□地想把好消息告诉妈妈。",
}


def chid(rng):
    numbers = count()

    def group():
        candidates = rng.sample(list(IDIOMS), 10)
        used = rng.sample(candidates, rng.choice([2, 3, 4]))
        passages, answers, start = [], {}, ""
        for idiom in used:
            blank = f"#idiom{next(numbers):06d}#"
            answers[blank] = candidates.index(idiom)
            sentence = start + rng.choice(IDIOMS[idiom].split("|")).replace("□", blank)
            start = sentence if rng.random() < 0.3 else ""  # two blanks in one passage
            passages += [] if start else [sentence]
        passages += [start] if start else []
        return {"candidates": candidates, "content": passages}, answers

    files = {}
    for split, number in (("train", 40), ("dev", 20), ("test1.0", 6), ("test1.1", 6)):
        groups = [group() for _ in range(number)]
        files[split] = lines(row for row, _ in groups)
        if split in ("train", "dev"):
            answers = {key: value for _, part in groups for key, value in part.items()}
            files[f"{split}_answer"] = json.dumps(answers, indent=0) + "\n"
    return files


TASKS = (iflytek, afqmc, ocnli, cmnli, wsc, csl, c3, chid)


def main():
    for make in TASKS:
        folder = FOLDER / make.__name__
        folder.mkdir(exist_ok=True)
        for name, text in make(random.Random(make.__name__)).items():
            (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
