"""The summary of what an experiment reads: training, prior and reference images, each under the settings of the experiment."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fashion_ml.config import load_config
from fashion_ml.data.notices import Kind
from fashion_ml.data.summary_lines import lines_of
from fashion_ml.models.single_file import clip_tokenizer
from fashion_ml.runs.data_summary import facts_of, look_at_data, summarise_sources
from fashion_ml.runs.inputs import read_sources
from tests.unit.data.folders import picture


def summaries(folder: Path, **settings: object) -> dict[str, dict[Kind, list[str]]]:
    """What is noticed of each folder of an experiment, by the setting's own reading."""
    given = {"data.train_data_dir": str(folder / "train"), "resolution": 64, "evaluation.enabled": False, **settings}
    config = load_config({}, given)
    found = summarise_sources(config, read_sources(config, tell=False), 4, clip_tokenizer("sd1"))
    return {one.role: {kind: [str(notice) for notice in some] for kind, some in one.notices.items()} for one in found}


def captioned(path: Path, caption: str, seed: int, size: tuple[int, int] = (64, 64)) -> None:
    picture(path, size, seed=seed).with_suffix(".txt").write_text(caption, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    captioned(tmp_path / "train" / "1_x" / "a.png", "a (red:1.2) dress", 1)
    captioned(tmp_path / "train" / "1_x" / "b.png", ", ".join(["a dress"] * 30), 2)
    captioned(tmp_path / "held" / "c.png", "a dress", 1, (96, 96))
    captioned(tmp_path / "held" / "d.png", "a hat", 3)
    picture(tmp_path / "reg" / "1_dress" / "e.png", (16, 16), seed=4)
    return tmp_path


def test_every_folder_is_summed_up_by_what_it_is_for(folder: Path):
    found = summaries(
        folder,
        **{"reg_data_dir": str(folder / "reg"), "evaluation.references": str(folder / "held"), "evaluation.enabled": True},
        **{"evaluation.encoder": "embedded", "model.base": "embedded"},
    )
    assert list(found) == ["training", "prior", "references"]
    assert found["prior"][Kind.MISSING] == ["1_dress/e.png"]
    assert found["prior"][Kind.UPSCALED] == ["1_dress/e.png (16 x 16, 4.0 x)"]
    assert found["references"][Kind.LEAK] == ["c.png (as 1_x/a.png)"]


def test_what_is_cut_depends_on_max_token_length(folder: Path):
    """30 times `a dress` and a comma, without the last comma: 89 tokens of CLIP."""
    assert summaries(folder)["training"][Kind.TOO_LONG] == ["1_x/b.png (14 of 89 tokens)"]
    assert Kind.TOO_LONG not in summaries(folder, max_token_length=150)["training"]


def test_weights_in_captions_are_named_unless_they_are_meant(folder: Path):
    assert summaries(folder)["training"][Kind.SYNTAX] == ["1_x/a.txt"]
    assert Kind.SYNTAX not in summaries(folder, weighted_captions=True)["training"]


def test_images_without_a_mask_are_named(folder: Path):
    picture(folder / "masks" / "a.png", (64, 64), seed=5)
    found = summaries(folder, masks="folder", masks_dir=str(folder / "masks"))
    assert found["training"][Kind.MASKLESS] == ["1_x/b.png"]
    given = {"data.masks": "folder", "data.masks_dir": str(folder / "masks"), "model.base": "embedded"}
    (alone,) = look_at_data(str(folder / "train"), given, "", references=False).summaries
    assert [notice.name for notice in alone.notices[Kind.MASKLESS]] == ["1_x/b.png"]


def test_the_summary_counts_the_masks_of_every_kind(folder: Path):
    """Of two images one has half its alpha, and one a shape before an even backdrop."""
    image = picture(folder / "train" / "1_x" / "a.png", (64, 64), seed=9)
    with Image.open(image) as file:
        shown = file.convert("RGB")
    shown.paste((240, 240, 240), (0, 0, 64, 64))
    shown.paste((160, 20, 30), (16, 16, 48, 56))
    shown.putalpha(Image.linear_gradient("L").resize((64, 64)))
    shown.save(image)
    picture(folder / "masks" / "1_x" / "b.png", (64, 64), seed=5)
    for kind, without in (("alpha", ["1_x/b.png"]), ("garment", ["1_x/b.png"]), ("folder", ["1_x/a.png"])):
        given = {"data.masks": kind, "model.base": "embedded"}
        given |= {"data.masks_dir": str(folder / "masks")} if kind == "folder" else {}
        looked = look_at_data(str(folder / "train"), given, "", references=False).summaries
        facts = facts_of(looked)["training"]
        assert facts["masks"] == {"from": kind, "images": 1}
        assert [one["name"] for one in facts["noticed"]["images_without_a_mask"]["files"]] == without
        assert (f"  masks (data.masks {kind}): 1 of 2 images have one", False) in lines_of(looked)


def test_buckets_lessen_what_is_cropped(folder: Path):
    """64 x 128: half of it is outside a square; with buckets it is trained as 64 x 128 scaled to 32 x 96 at most, or nearer."""
    captioned(folder / "train" / "1_x" / "tall.png", "a dress", 6, (64, 128))
    assert summaries(folder)["training"][Kind.CROPPED] == ["1_x/tall.png (50 %)"]
    assert Kind.CROPPED not in summaries(folder, enable_bucket=True, bucket_reso_steps=8)["training"]
