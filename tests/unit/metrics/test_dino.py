"""DINOv2's class tokens are transformers' own, from a folder that is really one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel

from fashion_ml.config import Evaluation
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import read_metric_suite
from fashion_ml.metrics.dino import load_dino
from tests.unit.metrics.small_dino import small_dino


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    sizes = ((64, 64), (60, 100), (90, 37))
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.mark.parametrize(
    "prepared", [{}, {"size": {"shortest_edge": 60}, "image_mean": [0.5, 0.5, 0.5]}], ids=["usual", "other"]
)
def test_the_class_tokens_are_those_of_transformers_model_and_processor(prepared: dict[str, object], tmp_path: Path):
    place = small_dino(tmp_path / "dino", **prepared)
    model, processor = AutoModel.from_pretrained(place).eval(), AutoImageProcessor.from_pretrained(place)
    with torch.no_grad():
        expected = [model(**processor(one, return_tensors="pt")).last_hidden_state[0, 0] for one in pictures()]
    found = load_dino(place).embed(pictures(), batch_size=2)
    assert torch.allclose(found, torch.nn.functional.normalize(torch.stack(expected), dim=1), atol=1e-6)


def test_a_folder_without_preprocessing_is_prepared_as_dinov2s_own(tmp_path: Path):
    place = small_dino(tmp_path / "dino")
    (place / "preprocessor_config.json").unlink()
    found = load_dino(place)
    assert found.preprocessing["crop_size"] == {"height": 224, "width": 224}
    assert found.preprocessing["size"] == {"shortest_edge": 256}
    assert found.embed(pictures()).shape == (3, 16)


def test_dino_similarity_is_the_cosine_of_class_tokens_with_and_without_fashion_clip(tmp_path: Path):
    place = small_dino(tmp_path / "dino")
    one, other = pictures()[:2]
    tokens = load_dino(place).embed([one, other]).double()
    for settings in (Evaluation(dino=str(place)), Evaluation(dino=str(place), without=("fashion_clip",))):
        suite = read_metric_suite(settings)
        table = suite.measure(suite.look_at([one, one]), suite.look_at([other, one]))
        assert table["dino_similarity"].tolist() == pytest.approx([float(tokens[0] @ tokens[1]), 1], abs=1e-6)
    assert "dino_similarity" not in read_metric_suite(Evaluation()).measure([], [])


def test_a_folder_that_is_no_whole_dinov2_is_one_line(tmp_path: Path):
    place = small_dino(tmp_path / "dino")
    with pytest.raises(InputError, match=r"^evaluation\.dino: .*nowhere"):
        load_dino(tmp_path / "nowhere")
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    (place / "config.json").write_text(json.dumps(config | {"model_type": "clip"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"^evaluation\.dino: .*is no DINOv2 in transformers' form \(model_type 'clip'\)"):
        load_dino(place)
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(place / "model.safetensors")
    save_file(dict(list(weights.items())[1:]), place / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"^evaluation\.dino: .*dino' lacks 1 weights \(first .*\); give all files"):
        load_dino(place)
    (place / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"^evaluation\.dino: .*holds no"):
        load_dino(place)


def test_another_dinov2_or_another_preparation_of_pictures_has_other_facts(tmp_path: Path):
    small_dino(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (path,) = (tmp_path / "b").glob("*.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    first, second, again = (load_dino(tmp_path / name).facts() for name in "aba")
    assert first == again != second
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 20}}), encoding="utf-8")
    assert load_dino(tmp_path / "a").facts() != first


def test_it_goes_to_its_gpu_to_compute_and_leaves_when_it_is_sent_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    staying = load_dino(small_dino(tmp_path / "dino"))
    wandering = dataclasses.replace(staying, gpu="cpu:0")
    went: list[str] = []
    move = staying.model.to
    monkeypatch.setattr(staying.model, "to", lambda device: (went.append(device), move(device))[1])
    expected = staying.embed(pictures())
    staying.leave_gpu()
    assert went == []
    assert torch.equal(wandering.embed(pictures()), expected)
    wandering.leave_gpu()
    assert went == ["cpu:0", "cpu"]


def test_a_dinov2_for_a_gpu_lies_on_the_cpu_until_it_computes(tmp_path: Path):
    found = load_dino(small_dino(tmp_path / "dino"), "meta")
    assert found.gpu == "meta"
    assert {parameter.device.type for parameter in found.model.parameters()} == {"cpu"}
