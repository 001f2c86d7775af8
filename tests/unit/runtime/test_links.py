from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_ml.data.encode_latents import encode_folder
from fashion_ml.errors import InputError
from fashion_ml.evaluation.generate import ImageFolder
from fashion_ml.runs.prior import _Kept
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.links import leads_out, refuse_links_out
from fashion_ml.tracking.mlflow_private import remove_half_uploads
from tests.fuzz.files import picture


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody's own, beside the one that is written to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "keep.pt").write_bytes(b"somebody's own")
    (folder / "keep.png").write_bytes(picture("PNG"))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name) + ord(name[-5])).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def encode(place: Path, out: Path) -> None:
    pictures = images(place / "pictures", "a/x.png", "b/x.png")
    encode_folder(pictures, out, "embedded", size=64, flips=False, packed=True, device="cpu")


@pytest.mark.parametrize("name", ["a", "packed-shards"])
def test_encode_removes_and_writes_nothing_where_a_link_leads(tmp_path: Path, out: Path, outside: Path, name: str):
    encode(tmp_path, out)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["a/keep"] = {"source": "a/keep.png", "sha256": "0", "mirrored": False}
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (out / name).rename(tmp_path / "aside")
    (out / name).symlink_to(os.path.join("..", "outside"))  # noqa: PTH118 - as somebody else's archive may hold it
    before = contents(outside)
    with pytest.raises(InputError) as caught:
        encode(tmp_path, out)
    assert caught.value.problems == [
        f"OUT_DIR: '{out / name}' is a link to the folder '{outside}', and nothing is written or removed outside '{out}'; put a folder "
        "in its place, or give another one"
    ]
    assert contents(outside) == before


def test_the_folder_itself_may_be_a_link_to_another_disk(tmp_path: Path, outside: Path):
    link, disk = tmp_path / "link", tmp_path / "disk"
    disk.mkdir()
    link.symlink_to(disk)
    encode(tmp_path, link)
    encode(tmp_path, link)  # goes on
    assert (disk / "a" / "x.pt").is_file()
    (disk / "there").mkdir()
    (link / "here").symlink_to(disk / "there")
    refuse_links_out(link, "OUT_DIR")  # what stays inside is nobody else's


def test_a_locked_folder_holds_no_link_to_a_folder_elsewhere(out: Path, outside: Path):
    (out / "images" / "deeper").mkdir(parents=True)
    (out / "images" / "deeper" / "link").symlink_to(outside)
    with (
        pytest.raises(InputError, match=r"resume: '.*/deeper/link' is a link to the folder '.*/outside'"),
        folder_lock(out, "resume"),
    ):
        pass
    assert not (out / ".lock").exists()


def test_a_link_to_a_file_is_no_way_out(out: Path, outside: Path):
    (out / "file").symlink_to(outside / "keep.pt")
    with folder_lock(out):
        pass
    assert leads_out(out / "file", out)
    assert not leads_out(out / "none", out)
    assert leads_out(out.with_name("out2"), out)


@pytest.mark.parametrize("target", ["/nowhere/at/all", "inside", "logs"])
def test_a_link_to_nowhere_or_to_itself_is_refused_before_anything_is_written(out: Path, target: str):
    (out / "deeper").mkdir()
    (out / "deeper" / "logs").symlink_to(target)
    with pytest.raises(InputError) as caught, folder_lock(out):
        pass
    assert caught.value.problems == [
        f"output.output_dir: '{out}/deeper/logs' is a link to '{target}', where nothing is that can be reached; remove the link, or give "
        "another folder"
    ]
    assert [path.name for path in out.iterdir()] == ["deeper"]


def test_a_file_that_is_open_in_emacs_holds_nothing_up(out: Path):
    (out / ".#config.yaml").symlink_to("you@here.123:456")
    refuse_links_out(out, "OUT_DIR")


def test_images_of_an_evaluation_are_neither_cleared_nor_written_elsewhere(out: Path, outside: Path):
    ImageFolder(out, "one")
    (out / "1_look").symlink_to(outside)
    before = contents(outside)
    for key in ("one", "another"):
        with pytest.raises(InputError, match=r"output_dir: '.*/1_look' is a link to the folder"):
            ImageFolder(out, key)
    assert contents(outside) == before


def test_prior_images_are_not_drawn_elsewhere(out: Path, outside: Path):
    (out / "prior.json").write_text(json.dumps({"prompt": "a dress"}), encoding="utf-8")
    (out / "1_a_dress").symlink_to(outside)
    with pytest.raises(InputError, match=r"--output: '.*/1_a_dress' is a link to the folder"):
        _Kept(out, "1_a_dress", {"prompt": "a dress"})


def test_leftovers_are_sought_in_the_folder_alone(out: Path, outside: Path):
    (outside / ".artifact.uploading.x").write_bytes(b"")
    (outside / ".x.000000-1-1.tmp").write_bytes(b"")
    (out / "link").symlink_to(outside)
    before = contents(outside)
    remove_half_uploads(str(out))
    remove_leftovers(out)
    assert contents(outside) == before
