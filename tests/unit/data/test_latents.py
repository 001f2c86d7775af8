from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from fashion_ml.data.latent_domains import held_out
from fashion_ml.data.latents import read_latent, read_latents
from fashion_ml.data.packed_latents import pack
from fashion_ml.errors import InputError
from fashion_ml.runtime.weight_files import read_tensors
from tests.fuzz.by_hand import ODD


def write(folder: Path, domain: str, name: str, value: object) -> Path:
    path = folder / domain / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.asarray(value))
    else:
        torch.save(value, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    for domain in ("b", "a"):
        for index in range(5):
            latent = torch.randn(4, 8, 12, generator=draw)
            value = {0: latent, 1: {"latent": latent}, 2: latent[None], 3: latent.half(), 4: latent.numpy()}[index]
            write(tmp_path, domain, f"{index}.{'npy' if index == 4 else 'pt'}", value)
    return tmp_path


def test_tensors_dicts_and_numpy_files_of_others_are_read_as_they_are(folder: Path):
    latents = read_latents(folder)
    assert [domain.name for domain in latents.domains] == ["a", "b"]
    assert latents.shape == (4, 8, 12)
    assert latents.domains[0].files == ("0", "1", "2", "3", "4")
    assert latents.domains[0].take([4, 0]).dtype == torch.float32
    assert torch.equal(latents.domains[0].take([4])[0], torch.from_numpy(np.load(folder / "a" / "4.npy")))


def test_the_packed_form_gives_the_same_numbers_without_the_files(folder: Path):
    plain = read_latents(folder)
    pack(folder, plain)
    for path in (*folder.glob("?/*.pt"), *folder.glob("?/*.npy")):
        path.unlink()
    packed = read_latents(folder)
    assert packed.shape == plain.shape
    for first, second in zip(plain.domains, packed.domains, strict=True):
        assert first.files == second.files
        assert torch.equal(first.take([3, 0, 4]), second.take([3, 0, 4]))
    assert packed.digest() == plain.digest()


def test_packing_splits_large_domains_over_shards(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fashion_ml.data.packed_latents._SHARD_BYTES", 4 * 8 * 12 * 4 * 2)
    plain = read_latents(folder)
    pack(folder, plain)
    assert len(list((folder / "packed-shards").glob("a-*.safetensors"))) == 3
    assert torch.equal(read_latents(folder).domains[0].take(range(5)), plain.domains[0].take(range(5)))
    shard = next((folder / "packed-shards").glob("a-00001*"))
    for damage in (lambda: shard.write_bytes(shard.read_bytes()[:-40]), shard.unlink):
        damage()
        with pytest.raises(InputError, match=r"a-00001\.safetensors' cannot be read .*; encode again, or remove packed\.json"):
            read_latents(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"domains": {"a": {}}}', '{"domains": 3}'])
def test_a_damaged_index_or_manifest_is_one_line(folder: Path, text: str):
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json' is damaged \(.*\); encode again"):
        read_latents(folder)
    (folder / "manifest.json").unlink()
    (folder / "packed.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"packed\.json' cannot be read .*; encode again, or remove packed\.json"):
        read_latents(folder)


def test_packed_latents_do_not_hide_a_latent_that_came_or_went_since(folder: Path):
    pack(folder, read_latents(folder))
    write(folder, "b", "new.pt", torch.zeros(4, 8, 12))
    with pytest.raises(InputError, match=r"does not list the latents that are in .* now; encode again, or remove packed\.json"):
        read_latents(folder)
    (folder / "packed.json").unlink()
    assert len(read_latents(folder).domains[1]) == 6


def test_a_domain_may_be_called_packed(folder: Path):
    (folder / "a").rename(folder / "packed")
    assert [domain.name for domain in read_latents(folder).domains] == ["b", "packed"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((4, 8, 12), float("nan")), "holds NaN or infinite numbers"),
        (torch.zeros(4, 8, 8), r"has \(4, 8, 8\) and .*0\.pt' has \(4, 8, 12\); give latents of one size"),
        (torch.zeros(8, 12), r"has the shape \(8, 12\), not \(channels, height, width\)"),
        ({"mean": torch.zeros(4, 8, 12)}, "holds no latent"),
        (torch.zeros(4, 8, 12, dtype=torch.long), "holds no latent"),
        (torch.zeros(4, 8, 12).to_sparse(), "holds no latent"),
        (torch.zeros(4, 8, 12, device="meta"), "holds no latent"),
        (torch.zeros(4, 8, 12).to(torch.float8_e4m3fn), "holds no latent"),
        (torch.zeros(4, 0, 0), r"has the shape \(4, 0, 0\), not \(channels, height, width\)"),
        (torch.zeros(1).expand(4, 40_000, 40_000), "has the shape .*, which is too large for one latent"),
        (torch.full((4, 8, 12), 1e300, dtype=torch.float64), "holds NaN or infinite numbers"),
    ],
)
def test_a_latent_that_cannot_be_used_is_named(folder: Path, value: object, said: str):
    write(folder, "b", "bad.pt", value)
    with pytest.raises(InputError, match=rf"data\.latents_dir: .*b/bad\.pt' {said}") as caught:
        read_latents(folder)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("scale", ["NaN", "Infinity", "0.0", "-1.0"])
def test_a_scale_that_nothing_can_be_multiplied_by_is_no_advice(folder: Path, scale: str):
    note = f'{{"vae": "x", "vae_sha256": "0", "files": {{}}, "latent_scale": {scale}}}'
    (folder / "manifest.json").write_text(note, encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json' is damaged \(latent_scale .*, not a number above 0\); encode again"):
        read_latents(folder)


def test_latents_that_were_kept_with_their_gradients_are_read(folder: Path):
    for path in folder.glob("a/*.pt"):
        torch.save(torch.ones(4, 8, 12, requires_grad=True), path)
    assert len(read_latents(folder).digest()) == 64


def test_a_file_that_would_run_code_is_refused(folder: Path):
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    (folder / "a" / "evil.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "b" / "cut.pt").write_bytes(b"PK")
    with pytest.raises(InputError) as caught:
        read_latents(folder)
    assert [problem.split("'")[1].rpartition("/")[2] for problem in caught.value.problems] == ["evil.pt", "cut.pt"]
    assert all("cannot be read" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["odd.pt", "odd.npy"])
@pytest.mark.parametrize("odd", ["pipe", "endless", "sparse", "folder", "empty"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, odd: str):
    ODD[odd](tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read"):
        read_latent(tmp_path / name)


def test_a_latent_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path):
    plain, packed = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(torch.zeros(4, 64, 64), plain)
    with ZipFile(plain) as archive, ZipFile(packed, "w", ZIP_DEFLATED) as other:
        for one in archive.infolist():
            other.writestr(one.filename, archive.read(one))
    assert read_latent(plain).shape == (4, 64, 64)
    with pytest.raises(ValueError, match="is compressed, as PyTorch writes none"):
        read_latent(packed)
    with pytest.raises(InputError, match="is compressed, as PyTorch writes none"):
        read_tensors(packed, "model.base")


def test_one_domain_odd_sides_and_no_folder_are_refused(tmp_path: Path):
    write(tmp_path / "one", "a", "0.pt", torch.zeros(4, 8, 8))
    with pytest.raises(InputError, match=r"holds 1 domains \(a\); give at least two"):
        read_latents(tmp_path / "one")
    for domain in "ab":
        write(tmp_path / "odd", domain, "0.pt", torch.zeros(4, 6, 8))
    with pytest.raises(InputError, match="6 x 8 cannot be used; height and width must be divisible by 4"):
        read_latents(tmp_path / "odd")
    with pytest.raises(InputError, match="does not exist; make it: fashion-ml encode"):
        read_latents(tmp_path / "none")


def test_held_out_latents_depend_on_names_alone(folder: Path):
    domain = read_latents(folder).domains[0]
    kept, held = held_out(domain, 0.4)
    assert sorted(kept + held) == [0, 1, 2, 3, 4]
    assert len(held) == 2
    assert held_out(domain, 0.0) == ([0, 1, 2, 3, 4], [])
    assert len(held_out(domain, 0.01)[1]) == 1


def test_a_mirrored_picture_is_on_the_side_of_its_original(folder: Path):
    before = read_latents(folder).domains[0]
    for name in before.files:
        write(folder, "a", f"{name}.mirrored.pt", torch.zeros(4, 8, 12))
    domain = read_latents(folder).domains[0]
    sides = [{domain.files[index].removesuffix(".mirrored") for index in side} for side in held_out(domain, 0.4)]
    assert [len(side) for side in held_out(domain, 0.4)] == [6, 4]
    assert sides[0].isdisjoint(sides[1])
    assert sides[1] == {before.files[index] for index in held_out(before, 0.4)[1]}


def test_the_digest_sees_every_latent(folder: Path):
    before = read_latents(folder)
    write(folder, "a", "0.pt", torch.ones(4, 8, 12))
    after = read_latents(folder)
    assert before.digest() != after.digest()
    (folder / "a" / "0.pt").rename(folder / "a" / "00.pt")
    assert read_latents(folder).digest() not in (before.digest(), after.digest())
