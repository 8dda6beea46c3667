"""Writes the sample that ships with the project: invented news titles in TNEWS' official format.

    python clue_baselines/sample/make_tnews.py

Every title is put together from the templates and words below; none is real. Classes share
cities, numbers, frames and some words, and in many titles the person, the thing or the verb comes
from another class, so a model has to learn and cannot reach 100 %. The vocabulary beside it holds
ASCII, the characters of the sample and the commonest Chinese characters (level 1 of GB 2312).
"""

import json
import random
import string
from pathlib import Path

FOLDER = Path(__file__).parent
ROWS = {"train": 900, "dev": 300, "test1.0": 150, "test": 150}
ODD_ONE_IN = 4

CITIES = "北京 上海 广州 成都 杭州 西安 武汉 青岛 厦门 昆明 苏州 长沙 哈尔滨 兰州".split()
FRAMES = [
    "{t}", "{t}", "{t}", "{t}", "{t}？", "{t}！", "最新：{t}", "{t}，你怎么看", "{t}，网友：没想到",
    "{city}：{t}", "今天{t}", "为什么{t}？", "{t}，原因很简单", "听说{t}", "{t}，很多人不知道",
    "{n}年了，{t}", "盘点：{t}", "{t}，值得一看", "如何看待{t}？", "刚刚，{t}",
]  # fmt: skip

# label: (name, who, what, does); a title is one of SHAPES over these words
CLASSES = {
    "100": (
        "news_story",
        "老奶奶 小狐狸 邻居大叔 穷书生 继母 樵夫 卖豆腐的老汉 小和尚 新媳妇 守夜人".split(),
        "一只旧木箱 半块玉佩 深山里的怪声 三个愿望 枕下的信 一碗热汤 祖传铜镜 井边的哭声".split(),
        "深夜敲开了门 说出了藏了一辈子的秘密 捡到 悄悄留下 梦见 终于原谅了 换来 不敢再提".split(),
    ),
    "101": (
        "news_culture",
        "书法家 老匠人 博物馆 诗人 民俗学者 昆曲社 古籍馆 非遗传人".split(),
        "宋代瓷器 唐诗 青铜鼎 剪纸 毛笔字 皮影戏 古琴谱 敦煌壁画 楷书字帖 对联".split(),
        "修复 临摹 展出 讲解 收藏 传承 题写 鉴定".split(),
    ),
    "102": (
        "news_entertainment",
        "当红小花 影帝 歌手 女主角 综艺嘉宾 导演 流量明星 选秀冠军 主持人".split(),
        "新剧 演唱会 红毯造型 电影首映 恋情 综艺节目 专辑 片酬 机场穿搭".split(),
        "官宣 曝光 回应 撞衫 杀青 惊艳亮相 圈粉 刷屏".split(),
    ),
    "103": (
        "news_sports",
        "国足 女排 主教练 前锋 门将 中锋 冠军队 马拉松选手 乒乓球小将 后卫".split(),
        "总决赛 点球大战 三分球 世界杯名额 联赛首胜 决赛金牌 半场比分 转会".split(),
        "绝杀 逆转 横扫 夺冠 无缘 惜败 打破纪录 伤退".split(),
    ),
    "104": (
        "news_finance",
        "央行 银行 基金经理 民营企业 投资者 外汇市场 保险公司 理财客户".split(),
        "贷款利率 存款 人民币汇率 理财产品 年度利润 债券 融资 个人所得税 现金流".split(),
        "上调 下调 发行 亏损 收购 公布 赎回 监管".split(),
    ),
    "106": (
        "news_house",
        "开发商 购房者 房东 中介 业主 租客 售楼处 物业".split(),
        "二手房 学区房 首付 新楼盘 公积金 房租 精装户型 小区车位 房产证".split(),
        "降价 交房 摇号 退订 涨了又涨 限购 签约 装修".split(),
    ),
    "107": (
        "news_car",
        "新款轿车 越野车 国产电动车 老司机 车主 汽车销售店 跑车 合资品牌".split(),
        "油耗 发动机 后排空间 刹车 变速箱 续航 轮胎 底盘 中控大屏".split(),
        "试驾 上市 召回 碰撞测试 提车 保养 比一比 改装".split(),
    ),
    "108": (
        "news_edu",
        "班主任 高三学生 家长 大学新生 考研党 小学老师 校长 教育部门".split(),
        "高考志愿 期末成绩 作文 英语听力 录取通知书 暑假作业 数学卷子 四六级 奖学金".split(),
        "补习 辅导 公布 复读 报考 减负 家访 逃课".split(),
    ),
    "109": (
        "news_tech",
        "手机厂商 程序员 人工智能 芯片公司 互联网巨头 机器人 科学家 操作系统".split(),
        "折叠屏 处理器 算法 五号网络 摄像头 云计算 开源代码 快充电池 大数据".split(),
        "发布 升级 跑分 研发 卡顿 适配 泄露 量产".split(),
    ),
    "110": (
        "news_military",
        "海军 战斗机 特种兵 航母编队 导弹部队 空军 退役老兵 潜艇".split(),
        "实弹演习 隐身技术 雷达 防空系统 坦克 巡航任务 弹药 边境哨所".split(),
        "起飞 拦截 列装 击落 出动 部署 服役 登陆".split(),
    ),
    "112": (
        "news_travel",
        "背包客 自驾游客 导游 民宿老板 旅行社 驴友 景区".split(),
        "古镇 雪山 海岛 草原日出 门票 温泉 攻略 沙漠露营 国家公园".split(),
        "打卡 徒步 排队 免费开放 迷路 拍照 住一晚 游玩".split(),
    ),
    "113": (
        "news_world",
        "联合国 外国总统 邻国议会 欧洲多国 首相 大使馆 海外难民 国际组织".split(),
        "停火协议 大选投票 制裁 边界谈判 访问 地震救援 峰会 抗议示威 关税".split(),
        "宣布 谴责 否认 签署 呼吁 推迟 退出 斡旋".split(),
    ),
    "114": (
        "news_stock",
        "大盘 散户 龙头股 创业板 游资 券商 庄家 股民".split(),
        "涨停板 主力资金 市盈率 缩量回调 成交量 短线 跌停 均线 仓位".split(),
        "抄底 减持 封板 套牢 拉升 跳水 解禁 打新".split(),
    ),
    "115": (
        "news_agriculture",
        "果农 养猪户 种粮大户 合作社 老农 养殖场 菜农 农技员".split(),
        "玉米 化肥 大棚蔬菜 仔猪 小麦收购价 土地流转 病虫害 苹果树 鱼塘".split(),
        "播种 收割 滞销 丰收 施肥 嫁接 补贴 防治".split(),
    ),
    "116": (
        "news_game",
        "玩家 王者主播 电竞战队 射手英雄 打野 游戏公司 新手 公会会长".split(),
        "皮肤 排位赛 副本 装备 新地图 段位 抽卡 外挂 手柄".split(),
        "上分 五杀 封号 氪金 通关 组队 削弱 加强".split(),
    ),
}
SHAPES = [
    "{who}{does}{what}", "{what}{does}，{who}急了", "{who}和{what}", "{what}还能{does}吗",
    "{n}个{who}都在{does}{what}", "{city}{who}{does}{what}", "{who}：{what}怎么{does}",
    "{what}、{what2}，{who}该选哪个", "{who}{does}{n}次，只为{what}",
    "别再{does}了，{what}才是关键", "{n}月{what}{does}", "{who}谈{what}", "关于{what}，{who}这样说",
    "{does}{what}的{n}个办法",
]  # fmt: skip


