"""What images made elsewhere were asked for: their own prompt comes before the caption of their reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from fashion_ml.evaluation.image_pairs import evaluate_images

GARMENTS = {"a": "a red plain dress", "b": "a blue checked hat"}
FEW = {"encoder": "embedded", "extra_metrics": ["prompts"], "resamples": 20}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two references without captions, and two images that each say what they were asked for as AUTOMATIC1111 does."""
    for side in ("generated", "references"):
        (tmp_path / side).mkdir()
        for name, prompt in GARMENTS.items():
            told = PngImagePlugin.PngInfo()
            if side == "generated":
                text = f"{prompt.replace('plain', '(plain:1.2)')}, <lora:look:0.8>\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a"
                told.add_text("parameters", text)
            picture = Image.new("RGB", (64, 64), "red" if name == "a" else "blue")
            picture.save(tmp_path / side / f"{name}.png", pnginfo=told)
    return tmp_path


def test_the_prompt_of_a_webui_is_what_an_image_is_compared_with(folders: Path):
    found = evaluate_images(folders / "generated", folders / "references", **FEW)
    assert found.facts["prompts"] == list(GARMENTS.values())
    assert found.table["prompt_similarity"].notna().all()
    captioned(folders)
    again = evaluate_images(folders / "generated", folders / "references", **FEW)
    assert again.table["prompt_similarity"].tolist() == found.table["prompt_similarity"].tolist()
    assert again.facts["prompts"] == found.facts["prompts"]
    assert "prompts_of_images" not in again.facts  # they say what the captions say


def test_an_image_that_was_asked_for_something_else_is_compared_with_that(folders: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    captioned(folders, a="a green striped skirt")
    found = evaluate_images(folders / "generated", folders / "references", **FEW)
    assert "2 of 2 images say what they were asked for (a WebUI's metadata): that is their prompt" in caplog.text
    assert found.facts["prompts"] == ["a green striped skirt", GARMENTS["b"]]
    assert found.facts["prompts_of_images"] == sorted(GARMENTS.values())
    for path in (folders / "generated").iterdir():  # the same pixels, and no metadata
        Image.open(path).convert("RGB").save(path)
    captions = evaluate_images(folders / "generated", folders / "references", **FEW)
    first, other = (one.table["prompt_similarity"].tolist() for one in (found, captions))
    assert first[0] != other[0]
    assert first[1] == other[1]
    assert found.held_against["prompt_retrieval_chance"].mean == pytest.approx(1 / 3)  # two prompts and one more caption
    assert "2 of 2 references have no caption" not in caplog.text


def test_pictures_of_one_caption_are_no_pair_for_kid_whether_prompts_are_measured_or_not(folders: Path):
    def kid(*switches: str) -> bool:
        settings = {**FEW, "extra_metrics": switches}
        return "kid" in evaluate_images(folders / "generated", folders / "references", **settings).sets

    captioned(folders)
    assert kid("kid")
    captioned(folders, a=GARMENTS["b"])
    assert not kid("kid")  # of two references of one caption no pair is left
    assert not kid("kid", "prompts")


def test_a_caption_that_cannot_be_read_is_named(folders: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    (folders / "references" / "a.txt").write_bytes("紅色洋裝".encode("big5"))
    evaluate_images(folders / "generated", folders / "references", **FEW)
    assert "a.txt' is not UTF-8" in caplog.text


def captioned(folders: Path, **others: str) -> None:
    for name, caption in {**GARMENTS, **others}.items():
        (folders / "references" / f"{name}.txt").write_text(caption, encoding="utf-8")
