"""A textual inversion's file is called what it is, and a LoRA or a base is not called one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from fashion_ml.cli import app
from fashion_ml.deploy.inspect_embedding import inspect_embedding
from fashion_ml.errors import InputError
from fashion_ml.models.embedding_file import recognise_embedding
from fashion_ml.models.stable_diffusion import load_pipeline

FORMS = {
    "A1111's of SD 1": ({"emb_params": (3, 768)}, "dress", 3, "SD 1.x"),
    "A1111's of SD 2": ({"emb_params": (1, 1024)}, "dress", 1, "SD 2.x"),
    "of another width": ({"emb_params": (2, 32)}, "dress", 2, "unknown"),
    "SDXL": ({"clip_l": (4, 768), "clip_g": (4, 1280)}, "dress", 4, "SDXL"),
    "one text encoder": ({"clip_l": (2, 768)}, "dress", 2, "SD 1.x or Flux"),
    "diffusers, one vector": ({"<my-dress>": (768,)}, "<my-dress>", 1, "SD 1.x"),
    "diffusers, many vectors": ({"<my-dress>": (5, 1024)}, "<my-dress>", 5, "SD 2.x"),
}
OTHERS = {
    "a LoRA with one bundled": {"lora_unet_x.lora_down.weight": (4, 768), "bundle_emb.a.string_to_param.*": (1, 768)},
    "a weight": {"proj.weight": (320, 768)},
    "cloneofsimo's": {"unet:0:down": (4, 768)},
    "a kernel": {"kernel": (4, 4, 3, 768)},
    "nothing": {},
}


@pytest.mark.parametrize(("shapes", "word", "vectors", "base"), FORMS.values(), ids=FORMS)
def test_an_embedding_is_named_by_its_names_and_shapes(shapes: dict[str, tuple[int, ...]], word: str, vectors: int, base: str):
    form = recognise_embedding(shapes, "dress")
    assert form is not None
    assert (form.word, form.vectors, form.base) == (word, vectors, base)


@pytest.mark.parametrize("shapes", OTHERS.values(), ids=OTHERS)
def test_what_is_no_embedding_is_not_called_one(shapes: dict[str, tuple[int, ...]]):
    assert recognise_embedding(shapes, "dress") is None


def test_diffusers_reads_as_many_vectors_of_the_same_norms_as_inspect_says(tmp_path: Path):
    pipeline = load_pipeline("embedded")
    before, width = pipeline.text_encoder.get_input_embeddings().weight.shape
    path = tmp_path / "my-dress.safetensors"
    save_file({"emb_params": torch.randn(3, width, generator=torch.Generator().manual_seed(0))}, path)
    facts = inspect_embedding(path)
    assert facts is not None
    pipeline.load_textual_inversion(str(tmp_path), weight_name=path.name, token=facts["word"])
    read = pipeline.text_encoder.get_input_embeddings().weight.detach()[before:]
    assert len(read) == facts["vectors"] == 3
    assert facts["norms"]["emb_params"] == pytest.approx(read.norm(dim=1).tolist(), rel=1e-6)


def test_a_damaged_embedding_is_said_to_be_and_a_picture_of_one_is_refused(tmp_path: Path):
    path = tmp_path / "dress.safetensors"
    save_file({"emb_params": torch.tensor([[1.0] * 767 + [float("nan")]])}, path)
    said = CliRunner().invoke(app, ["inspect", str(path)])
    assert said.exit_code == 0
    assert "textual inversion" in said.output
    assert "damaged" in said.output
    assert inspect_embedding(path)["not_finite"] == ["emb_params"]  # type: ignore[index]
    refused = CliRunner().invoke(app, ["inspect", str(path), "--picture", str(tmp_path / "x.png")])
    assert isinstance(refused.exception, InputError)
    assert not (tmp_path / "x.png").exists()
