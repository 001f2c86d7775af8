"""Trainings of sd-scripts' SDXL program: how they are known, what is said of it, and what is so of them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from fashion_ml.cli import app
from fashion_ml.cli.kohya_options import KohyaOptions, kohya_experiment
from fashion_ml.cli.setting_options import _taken
from fashion_ml.config import validate
from fashion_ml.config.kohya.experiment import imported
from fashion_ml.errors import InputError
from tests.unit.config.leaves import nested
from tests.unit.config.test_kohya_import import toml_of


def test_a_command_of_sdxls_script_is_an_experiment_on_sdxl(tmp_path: Path):
    """Its 23 blocks, captions that no clip_skip changes, and a rate for each text encoder."""
    options = {
        "pretrained_model_name_or_path": "illustrious.safetensors", "resolution": "1024,1024", "clip_skip": 1, "no_half_vae": True,
        "cache_text_encoder_outputs": True, "text_encoder_lr": [1e-5, 2e-5], "learning_rate": 1e-4, "network_dim": 16,
        "network_args": ["down_lr_weight=0,0.5", "mid_lr_weight=0.25"],
    }  # fmt: skip
    (tmp_path / "xl.toml").write_text(toml_of(options), encoding="utf-8")
    equal = imported([f"accelerate launch sdxl_train_network.py --config_file {tmp_path / 'xl.toml'}"])
    assert equal.settings["model.base"] == "illustrious.safetensors"
    assert equal.settings["data.resolution"] == 1024
    assert equal.settings["optimizer.text_encoder_lr"] == 1e-5
    assert equal.settings["optimizer.text_encoder_2_lr"] == 2e-5
    assert equal.settings["optimizer.block_lr"] == [1, 0, 0.5, *[1] * 7, 0.25, *[1] * 12]
    assert "model.clip_skip" not in equal.settings
    assert [note.partition(":")[0] for note in equal.all_notes if not note.startswith("seed")] == ["clip_skip 1"]
    assert {"no_half_vae", "cache_text_encoder_outputs"} <= equal.not_needed.keys()
    (tmp_path / "form.json").write_text(json.dumps({"LoRA_type": "Standard", "sdxl": True, "clip_skip": 1}), encoding="utf-8")
    assert [note.partition(":")[0] for note in imported([str(tmp_path / "form.json")]).notes if "clip" in note] == [
        "clip_skip 1"
    ]


@pytest.mark.parametrize(
    ("options", "sdxl"),
    [
        ({"cache_text_encoder_outputs": True}, True),
        ({"cache_text_encoder_outputs": False}, False),
        ({"text_encoder_lr": [1e-5, 2e-5]}, True),
        ({"text_encoder_lr": [1e-5]}, False),
        ({"pretrained_model_name_or_path": "models/sd_xl_base_1.0.safetensors"}, True),
        ({"pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0"}, True),
        ({"pretrained_model_name_or_path": "illustrious.safetensors", "vae": "sdxl_vae.safetensors"}, True),
        ({"pretrained_model_name_or_path": "models/ponyDiffusionV6XL_v6.safetensors"}, True),
        ({"pretrained_model_name_or_path": "cagliostrolab/animagine-xl-3.1"}, True),
        ({"pretrained_model_name_or_path": "models/SDxl/illustrious.safetensors"}, True),
        ({"vae": "SDXLvae.safetensors"}, True),
        ({"pretrained_model_name_or_path": "pixlart.safetensors", "vae": "/XL/vae.safetensors"}, False),
        ({"network_args": ["down_lr_weight=0,0.5", "mid_lr_weight=1,0.5,1"]}, True),
        ({"network_args": ["down_lr_weight=0,0.5", f"block_dims={'4,' * 22}4"]}, True),
        ({"network_args": ["down_lr_weight=0,0.5", f"block_dims={'4,' * 24}4"], "vae": "sdxl.safetensors"}, False),
        ({"sdxl": True}, True),
        ({"pretrained_model_name_or_path": "v1-5.safetensors"}, False),
        (
            {"pretrained_model_name_or_path": "sd_xl_base.safetensors", "network_args": [f"up_lr_weight={','.join('1' * 12)}"]},
            True,
        ),
        ({"pretrained_model_name_or_path": "mine.safetensors", "network_args": [f"up_lr_weight={','.join('1' * 12)}"]}, False),
        ({"cache_text_encoder_outputs": True, "t5xxl": "t5xxl.safetensors", "ae": "ae.safetensors"}, False),
    ],
)
def test_a_file_without_its_scripts_name_is_sdxls_by_what_only_sdxl_has(tmp_path: Path, options: dict[str, Any], sdxl: bool):
    given = {"seed": 1, "clip_skip": 1, "network_args": ["down_lr_weight=0,0.5"], **options}
    (tmp_path / "run.toml").write_text(toml_of(given), encoding="utf-8")
    for equal in (imported([str(tmp_path / "run.toml")]), imported([f"--config_file {tmp_path / 'run.toml'}"])):
        assert len(equal.settings["optimizer.block_lr"]) == (23 if sdxl else 25)
        assert any(note.startswith("clip_skip 1: ") for note in equal.notes) == sdxl


def test_it_is_said_for_which_kind_of_base_a_file_was_read_and_what_is_in_the_base_counts_before_names(tmp_path: Path):
    tell = {
        "read as a training of Stable Diffusion XL: mid_lr_weight": {"network_args": ["mid_lr_weight=1,0.5,1"]},
        "read as a training of Stable Diffusion XL: sd_xl.safetensors is called so": {"vae": "a/sd_xl.safetensors"},
        "read as a training of Stable Diffusion 1.x or 2.x: no script, option or base here says which; `import --sdxl`, ": {},
    }
    for line, options in tell.items():
        (tmp_path / "run.toml").write_text(toml_of({"seed": 1, **options}), encoding="utf-8")
        assert imported([str(tmp_path / "run.toml")]).kind.startswith(line.replace("mid_lr", "network_args mid_lr")), line
    (tmp_path / "run.toml").write_text(toml_of({"vae": "sd_xl.safetensors", "clip_skip": 1}), encoding="utf-8")
    given = [str(tmp_path / "run.toml")]
    found = imported(given, of_base=lambda named: ("mine", False))
    assert found.kind == "read as a training of Stable Diffusion 1.x or 2.x: its base mine is one"
    assert found.settings["model.clip_skip"] == 1
    told = imported(given, sdxl=True, of_base=lambda named: ("mine", False))
    assert told.kind == ""
    assert "model.clip_skip" not in told.settings


@pytest.mark.parametrize(
    ("script", "rates", "second"),
    [
        ("sdxl_train_network.py", "1e-5 0", None),
        ("sdxl_train_network.py", "0 1e-5", None),
        ("train_network.py", "1e-5 2e-5", None),
    ],
)
def test_rates_of_text_encoders_that_are_not_so_here_are_said(script: str, rates: str, second: float | None):
    equal = imported([f"accelerate launch {script} --seed 1 --text_encoder_lr {rates}"])
    assert equal.settings.get("optimizer.text_encoder_2_lr") is second
    assert equal.settings.get("network.train_text_encoder") == (not rates.startswith("0"))
    assert [note.partition(" ")[0] for note in equal.all_notes] == ["text_encoder_lr"]


def test_a_script_or_a_form_that_says_which_model_it_trains_is_believed(tmp_path: Path):
    given = {"network_args": ["down_lr_weight=0,0.5"], "cache_text_encoder_outputs": True}
    (tmp_path / "run.toml").write_text(toml_of(given), encoding="utf-8")
    (tmp_path / "form.json").write_text(
        json.dumps({"LoRA_type": "Standard", "sdxl": False, "vae": "sdxl.safetensors", "down_lr_weight": "0,0.5"}),
        encoding="utf-8",
    )
    script = f"accelerate launch train_network.py --config_file {tmp_path / 'run.toml'}"
    for source in (script, str(tmp_path / "form.json")):
        assert len(imported([source]).settings["optimizer.block_lr"]) == 25


def test_a_base_that_is_here_says_for_which_kind_of_base_options_are(
    sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """By its files, whatever it is called: of a TOML, of a base given over it, of an experiment under it, and of options alone."""
    caplog.set_level("INFO")
    base = (tmp_path / "illustrious").resolve()
    base.symlink_to(sdxl)
    (tmp_path / "mine.yaml").write_text(f"model: {{base: {base}}}\n", encoding="utf-8")
    options = {"seed": 1, "clip_skip": 1, "network_args": ["mid_lr_weight=0.5"]}
    alone, named = (str(tmp_path / name) for name in ("alone.toml", "named.toml"))
    Path(alone).write_text(toml_of(options), encoding="utf-8")
    Path(named).write_text(toml_of({**options, "pretrained_model_name_or_path": str(base)}), encoding="utf-8")
    config = tmp_path / "mine.yaml"
    for settings in (
        kohya_experiment(None, "", named, {}),
        kohya_experiment(None, "", alone, {"base": str(base)}),
        kohya_experiment(config, "", alone, {}),
    ):
        assert len(settings["optimizer.block_lr"]) == 23
        assert "model.clip_skip" not in settings
    assert caplog.text.count(f"read as a training of Stable Diffusion XL: its base {base} is one") == 3
    assert len(kohya_experiment(None, "", named, {"model.base": "embedded"})["optimizer.block_lr"]) == 25

    command = KohyaOptions()
    command.take("network_args", ["mid_lr_weight=0.5"])
    assert len(command.settled({"model.base": str(base)}, {})[0]["optimizer.block_lr"]) == 23
    assert len(command.settled({}, {"config": str(config)})[0]["optimizer.block_lr"]) == 23
    assert len(command.settled({}, {})[0]["optimizer.block_lr"]) == 25
    assert len(command.settled({}, {"config_file": named})[0]["optimizer.block_lr"]) == 23
    not_here = {"model.base": "stabilityai/stable-diffusion-xl-base-1.0"}
    assert len(command.settled(not_here, {})[0]["optimizer.block_lr"]) == 23  # by its name
    typer.main.get_command(app).main(["import", named], standalone_mode=False)
    assert f"# Read as a training of Stable Diffusion XL: its base {base} is one." in capsys.readouterr().out


def test_a_rate_for_each_text_encoder_is_read_as_it_is_and_one_alone_is_the_setting(
    sdxl: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    trainings: Any = typer.main.get_command(app)
    offered = trainings.commands["train"].commands["lora"].offered()
    given, others, problems = _taken(
        ["--text_encoder_lr", "1e-3", "5e-4", "--lr", "1e-4"], offered, [], command := KohyaOptions()
    )
    assert (given, others, problems) == ({"optimizer.learning_rate": "1e-4"}, [], [])
    settings, without = command.settled({"model.base": str(sdxl)}, {})
    assert without == []
    wanted = {"train_text_encoder": True, "text_encoder_lr": 1e-3, "text_encoder_2_lr": 5e-4}
    assert {path.partition(".")[2]: value for path, value in settings.items()} == wanted
    settings, without = command.settled({"model.base": "embedded"}, {})
    assert without == []
    assert "optimizer.text_encoder_2_lr" not in settings
    said = caplog.text + capsys.readouterr().err
    assert "--text_encoder_lr 1e-3 5e-4: all text encoders train at one rate, the first of these" in said
    (below := KohyaOptions()).take("text_encoder_lr", ["1e-3", "-5e-4"])
    with pytest.raises(InputError, match=r"text_encoder_2_lr: -0\.0005 is not accepted"):
        validate(nested(below.settled({"model.base": str(sdxl)}, {})[0]))
    given, others, problems = _taken(["--text_encoder_lr", "1e-3"], offered, [], KohyaOptions())
    assert (given, others, problems) == ({"optimizer.text_encoder_lr": "1e-3"}, [], [])
