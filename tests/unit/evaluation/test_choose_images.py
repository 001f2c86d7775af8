"""What choosing measures of a file at a strength is what diffusers makes of that file at that strength, whatever was measured before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import structural_similarity

from fashion_ml.embedded.garments import Garment, render
from fashion_ml.evaluation.choose import Candidate
from fashion_ml.evaluation.choose_images import Losses
from fashion_ml.evaluation.generate import generate
from fashion_ml.evaluation.lora_file import plan_file
from fashion_ml.evaluation.lora_plan import Plan
from fashion_ml.models.stable_diffusion import load_pipeline

VALUES = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_v"
FEW = {"num_inference_steps": 2, "images_per_reference": 1, "extra_metrics": [], "without": "fashion_clip", "resolution": 64}


def lora(path: Path, seed: int) -> Path:
    draw = torch.Generator().manual_seed(seed)
    up, down = 0.4 * torch.randn(128, 2, generator=draw), torch.randn(2, 128, generator=draw)
    save_file({f"{VALUES}.lora_up.weight": up, f"{VALUES}.lora_down.weight": down, f"{VALUES}.alpha": torch.tensor(2.0)}, path)
    return path


def expected(plan: Plan, reference: Image.Image, wanted: list[tuple[Path | None, float]]) -> list[float]:
    """1 - scikit-image's similarity of what diffusers itself makes of each file at its strength."""
    pipeline, found = load_pipeline("embedded"), []
    for path in dict.fromkeys(path for path, _ in wanted if path is not None):
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=path.stem)
    for path, strength in wanted:
        if path is None:
            pipeline.disable_lora()
        else:
            pipeline.set_adapters([path.stem], [strength])
        ((_, (made,)),) = list(generate(pipeline, plan.jobs, plan.config.evaluation))
        first, second = (np.asarray(one.convert("L")) for one in (made, reference))
        found.append(1 - max(float(structural_similarity(first, second, win_size=7)), 0.0))
        pipeline.enable_lora()
    return found


def test_every_file_is_measured_alone_at_its_strength_and_the_base_without_any(tmp_path: Path):
    (tmp_path / "references").mkdir()
    garment = Garment("dress", "red", "striped", seed=3)
    reference = render(garment)
    reference.save(tmp_path / "references" / "r.png")
    (tmp_path / "references" / "r.txt").write_text(garment.caption(), encoding="utf-8")
    files = [lora(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate("ab")]
    where = str(tmp_path / "references")
    plan = plan_file(files[0], base="embedded", references=where, training=None, folder=tmp_path / "out", settings=FEW).plan
    losses = Losses(plan, {path.name: path for path in files}, tmp_path / "out")
    wanted: list[tuple[Path | None, float]] = [(files[0], 1.0), (files[0], 0.4), (files[1], 1.0), (None, 0.0), (files[0], 0.4)]
    found = []
    for path, strength in wanted:
        scores = losses.score_base([0]) if path is None else losses.score(Candidate(path.name, 1, strength), [0])
        found.append(scores[0])
    assert losses.made == 4  # the last was there already
    theirs = expected(plan, reference, wanted[:4])
    assert min(abs(one - other) for i, one in enumerate(theirs) for other in theirs[:i]) > 0.003
    assert found[:4] == pytest.approx(theirs, abs=0.0005)
    assert found[4] == found[1]


def test_in_half_precision_each_file_is_added_to_the_weights_of_the_base_before_they_are_rounded(tmp_path: Path):
    names = [
        "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "up_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k",
    ]
    base, files = load_pipeline("embedded"), [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    modules = {name.replace(".", "_"): name for name, _ in base.unet.named_modules()}
    for number, path in enumerate(files):
        some = names[: number + 1]  # the second one changes a module more
        weights = {name: base.unet.get_submodule(modules[name]).weight for name in some}
        change = torch.Generator().manual_seed(number)
        save_file(
            {f"lora_unet_{name}.diff": torch.randn(one.shape, generator=change) * 3e-3 for name, one in weights.items()}, path
        )
    (tmp_path / "references").mkdir()
    Image.new("RGB", (64, 64), (200, 30, 60)).save(tmp_path / "references" / "r.png")
    (tmp_path / "references" / "r.txt").write_text("a portrait", encoding="utf-8")
    settings = {**FEW, "precision": "bf16"}
    given = {"base": "embedded", "references": str(tmp_path / "references"), "training": None}
    plan, alone = (plan_file(path, **given, folder=tmp_path / "out", settings=settings).plan for path in files)
    losses = Losses(plan, {path.name: path for path in files}, tmp_path / "out")
    losses._put(Candidate(files[1].name, 1, 1.0))
    for name in names:
        chosen, measured = (one.pipeline.unet.get_submodule(modules[name]).weight for one in (losses.plan, alone))
        assert chosen.dtype == measured.dtype == torch.bfloat16
        assert torch.equal(chosen, measured), name
