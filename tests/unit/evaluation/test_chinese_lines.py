"""The three lines in Traditional Chinese say what the English ones say: the words of one meaning stand together, and numbers beside theirs."""

from __future__ import annotations

import re

import pytest

from fashion_ml.evaluation.three_lines import Findings, three_lines
from tests.unit.evaluation.test_three_lines import CASES

MEANINGS = {
    r"\b(?:(?<!Neither )better|Better:)": "較好",
    r"\b(?:(?<!nor )worse|Worse:)": "較差",
    r"\(not shown\b": "（未能證實",
    r"\ball better\b": "均較好",
    r"\blowers\b": "降低",
    r"\braises\b": "升高",
    r"\bNearer: ": "更接近參考圖的：",
    r"\bFarther: ": "更遠離參考圖的：",
    r"\bMore than the base:": "高於基底模型：",
    r"\bLess than the base:": "低於基底模型：",
    r"\bThe look leaks without the trigger:": "外觀滲入不含觸發詞的提示詞：",
    r"\bget farther from the look\b": "遠離該外觀",
    r"\bnoise is nearer\b": "雜訊.*更近",
    r"\ba flat colour is nearer\b": "色塊.*更近",
    r"\bfind their original first\b": "最先找到自己的原圖",
    r"\bcopies:": "完全相同：",
    r"\bnear-duplicates:": "近似重複：",
    r"\bwere the training images\b": "就是訓練圖片",
    r"\bNo verdict\b": "沒有結論",
    r"\bNeither better nor worse\b": "好壞均未能證實",
    r"\btoo few for the encoder\b": "太少，編碼器無法",
    r"\bAs the base\b": "與基底模型相同：",
    r"\bprompts obeyed\b": "(?<!否)遵從提示詞",
    r"\bis not known\b": "不得而知",
    r"\bNo leak\b": "未能證實外觀會滲入",
    r"\bNo interval\b": "沒有區間",
}
"""What is said in English, and in Chinese where and only where it is."""


@pytest.mark.parametrize("found", CASES.values(), ids=CASES.keys())
def test_what_is_said_in_one_language_is_said_in_the_other_and_nothing_else(found: Findings):
    lines = zip(*(three_lines(found, one).split("\n") for one in ("en", "zh-TW")), strict=True)
    for english, chinese in lines:
        for words, theirs in MEANINGS.items():
            assert len(re.findall(words, english)) == len(re.findall(theirs, chinese)), (words, english, chinese)


def test_every_meaning_is_in_a_case():
    told = "\n".join(three_lines(found, "en") for found in CASES.values())
    assert [words for words in MEANINGS if not re.search(words, told)] == []


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("everything", "其中 92% 只是所有參考圖共有的外觀，+0.003 [-0.015, +0.022] 才是各張圖特有的"),
        ("everything", "低於基底模型：服裝如所要求（attribute_colour -0.250 [-0.400, -0.100]）、變化（-0.030"),
        ("noise is nearer", "雜訊與參考圖的距離（餘弦 0.355）比其他真實圖片（0.300）更近"),
        ("a flat colour is nearer, a toy", "單一色塊與參考圖的距離（餘弦 0.400）比其他真實圖片（0.300）更近"),
        ("trained on many", "24 張參考圖中有 7 張曾用於訓練"),
        ("a StarGAN", "依參考圖 90%、依潛在碼 80%（未轉換的內容圖 10%、真實圖片 100%）"),
        ("a StarGAN", "3 個領域中 8 張保留內容圖"),
        (
            "more on other references",
            "小於 0.0210 的差異很容易看不出來；要看出一半大小的差異，需要 92 張參考圖、每張 2 個種子，或 61 張、每張 8 個種子",
        ),
    ],
)
def test_each_number_stands_where_its_meaning_is(case: str, expected: str):
    assert expected in three_lines(CASES[case], "zh-TW")
