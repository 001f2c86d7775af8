"""The card of a hub's folder: what was measured of this file and nothing else, whatever captions hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from fashion_ml.config import LoraExperiment, validate
from fashion_ml.deploy.hub_folder import Measured, _is_of, card
from fashion_ml.models.kohya_format import save_lora
from tests.unit.deploy.test_lora_files import write_lora

HOSTILE = "a `red` dress | <script>alert(1)</script> [x](y)\n# head"
REPORT: dict[str, Any] = {
    "sentence": "This LoRA lowers weighted_total_loss by 0.050 [0.020, 0.080] against the base model: better.\nSecond.\nThird >= 0.1.",
    "references": 12,
    "images": 24,
    "references_seen_in_training": False,
    "fingerprint": "0123456789abcdef" * 4,
    "metrics": {
        "weighted_total_loss": {
            "base": {"mean": 0.41364, "low": 0.394, "high": 0.46, "n": 12},
            "lora": {"mean": 0.36364, "low": 0.344, "high": 0.41, "n": 12},
            "gain": {"mean": 0.05, "low": 0.02, "high": 0.08, "n": 12},
            "verdict": "better",
        },
        "memorised": {"base": {"mean": 0.0, "low": None, "high": None, "n": 12}, "lora": None, "gain": None, "verdict": None},
    },
}


def config_of(base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5", **network: Any) -> LoraExperiment:
    return validate(
        {"model": {"base": base}, "data": {"train_data_dir": "/home/someone/photos"}, "network": {"rank": 2, **network}}
    )


def parsed(text: str) -> tuple[dict[str, Any], str]:
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_has_the_three_lines_the_table_with_intervals_the_grid_and_a_head_that_hubs_read(tmp_path: Path):
    found = Measured(
        REPORT, {"trigger": "zarya style", "encoder": "embedded"}, tmp_path / "grid.png", [(tmp_path, "a dress, zarya style")]
    )
    head, body = parsed(card(config_of(), found, write_lora(tmp_path / "x.safetensors", 0, 2, 2.0), diffusers=True))
    assert head["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert (head["license"], head["instance_prompt"]) == ("creativeml-openrail-m", "zarya style")
    assert head["widget"] == [{"text": "a dress, zarya style", "output": {"url": "images/0.png"}}]
    assert "lowers weighted_total_loss by 0.050 \\[0.020, 0.080\\] against the base model: better." in body
    assert "Third &gt;= 0.1." in body
    row = "| weighted_total_loss | 0.4136 [0.3940, 0.4600] | 0.3636 [0.3440, 0.4100] | +0.0500 [+0.0200, +0.0800] | better |"
    assert row in body.splitlines()
    assert "| memorised | 0.0000 | N/A | N/A |  |" in body.splitlines()
    assert "on 12 references and 24 images, encoder embedded" in body
    assert "(grid.png)" in body
    assert "pipeline.load_lora_weights" in body
    assert "home" not in body


def test_what_is_not_known_is_absent_and_paths_of_the_machine_are_not_told(tmp_path: Path):
    config = config_of("/home/someone/models/my_base.safetensors", use_dora=True)
    head, body = parsed(card(config, None, write_lora(tmp_path / "x.safetensors", 0, 2, 2.0), diffusers=False))
    assert not {"base_model", "license", "instance_prompt", "widget"} & head.keys()
    assert "No evaluation of this file is on record, so nothing is claimed of it." in body
    assert "Measured" not in body
    assert "/home" not in body
    assert "my_base.safetensors" in body
    assert "from diffusers" not in body


def test_captions_are_plain_text_in_it(tmp_path: Path):
    report = REPORT | {"sentence": HOSTILE}
    found = Measured(report, {"trigger": HOSTILE, "encoder": HOSTILE}, None, [(tmp_path, HOSTILE)])
    head, body = parsed(card(config_of(), found, write_lora(tmp_path / "x.safetensors", 0, 2, 2.0), diffusers=True))
    assert head["instance_prompt"] == head["widget"][0]["text"] == HOSTILE
    code = body[body.index("```python") : body.rindex("```")]
    rest = body.replace(code, "")
    assert "<script>" not in rest
    assert "[x](y)" not in rest
    assert code.count("`") == 3
    compile(code.removeprefix("```python\n"), "card", "exec")
    assert "grid.png" not in body


def test_an_evaluation_of_the_last_weights_is_none_of_their_averages_and_the_other_way_round():
    tags = {"kind": "evaluation", "step": "6", "checkpoint": "lora.safetensors"}
    assert _is_of(tags, Path("lora.safetensors"), "6")
    assert _is_of(
        {**tags, "checkpoint": "lora-step00000006.safetensors"}, Path("lora.safetensors"), "6"
    )  # a check's, of the same weights
    assert not _is_of(tags, Path("lora-ema.safetensors"), "6")
    assert not _is_of({**tags, "checkpoint": "lora-ema.safetensors"}, Path("lora.safetensors"), "6")
    assert _is_of({**tags, "checkpoint": "lora-ema.safetensors"}, Path("lora-ema.safetensors"), "6")
    assert not _is_of(tags, Path("lora.safetensors"), "3")
    assert not _is_of({**tags, "kind": "metric"}, Path("lora.safetensors"), "6")


@pytest.mark.parametrize(
    ("network", "metadata", "told"),
    [
        ({"init": "pissa"}, {"ss_steps": "200"}, "LoRA: rank 2, alpha 2 (scale 1), started as PiSSA, on"),
        ({"use_dora": True, "alpha": 1}, {}, "LoRA: DoRA, rank 2, alpha 1 (scale 0.5), on"),
        ({"algo": "ia3"}, {}, "(IA)^3: scales, on"),
        ({}, {"ss_steps": "200"}, "; 200 steps of batch"),
        ({}, {"ss_steps": "40"}, "; 40 of 200 steps of batch"),
        ({}, {"ss_steps": "200", "fashion_ml_average_of": "a, b"}, "; the average of a, b, 200 steps of batch"),
    ],
)
def test_the_card_says_what_network_and_how_many_steps_this_very_file_is_of(
    tmp_path: Path, network: dict[str, Any], metadata: dict[str, str], told: str
):
    tensors = load_file(write_lora(tmp_path / "x.safetensors", 0, 2, 2.0))
    save_lora(tmp_path / "y.safetensors", tensors, metadata)
    body = parsed(card(config_of(**network), None, tmp_path / "y.safetensors", diffusers=True))[1]
    assert told in body.partition("## Training")[2].replace("\\", "")
