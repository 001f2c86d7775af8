"""The trigger is what captions share, is taken out without leaving marks, and is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from fashion_ml.config import Evaluation
from fashion_ml.errors import InputError
from fashion_ml.evaluation.lora_plan import Plan
from fashion_ml.evaluation.trigger import classes_of, find_trigger, known_words, plain_prompts, without_trigger, wording_of
from fashion_ml.models.new_words import NewWord, as_metadata

ZARYA = ["a red dress, zarya style", "a blue hat, zarya style"]


@pytest.mark.parametrize(
    ("captions", "classes", "expected"),
    [
        (ZARYA, [], "zarya style"),
        (["Zarya style, a red dress", "zarya style, a hat"], [], "Zarya style"),
        (["zarya style, a dress, white background", "zarya style, a hat, white background"], ["zarya"], "zarya style"),
        (["zarya, a dress, white background", "zarya, a hat, white background"], ["garment"], "zarya, white background"),
        (["a photo of sks dress", "sks dress on a table"], ["sks dress"], "sks"),
        (["a red dress", "a blue dress"], ["dress"], ""),
        (["a red dress, zarya", "a red dress, zarya"], ["zarya"], ""),
        (["一件紅色洋裝，澤雅風", "一頂藍色帽子，澤雅風"], [], "澤雅風"),
    ],
)
def test_what_all_different_captions_share_is_the_trigger(captions: list[str], classes: list[str], expected: str):
    assert find_trigger("auto", captions, classes) == expected
    assert find_trigger("ours", captions, classes) == "ours"
    assert find_trigger("none", captions, classes) == ""


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("a red dress, zarya style", "zarya style", "a red dress"),
        ("Zarya style, a red dress", "zarya style", "a red dress"),
        ("a red dress, zarya style, on a table", "zarya style", "a red dress, on a table"),
        ("a photo of sks dress", "sks", "a photo of dress"),
        ("a dress in sks, red", "sks", "a dress in, red"),
        ("a bazarya dress", "zarya", "a bazarya dress"),
        ("一件紅色洋裝，澤雅風", "澤雅風", "一件紅色洋裝"),
        ("zarya", "zarya", ""),
        ("a dress", "", "a dress"),
        ("gold edge, a dress, zarya", "zarya, gold edge", "a dress"),
    ],
)
def test_a_caption_without_its_trigger_is_whole(caption: str, trigger: str, expected: str):
    assert without_trigger(caption, trigger) == expected


def test_an_encoder_reads_neither_trigger_nor_weights():
    assert plain_prompts(["a (red:1.3) dress, zarya"], "zarya", weighted=True) == ["a red dress"]
    assert plain_prompts(["a (red:1.3) dress, zarya"], "zarya") == ["a (red:1.3) dress"]


def _lora(path: Path, folders: dict[str, dict[str, int]]) -> Path:
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(1, 2)}, path, {"ss_tag_frequency": json.dumps(folders)})
    return path


def test_the_files_own_classes_name_the_trigger_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    captions = ["zarya style, a dress, white background", "zarya style, a hat, white background"]
    lora = _lora(tmp_path / "a.safetensors", {"10_zarya": {"zarya style": 2}, "img": {}})
    wording = wording_of(Evaluation(), captions, lora, weighted=False, read=True)
    assert (wording.trigger, wording.plain) == ("zarya style", ["a dress, white background", "a hat, white background"])
    assert wording.of_base(captions[0]) == captions[0]
    assert wording.facts(captions, read=True) == {"trigger": "zarya style", "token_free_base": False}
    assert wording.facts(captions, read=False) == {"token_free_base": False}
    (line,) = [line for line in caplog.messages if "rigger" in line]
    assert "'zarya style'" in line
    assert "evaluation.trigger" in line
    assert classes_of({"ss_tag_frequency": "no JSON"}) == classes_of({}) == []


def test_a_token_free_base_goes_without_the_trigger_and_needs_one(tmp_path: Path):
    lora = _lora(tmp_path / "a.safetensors", {"10_zarya": {}})
    free = Evaluation(token_free_base=True)
    assert wording_of(free, ZARYA, lora, weighted=False, read=False).of_base(ZARYA[0]) == "a red dress"
    for settings, why in (
        (free, "no trigger is known"),
        (Evaluation(token_free_base=True, trigger="x"), "'x' is in no caption"),
    ):
        with pytest.raises(InputError, match=rf"^evaluation\.token_free_base: {why}.*evaluation\.trigger"):
            wording_of(settings, ["a dress", "a hat"], lora, weighted=False, read=True)


def _with_word(path: Path, value: float) -> Path:
    word = NewWord("zarya", torch.full((2, 4), value), "dress")
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(1, 2)}, path, as_metadata([word]))
    return path


@pytest.mark.parametrize(
    ("caption", "trigger", "known"),
    [
        ("a red dress, zarya style", "zarya style", "a red dress"),
        ("zarya, a red dress", "zarya", "a red dress"),
        ("zarya", "zarya", "dress"),
        ("a photo of Zarya, studio", "zarya", "a photo of dress, studio"),
        ("a bag in zarya style, studio", "zarya style", "a bag in, studio"),
        ("a bag, studio", "studio", "a bag, studio"),
        ("a zarya, studio", "studio", "a dress, studio"),
    ],
)
def test_a_word_of_the_loras_own_goes_with_its_trigger_or_is_what_it_began_as(caption: str, trigger: str, known: str):
    assert known_words(caption, trigger, [NewWord("zarya", torch.zeros(1, 4), "dress")]) == known


def test_base_and_encoder_read_captions_without_the_loras_own_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    captions = ["a red Zarya, studio", "a (blue:1.2) zarya, studio", "a hat, studio"]
    lora = _with_word(tmp_path / "x.safetensors", 1.0)
    wording = wording_of(Evaluation(), captions, lora, weighted=True, read=True)
    assert wording.trigger == "zarya"
    assert wording.plain == ["a red dress, studio", "a blue dress, studio", "a hat, studio"]
    base = ["a red dress, studio", "a (blue:1.2) dress, studio", "a hat, studio"]
    assert [wording.of_base(caption) for caption in captions] == base
    assert wording.facts(captions, read=True) == {"trigger": "zarya", "prompts_of_base": base, "token_free_base": False}
    (line,) = caplog.messages
    assert "is in 2 of 3 prompts; base and encoder read 'a red dress, studio' for 'a red Zarya, studio'" in line
    with pytest.raises(InputError, match=r"evaluation\.negative_prompt: holds 'zarya'"):
        wording_of(Evaluation(negative_prompt="blurred, zarya"), captions, lora, weighted=True, read=True)


def test_runs_with_the_word_and_without_it_can_be_measured_alike(tmp_path: Path):
    """A look's trigger holds the word; where the base goes without it, both give it the same, and the fingerprint's facts are the same."""
    word, plain = _with_word(tmp_path / "x.safetensors", 1.0), _lora(tmp_path / "y.safetensors", {})
    settings = Evaluation(token_free_base=True)
    one, other = (wording_of(settings, ZARYA, path, weighted=False, read=True) for path in (word, plain))
    assert one.facts(ZARYA, read=True) == other.facts(ZARYA, read=True)
    assert one.plain == other.plain == ["a red dress", "a blue hat"]
    assert one.of_base(ZARYA[0]) == other.of_base(ZARYA[0]) == "a red dress"
    explicit = wording_of(Evaluation(trigger="zarya style"), ZARYA, word, weighted=False, read=True)
    assert explicit.plain == one.plain


def test_images_of_another_word_are_other_images(tmp_path: Path):
    """The tensors of both files are the same."""
    files = [
        _with_word(tmp_path / "a.safetensors", 1.0),
        _with_word(tmp_path / "b.safetensors", 1.0),
        _with_word(tmp_path / "c.safetensors", 2.0),
    ]
    applied = SimpleNamespace(alphas_beside={})
    one, same, other = (Plan._lora.fget(SimpleNamespace(lora=path, applied=applied)) for path in files)  # type: ignore[attr-defined]
    assert one == same != other
