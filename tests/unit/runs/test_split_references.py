"""References out of a training folder: none that stays looks like one, nothing is lost, nothing is overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fashion_ml.data.images import read_references, read_training_folder
from fashion_ml.data.split import alike
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from fashion_ml.runs.split_references import Split, carry_out, plan_split
from tests.unit.data.folders import CP950, picture


def folder_of(place: Path, dresses: int = 12, hats: int = 4) -> Path:
    for name, count in (("5_dress", dresses), ("1_hat", hats)):
        for index in range(count):
            path = picture(place / name / f"{index:02d}.png", (48, 48), seed=len(name) * 100 + index)
            path.with_suffix(".txt").write_text(f"{name[2:]} {index}", encoding="utf-8")
    return place


def split(folder: Path, count: int = 4, *, seed: int = 0, move: bool = False, out: Path | None = None) -> Split:
    planned = plan_split(folder, out, count, seed, move=move, extension=".txt")
    carry_out(planned, move=move, extension=".txt")
    return planned


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("move", [False, True])
def test_both_folders_are_read_as_they_are_and_nothing_is_lost_or_on_both_sides(tmp_path: Path, move: bool):
    folder = folder_of(tmp_path / "set")
    before = {item.sha256: item.caption for item in read_training_folder(folder)}
    made = split(folder, move=move)
    assert made.train == (folder if move else tmp_path / "set_split" / "train")
    training, references = read_training_folder(made.train), read_references(made.references)
    assert (len(training), len(references)) == (12, 4)
    after = {item.sha256: item.caption for item in [*training, *references]}
    assert after == before
    assert len(read_training_folder(folder)) == (12 if move else 16)


def test_every_folder_gives_in_proportion_to_its_images(tmp_path: Path):
    """12 dresses and 4 hats: of 4 references 3 and 1."""
    made = split(folder_of(tmp_path / "set"))
    assert sorted(item.name.partition("/")[0] for item, _, _ in made.chosen) == ["1_hat", "5_dress", "5_dress", "5_dress"]


def test_a_reference_says_how_many_images_it_stands_for(tmp_path: Path):
    made = split(folder_of(tmp_path / "set"))
    of_dresses = [why.stands_for for item, why, _ in made.chosen if item.name.startswith("5_dress")]
    assert sum(of_dresses) == 12
    assert min(of_dresses) >= 1


@pytest.mark.parametrize("seed", range(4))
def test_what_has_a_copy_or_a_near_duplicate_is_not_taken(tmp_path: Path, seed: int):
    folder = folder_of(tmp_path / "set")
    for index in range(4):
        first = folder / "5_dress" / f"{index:02d}.png"
        (folder / "1_hat" / f"copy{index}.png").write_bytes(first.read_bytes())
        picture(folder / "1_hat" / f"large{index}.png", (80, 80), seed=700 + index)
    made = split(folder, 6, seed=seed)
    both = [*read_training_folder(made.train), *read_references(made.references)]
    sides = [0] * (len(both) - 6) + [1] * 6
    assert all(len({sides[index] for index in group}) == 1 for group in alike(both, TensorCache()))


def test_a_group_of_near_duplicates_goes_whole_where_the_others_are_too_few(tmp_path: Path):
    folder = folder_of(tmp_path / "set", dresses=3, hats=1)
    for index in range(3):
        first = folder / "5_dress" / f"{index:02d}.png"
        first.with_name(f"copy{index}.png").write_bytes(first.read_bytes())
    made = split(folder, 2, move=True)
    training, references = read_training_folder(made.train), read_references(made.references)
    assert {item.sha256 for item in training}.isdisjoint({item.sha256 for item in references})
    assert sum(why.copies for _, why, _ in made.chosen) >= 1
    assert len(files(made.out / "near_duplicates")) >= 2  # with a caption each


def test_the_choice_is_a_function_of_the_seed(tmp_path: Path):
    folder = folder_of(tmp_path / "set")
    names = [
        [item.name for item, _, _ in plan_split(folder, None, 4, seed, move=False, extension=".txt").chosen]
        for seed in (0, 0, 1, 2)
    ]
    assert names[0] == names[1]
    assert len({tuple(one) for one in names}) > 1


def test_an_image_without_a_caption_takes_its_class_along(tmp_path: Path):
    folder = folder_of(tmp_path / "set")
    for path in folder.rglob("*.txt"):
        path.unlink()
    made = split(folder)
    assert {item.caption for item in read_references(made.references)} == {"dress", "hat"}


def test_references_of_one_name_from_two_folders_keep_apart(tmp_path: Path):
    folder = folder_of(tmp_path / "set", dresses=2, hats=2)
    made = split(folder, 3)
    assert len(read_references(made.references)) == 3


def test_a_caption_that_another_image_has_too_stays_for_it(tmp_path: Path):
    folder = tmp_path / "set"
    for index in range(3):
        for ending, seed in (("png", index), ("jpg", index + 50)):
            picture(folder / "1_x" / f"{index}.{ending}", seed=seed).with_suffix(".txt").write_text(
                f"look {index}", encoding="utf-8"
            )
    made = split(folder, 2, move=True)
    captions = [item.caption for item in [*read_training_folder(folder), *read_references(made.references)]]
    assert sorted(captions) == ["look 0", "look 0", "look 1", "look 1", "look 2", "look 2"]


def test_names_that_are_not_utf8_are_taken_under_names_that_are(tmp_path: Path):
    folder = folder_of(tmp_path / "set", dresses=1, hats=0)
    picture(folder / "5_dress" / os.fsdecode(CP950 + b".png"), seed=9)
    made = split(folder, 1)
    assert len(read_training_folder(made.train)) == len(read_references(made.references)) == 1


@pytest.mark.parametrize("count", [0, 16, 17])
def test_so_many_that_nothing_would_stay_is_refused(tmp_path: Path, count: int):
    with pytest.raises(InputError, match=rf"--references: {count}"):
        split(folder_of(tmp_path / "set"), count)


def test_nothing_is_overwritten_and_the_new_folder_lies_beside(tmp_path: Path):
    folder = folder_of(tmp_path / "set")
    (tmp_path / "set_split").mkdir()
    (tmp_path / "set_split" / "mine").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="already holds something; give a new folder"):
        split(folder)
    with pytest.raises(InputError, match="lies in the training folder"):
        split(folder, out=folder / "references")
    assert files(tmp_path / "set_split") == {"mine"}


def test_where_it_cannot_be_written_everything_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = folder_of(tmp_path / "set")
    before = files(tmp_path)
    planned = plan_split(folder, None, 4, 0, move=True, extension=".txt")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fashion_ml.runs.split_references.shutil.copy2", full)
    with pytest.raises(InputError, match="cannot be written"):
        carry_out(planned, move=True, extension=".txt")
    assert files(tmp_path) == before


def test_nothing_is_moved_out_of_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = folder_of(tmp_path / "set")
    before = files(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # the tests' user may write everywhere
    with pytest.raises(InputError, match=r"--move: '.*' cannot be written, so nothing can leave it"):
        split(folder, move=True)
    assert files(folder) == before
    assert not (tmp_path / "set_split").exists()


def test_a_folder_is_listed_once_however_many_of_its_images_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = folder_of(tmp_path / "set")
    listed = list[object]()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), scandir(path))[1])
    counts = []
    for count in (4, 8):
        listed.clear()
        plan_split(folder, None, count, 0, move=False, extension=".txt")
        counts.append(len(listed))
    assert counts[0] == counts[1]


def test_nothing_is_moved_out_of_a_folder_that_a_link_leads_to(tmp_path: Path):
    elsewhere, folder = tmp_path / "elsewhere", folder_of(tmp_path / "set")
    (folder / "5_dress").rename(elsewhere)
    (folder / "5_dress").symlink_to(elsewhere)
    before = files(tmp_path)
    with pytest.raises(InputError) as caught:
        plan_split(folder, None, 4, 0, move=True, extension=".txt")
    assert caught.value.problems == [
        f"--move: '{folder}/5_dress' is a link to the folder '{elsewhere}', and nothing is written or removed outside '{folder}'; put a "
        "folder in its place, or give another one"
    ]
    assert files(tmp_path) == before
    split(folder)  # to copy from there is to read
    assert len(read_training_folder(tmp_path / "set_split" / "train")) == 12
    assert files(elsewhere) == {name.removeprefix("elsewhere/") for name in before if name.startswith("elsewhere/")}


def test_the_training_folder_itself_may_be_a_link_and_images_links_to_files(tmp_path: Path):
    kept, link = folder_of(tmp_path / "disk"), tmp_path / "set"
    for image in list(kept.rglob("*.png")):
        theirs = tmp_path / "theirs" / image.parent.name / image.name
        theirs.parent.mkdir(parents=True, exist_ok=True)
        image.rename(theirs)
        image.symlink_to(theirs)
    link.symlink_to(kept)
    split(link, move=True)
    assert len(read_training_folder(link)) == 12
    assert len(list((tmp_path / "theirs").rglob("*.png"))) == 16
