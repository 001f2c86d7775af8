"""What an evaluation found, told in both languages with the same numbers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from string import Formatter
from textwrap import wrap
from typing import ClassVar, cast
from unicodedata import east_asian_width

import pytest

from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import shown
from fashion_ml.evaluation.encoder_check import EncoderCheck
from fashion_ml.evaluation.leakage import Leakage
from fashion_ml.evaluation.one_domain import Winner
from fashion_ml.evaluation.sentence_forms import FORMS
from fashion_ml.evaluation.three_lines import Beside, Findings, Gain, Gan, over_the_grid, three_lines
from fashion_ml.evaluation.verdicts import Verdict
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.power import Power
from fashion_ml.runtime.language import VARIABLE, Language, language, language_of, set_language

TOTAL = Gain(
    Interval(0.051, 0.03, 0.072, 24),
    "better",
    Interval(0.047, 0.03, 0.06, 24),
    Interval(0.003, -0.015, 0.022, 24),
    Power(0.021, 24, 2, 92, (61, 8)),
)
SSIM, GAN = Interval(0.7, 0.6, 0.8, 8), Gan(3, 0.1, 0.3, 0.4, 0.1, 1.0)
LORA = Findings(
    n=24,
    gains={
        "weighted_total_loss": TOTAL,
        "visual_loss": Gain(Interval(0.08, 0.05, 0.11, 24), "better", Interval(0.07, 0.05, 0.09, 24)),
        "fashion_clip_loss": Gain(Interval(-0.02, -0.05, 0.01, 24), "not shown"),
        "color_loss": Gain(Interval(-0.04, -0.06, -0.02, 24), "worse"),
    },
    obedience={
        "prompt_similarity": Beside(0.31, 0.3, Interval(0.01, 0.002, 0.02, 24), 0.33),
        "prompt_retrieval": Beside(0.62, 0.6, Interval(0.02, -0.1, 0.1, 24), 0.9, 0.042),
    },
    garments={
        "attribute_kind": Beside(1.0, 1.0, Interval(0.0, 0.0, 0.0, 24)),
        "attribute_colour": Beside(0.75, 1.0, Interval(-0.25, -0.4, -0.1, 24)),
    },
    variety=Beside(0.12, 0.15, Interval(-0.03, -0.05, -0.01, 24), 0.3),
    leak=Interval(0.02, 0.01, 0.03, 8),
    editability=Beside(0.7, 0.8, Interval(-0.1, -0.3, 0.1, 8), None, 0.125),
    references=24,
)
UNREADABLE = EncoderCheck(False, "", 0.3, "mean", 0.355, 0.2, 0.5)
FEW = replace(UNREADABLE, by="nearest")
PAIRS = Leakage((("a.png", "1_x/b.png"),), True, False, (), 1)
DEMO = replace(
    LORA,
    gains={
        "weighted_total_loss": replace(TOTAL, own=Interval(0.167, 0.142, 0.202, 24), others=Interval(0.144, 0.1, 0.2, 24)),
        **{name: Gain(Interval(0.2, 0.1, 0.3, 24), "better") for name in ("visual_loss", "fashion_clip_loss", "color_loss")},
    },
    obedience={"prompt_similarity": Beside(0.627, 0.626, Interval(0.001, -0.012, 0.01, 24))},
    garments={"attribute_pattern": Beside(0.958, 1.0, Interval(-0.042, -0.128, 0.045, 24))},
    likeness=Beside(0.982, 1.0, Interval(-0.018, -0.198, -0.001, 24)),
    variety=Beside(0.021, 0.016, Interval(0.006, -0.004, 0.013, 24)),
    memorised=0.06,
)
"""As `make demo` ends."""
CASES = {
    "everything": LORA,
    "the demo": DEMO,
    "a toy": replace(LORA, toy=True),
    "prompts are obeyed less": replace(
        LORA, obedience={"prompt_similarity": Beside(0.3, 0.31, Interval(-0.01, -0.02, -0.001, 24))}
    ),
    "no difference of prompts": replace(
        LORA, obedience={"prompt_similarity": Beside(0.3, 0.3, Interval(0.0, -0.02, 0.02, 24))}
    ),
    "garments are read as well": replace(
        LORA, garments={"attribute_pattern": Beside(0.979, 1.0, Interval(-0.021, -0.064, 0.022, 24))}
    ),
    "garments are read as well and less like the references'": replace(
        LORA,
        garments={"attribute_pattern": Beside(0.958, 1.0, Interval(-0.042, -0.128, 0.045, 24))},
        likeness=Beside(0.982, 1.0, Interval(-0.018, -0.198, -0.001, 24)),
    ),
    "garments are read better": replace(LORA, garments={"attribute_kind": Beside(1.0, 0.9, Interval(0.1, 0.05, 0.15, 24))}),
    "no leak is shown": replace(LORA, leak=Interval(0.026, -0.028, 0.058, 8)),
    "the opposite of a leak": replace(LORA, leak=Interval(-0.02, -0.03, -0.01, 8)),
    "nothing of prompts": replace(LORA, obedience={}, variety=None, leak=None, editability=None),
    "five references": Findings(5, {"weighted_total_loss": Gain(Interval(-0.1, None, None, 5))}),
    "one reference": Findings(1, {"weighted_total_loss": Gain(Interval(0.1, None, None, 1))}),
    "no encoder": Findings(8, {"visual_loss": TOTAL, "color_loss": Gain(Interval(-0.1, -0.2, -0.05, 8), "worse")}),
    "noise is nearer": replace(LORA, encoder=UNREADABLE, unread=["fashion_clip_loss", "weighted_total_loss"]),
    "a flat colour is nearer, a toy": replace(
        LORA, encoder=replace(UNREADABLE, flat=0.4), unread=["weighted_total_loss"], toy=True
    ),
    "changed ones are not found": replace(LORA, encoder=replace(UNREADABLE, real=0.9), unread=["weighted_total_loss"]),
    "too few to tell from noise": replace(LORA, encoder=FEW, unread=["fashion_clip_loss", "weighted_total_loss"]),
    "too few to tell from a flat colour": replace(LORA, encoder=replace(FEW, flat=0.4), unread=["weighted_total_loss"]),
    "worse on the whole": replace(
        LORA, gains={"weighted_total_loss": replace(TOTAL, own=Interval(-0.051, -0.072, -0.03, 24), verdict="worse")}
    ),
    "more on other references": replace(
        LORA, gains={"weighted_total_loss": replace(TOTAL, verdict="not shown", others=Interval(0.06, 0.03, 0.09, 24))}
    ),
    "one image a reference": replace(LORA, gains={"weighted_total_loss": replace(TOTAL, power=Power(0.021, 24, 1, 92))}),
    "trained on one": replace(LORA, leakage=PAIRS, memorised=0.25),
    "trained on many": replace(LORA, leakage=replace(PAIRS, pairs=PAIRS.pairs * 7, copies=2)),
    "trained on all": replace(LORA, leakage=replace(PAIRS, all_by_setting=True)),
    "images": Findings(
        8,
        alone=("weighted_total_loss", Interval(0.3, 0.2, 0.4, 8)),
        pairs=16,
        obedience={"prompt_similarity": Beside(0.3, references=0.33), "prompt_retrieval": Beside(0.5, chance=0.125)},
        encoder=UNREADABLE,
        unread=["weighted_total_loss"],
    ),
    "images without encoder": Findings(2, alone=("visual_loss", Interval(0.3, None, None, 2)), pairs=4),
    "a StarGAN": Findings(8, alone=("ssim", Interval(0.7, 0.6, 0.8, 8)), gan=Gan(3, 0.1, 0.9, 0.8, 0.1, 1.0)),
    "a StarGAN of one look": Findings(8, alone=("ssim", SSIM), gan=replace(GAN, won=[Winner("plain", 0.95, "reference")])),
    "a StarGAN of one latent look": Findings(8, alone=("ssim", SSIM), gan=replace(GAN, won=[Winner("plain", 0.95, "latent")])),
    "a StarGAN of few": Findings(5, alone=("ssim", Interval(0.7, None, None, 5)), gan=Gan(3, 0.1)),
    "a StarGAN of one": Findings(1, alone=("ssim", Interval(0.7, None, None, 1)), gan=Gan(3, 0.1)),
}
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?%?")


@pytest.mark.parametrize("found", CASES.values(), ids=CASES.keys())
def test_both_languages_have_three_lines_with_the_same_numbers_and_signs(found: Findings):
    english, chinese = (three_lines(found, one) for one in ("en", "zh-TW"))
    assert len(english.split("\n")) == len(chinese.split("\n")) == 3
    few = ("one reference", "one content", "只有一張參考圖", "只有一張內容圖")  # a number in words
    for first, second in zip(english.split("\n"), chinese.split("\n"), strict=True):
        assert Counter(NUMBER.findall(first)) == Counter(NUMBER.findall(second)), few
    assert not re.search("[\u3000-\u9fff]", english)
    assert not re.search(r"\b(the|of|is|and|are|not|references)\b", chinese)


def test_every_form_is_told_in_both_languages_by_the_same_names():
    assert set(FORMS["en"]) == set(FORMS["zh-TW"])
    for key, form in FORMS["en"].items():
        names = [{name for _, name, _, _ in Formatter().parse(one) if name} for one in (form, FORMS["zh-TW"][key])]
        assert names[0] == names[1], key


class Read(dict[str, str]):
    """Forms that remember which of them were asked for."""

    asked: ClassVar[set[str]] = set()

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


def test_every_form_is_used_by_a_case_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cast("dict[str, object]", FORMS), "en", Read(FORMS["en"]))
    for found in CASES.values():
        three_lines(found, "en")
        over_the_grid(found, "en")
    assert set(FORMS["en"]) - Read.asked == set()


def rows(text: str, width: int = 80) -> int:
    """Lines of a terminal that a text fills: English broken at blanks, Chinese, whose letters are two columns wide, at the edge."""
    if text.isascii():
        return sum(len(wrap(line, width)) for line in text.split("\n"))
    columns = [sum(2 if east_asian_width(one) in "WF" else 1 for one in line) for line in text.split("\n")]
    return sum(-(-one // width) for one in columns)


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_demo_ends_in_nine_rows_of_a_terminal_and_nothing_in_more_than_twelve(language: Language):
    assert rows(three_lines(DEMO, language)) <= 9
    assert {name: count for name, found in CASES.items() if (count := rows(three_lines(found, language))) > 12} == {}


def test_parts_with_one_verdict_say_it_once():
    first = three_lines(DEMO, "en").split("\n")[0]
    assert first.endswith("Nearer: visual_loss +0.200, fashion_clip_loss +0.200, color_loss +0.200 (all better).")


def test_what_is_easily_missed_is_told_where_no_difference_was_found():
    assert "is easily missed" not in three_lines(LORA, "en")
    assert "below 0.0210 is easily missed" in three_lines(CASES["more on other references"], "en").split("\n")[2]


def test_the_first_line_tells_what_is_only_the_common_look_and_what_got_nearer_and_farther():
    first = three_lines(LORA, "en").split("\n")[0]
    assert first == (
        "Better: this LoRA lowers weighted_total_loss by 0.051 [0.030, 0.072] against the base model. "
        "Of this 92% is only the look that all references share, +0.003 [-0.015, +0.022] is each picture's own. "
        "Nearer: visual_loss +0.080 (better). Farther: fashion_clip_loss -0.020 (not shown), color_loss -0.040 (worse)."
    )


def test_the_second_line_tells_in_what_it_is_more_than_the_base_less_and_as_it():
    second = three_lines(LORA, "en").split("\n")[1]
    assert second == (
        "More than the base: prompts obeyed (+0.010 [+0.002, +0.020]). "
        "Less than the base: garments as asked (attribute_colour -0.250 [-0.400, -0.100]), "
        "variety (-0.030 [-0.050, -0.010]). "
        "As the base, as far as seen: new things. "
        "The look leaks without the trigger: +0.020 [+0.010, +0.030]."
    )
    assert (
        "As the base, as far as seen: prompts obeyed, garments as asked, variety, new things. "
        in three_lines(DEMO, "en").split("\n")[1]
    )


@pytest.mark.parametrize(
    ("leak", "said"),
    [
        (
            Interval(0.026, -0.028, 0.058, 8),
            "No leak without the trigger is shown: +0.026 [-0.028, +0.058]",
        ),
        (Interval(0.026, None, None, 5), "No leak without the trigger is shown: +0.026."),
        (Interval(-0.02, -0.03, -0.01, 8), "Without the trigger images get farther from the look: -0.020 [-0.030, -0.010]"),
    ],
)
def test_a_leak_is_only_claimed_where_its_interval_shows_one(leak: Interval, said: str):
    second = three_lines(replace(LORA, leak=leak), "en").split("\n")[1]
    assert said in second
    assert "The look leaks" not in second


def test_no_verdict_leakage_and_one_training_are_in_the_third_line():
    third = three_lines(replace(CASES["noise is nearer"], leakage=PAIRS), "en").split("\n")[2]
    assert third == (
        "No verdict on fashion_clip_loss, weighted_total_loss: the encoder cannot read these pictures: "
        "noise is nearer to the references (cosine 0.355) than other real pictures are "
        "(0.300). 1 of 24 references was trained on (copies: a.png = 1_x/b.png), so this is optimistic. "
        "One training says nothing of its recipe."
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LANG": "zh_CN"}, "zh-TW"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "zh_TW.UTF-8"}, "en"),
        ({VARIABLE: "en", "LANG": "zh_TW.UTF-8"}, "en"),
        ({"LANGUAGE": "zh_TW:en", "LANG": "en_US.UTF-8"}, "zh-TW"),
    ],
)
def test_the_language_is_that_of_the_option_else_of_the_environment(environment, expected):
    assert language_of(environment) == expected


def test_a_program_that_asked_for_nothing_is_spoken_to_in_english(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("LANG", "zh_TW.UTF-8")
    assert language() == "en"


def test_a_language_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(InputError, match="--lang: 'fr' is not accepted; give en or zh-TW"):
        set_language("fr")
    set_language("zh_TW")
    assert language() == "zh-TW"


def test_nothing_is_claimed_by_an_encoder_that_cannot_read_the_pictures():
    """No verdict on anything that uses it: not on prompts, not on a leak, not on memorised images."""
    _, second, third = three_lines(replace(CASES["noise is nearer"], memorised=0.25), "en").split("\n")
    assert second == (
        "Whether prompts are obeyed, variety stays or the look leaks is not known, for the encoder cannot read these pictures."
    )
    assert "nearer to a training image" not in third


def test_what_rounds_to_zero_is_on_the_side_of_its_sign_as_in_the_table():
    """A loss that is proved to rise by 0.0003 was listed as nearer."""
    losses = {"visual_loss": (-0.0003, "worse"), "color_loss": (0.0, ""), "fashion_clip_loss": (0.0002, "better")}
    gains = {name: Gain(Interval(mean, mean - 0.0001, mean + 0.0001, 24), verdict) for name, (mean, verdict) in losses.items()}
    first = three_lines(replace(LORA, gains={"weighted_total_loss": TOTAL, **gains}), "en").split("\n")[0]
    assert "Nearer: fashion_clip_loss +0.000 (better), color_loss +0.000. Farther: visual_loss -0.000 (worse)." in first
    assert shown(gains["visual_loss"].own, "+").startswith("-0.0003 [")
    assert shown(Interval(-0.0, None, None), "+") == "+0.0000 [N/A]"


def test_a_share_of_memorised_images_that_chance_gives_is_no_sign():
    few, many = (three_lines(replace(LORA, memorised=share), "en") for share in (0.05, 0.06))
    assert "nearer to a training image" not in few
    assert "6% of images are nearer to a training image" in many


def test_pictures_that_the_encoder_knows_are_too_few_and_not_said_to_be_unreadable():
    """The tutorial's twelve drawings were told "the embedded one, which knows drawings of 64 pixels", which they are."""
    third = three_lines(replace(CASES["too few to tell from noise"], references=12), "en").split("\n")[2]
    assert third.startswith(
        "No verdict on fashion_clip_loss, weighted_total_loss: 12 references are too few for the encoder to tell them from noise "
        "(cosine 0.355, the nearest other real picture 0.300). "
    )
    assert "cannot read" not in third
    assert "made for the drawings of the embedded collection" in three_lines(CASES["a flat colour is nearer, a toy"], "en")


