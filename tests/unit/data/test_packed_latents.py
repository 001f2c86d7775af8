from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fashion_ml.data import latent_domains, packed_latents
from fashion_ml.data.encode_latents import encode_folder
from fashion_ml.data.latents import read_latents
from fashion_ml.data.packed_latents import pack
from fashion_ml.errors import InputError

SHARD = "packed-shards/a-00000.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two domains of three latents each, the packed form alone."""
    for domain in ("a", "b"):
        (tmp_path / domain).mkdir()
        for index in range(3):
            torch.save(torch.ones(4, 8, 8), tmp_path / domain / f"{index}.pt")
    pack(tmp_path, read_latents(tmp_path))
    for path in tmp_path.glob("?/*.pt"):
        path.unlink()
    return tmp_path


def one_line(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_latents(folder)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"data.latents_dir: '{folder}/")


def entry(**other: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda domains: {**domains, "a": {**domains["a"], **other}}


def called(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda domains: {name: domains["a"], "b": domains["b"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (entry(files=[1, 2, 3]), "1 is no name of a file"),
        (entry(files=[None] * 3), "None is no name of a file"),
        (entry(files=[["x"], "y", "z"]), "['x'] is no name of a file"),
        (entry(files=["\ud800", "y", "z"]), r"'\ud800' is no name of a file"),
        (entry(files=["", "y", "z"]), "'' is no name of a file"),
        (entry(files=["x", "y", "x"]), "'a' has one name twice"),
        (entry(files="xyz"), "files, sha256 of another kind"),
        (entry(sha256=None), "files, sha256 of another kind"),
        (entry(files=[], shards=[]), "'a' has no latents"),
        (entry(shards=[[SHARD, 3.0]]), "'a' has 3 names and other latents"),
        (entry(shards=[[SHARD, 4], [SHARD, -1]]), "'a' has 3 names and other latents"),
        (called("../evil"), "'../evil' is no name of a file"),
        (called("\ud800"), r"'\ud800' is no name of a file"),
        (called(".."), "'..' is no name of a file"),
        (entry(shards=[[SHARD, 2], [SHARD, 1]]), "'a' has one shard twice"),
        (entry(sha256="0" * 64), "the latents of 'a' are not those that were packed"),
    ],
)
def test_an_index_with_names_or_counts_of_another_kind_is_one_line(
    folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
):
    domains = json.loads((folder / "packed.json").read_text(encoding="utf-8"))["domains"]
    (folder / "packed.json").write_text(json.dumps({"domains": change(domains)}), encoding="utf-8")
    assert one_line(folder).startswith(f"packed.json' cannot be read ({said}); encode again, or remove packed.json")


@pytest.mark.parametrize(
    ("latents", "said"),
    [
        (torch.zeros(3, 4, 0, 0), "it has the shape (3, 4, 0, 0), not (3, channels, height, width)"),
        (torch.zeros(2, 4, 8, 8), "it has the shape (2, 4, 8, 8), not (3, channels, height, width)"),
        (torch.zeros(3, 4, 8, 8, dtype=torch.bool), "it holds BOOL, not F64, F32, F16, BF16"),
        (torch.zeros(3, 4, 8, 8, dtype=torch.int64), "it holds I64, not F64, F32, F16, BF16"),
        (torch.zeros(3, 4, 8, 8, dtype=torch.complex64), "it holds C64, not F64, F32, F16, BF16"),
        (torch.full((3, 4, 8, 8), 1e300, dtype=torch.float64), "its latent '0' holds NaN or infinite numbers"),
    ],
)
def test_packed_latents_of_another_shape_or_kind_are_one_line(folder: Path, latents: torch.Tensor, said: str):
    save_file({"latents": latents}, folder / SHARD)
    assert one_line(folder).startswith(f"{SHARD}' cannot be read ({said}); encode again")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_one_number_that_is_not_finite_is_found_before_a_training(folder: Path, number: float, dtype: torch.dtype):
    latents = torch.ones(3, 4, 8, 8, dtype=dtype)
    latents[2, 1, 3, 3] = number
    save_file({"latents": latents}, folder / SHARD)
    assert one_line(folder).startswith(f"{SHARD}' cannot be read (its latent '2' holds NaN or infinite numbers)")


def test_numbers_whose_sum_is_too_large_are_finite_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed_latents, "_HASHED", 0)
    save_file({"latents": torch.full((3, 4, 8, 8), 3e38)}, folder / SHARD)
    assert read_latents(folder).domains[0].take([1]).max() == torch.tensor(3e38)


def test_what_is_beyond_the_bytes_that_are_looked_through_is_looked_at_when_it_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    latents = torch.ones(3, 4, 8, 8)
    latents[2] = float("nan")
    save_file({"latents": latents}, folder / SHARD)
    monkeypatch.setattr(packed_latents, "_LOOKED_AT", 2 * 4 * 8 * 8 * 4)
    monkeypatch.setattr(packed_latents, "_AT_ONCE", 1)
    domain = read_latents(folder).domains[0]
    assert domain.take([0, 1]).shape == (2, 4, 8, 8)
    with pytest.raises(InputError, match=r"data\.latents_dir: the packed latent '2' of 'a' holds NaN .*; encode it again"):
        domain.take([0, 2])


def test_too_many_domains_are_refused_before_they_are_opened(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    domains = json.loads((folder / "packed.json").read_text(encoding="utf-8"))["domains"]
    (folder / "packed.json").write_text(
        json.dumps({"domains": {f"d{number}": domains["a"] for number in range(1001)}}), encoding="utf-8"
    )
    assert one_line(folder) == "packed.json' holds 1,001 domains, and 1,000 are the most; join them into fewer folders"
    monkeypatch.setattr(latent_domains, "MOST_DOMAINS", 1)
    single = tmp_path / "single"
    for domain in ("a", "b"):
        (single / domain).mkdir(parents=True)
        (single / domain / "x.pt").write_bytes(b"never opened")
        (single / domain / "x.png").write_bytes(b"never opened")
    with pytest.raises(InputError, match=r"data\.latents_dir: .*single' holds 2 domains, and 1 are the most"):
        read_latents(single)
    with pytest.raises(InputError, match=r"IMAGES_DIR: .*single' holds 2 domains, and 1 are the most"):
        encode_folder(single, tmp_path / "out", "embedded", size=64, flips=False, packed=False, device="cpu")
    assert not (tmp_path / "out").exists()


def test_other_numbers_in_a_shard_are_not_what_was_packed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    save_file({"latents": torch.full((3, 4, 8, 8), 7.0)}, folder / SHARD)
    assert one_line(folder).startswith("packed.json' cannot be read (the latents of 'a' are not those that were packed)")
    monkeypatch.setattr(packed_latents, "_HASHED", 3 * 4 * 8 * 8 * 4 - 1)
    assert read_latents(folder).domains[0].take([0]).mean() == 7, "beyond the bytes that are hashed what was noted is believed"


def test_a_shard_that_is_a_link_out_of_the_folder_is_not_read(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = (folder / SHARD).rename(tmp_path_factory.mktemp("elsewhere") / "a.safetensors")
    (folder / SHARD).symlink_to(elsewhere)
    assert f"('{SHARD}' leads out of the folder)" in one_line(folder)


@pytest.mark.parametrize("index", [0, 2])
def test_single_files_that_were_made_anew_are_not_passed_over(folder: Path, index: int):
    for place in range(3):
        torch.save(torch.full((4, 8, 8), 9.0 if place == index else 1.0), folder / "b" / f"{place}.pt")
        torch.save(torch.ones(4, 8, 8), folder / "a" / f"{place}.pt")
    assert one_line(folder).startswith(f"b/{index}.pt' is not the latent that packed.json has under its name; encode again")
    torch.save(torch.ones(4, 8, 8), folder / "b" / f"{index}.pt")
    assert len(read_latents(folder).domains) == 2
