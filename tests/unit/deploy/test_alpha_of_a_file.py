"""A file without an alpha, or with one of 0, means one thing to all that reads a LoRA here: alpha is the rank, as kohya's trainer has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.deploy.export_file import convert_lora
from fashion_ml.deploy.inspect_file import inspect_lora
from fashion_ml.deploy.lora_files import average_of, merge_loras, resize_lora
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import load_lora, lora_tensors, mixed_ranks, save_lora, spec_of
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline

Numbers = dict[str, Any]
RANK = 4
SPECS = {algo: LoraSpec(RANK, float(RANK), algo=algo) for algo in ("lora", "loha", "lokr")}


def said(pipeline: Any) -> Numbers:
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        text = pipeline.text_encoder(torch.arange(20)[None])[0]
        return {"sample": pipeline.unet(noisy, torch.tensor([500]), text).sample}


def evaluated(path: Path, algo: str) -> Numbers:
    pipeline = load_pipeline("embedded")
    apply_lora(pipeline, path)
    return said(pipeline)


def continued(path: Path, algo: str) -> Numbers:
    pipeline, spec = load_pipeline("embedded"), LoraSpec(RANK, 3.0, algo=algo)
    add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0)
    load_lora(path, pipeline.unet, pipeline.text_encoder, spec)
    return said(pipeline)


def inspected(path: Path, algo: str) -> Numbers:
    facts = inspect_lora(path)
    return {"norms": torch.tensor(list(facts["norms"].values())), "scale": torch.tensor(facts["scale"])}


def as_kohyas(path: Path, algo: str) -> Numbers:
    return load_file(convert_lora(path, "kohya", path.with_name("out.safetensors"), "embedded"))


def as_diffusers(path: Path, algo: str) -> Numbers:
    folder = convert_lora(path, "diffusers", path.with_name("folder"), "embedded")
    return load_file(folder / "pytorch_lora_weights.safetensors")


def as_merged(path: Path, algo: str) -> Numbers:
    folder = convert_lora(path, "merged", path.with_name("merged"), "embedded")
    return {name: tensor for name, tensor in load_file(next((folder / "unet").glob("*.safetensors"))).items() if "attn" in name}


def sizes(path: Path, algo: str) -> Numbers:
    spec = spec_of(load_file(path))
    return {"rank": torch.tensor(spec.rank), "alpha": torch.tensor(spec.alpha)}


def mixed(path: Path, algo: str) -> Numbers:
    """One module of another rank, so that each module's own counts."""
    tensors = load_file(path)
    module = next(name for name in tensors if name.endswith("lora_down.weight")).partition(".")[0]
    tensors[f"{module}.lora_down.weight"] = tensors[f"{module}.lora_down.weight"][:2].clone()
    tensors[f"{module}.lora_up.weight"] = tensors[f"{module}.lora_up.weight"][:, :2].clone()
    del tensors[f"{module}.alpha"]
    save_file(tensors, path)
    return {name: torch.tensor(size) for name, size in (mixed_ranks(path) or {}).items()}


def merged(path: Path, algo: str) -> Numbers:
    return load_file(merge_loras([path, path], [1.0, 0.5], path.with_name("out.safetensors")).path)


def resized(path: Path, algo: str) -> Numbers:
    made = load_file(resize_lora(path, path.with_name("out.safetensors"), 2, None).path)
    names = [name for name in made if name.endswith("lora_up.weight")]  # signs of singular vectors are free
    return {name: made[name].flatten(1).abs() for name in names}


def averaged(path: Path, algo: str) -> Numbers:
    pipeline = load_pipeline("embedded")
    apply_lora(pipeline, average_of([path, path], path.with_name("out.safetensors")))
    return said(pipeline)


READERS: dict[Callable[[Path, str], Numbers], tuple[str, ...]] = {
    evaluated: ("lora", "loha", "lokr"),
    continued: ("lora", "loha", "lokr"),
    inspected: ("lora", "loha", "lokr"),
    as_kohyas: ("lora", "lokr"),
    **dict.fromkeys((as_merged, as_diffusers, sizes, mixed, merged, resized, averaged), ("lora",)),
}


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, torch.Tensor]]:
    found = {}
    for algo, spec in SPECS.items():
        pipeline = load_pipeline("embedded")
        parameters = add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1).all
        draw = torch.Generator().manual_seed(0)
        for parameter in parameters:
            parameter.data.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
        found[algo] = lora_tensors(pipeline.unet, pipeline.text_encoder, spec)
    return found


@pytest.mark.parametrize(("read", "algo"), [(read, algo) for read, algos in READERS.items() for algo in algos])
def test_alpha_0_and_none_are_the_rank_to_every_reader(
    read: Callable[[Path, str], Numbers], algo: str, files: dict[str, dict[str, torch.Tensor]], tmp_path: Path
):
    def of(alpha: float | None) -> Numbers:
        own = {name: torch.tensor(alpha or 0.0) if name.endswith(".alpha") else one for name, one in files[algo].items()}
        if alpha is None:
            own = {name: one for name, one in own.items() if not name.endswith(".alpha")}
            if read is averaged or read is mixed:
                return expected  # of files that all have one
        folder = tmp_path / str(alpha)
        folder.mkdir()
        save_lora(folder / "x.safetensors", own, {"ss_base_model_version": "sd_v1"})
        return read(folder / "x.safetensors", algo)

    def same(one: Numbers, other: Numbers) -> bool:
        assert one.keys() == other.keys()
        return all(torch.allclose(one[name].float(), other[name].float(), atol=1e-5) for name in one)

    expected = of(float(RANK))
    assert same(of(0.0), expected)
    assert same(of(None), expected)
    assert not same(of(RANK / 2), expected)


def test_that_others_read_an_alpha_of_0_as_nothing_is_said(
    files: dict[str, dict[str, torch.Tensor]], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    zeros = {name: one * 0 if name.endswith(".alpha") else one for name, one in files["lora"].items()}
    save_lora(tmp_path / "zeros.safetensors", zeros, {})
    save_lora(tmp_path / "plain.safetensors", files["lora"], {})
    for name in ("plain", "zeros"):
        path = tmp_path / f"{name}.safetensors"
        apply_lora(load_pipeline("embedded"), path)
        merge_loras([path], [1.0], tmp_path / f"{name}_2.safetensors")
        facts = inspect_lora(path)
        expected = f"{name}.safetensors says alpha 0 ({len(zeros) // 3} modules), which is read as the rank"
        said = [record.message for record in caplog.records if record.message.startswith(expected)]
        assert (len(said), len(facts["notes"])) == ((2, 1) if name == "zeros" else (0, 0))
