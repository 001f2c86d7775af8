"""The collection holds out two sets: one to choose recipes by, one that judges them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from fashion_ml.embedded.collection import collection_folder, folder_of, is_collection


def test_no_picture_is_in_two_parts(collection: Path):
    parts = {part: [path.read_bytes() for path in sorted((collection / part).rglob("*.png"))] for part in _PARTS}
    assert [len(pictures) for pictures in parts.values()] == [72, 24, 24]
    assert len({picture for pictures in parts.values() for picture in pictures}) == 120


def test_what_is_trained_on_shows_every_colour_in_every_pattern(collection: Path):
    captions = [path.read_text(encoding="utf-8").split() for path in sorted((collection / "train").rglob("*.txt"))]
    assert set(Counter(words[1] for words in captions).values()) == {6}
    assert len({tuple(words[1:-3]) for words in captions}) == 72
    patterns = Counter(words[2] if len(words) == 6 else "plain" for words in captions)
    assert (len(patterns), set(patterns.values())) == (6, {12})


def test_every_part_belongs_to_the_collection(collection: Path):
    assert all(is_collection(collection / part) for part in _PARTS)


def test_what_a_former_version_wrote_is_the_collection_too(collection: Path, tmp_path: Path):
    (copy := tmp_path / "c").mkdir()
    note = json.loads((collection / "collection.json").read_text(encoding="utf-8"))
    former = '{"collection": "zarya", "version": 2, "size": 64, "training": 48, "tuning": 24, "references": 24}'
    (copy / "collection.json").write_text(former, encoding="utf-8")
    assert is_collection(copy / "references")
    (copy / "collection.json").write_text(json.dumps({**note, "version": "mine"}), encoding="utf-8")
    assert not is_collection(copy / "references")


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
