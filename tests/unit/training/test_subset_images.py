"""Folders with settings of their own: which images they give, with which caption, and how each is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fashion_ml.config import LoraExperiment, flat, load_config, to_yaml, validate
from fashion_ml.data.captions import CaptionSettings
from fashion_ml.errors import InputError
from fashion_ml.runs.inputs import read_sources, training_folder


def write(folder: Path, **captions: str) -> Path:
    folder.mkdir(parents=True)
    for name, caption in captions.items():
        Image.new("RGB", (16, 16), (len(caption), 0, 0)).save(folder / f"{name}.png")
        if caption:
            (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def experiment(*subsets: dict[str, Any], **data: Any) -> LoraExperiment:
    tree = {"subsets": [{**subset, "image_dir": str(subset["image_dir"])} for subset in subsets], **data}
    return validate({"data": tree, "evaluation": {"enabled": False}})


def test_subsets_alone_are_the_data_each_with_its_class_repeats_and_prior(tmp_path: Path):
    one, two, prior = write(tmp_path / "one", a="red", b=""), write(tmp_path / "5_two", c="blue"), write(tmp_path / "p", d="")
    config = experiment(
        {"image_dir": one, "class_tokens": "dress", "num_repeats": 3},
        {"image_dir": two},
        {"image_dir": prior, "class_tokens": "person", "is_reg": True},
    )
    sources = read_sources(config)
    assert [(item.name, item.caption, item.repeats) for item in sources.items] == [
        ("one/a.png", "red", 3),
        ("one/b.png", "dress", 3),
        ("5_two/c.png", "blue", 1),
    ]
    assert [(item.name, item.caption) for item in sources.prior] == [("p/d.png", "person")]
    assert training_folder(config) == tmp_path
    assert validate(load_config(config.model_dump(mode="json")).model_dump()) == config
    assert "train_data_dir: null" in to_yaml(config)
    params = flat(config)
    assert (params["data.subsets.0.num_repeats"], params["data.subsets.2.is_reg"], "data.subsets" in params) == (3, True, False)


def test_subsets_stand_beside_the_training_folder_and_folders_called_alike_are_told_apart(tmp_path: Path):
    write(tmp_path / "train" / "2_hat", h="hat")
    folders = [write(tmp_path / name / "x", a="red") for name in ("one", "two")]
    config = experiment(*({"image_dir": folder} for folder in folders), train_data_dir=str(tmp_path / "train"))
    assert [item.name for item in read_sources(config).items] == ["2_hat/h.png", "0_x/a.png", "1_x/a.png"]


def test_a_subset_overrides_what_the_data_say_of_captions_and_mirroring(tmp_path: Path):
    folder = write(tmp_path / "one", a="red\nblue")
    own = {"shuffle_caption": False, "keep_tokens": 2, "caption_lines": "all", "flip_aug": False}
    config = experiment({"image_dir": folder, **own}, {"image_dir": folder}, shuffle_caption=True, flip_aug=True)
    first, second = read_sources(config).items
    assert (first.caption, first.captions, first.flip_aug) == ("red\nblue", CaptionSettings(keep_tokens=2), False)
    assert (second.caption, second.captions, second.flip_aug) == ("red", CaptionSettings(shuffle_caption=True), True)


def test_every_line_is_kept_where_one_is_drawn_and_references_take_the_first(tmp_path: Path):
    folder = write(tmp_path / "1_x", a="red {a|b}\n\nblue")
    settings = {"train_data_dir": str(tmp_path), "enable_wildcard": True, "caption_prefix": "sks"}
    sources = read_sources(validate({"data": settings, "evaluation": {"references": str(folder)}}))
    assert [item.caption for item in sources.items] == ["red {a|b}\nblue"]
    assert [item.caption for item in sources.references] == ["sks red a"]


@pytest.mark.parametrize(
    ("subsets", "problem"),
    [
        ([{"image_dir": "x"}], r"data\.subsets\.0\.image_dir: 'x' does not exist"),
        ([{"image_dir": "one"}], r"data\.subsets\.0\.image_dir: 'one/b\.png' has no caption"),
        ([{"image_dir": "one", "class_tokens": "c"}, {"image_dir": "e"}], r"data\.subsets\.1\.image_dir: 'e' is empty"),
    ],
)
def test_what_is_wrong_with_a_subset_is_said_by_its_number(
    subsets: list[dict[str, str]], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write(Path("one"), a="red", b="")
    Path("e").mkdir()
    with pytest.raises(InputError, match=problem):
        read_sources(experiment(*subsets))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"resolution": 64}, "data.train_data_dir: is not given; add it to the YAML file or pass --set data.train_data_dir=VALUE"),
        ({"subsets": [{"image_dir": "x", "is_reg": True}]}, "data: train_data_dir is null and there are no subsets to train on"),
        ({"subsets": [{"image_dri": "x"}]}, "data.subsets.0.image_dri: unknown key; did you mean image_dir?"),
        ({"subsets": [{"image_dir": "x", "num_repeats": 0}]}, "data.subsets.0.num_repeats: 0 is not accepted"),
    ],
)  # fmt: skip
def test_there_must_be_images_to_train_on_and_a_misspelt_key_has_its_place(data: dict[str, Any], problem: str):
    with pytest.raises(InputError) as caught:
        load_config({"data": data})
    assert any(one.startswith(problem) for one in caught.value.problems)


def test_the_settings_of_all_data_are_looked_up_once_for_thousands_of_images(monkeypatch: pytest.MonkeyPatch):
    from fashion_ml.data.images import CaptionedImage
    from fashion_ml.training import subset_images

    asked, own = list[Any](), CaptionSettings(caption_prefix="a photo of")
    looked_up = subset_images.caption_settings
    monkeypatch.setattr(subset_images, "caption_settings", lambda *given: asked.append(given) or looked_up(*given))
    item = CaptionedImage(Path("a.png"), "red", "a.png", 1)
    items = [*[item] * 5000, replace(item, captions=own)]
    found = subset_images.settings_of_each(items, experiment({"image_dir": "one"}).data)
    assert (found[-1], len(found), len(asked)) == (own, 5001, 1)
