"""Every figure: colours that colour-blind eyes tell apart, titles, units, and text in any script. Drawn by its own maker, with small data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from skimage.color import deltaE_ciede2000, rgb2lab

from fashion_ml.evaluation import figures
from fashion_ml.reports import stargan_log, training_report
from fashion_ml.runtime import figure_style as style

LEAST = 20.0
MACHADO = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
"""At severity 1, for linear RGB: table 1 of Machado, Oliveira & Fernandes 2009, doi:10.1109/TVCG.2009.113."""


def seen(colour: object, sight: str = "normal") -> np.ndarray:
    """A colour as CIELAB, as eyes of that kind see it."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    if sight != "normal":
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(MACHADO[sight]) @ linear, 0, 1)
        rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(rgb[None, None])[0, 0]


def apart(one: object, other: object, sight: str) -> float:
    return float(deltaE_ciede2000(seen(one, sight), seen(other, sight)))


def test_the_simulation_makes_red_and_green_alike_and_leaves_blue_and_yellow_apart():
    assert apart("#b05000", "#5a7a00", "normal") > 30 > 12 > apart("#b05000", "#5a7a00", "deuteranopia")
    assert apart("#0000ff", "#ffff00", "deuteranopia") > 60


@pytest.mark.parametrize("sight", ["normal", *MACHADO])
def test_any_two_colours_of_the_house_are_told_apart(sight: str):
    for one, other in itertools.combinations((*style.LINES, style.GREY), 2):
        assert apart(one, other, sight) >= LEAST, (one, other)


def test_every_side_of_an_evaluation_and_its_mean_are_told_apart():
    for pair in (("base", "LoRA"), ("reference", "latent")):
        for sight in ("normal", *MACHADO):
            assert apart(style.SIDES[pair[0]], style.SIDES[pair[1]], sight) >= LEAST


ROWS = [
    {
        "epoch": epoch,
        "d_loss": 1.9,
        "g_loss": 3.0 / epoch,
        "g_adv": 0.2,
        "sty": 1.1,
        "ds": 0.2,
        "cyc": 1.3,
        "id": 0.6,
        "r1": 0.1,
        "lambda_ds": 1 / epoch,
    }
    for epoch in (1, 2, 3)
]
LOSSES = {
    name: training_report.Series([2, 4, 6], [0.5, 0.3, 0.4], 0.45) for name in training_report.DESCRIPTIONS
}  # fmt: skip
SIDES = {"LoRA": pd.Series([0.5, 0.6, 0.7]), "base": pd.Series([0.4, 0.65, 0.2])}
BASE = {"visual_loss": 0.6}
MAKERS: dict[str, Callable[[Path], object]] = {
    "histogram": lambda path: figures.save_histogram(path, "ssim", SIDES),
    "curves": lambda path: figures.save_curves(path, [0, 1, 2], "strength", {"visual_loss": [0.5, 0.3, 0.4]}, title="0.3", base=BASE),
    "training": lambda path: training_report._draw(path, LOSSES, 6),
    "stargan": lambda path: stargan_log.write_curves(path, ROWS, {"g_adv": 1, "sty": 1, "cyc": 1, "id": 1}, 2.0),
}  # fmt: skip


@pytest.fixture(params=sorted(MAKERS))
def drawn(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    kept: list[Figure] = []
    monkeypatch.setattr(style, "fit_text", kept.append)
    MAKERS[request.param](tmp_path / "figure.png")
    assert (tmp_path / "figure.png").is_file()
    return kept[0]


def test_the_lines_of_one_axis_are_told_apart_by_colour_blind_eyes(drawn: Figure):
    for axes in drawn.axes:
        lines = {to_hex(line.get_color()) for line in axes.get_lines() if line.get_linewidth() > 0}
        for one, other in itertools.combinations(sorted(lines), 2):
            assert apart(one, other, "deuteranopia") >= LEAST, (axes.get_title(loc="left"), one, other)


def test_a_figure_says_what_was_found_and_what_its_sides_are(drawn: Figure):
    assert any(letter.isdigit() for letter in drawn.get_suptitle())
    below = drawn.axes[-1]
    assert below.get_xlabel()
    for axes in drawn.axes:
        assert axes.get_ylabel() or axes not in (drawn.axes[0],)


def test_no_legend_lies_on_what_is_drawn(drawn: Figure):
    drawn.canvas.draw()
    for axes in drawn.axes:
        legend = axes.get_legend()
        assert legend is None or not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_epochs_and_steps_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[Figure] = []
    monkeypatch.setattr(style, "fit_text", kept.append)
    MAKERS["stargan"](tmp_path / "a.png")
    kept[0].canvas.draw()
    for axes in kept[0].axes:
        assert all(float(place).is_integer() for place in axes.get_xticks())


def test_a_title_counts_the_images_in_which_the_lora_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[Figure] = []
    monkeypatch.setattr(style, "fit_text", kept.append)
    MAKERS["histogram"](tmp_path / "a.png")
    assert "LoRA is better in 2 of 3 images" in kept[0].get_suptitle().replace("\n", " ")


def test_the_level_of_the_base_is_drawn_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[Figure] = []
    monkeypatch.setattr(style, "fit_text", kept.append)
    MAKERS["training"](tmp_path / "a.png")
    visual = kept[0].axes[1]
    assert [list(line.get_ydata()) for line in visual.get_lines() if to_hex(line.get_color()) == style.GREY] == [[0.45, 0.45]]
    assert "base without LoRA 0.4500" in [text.get_text() for text in visual.texts]


def test_text_in_chinese_gets_a_font_that_has_it_and_a_dollar_is_no_formula(tmp_path: Path):
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    figure = style.new_figure(4, 3, title="紅色洋裝 is ahead")
    axes = figure.subplots()
    axes.set_yticks([0, 1], ["綠色 $5 and $6", "plain"])
    style.save_figure(tmp_path / "a.png", figure)
    texts = [figure._suptitle, axes.get_yticklabels()[0]]  # type: ignore[attr-defined]
    for text in texts:
        paths = [font_manager.findfont(font_manager.FontProperties(family=[one])) for one in text.get_fontfamily()]
        known = set().union(*(FT2Font(path).get_charmap() for path in paths))
        assert {ord(letter) for letter in text.get_text()} <= known | {10}
        assert text.get_parse_math() is False


def test_a_long_title_is_broken_in_either_script():
    assert style.wrapped("one two three", 8) == "one two\nthree"
    assert style.wrapped("紅色洋裝紅色洋裝", 8) == "紅色洋裝\n紅色洋裝"