def title(label: str, rng: random.Random) -> str:
    """One invented title of a class."""
    _, who, what, does = (
        CLASSES[rng.choice(list(CLASSES)) if rng.randrange(ODD_ONE_IN) == 0 else label][column]
        for column in range(4)
    )
    first, second = rng.sample(what, 2)
    words = {"who": rng.choice(who), "what": first, "what2": second, "does": rng.choice(does)}
    words |= {"n": rng.choice([2, 3, 5, 6, 8, 10, 12, 20, 30, 100]), "city": rng.choice(CITIES)}
    return rng.choice(FRAMES).format(t=rng.choice(SHAPES).format(**words), **words)


def unique_rows(count: int, rng: random.Random) -> list[dict]:
    """Different titles, the classes about as frequent as each other."""
    rows: dict[str, dict] = {}
    while len(rows) < count:
        label = rng.choice(list(CLASSES))
        text = title(label, rng)
        row = {"label": label, "label_desc": CLASSES[label][0], "sentence": text, "keywords": ""}
        rows.setdefault(text, row)
    return list(rows.values())


def vocabulary(texts: list[str]) -> list[str]:
    """Special tokens, ASCII characters and their continuations, and Chinese characters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits)
    ascii_tokens = list(string.punctuation) + letters + ["##" + c for c in letters]
    level_1 = [bytes((a, b)).decode("gb2312", "ignore") for a in range(0xB0, 0xD8)
               for b in range(0xA1, 0xFF)]  # fmt: skip
    chinese = set("，。！？、：；“”（）《》【】…—·") | set(level_1) | set("".join(texts))
    known = {*special, *ascii_tokens, "", *string.ascii_uppercase}
    return special + ascii_tokens + sorted(chinese - known)


def main():
    rng = random.Random(2020)
    rows = unique_rows(sum(ROWS.values()), rng)
    texts = [row["sentence"] for row in rows]
    (FOLDER / "tnews").mkdir(exist_ok=True)
    for split, count in ROWS.items():
        part, rows = rows[:count], rows[count:]
        if split.startswith("test"):
            part = [
                {"id": i, "sentence": part[i]["sentence"], "keywords": ""} for i in range(count)
            ]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
        (FOLDER / "tnews" / f"{split}.json").write_text("".join(lines), encoding="utf-8")
    vocab = "".join(token + "\n" for token in vocabulary(texts))
    (FOLDER / "vocab.txt").write_text(vocab, encoding="utf-8")


if __name__ == "__main__":
    main()
