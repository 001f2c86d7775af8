"""The page of an evaluation: head, ruler, pictures that matter, nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fashion_ml.evaluation.artifacts import Pairs, ReportContent, _best_and_worst, _heading
from fashion_ml.evaluation.figures import save_picture
from fashion_ml.evaluation.html_report import write_html
from fashion_ml.evaluation.log_evaluation import title_of
from fashion_ml.runs.run_name import evaluation_name
from fashion_ml.runtime.language import VARIABLE

LINES = "The first line.\nThe second <line>.\nThe third line."
RULER = {
    "marks": {"visual_loss": {"identity": 0.0, "noise": 0.9, "lora": 0.4, "base": 0.6, "nearest_real": 0.3}},
    "position": {"visual_loss": 2 / 3},
    "no_position": {},
}


def _pairs(**columns: list[float]) -> Pairs:
    table = pd.DataFrame({"weighted_total_loss": [0.1, 0.2, 0.3, 0.4], **columns})
    picture = Image.new("RGB", (16, 16), "red")
    names = ["a", "b", "c", "d"]
    return Pairs({"LoRA": table}, names, ["紅色洋裝", "b", "فستان", "d"], lambda _: picture, lambda _, __: picture)


def _page(folder: Path, pairs: Pairs) -> str:
    save_picture(folder / "best_worst.png", _best_and_worst(pairs))
    report = {"run_id": "0123abcd", "ruler": RULER}
    about = {"rank": "8", "rate": "0.0001", "steps": "400"}
    rows = [("visual_loss", "lower", ["0.4"])]
    content = ReportContent("Evaluation", LINES, "f" * 64, {"seed": 0}, rows, ("LoRA",), report, about=about)
    write_html(folder / "report.html", content, {_heading(pairs): folder / "best_worst.png"}, pairs.columns())
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_begins_with_the_three_lines_the_run_its_date_rank_rate_and_steps(tmp_path: Path):
    page = _page(tmp_path, _pairs())
    head = page[: page.index("<h2>")]
    assert re.findall(r"<p>(.*?)</p>", head) == ["The first line.", "The second &lt;line&gt;.", "The third line."]
    assert re.search(r"date <b>\d{4}-\d\d-\d\d \d\d:\d\d</b>", head)
    for name, value in (("run", "0123abcd"), ("rank", "8"), ("rate", "0.0001"), ("steps", "400")):
        assert f"{name} <b>{value}</b>" in head


def test_the_ruler_goes_from_near_to_far_and_says_the_position(tmp_path: Path):
    page = _page(tmp_path, _pairs())
    marks = re.findall(r"<span[^>]*>([^<]*)</span>", page)
    assert marks == ["identity 0.000", "nearest real 0.300", "lora 0.400", "base 0.600", "noise 0.900"]
    assert "position +0.67 of the way from the base to the nearest real picture" in page


def test_the_pictures_that_matter_are_the_most_specific_the_most_generic_and_the_worst():
    assert _heading(_pairs(specific_weighted_total_loss=[0.3, 0.0, -0.1, 0.2])) == "Most specific, most generic and worst pairs"
    assert _heading(_pairs()) == "Best and worst pairs"


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(tmp_path: Path):
    page = _page(tmp_path, _pairs(specific_weighted_total_loss=[0.3, 0.0, -0.1, 0.2]))
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(("given", "expected"), [("en", "en"), ("zh-TW", "zh-Hant-TW")])
def test_the_page_names_its_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str):
    monkeypatch.setenv(VARIABLE, given)
    assert f'<html lang="{expected}">' in _page(tmp_path, _pairs())


def test_grids_call_the_first_picture_and_the_sides_what_they_are():
    """A StarGAN's first picture is the content, and the side `reference` is what was made by a reference."""
    pairs = replace(_pairs(), left="content", heads={"LoRA": "by reference"})
    assert pairs.named("LoRA", "base") == ["content", "by reference", "base"]
    assert _best_and_worst(pairs).tobytes() != _best_and_worst(_pairs()).tobytes()
    assert _best_and_worst(pairs).size == _best_and_worst(_pairs()).size


def test_gain_and_verdict_stand_beside_the_metric_on_a_narrow_screen_and_the_rest_is_said_to_be_at_the_right(tmp_path: Path):
    """Their cells carry the classes that the style puts into the second and third column; rows with fewer cells too."""
    heads, cells = ("base", "LoRA", "gain", "verdict"), ["0.6", "0.4", "+0.2 [+0.1, +0.3]", "better"]
    picture = Image.new("RGB", (16, 16), "red")
    save_picture(tmp_path / "a.png", picture)
    rows = [("visual_loss", "lower", cells), ("kid", "lower", cells[:2])]
    content = ReportContent("Evaluation", LINES, "f" * 64, {}, rows, heads, {})
    write_html(tmp_path / "report.html", content, {"a": tmp_path / "a.png"}, pd.DataFrame({"a": [1]}))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<td class="number gain">') == page.count('<td class="number verdict">') == 2
    assert '<td class="number gain">+0.2 [+0.1,\u00a0+0.3]</td><td class="number verdict">better</td>' in page
    assert '<th class="number gain">gain</th>' in page
    assert '<td class="word">lower</td>' in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert ".scores .gain { grid-column: 2;" in style
    assert ".scores .verdict { grid-column: 3; }" in style
    assert page.index("scroll the table sideways") < page.index('<table class="scores"')


@pytest.mark.parametrize("cell", ["1.0000 [N/A]", "1.0000 [0.9000, 1.0000]"])
def test_what_has_no_interval_is_explained_where_it_stands(tmp_path: Path, cell: str):
    save_picture(tmp_path / "a.png", Image.new("RGB", (16, 16), "red"))
    content = ReportContent("Evaluation", LINES, "f" * 64, {}, [("kid", "lower", [cell])], ("LoRA",), {})
    write_html(tmp_path / "report.html", content, {"a": tmp_path / "a.png"}, pd.DataFrame({"a": [1]}))
    assert ("all equal or fewer than six" in (tmp_path / "report.html").read_text(encoding="utf-8")) == ("N/A" in cell)


def test_the_title_is_of_the_run_and_in_the_language(monkeypatch: pytest.MonkeyPatch):
    name = evaluation_name("dress r8 lr5e-4 800st", "step 800")
    assert title_of(name) == "Evaluation of dress r8 lr5e-4 800st, step 800"
    assert title_of("own name") == "Evaluation of own name"
    assert title_of("") == ""
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert title_of(name) == "dress r8 lr5e-4 800st, step 800 的評估"
