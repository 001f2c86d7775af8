"""What is easily missed is said in one sentence, the same in the three lines and in a comparison."""

from __future__ import annotations

from fashion_ml.evaluation.power_sentence import power_sentence
from fashion_ml.evaluation.sentence_forms import FORMS
from fashion_ml.metrics.power import Power


def test_the_sentence_holds_every_number():
    text = power_sentence("visual_loss", Power(0.021, 24, 2, 92, (61, 8)), FORMS["en"])
    assert text == (
        "A difference in visual_loss below 0.0210 is easily missed; to find half of it takes 92 references with 2 seeds each, "
        "or 61 with 8 seeds each"
    )
    one_seed = power_sentence("visual_loss", Power(0.021, 24, 1, 92), FORMS["en"])
    assert one_seed.endswith("takes 92 references")  # no seeds to tell from references


def test_chinese_has_the_same_numbers():
    text = power_sentence("visual_loss", Power(0.021, 24, 2, 92, (61, 8)), FORMS["zh-TW"])
    assert (
        text
        == "visual_loss 小於 0.0210 的差異很容易看不出來；要看出一半大小的差異，需要 92 張參考圖、每張 2 個種子，或 61 張、每張 8 個種子"
    )