def test_what_is_the_same_on_other_references_is_no_part_of_a_smaller_gain():
    first = three_lines(CASES["more on other references"], "en").split("\n")[0]
    assert first.startswith("Neither better nor worse is shown: this LoRA lowers weighted_total_loss by 0.051 ")
    assert "Of this" not in first
    assert "On other references the gain is +0.060, the look" in first


def test_garments_that_do_not_stay_are_told_with_the_categories_that_changed():
    assert "attribute_kind" not in three_lines(LORA, "en")
    unlike = three_lines(CASES["garments are read as well and less like the references'"], "en").splitlines()[1]
    assert "Less than the base: garments like the references' (-0.018 [-0.198, -0.001])" in unlike
    assert "as far as seen: garments as asked, new" in unlike
    assert "garments" not in three_lines(replace(LORA, encoder=UNREADABLE), "en").splitlines()[1]
    assert "garments" not in three_lines(replace(LORA, garments={}), "en")


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (
            "better",
            "Nearer to the references with this LoRA than without it: weighted_total_loss lower by 0.051 [0.030, 0.072]; garments ",
        ),
        ("worse", "Farther from the references with this LoRA than without it: weighted_total_loss lower by 0.051"),
        (
            "not shown",
            "Not shown to be nearer to the references, nor farther, with this LoRA: weighted_total_loss lower by 0.051",
        ),
    ],
)
def test_over_the_grid_words_say_what_the_pictures_show(verdict: Verdict, told: str):
    found = replace(LORA, gains={"weighted_total_loss": replace(TOTAL, verdict=verdict)})
    assert over_the_grid(found, "en").startswith(told)
    assert over_the_grid(found, "en").endswith("garments are read as asked less often than the base's.")
    assert NUMBER.findall(over_the_grid(found, "en")) == NUMBER.findall(over_the_grid(found, "zh-TW"))


def test_over_the_grid_nothing_is_said_in_words_without_a_verdict():
    assert over_the_grid(replace(LORA, gains={"weighted_total_loss": replace(TOTAL, verdict="")}), "en") == ""
    assert over_the_grid(Findings(24), "zh-TW") == ""


def test_chinese_lines_have_brackets_of_full_width():
    told = "".join(three_lines(found, "zh-TW") + over_the_grid(found, "zh-TW") for found in CASES.values())
    assert re.findall(r".{8}[()].{8}", told) == []


def test_a_reference_of_one_image_has_no_seeds_to_speak_of():
    one = replace(TOTAL, verdict="not shown", power=Power(0.021, 24, 1, 92))
    assert "takes 92 references. " in three_lines(replace(LORA, gains={"weighted_total_loss": one}), "en")
