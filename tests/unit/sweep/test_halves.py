"""By how much a sweep will be confirmed is said before anything is trained, and what cannot be halved is refused or warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import ImageEnhance

from fashion_ml.config import load_sweep
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.sweep.halves import check_halves, held_of

PROJECT = Path(__file__).parents[3]
NAMES = {"lora": ("network.rank", "int"), "stargan": ("loss.w_ds", "float")}


def sweep(folder: Path, trainer: str = "lora", confirm: dict[str, Any] | None = None, **settings: Any) -> tuple[Any, Any]:
    name, kind = NAMES[trainer]
    tree = {
        "name": "s",
        "trainer": trainer,
        "experiment": str(PROJECT / "experiments" / trainer / "embedded.yaml"),
        "settings": {"evaluation.encoder": "embedded", **settings},
        "search_space": {name: {"type": kind, "low": 1, "high": 2}},
        "objectives": [{"metric": "weighted_total_loss"}],
        "confirm": confirm or {},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_sweep(folder / "sweep.yaml", {})


def references(folder: Path, count: int, seed: int = 4) -> str:
    folder.mkdir()
    for number, garment in enumerate(sample_garments(count, seed=seed)):
        render(garment).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"garment {number} of {seed}", encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(("count", "most", "held"), [(11, 32, 5), (12, 32, 6), (14, 10, 5), (14, 12, 6)])
def test_too_few_references_to_confirm_by_are_warned_of_before_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, most: int, held: int
):
    given = {"evaluation.references": references(tmp_path / "references", count), "evaluation.max_references": most}
    spec, base = sweep(tmp_path, **given)
    check_halves(spec, base)
    assert held_of(spec, base) == held
    few = "confirm.references: 5 references to confirm by, fewer than the 6 that a verdict takes; give more evaluation."
    assert [line.startswith(few) for line in caplog.messages if line.startswith("confirm.references")] == [True] * (held < 6)
    caplog.clear()
    check_halves(*sweep(tmp_path, confirm={"best": 0}, **given))
    assert caplog.messages == []


def test_training_images_as_references_are_counted_too(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "train").mkdir()
    references(tmp_path / "train" / "1_dress", 9)
    spec, base = sweep(tmp_path, **{"evaluation.references": None, "data.train_data_dir": str(tmp_path / "train")})
    check_halves(spec, base)
    assert held_of(spec, base) == 4
    assert any(line.startswith("confirm.references: 4 references to confirm by") for line in caplog.messages)


def test_pictures_of_one_garment_cannot_be_halved_and_are_refused(tmp_path: Path):
    folder = tmp_path / "references"
    references(folder, 1)
    for number in range(1, 4):
        ImageEnhance.Brightness(render(sample_garments(1, seed=4)[0])).enhance(1 + number / 20).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"number {number}", encoding="utf-8")
    with pytest.raises(InputError, match=r"no references can be held back to confirm by \(there are 1 different ones\)"):
        check_halves(*sweep(tmp_path, **{"evaluation.references": str(folder)}))


def test_other_references_that_the_search_sees_are_refused_by_name(tmp_path: Path):
    given = references(tmp_path / "references", 12)
    others = references(tmp_path / "others", 6, seed=8)
    spec, base = sweep(tmp_path, confirm={"references": others}, **{"evaluation.references": given})
    check_halves(spec, base)
    assert held_of(spec, base) == 6
    ImageEnhance.Brightness(render(sample_garments(12, seed=4)[7])).enhance(1.1).save(tmp_path / "others" / "3.png")
    with pytest.raises(InputError, match=r"1 of 6 are near-duplicates of references that the search sees \(3\.png = 7\.png\)"):
        check_halves(spec, base)


def test_references_that_are_trained_on_are_warned_of_before_the_search(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "train").mkdir()
    training = {"data.train_data_dir": str(tmp_path / "train")}
    references(tmp_path / "train" / "1_dress", 12)
    by_heart = "the confirmation cannot tell what is better from what is learnt by heart"
    check_halves(*sweep(tmp_path, **{"evaluation.references": None, **training}))
    assert any(line.startswith("evaluation.references: none are given") and by_heart in line for line in caplog.messages)
    caplog.clear()
    given = references(tmp_path / "references", 12, seed=8)
    check_halves(*sweep(tmp_path, **{"evaluation.references": given, **training}))
    assert by_heart not in caplog.text
    shared = references(tmp_path / "shared", 12, seed=4)
    check_halves(*sweep(tmp_path, **{"evaluation.references": shared, **training}))
    assert "evaluation.references: of those that confirm 6 of 6 references were trained on (copies: " in caplog.text
    caplog.clear()
    check_halves(*sweep(tmp_path, confirm={"references": shared}, **{"evaluation.references": given, **training}))
    assert "confirm.references: of those that confirm 12 of 12 references were trained on (copies: " in caplog.text


def test_the_embedded_references_and_contents_are_halved_without_being_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert held_of(*sweep(tmp_path)) == 12
    assert held_of(*sweep(tmp_path, "stargan")) == 36
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("share", "held"), [(0.4, 4), (0.6, 6), (0.1, 0)])
def test_latents_of_a_stargan_that_are_held_out_are_counted_by_domain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float, held: int
):
    for number, domain in enumerate(("red", "blue")):
        (tmp_path / "latents" / domain).mkdir(parents=True)
        for index in range(10):
            torch.save(torch.full((4, 8, 8), 10.0 * index + number), tmp_path / "latents" / domain / f"{domain}{index}.pt")
    given = {"data.latents_dir": str(tmp_path / "latents"), "data.validation_split": share}
    spec, base = sweep(tmp_path, "stargan", **given)
    assert held_of(spec, base) == held
    if not held:
        with pytest.raises(
            InputError, match=r"data\.validation_split: no contents can be held back to confirm by; use more, such as"
        ):
            check_halves(spec, base)
        return
    check_halves(spec, base)
    warned = [line for line in caplog.messages if line.startswith("data.validation_split: 4 contents to confirm by")]
    assert len(warned) == (held < 6)


def test_a_stargan_takes_no_references_of_its_own_to_confirm_by(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"confirm\.references: a StarGAN is confirmed by half of the latents that are held out"
    ):
        sweep(tmp_path, "stargan", {"references": "others"})
