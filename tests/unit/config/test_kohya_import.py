"""Experiments of kohya's sd-scripts as settings: what is equal, what differs by default, what has no equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fashion_ml.config import load_config
from fashion_ml.config.kohya.convert import equal_of
from fashion_ml.config.kohya.experiment import as_yaml, checked_equal, imported
from fashion_ml.config.kohya.options import CONVERTED, DEFAULTS, NO_EQUAL, NOT_NEEDED, SAME
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.settings import settings_of
from fashion_ml.errors import InputError

TRAIN = """
[model]
pretrained_model_name_or_path = "embedded"
v2 = false
[folders]
train_data_dir = "photos"
output_dir = "out"
output_name = "zarya"
[network]
network_module = "networks.lora"
network_dim = 16
network_alpha = 8
network_args = ["conv_dim=4", "conv_alpha=1"]
[optimizer]
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
learning_rate = 1e-4
unet_lr = 2e-4
text_encoder_lr = 5e-5
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 0.05
max_grad_norm = 0.5
[training]
resolution = "512,512"
max_train_epochs = 10
max_train_steps = 7
save_every_n_epochs = 2
save_last_n_epochs = 4
noise_offset = 0.1
min_snr_gamma = 5
adaptive_noise_scale = 1
xformers = true
seed = 42
"""


def settings_from(tmp_path: Path, text: str, name: str = "train.toml") -> tuple[dict[str, Any], list[str]]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    equal = checked_equal(imported([str(tmp_path / name)]))
    return equal.settings, equal.all_notes


def test_options_of_a_toml_in_any_sections_become_the_equal_settings(tmp_path: Path):
    settings, notes = settings_from(tmp_path, TRAIN)
    assert settings == {
        **{path: value for path, value in DEFAULTS.items() if path != "training.max_train_steps"},  # epochs win, as there
        "name": "zarya",
        "model.base": "embedded",
        "data.train_data_dir": "photos",
        "data.resolution": 512,
        "network.rank": 16,
        "network.alpha": 8,
        "network.convolutions": True,
        "network.time_embeddings": True,
        "network.shortcuts": True,
        "network.conv_rank": 4,
        "network.conv_alpha": 1,
        "optimizer.optimizer_type": "adamw8bit",
        "optimizer.weight_decay": 0.1,
        "optimizer.betas": [0.9, 0.99],
        "optimizer.learning_rate": 2e-4,
        "optimizer.text_encoder_lr": 5e-5,
        "optimizer.lr_scheduler": "cosine_with_restarts",
        "optimizer.lr_scheduler_num_cycles": 3,
        "optimizer.lr_warmup_steps": 0.05,
        "optimizer.max_grad_norm": 0.5,
        "training.max_train_epochs": 10,
        "training.save_every_n_epochs": 2,
        "training.save_last_n": 2,
        "training.seed": 42,
        "loss.noise_offset": 0.1,
        "loss.min_snr_gamma": 5,
        "output.output_dir": "out/zarya",
        "output.output_name": "zarya",
    }
    assert [note.partition(":")[0] for note in notes] == ["adaptive_noise_scale 1"]


def test_what_sd_scripts_does_when_it_is_not_told_is_written_where_this_project_does_something_else():
    """Its own: dimension 4, alpha 1, 192 modules and the text encoder, 2e-6, 1600 steps, `.caption`, no files on the way."""
    settings = equal_of({"resolution": "512"}, defaults=True).settings
    assert settings == {"data.resolution": 512, **DEFAULTS}
    names = ("network.rank", "network.alpha", "optimizer.learning_rate", "training.max_train_steps", "data.caption_extension")
    assert [settings[name] for name in names] == [4, 1.0, 2e-6, 1600, ".caption"]
    ours = load_config({"train_data_dir": "embedded"}).model_dump()
    assert all(ours[section][key] != settings[f"{section}.{key}"] for section, key in (path.split(".") for path in DEFAULTS))


def test_buckets_are_sd_scripts_own_where_they_are_on():
    settings = equal_of({"enable_bucket": True, "max_bucket_reso": 768}, defaults=True).settings
    names = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
    assert [settings[f"data.{name}"] for name in names] == [256, 768, 64]


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"learning_rate": 1e-4}, (1e-4, None, True)),
        ({"learning_rate": 1e-4, "unet_lr": 2e-4}, (2e-4, 1e-4, True)),
        ({"unet_lr": 2e-4}, (2e-4, 2e-6, True)),
        ({"learning_rate": 1e-4, "text_encoder_lr": [5e-5, 5e-5]}, (1e-4, 5e-5, True)),
        ({"learning_rate": 1e-4, "text_encoder_lr": 0}, (1e-4, None, False)),
        ({"learning_rate": 1e-4, "network_train_unet_only": True, "text_encoder_lr": 5e-5}, (1e-4, None, False)),
    ],
)
def test_rates_go_where_they_go_there(options: dict[str, Any], rates: tuple[Any, ...]):
    settings = equal_of(options, defaults=True).settings
    names = ("optimizer.learning_rate", "optimizer.text_encoder_lr", "network.train_text_encoder")
    assert tuple(settings.get(name) for name in names) == rates


@pytest.mark.parametrize(
    ("options", "settings", "note"),
    [
        ({"optimizer_type": "Lion"}, {"optimizer.optimizer_type": "lion"}, ""),
        ({"use_lion_optimizer": True}, {"optimizer.optimizer_type": "lion"}, ""),
        ({"optimizer_type": "Lion8bit"}, {"optimizer.optimizer_type": "adamw"}, "optimizer_type Lion8bit: "),
        ({"optimizer_type": "schedulefree.RAdamScheduleFree"}, {"optimizer.optimizer_type": "schedulefree.RAdamScheduleFree"}, ""),
        ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 0.2}, {"optimizer.lr_decay_steps": 0.2}, ""),
        ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1}, {"optimizer.lr_scheduler_min_lr_ratio": 0.1}, ""),
        ({"lr_scheduler": "cosine", "lr_scheduler_min_lr_ratio": 0.1}, {"optimizer.lr_scheduler_min_lr_ratio": None}, ""),
        ({"optimizer_type": "DAdaptAdam"}, {"optimizer.optimizer_type": "prodigy"}, "optimizer_type DAdaptAdam: "),
        ({"optimizer_type": "PagedAdamW8bit"}, {"optimizer.optimizer_type": "adamw8bit"}, ""),
        ({"use_8bit_adam": True}, {"optimizer.optimizer_type": "adamw8bit"}, ""),
        ({"lr_scheduler": "constant_with_warmup"}, {"optimizer.lr_scheduler": "constant"}, ""),
        ({"lr_scheduler": "adafactor:1e-3"}, {"optimizer.lr_scheduler": "constant"}, "lr_scheduler adafactor:1e-3: "),
        ({"loss_type": "smooth_l1"}, {"loss.loss_type": "smooth_l1"}, ""),
        ({"loss_type": "l3"}, {"loss.loss_type": None}, "loss_type l3: "),
        ({"multires_noise_iterations": 6, "multires_noise_discount": 0.2}, {"loss.multires_noise_discount": 0.2}, ""),
        ({"multires_noise_iterations": 6, "train_batch_size": 2}, {"loss.multires_noise_iterations": 6}, "multires_noise_iterations 6: "),
        ({"ip_noise_gamma": 0.1, "min_timestep": 100}, {"loss.ip_noise_gamma": 0.1, "loss.min_timestep": 100}, ""),
        ({"max_timestep": 900}, {"loss.max_timestep": 900}, ""),
        ({"max_timestep": 0}, {"loss.max_timestep": None}, ""),
        ({"zero_terminal_snr": True}, {"model.zero_terminal_snr": None}, "zero_terminal_snr: "),
        ({"zero_terminal_snr": True, "v_parameterization": True}, {"model.zero_terminal_snr": True}, ""),
        ({"scale_v_pred_loss_like_noise_pred": True, "v_parameterization": True}, {"loss.scale_v_pred_loss_like_noise_pred": True}, ""),
        ({"v_pred_like_loss": 0.5}, {"loss.v_pred_like_loss": 0.5}, ""),
        ({"resolution": "512,650", "enable_bucket": True}, {"data.resolution": 576}, "resolution 512,650: "),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=dylora"]}, {}, "network_module lycoris.kohya: "),
        (
            {"network_module": "lycoris.kohya", "network_args": ["algo=loha"]},
            {"network.algo": "loha"},
            "network_module lycoris.kohya preset=full: ",
        ),
        (
            {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "factor=8"]},
            {"network.algo": "lokr", "network.lokr_factor": 8},
            "network_module lycoris.kohya preset=full: ",
        ),
        (
            {"network_args": ["block_dims=0,4,8", "block_alphas=1,2,3"]},
            {"network.block_ranks": [0, 4, 8], "network.block_alphas": [1.0, 2.0, 3.0]},
            "",
        ),
        (
            {"network_args": ["conv_block_dims=2,2"]},
            {"network.conv_block_ranks": [2, 2], "network.shortcuts": True, "network.conv_block_alphas": [1.0, 1.0]},
            "",
        ),
        (
            {"network_args": ["down_lr_weight=0.05,2", "up_lr_weight=linear+0.5", "block_lr_zero_threshold=0.1"]},
            {"optimizer.block_lr": [0.0, 2.0, *[1.0] * 11, *[place / 11 + 0.5 for place in range(12)]]},
            "",
        ),
        ({"network_args": ["rank_dropout=0.1", "module_dropout=0"]}, {"network.rank_dropout": 0.1, "network.module_dropout": None}, ""),
        ({"network_args": ["loraplus_lr_ratio=16"]}, {"optimizer.loraplus_lr_ratio": 16}, ""),
        ({"scale_weight_norms": 1}, {"network.scale_weight_norms": 1}, ""),
        ({"network_args": ["rank_dropout_scale=True"]}, {}, "network_args rank_dropout_scale True: "),
        ({"optimizer_args": '"eps=1e-6"'}, {"optimizer.optimizer_args": "eps=1e-6"}, ""),
        ({"optimizer_type": "AdamW8bit", "optimizer_args": "eps=1e-6"}, {"optimizer.optimizer_args": None}, "optimizer_args eps"),
        ({"sample_prompts": "a dress --w 512\n# no\na hat"}, {"training.sample_prompts": ["a dress", "a hat"]}, "sample_prompts"),
        ({"save_n_epoch_ratio": 5, "max_train_epochs": 20}, {"training.save_every_n_epochs": 4}, ""),
        ({"color_aug": True, "max_timestep": 1000, "vae": "", "random_crop": False}, {}, "color_aug: "),
        ({"min_snr_gamma": 0, "clip_skip": 0, "save_every_n_steps": "0"}, {"loss.min_snr_gamma": None, "model.clip_skip": None}, ""),
        ({"alpha_mask": True}, {"data.masks": "alpha", "loss.unmasked_weight": 0.0}, "masked_loss: "),
        ({"masked_loss": True, "conditioning_data_dir": "m"}, {"data.masks": "folder", "data.masks_dir": "m"}, "masked_loss: "),
        ({"masked_loss": True}, {"data.masks": None}, "masked_loss: "),
        ({"v_parameterization": True}, {"model.prediction_type": "v_prediction"}, ""),
        ({"v2": True, "v_parameterization": True}, {"model.prediction_type": "v_prediction"}, ""),
        ({"v2": True}, {"model.prediction_type": "epsilon"}, ""),
        ({"v2": "true", "v_parameterization": "false"}, {"model.prediction_type": "epsilon"}, ""),
        ({"v2": False}, {"model.prediction_type": None}, ""),
        ({"conditioning_data_dir": "m"}, {"data.masks": None}, "conditioning_data_dir m: "),
    ],
)  # fmt: skip
def test_an_option_without_an_equal_is_noted_with_the_reason_and_others_are_not(
    options: dict[str, Any], settings: dict[str, Any], note: str
):
    equal = equal_of(options, defaults=False)
    assert {path: equal.settings.get(path) for path in settings} == settings
    assert [one for one in equal.all_notes if not one.startswith(note or "?")] == []
    assert len(equal.all_notes) == bool(note)
    assert all(len(one.partition(": ")[2]) > 8 for one in equal.all_notes)


def test_a_form_of_the_gui_is_read_with_its_own_names_percentages_and_types(tmp_path: Path):
    form = {
        "LoRA_type": "Standard", "max_resolution": "512,512", "optimizer": "AdamW", "epoch": 4, "max_train_epochs": "",
        "lr_warmup": "10", "lr_scheduler": "cosine", "lr_scheduler_num_cycles": "", "learning_rate": "0.0001", "unet_lr": "0.0002",
        "text_encoder_lr": "5e-05", "network_dim": 8, "network_alpha": 4, "conv_dim": 1, "caption_extension": ".txt",
        "keep_tokens": "1", "shuffle_caption": True, "noise_offset": "0.05", "multires_noise_iterations": 6, "xformers": "sdpa",
        "min_snr_gamma": 0, "stop_text_encoder_training": 0, "train_batch_size": 2.0, "sdxl": False, "flux1_checkbox": False,
        "additional_parameters": "--max_grad_norm=0.5 --network_dropout 0.1", "down_lr_weight": "", "model_list": "custom",
    }  # fmt: skip
    settings, notes = settings_from(tmp_path, json.dumps(form), "form.json")
    expected = {
        "data.resolution": 512,
        "data.keep_tokens": 1,
        "network.rank": 8,
        "network.alpha": 4,
        "network.dropout": 0.1,
        "optimizer.optimizer_type": "adamw",
        "optimizer.learning_rate": 2e-4,
        "optimizer.text_encoder_lr": 5e-5,
        "optimizer.lr_warmup_steps": 0.1,
        "optimizer.max_grad_norm": 0.5,
        "training.max_train_epochs": 4,
        "training.train_batch_size": 2,
        "loss.noise_offset": 0.05,
    }
    assert {path: settings.get(path) for path in expected} == expected
    assert "network.convolutions" not in settings  # a plain LoRA has none, whatever the form's field says
    assert [note.partition(":")[0] for note in notes] == ["seed is not given"]
    form |= {"LoRA_type": "LyCORIS/LoHa", "text_encoder_lr": 0, "unet_lr": 1e-4, "flux1_checkbox": True, "optimizer": "Prodigy"}
    settings, notes = settings_from(tmp_path, json.dumps(form), "form.json")
    assert settings["network.train_text_encoder"] is False
    assert {"network_module LyCORIS/LoHa", "base_model Flux.1"} <= {note.partition(":")[0] for note in notes}
    assert settings["optimizer.optimizer_args"] == {
        "use_bias_correction": False,
        "safeguard_warmup": False,
    }  # as sd-scripts runs it


def test_the_yaml_says_where_it_comes_from_and_what_has_no_equal_and_loads_as_the_same_experiment(tmp_path: Path):
    (tmp_path / "train.toml").write_text(TRAIN, encoding="utf-8")
    equal = checked_equal(imported([str(tmp_path / "train.toml")]))
    text = as_yaml(equal, ["train.toml"])
    (tmp_path / "e.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "e.yaml") == load_config(equal.settings)
    assert "# - adaptive_noise_scale 1: loss.noise_offset is the same" in text
    assert "training.max_train_steps" not in text
    assert yaml.safe_load(text)["network"]["alpha"] == 8


def test_every_option_goes_to_one_place_and_names_a_setting_that_there_is():
    tables = (SAME, CONVERTED, NOT_NEEDED, NO_EQUAL)
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    known = {one.path for one in settings_of(LoraExperiment)} | {"network", "optimizer"}
    assert {*SAME.values(), *CONVERTED.values(), *DEFAULTS} <= known
    assert all(len(reason) > 10 for table in (NOT_NEEDED, NO_EQUAL) for reason in table.values())


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "x = ", "is not TOML"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "holds no settings"),
        ("a.toml", "network_dim = 'much'", "network.rank: 'much' is not accepted"),
        ("a.toml", "resolution = 'large'", "resolution: 'large' is no size"),
        ("a.toml", "network_args = ['conv_dim']", "network_args: 'conv_dim' is not of the form key=value"),
        ("a.toml", "[[datasets]]\nresolution = 512", "has no [[datasets.subsets]]"),
        ("a.toml", "datasets = [1]", "has not the form of a data set file"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_fix(tmp_path: Path, name: str, text: str, problem: str):
    with pytest.raises(InputError) as caught:
        settings_from(tmp_path, text, name)
    assert any(problem in one for one in caught.value.problems), caught.value.problems


def toml_of(options: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())


def test_variables_that_double_one_another_are_not_known_before_they_fill_the_memory():
    from fashion_ml.config.kohya.shell import lines_of

    script = "A0=xxxxxxxxxx\n" + "".join(f"A{number}=$A{number - 1}$A{number - 1}\n" for number in range(1, 60))
    (line,) = lines_of(script + "accelerate launch train_network.py --output_name $A59\n")
    assert line.unknown
    assert sum(map(len, line.words)) < 100
    (line,) = lines_of(script + "accelerate launch train_network.py --output_name $A3\n")
    assert line.words[-1] == "x" * 80
