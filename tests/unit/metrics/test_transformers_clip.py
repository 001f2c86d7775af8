"""transformers' CLIPModel is the independent reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.metrics.fashion_clip import cosine, load_fashion_clip
from fashion_ml.metrics.transformers_clip import is_transformers_clip, load_transformers_clip

TEXTS = ["a red striped dress", "", "shoes " * 100]
SIZES = (150, 150), (300, 150), (150, 300)  # the crop is the same whichever way an odd pixel would be rounded
SMALL = {
    "projection_dim": 24,
    "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "vision_config": {
        **{"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3},
        **{"image_size": 64, "patch_size": 16},
    },
}


def save(folder: Path, activation: str, sizes: dict | None = None, **text: object) -> CLIPModel:  # type: ignore[type-arg]
    """A random CLIP in transformers' form, with its image processor; far from initial values, so that differences show."""
    torch.manual_seed(0)
    sizes = sizes or {}
    config = CLIPConfig(
        **{key: value for key, value in sizes.items() if key == "projection_dim"},
        text_config={**sizes.get("text_config", {}), "hidden_act": activation, **text},
        vision_config={**sizes.get("vision_config", {}), "hidden_act": activation},
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    size = config.vision_config.image_size
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(folder)
    return model


def both(folder: Path, model: CLIPModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest difference of image and of text embeddings, L2-normalised, on the same pictures and texts."""
    ours, preprocess, tokenize = load_transformers_clip(folder)
    ours.eval()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]
    processed = CLIPImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt").pixel_values
    assert (torch.stack([preprocess(p) for p in pictures]) - processed).abs().max() < 0.04  # two levels of 255, from rounding
    tokens = tokenize(TEXTS)
    with torch.no_grad():
        theirs = [
            model.visual_projection(model.vision_model(processed).pooler_output),
            model.text_projection(model.text_model(tokens).pooler_output),
        ]
        mine = [
            ours.encode_image(processed, normalize=True),
            ours.encode_text(tokens, normalize=True),
        ]
    return tuple((a - b / b.norm(dim=1, keepdim=True)).abs().max() for a, b in zip(mine, theirs, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_vit_b_32_gives_the_embeddings_of_transformers(tmp_path: Path, activation: str):
    model = save(tmp_path, activation)
    assert sum(p.numel() for p in model.parameters()) > 150e6
    image, text = both(tmp_path, model)
    assert image < 1e-5
    assert text < 1e-5


def test_another_activation_in_config_json_gives_other_embeddings(tmp_path: Path):
    model = save(tmp_path, "quick_gelu", SMALL)
    assert max(both(tmp_path, model)) < 1e-5
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for tower in ("text_config", "vision_config"):
        tree[tower]["hidden_act"] = "gelu"
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert min(both(tmp_path, model)) > 1e-4


def test_without_a_word_about_the_activation_it_is_quick_gelu(tmp_path: Path):
    model = save(tmp_path, "quick_gelu", SMALL)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for tower in ("text_config", "vision_config"):
        tree[tower].pop("hidden_act")
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert max(both(tmp_path, model)) < 1e-5


@pytest.mark.parametrize("eos", [2, 49407, 1000])
def test_the_end_of_the_text_is_found_as_transformers_finds_it(tmp_path: Path, eos: int):
    model = save(tmp_path, "gelu", SMALL, eos_token_id=eos)
    if eos == 1000:
        ours, _, _ = load_transformers_clip(tmp_path)
        tokens = torch.tensor([[49406, 5, 1000, 0, 0] + [0] * 72, [49406, 7, 8, 9, 1000] + [0] * 72])
        with torch.no_grad():
            theirs = model.text_projection(model.text_model(tokens).pooler_output)
            mine = ours.eval().encode_text(tokens)
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    else:
        assert both(tmp_path, model)[1] < 1e-5


@pytest.mark.parametrize(("text", "vision"), [("gelu", "quick_gelu"), ("relu", "relu")])
def test_activations_that_open_clip_cannot_express_are_named(tmp_path: Path, text: str, vision: str):
    save(tmp_path, "gelu", SMALL)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["text_config"]["hidden_act"], tree["vision_config"]["hidden_act"] = text, vision
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{text} .text. and {vision}"):
        load_transformers_clip(tmp_path)


def test_weights_in_the_pickled_form_are_read_too(tmp_path: Path):
    model = save(tmp_path, "gelu", SMALL)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(77)}, tmp_path / "pytorch_model.bin")
    assert max(both(tmp_path, model)) < 1e-5


def test_only_a_clip_folder_is_one(tmp_path: Path):
    assert not is_transformers_clip(tmp_path)
    save(tmp_path, "gelu", SMALL)
    assert is_transformers_clip(tmp_path)


def test_the_same_weights_with_another_activation_are_another_encoder(tmp_path: Path):
    """The weights' hash is equal, the structure's is not: so are fingerprint and cache."""
    save(tmp_path / "quick", "quick_gelu", SMALL)
    save(tmp_path / "plain", "gelu", SMALL)
    first, second = (load_fashion_clip(name, str(tmp_path / name)) for name in ("quick", "plain"))
    assert first.weights_sha256 == second.weights_sha256
    assert first.structure_sha256 != second.structure_sha256
    assert first.structure_sha256 == load_fashion_clip("again", str(tmp_path / "quick")).structure_sha256


def test_an_encoder_without_weights_is_an_error_and_not_a_random_one(tmp_path: Path):
    source = EMBEDDED_DIR / "fashion_clip"
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"evaluation\.encoder: 'local-dir:.*' cannot be loaded"):
        load_fashion_clip(f"local-dir:{tmp_path}", f"local-dir:{tmp_path}")


def test_equal_embeddings_have_a_cosine_of_exactly_one():
    rows = torch.nn.functional.normalize(torch.randn(50, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert cosine(rows, rows) == [1.0] * 50
    assert cosine(rows[:1], -rows[:1]) == [-1.0]
