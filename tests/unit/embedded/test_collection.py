"""The collection holds out two sets: one to choose recipes by, one that judges them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fashion_ml.embedded.collection import collection_folder, folder_of, is_collection


def test_no_picture_is_in_two_parts(collection: Path):
    parts = {part: [path.read_bytes() for path in sorted((collection / part).rglob("*.png"))] for part in _PARTS}
    assert [len(pictures) for pictures in parts.values()] == [48, 24, 24]
    assert len({picture for pictures in parts.values() for picture in pictures}) == 96


def test_every_part_belongs_to_the_collection(collection: Path):
    assert all(is_collection(collection / part) for part in _PARTS)


def test_a_part_is_named_behind_a_slash(collection: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(collection.parent)
    (collection.parent / "outputs").mkdir()
    shutil.copytree(collection, collection.parent / "outputs" / collection.name)
    assert folder_of("embedded", "references") == collection_folder() / "references"
    assert folder_of("embedded/tuning", "references") == collection_folder() / "tuning"
    assert folder_of("embedded/others", "references") == Path("embedded/others")
    assert is_collection("embedded/tuning")
    assert not is_collection("embedded/others")


_PARTS = ("train", "tuning", "references")
