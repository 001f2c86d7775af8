"""What a search has not seen is the other half of the references, drawn once for all, and no garment is in both halves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import ImageEnhance, ImageOps

from fashion_ml.data.images import CaptionedImage, read_references
from fashion_ml.data.latent_domains import Domain, LatentSet
from fashion_ml.data.reference_parts import choose_part, garment_of, one_garment, part_of, part_of_held
from fashion_ml.embedded.garments import render, sample_garments


def alone(count: int) -> list[list[int]]:
    return [[index] for index in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 24, 32])
def test_two_halves_share_nothing_and_are_everything_in_its_order(count: int):
    items = [f"{i:02d}" for i in range(count)]
    search, held = choose_part(items, alone(count), "search"), choose_part(items, alone(count), "held")
    assert sorted(search + held) == items
    assert (search, held) == (sorted(search), sorted(held))
    assert 0 <= len(search) - len(held) <= 1


def test_the_halves_are_drawn_and_not_the_first_and_the_last():
    search = choose_part(range(24), alone(24), "search")
    assert search != list(range(12))
    assert 3 <= sum(one < 12 for one in search) <= 9
    assert choose_part([chr(97 + i) for i in range(24)], alone(24), "search") == [chr(97 + one) for one in search]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([3, 3], [3, 3]), ([5, 1, 1, 1], [5, 3]), ([2, 2, 2, 2, 1], [5, 4]), ([7, 1], [7, 1]), ([4], [4, 0])],
)
def test_groups_stay_whole_and_the_halves_are_as_even_as_they_allow(sizes: list[int], expected: list[int]):
    groups, first = [], 0
    for size in sizes:
        groups.append(list(range(first, first + size)))
        first += size
    search, held = (choose_part(range(first), groups, part) for part in ("search", "held"))  # type: ignore[arg-type]
    assert [len(search), len(held)] == expected
    assert all(set(group) <= set(search) or set(group) <= set(held) for group in groups)


def written(folder: Path) -> list[CaptionedImage]:
    """Eight garments, each as it is, mirrored, brighter, and as a small JPEG."""
    for number, garment in enumerate(sample_garments(8, seed=4)):
        picture = render(garment)
        small = picture.resize((48, 48)).convert("RGB")
        pictures = {"": picture, "m": ImageOps.mirror(picture), "l": ImageEnhance.Brightness(picture).enhance(1.15), "s": small}
        for name, one in pictures.items():
            path = folder / f"{'kxqz'[len(name) + (name > 'l')]}{name}{number}.{'jpg' if name == 's' else 'png'}"
            one.save(path)
            path.with_suffix(".txt").write_text(f"{garment.caption()}, {name or 'plain'} {number}", encoding="utf-8")
    return read_references(folder)


def test_near_duplicates_are_never_on_both_sides(tmp_path: Path):
    references = written(tmp_path)
    search, held = part_of(references, "search"), part_of(references, "held")
    assert (len(search), len(held)) == (16, 16)
    sides = [{one.path.stem[-1] for one in side} for side in (search, held)]
    assert sides[0].isdisjoint(sides[1])
    assert search == part_of(read_references(tmp_path), "search")
    assert part_of(references, "all") == references


def pictures(folder: Path, named: dict[str, str]) -> list[CaptionedImage]:
    """Pictures that do not look alike, with these names and captions."""
    for (name, caption), garment in zip(named.items(), sample_garments(len(named), seed=9), strict=True):
        render(garment).rotate(90 * (len(name) % 4)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return read_references(folder)


def test_several_views_of_a_garment_are_known_by_their_names_and_by_their_captions(tmp_path: Path):
    named = {"coat_back": "one", "coat_front": "two", "hat": "a grey hat", "jeans": "blue jeans", "other": "A grey hat "}
    references = pictures(tmp_path, named)
    assert one_garment(references) == [[0, 1], [2, 4], [3]]


def test_a_caption_that_many_share_is_that_of_a_class_and_joins_nothing(tmp_path: Path):
    references = pictures(tmp_path, {f"look{i:02d}x": "a photo of a dress" for i in range(8)})
    assert len(one_garment(references)) == 8


def latent_set(**files: list[str]) -> tuple[LatentSet, list[list[int]]]:
    """Domains of latents by their names, those with one capital letter at the end being equal, and all held out."""
    domains = []
    for number, (name, names) in enumerate(files.items()):
        rows = [float(ord(one[-1])) if one[-1].isupper() else 1000.0 * number + place for place, one in enumerate(names)]
        domains.append(Domain(name, tuple(names), torch.tensor(rows)[:, None, None, None].expand(-1, 1, 4, 4)))
    return LatentSet(Path("none"), tuple(domains), (1, 4, 4), {}), [list(range(len(one))) for one in files.values()]


def used(latents: LatentSet, indices: list[list[int]]) -> list[list[str]]:
    return [[domain.files[index] for index in some] for domain, some in zip(latents.domains, indices, strict=True)]


def test_latents_that_are_held_out_are_halved_in_every_domain():
    latents, held = latent_set(plain=[f"p{i}x" for i in range(8)], striped=[f"s{i}x" for i in range(7)])
    search, other = (part_of_held(latents, held, part) for part in ("search", "held"))  # type: ignore[arg-type]
    assert [len(one) for one in (*search, *other)] == [4, 4, 4, 3]
    assert [sorted([*a, *b]) for a, b in zip(search, other, strict=True)] == held == part_of_held(latents, held, "all")


def test_mirrored_pictures_views_copies_and_one_name_in_two_domains_are_on_one_side():
    plain = ["coat_front", "coat_back", "coat_back.mirrored", "oneA", "otherA", "hat", "shoe", "belt"]
    latents, held = latent_set(plain=plain, striped=["hat", "shoe", "scarf", "vest"])
    search, other = (used(latents, part_of_held(latents, held, part)) for part in ("search", "held"))  # type: ignore[arg-type]
    assert [len(one) for one in (*search, *other)] == [4, 2, 4, 2]
    for together in (["coat_front", "coat_back", "coat_back.mirrored"], ["oneA", "otherA"]):
        assert len({one in search[0] for one in together}) == 1
    for name in ("hat", "shoe"):
        assert (name in search[0]) == (name in search[1])


@pytest.mark.parametrize(
    ("names", "garment"),
    [
        (["coat_front.png", "coat-back.jpg", "Coat view 2.png", "coat_side_detail.png", "coat (2).png"], "coat"),
        (["id_00000002/02_1_front.jpg", "id_00000002/02_2_side.jpg", "id_00000002/02_4_full.jpg"], "id_00000002/02"),
        (["look_01.png"], "look_01"),
        (["0001a.png", "0001b.png", "0001.png", "0001_2.png"], "0001"),
        (["a/front.png", "a/back.png"], "a/"),
        (["red_top.png"], "red_top"),
        (["upright.png"], "upright"),
    ],
)
def test_what_says_the_view_is_no_part_of_a_garments_name(names: list[str], garment: str):
    assert {garment_of(name) for name in names} == {garment}
