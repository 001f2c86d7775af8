"""A StarGAN's grids hold every target domain with content, reference and result, and one domain that wins everything is said."""

from __future__ import annotations

import pytest
from PIL import Image

from fashion_ml.evaluation import gan_grids
from fashion_ml.evaluation.one_domain import Winner, winner
from fashion_ml.evaluation.three_lines import Findings, Gan, three_lines
from fashion_ml.metrics.bootstrap import Interval

DOMAINS = ["dotted", "plain", "striped"]
ROWS = [((y, index), target, (target, 9)) for y in range(3) for index in range(4) for target in range(3)]
MEASURED = [i for i, ((source, _), target, _) in enumerate(ROWS) if source != target]


def test_every_domain_is_made_into_every_other_one_from_different_contents():
    found = gan_grids.every_target(ROWS, MEASURED, 3)
    assert {(ROWS[MEASURED[i]][0][0], ROWS[MEASURED[i]][1]) for i in found} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    contents = [ROWS[MEASURED[i]][0] for i in found]
    assert len(set(contents)) == len(contents)


def test_of_many_domains_each_is_a_target_before_any_comes_again():
    rows = [((y, 0), target, (target, 0)) for y in range(30) for target in range(30)]
    measured = [i for i, ((source, _), target, _) in enumerate(rows) if source != target]
    found = gan_grids.every_target(rows, measured, 30)
    assert sorted(rows[measured[i]][1] for i in found) == list(range(30))


@pytest.mark.parametrize("guided", [True, False])
def test_the_grid_says_which_picture_is_what(monkeypatch: pytest.MonkeyPatch, guided: bool):
    seen: dict[str, object] = {}
    monkeypatch.setattr(gan_grids, "comparison_grid", lambda rows, heads, **more: seen.update(rows=rows, heads=heads, **more))
    pictures = {
        who: [Image.new("RGB", (4, 4), (place, i, 0)) for i in range(len(ROWS))]
        for place, who in enumerate(("content", "reference", "target"))
    }
    gan_grids.domain_grid(
        pictures, "reference", ROWS, DOMAINS, references=pictures["target"] if guided else None, title="found"
    )
    assert (seen["heads"], seen["title"]) == (["content", "as dotted", "as plain", "as striped"], "found")
    rows = list(seen["rows"])  # type: ignore[call-overload]
    assert rows[0][0] == "content from dotted, and the results"
    assert [one.getpixel((0, 0))[:2] for one in rows[0][1]] == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert len(rows) == (12 if guided else 6)
    if guided:
        assert rows[1][0] == "the references of these results"
        assert [one.getpixel((0, 0))[:2] for one in rows[1][1][1:]] == [(2, 0), (2, 1), (2, 2)]


def test_a_domain_wins_where_nearly_all_images_are_recognised_as_it_whatever_they_were_made_for():
    targets = [0, 1, 2] * 4
    assert winner([2] * 11 + [0], targets, DOMAINS, "latent") == Winner("striped", 11 / 12, "latent")
    assert winner(targets, targets, DOMAINS, "latent") is None
    assert winner([2] * 10 + [0, 1], targets, DOMAINS, "latent") is None
    assert winner([0] * 12, [0] * 10 + [1, 1], DOMAINS, "latent") is None  # it is what they were made for
    assert winner([], [], DOMAINS, "latent") is None


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "100% of the images by reference are recognised as plain"), ("zh-TW", "100% 都被辨識為 plain")],
)
def test_the_second_line_says_which_domain_wins_everything(language, said: str):
    gan = Gan(3, 0.1, 0.33, 0.8, 0.1, 1.0, won=[Winner("plain", 1.0, "reference")])
    lines = three_lines(Findings(8, alone=("ssim", Interval(0.7, 0.6, 0.8, 8)), gan=gan), language).splitlines()
    assert said in lines[1]
