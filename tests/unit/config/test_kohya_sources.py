"""Data sets, scripts and command lines of sd-scripts, and its options among those of `train lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from fashion_ml.cli import app
from fashion_ml.cli.kohya_options import kohya_experiment
from fashion_ml.config import load_config
from fashion_ml.config.kohya.experiment import checked_equal, imported
from fashion_ml.config.kohya.files import command_words, options_of
from fashion_ml.errors import InputError

DATA = """
[general]
shuffle_caption = true
caption_extension = ".txt"
keep_tokens = 1
enable_bucket = true

[[datasets]]
resolution = [512, 512]
batch_size = 4
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = "hoge"
  class_tokens = "hoge girl"
  num_repeats = 10

  [[datasets.subsets]]
  image_dir = "fuga"
  keep_tokens = 3
  keep_tokens_separator = "|||"
  flip_aug = true
  color_aug = true

  [[datasets.subsets]]
  is_reg = true
  image_dir = "reg"
  class_tokens = "human"
"""


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_data_set_gives_what_is_for_all_and_each_subsets_own(tmp_path: Path):
    equal = checked_equal(imported([written(tmp_path / "data.toml", DATA)]))
    expected = {
        "data.resolution": 512,
        "data.shuffle_caption": True,
        "data.caption_extension": ".txt",
        "data.keep_tokens": 2,
        "data.enable_bucket": True,
        "training.train_batch_size": 4,
        "data.subsets": [
            {"image_dir": "hoge", "class_tokens": "hoge girl", "num_repeats": 10, "is_reg": False},
            {
                "image_dir": "fuga",
                "num_repeats": 1,
                "is_reg": False,
                "keep_tokens": 3,
                "keep_tokens_separator": "|||",
                "flip_aug": True,
            },
            {"image_dir": "reg", "class_tokens": "human", "num_repeats": 1, "is_reg": True},
        ],
    }
    assert {path: equal.settings[path] for path in expected} == expected
    assert [note for note in equal.all_notes if "seed" not in note] == [
        "fuga color_aug True: colours are what is learnt and measured here; they are not changed"
    ]


def test_of_several_data_sets_the_first_decides_what_all_share_and_a_folder_counts_once(tmp_path: Path):
    more = "[[datasets]]\nresolution = 768\nbatch_size = 4\nnum_repeats = 3\nkeep_tokens = 5\n"
    more += "[[datasets.subsets]]\nimage_dir = 'hoge'\n[[datasets.subsets]]\nimage_dir = 'piyo'\n"
    equal = checked_equal(imported([written(tmp_path / "data.toml", DATA + more)]))
    subsets = equal.settings["data.subsets"]
    assert [(one["image_dir"], one["num_repeats"], one.get("keep_tokens")) for one in subsets] == [
        ("hoge", 10, 2), ("fuga", 1, 3), ("reg", 1, 2), ("piyo", 3, 5),
    ]  # fmt: skip
    assert equal.settings["data.keep_tokens"] == 1
    assert [note.partition(":")[0] for note in equal.all_notes if "seed" not in note] == [
        "datasets[1].resolution 768",
        "fuga color_aug True",
        "datasets[1].subsets hoge",
    ]


def of_masks(tmp_path: Path, general: str, *subsets: str) -> tuple[Any, ...]:
    places = "".join(
        f"[[datasets.subsets]]\nimage_dir = 'photos/{name}'\n{text}\n" for name, text in zip("abc", subsets, strict=False)
    )
    data = written(tmp_path / "data.toml", f"[general]\n{general}\n[[datasets]]\nresolution = 64\n{places}")
    equal = imported(["train_network.py --masked_loss --seed 1"], dataset_config=data)
    masks = tuple(equal.settings.get(f"data.{name}") for name in ("masks", "masks_dir"))
    return (*masks, [note.partition(":")[0] for note in equal.notes])


@pytest.mark.parametrize(
    ("general", "subsets", "found"),
    [
        ("", ["conditioning_data_dir = 'm'", "conditioning_data_dir = 'm'"], ("folder", "m", [])),
        ("", ["conditioning_data_dir = 'm/a'", "conditioning_data_dir = 'm/b'"], ("folder", "m", [])),
        ("", ["alpha_mask = true", "alpha_mask = true", "is_reg = true"], ("alpha", None, [])),
        ("alpha_mask = true", ["", ""], ("alpha", None, [])),
        ("alpha_mask = true", ["", "alpha_mask = false"], (None, None, ["alpha_mask of each subset (photos/a True, photos/b False)"])),
        ("", ["conditioning_data_dir = 'x'", ""], (None, None, ["conditioning_data_dir of each subset (photos/a x, photos/b None)"])),
        (
            "",
            ["conditioning_data_dir = 'x'", "conditioning_data_dir = 'y'"],
            (None, None, ["conditioning_data_dir of each subset (photos/a x, photos/b y)"]),
        ),
    ],
)  # fmt: skip
def test_masks_of_subsets_are_those_of_all_images_where_they_agree_and_one_line_where_they_do_not(
    tmp_path: Path, general: str, subsets: list[str], found: tuple[Any, ...]
):
    masks, folder, notes = of_masks(tmp_path, general, *subsets)
    assert (masks, folder, [note for note in notes if not note.startswith("masked_loss")]) == found


SCRIPT = """#!/bin/bash
# train_network.py --network_dim 1
export MODEL="/models/v1 5.safetensors"
name=zarya
accelerate launch --num_cpu_threads_per_process 1 \\
  sd-scripts/train_network.py --pretrained_model_name_or_path="$MODEL" --output_name=${name} \\
  --network_module=networks.lora --network_args "conv_dim=4" "conv_alpha=1" --max_train_epoch 5 \\
  --xformers --optimizer_args weight_decay=0.1 betas=0.9,0.99
"""


def test_a_shell_script_gives_the_options_of_its_training_with_its_variables_put_in():
    script, words, notes = command_words(SCRIPT)
    assert notes == []
    assert script == "sd-scripts/train_network.py"
    assert options_of(words) == {
        "pretrained_model_name_or_path": "/models/v1 5.safetensors",
        "output_name": "zarya",
        "network_module": "networks.lora",
        "network_args": ["conv_dim=4", "conv_alpha=1"],
        "max_train_epochs": "5",
        "xformers": True,
        "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"],
    }


def test_a_command_line_reads_the_files_it_names_and_its_options_stand_over_them(tmp_path: Path):
    config = written(tmp_path / "train.toml", "network_dim = 4\nlearning_rate = 1e-3\ntrain_data_dir = 'x'\n")
    data = written(tmp_path / "data.toml", DATA)
    command = f"train_network.py --config_file {config.removesuffix('.toml')} --dataset_config {data} --network_dim 32"
    equal = checked_equal(imported([command]))
    assert (equal.settings["network.rank"], equal.settings["optimizer.learning_rate"]) == (32, 1e-3)
    assert len(equal.settings["data.subsets"]) == 3
    assert "data.train_data_dir" not in equal.settings
    assert "train_data_dir x: the data set file counts instead, as in sd-scripts" in equal.all_notes


def test_all_options_that_sd_scripts_does_not_have_are_named_at_once_each_with_the_nearest():
    with pytest.raises(InputError) as caught:
        options_of(["--netwrk_dim", "4", "--bogus", "--learning_rat", "1", "loose"])
    assert caught.value.problems == [
        "--netwrk_dim: sd-scripts has no such option; did you mean network_dim?",
        "--bogus: sd-scripts has no such option",
    ]


def parsed(*arguments: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    return dict(command.commands["train"].commands["lora"].make_context("fashion-ml", list(arguments)).obj)


def test_options_of_sd_scripts_are_taken_among_our_own(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    prompts = written(tmp_path / "prompts.txt", "a red dress --w 512\n")
    with caplog.at_level("INFO", logger="fashion_ml"):
        given = parsed(
            "--xformers", "--network_module", "networks.lora", "--network_args", "conv_dim=4", "conv_alpha=1",
            "--optimizer_args", "weight_decay=0.1", "betas=0.9,0.99", "--network_train_unet_only", "--rank", "8",
            "--debiased_estimation_loss", "--sample_every_n_steps", "50", "--max_data_loader_n_workers", "2", "--save_model_as=safetensors",
        )  # fmt: skip
    assert given == {
        **{f"network.{name}": True for name in ("convolutions", "time_embeddings", "shortcuts")},
        "network.conv_rank": 4,
        "network.conv_alpha": 1.0,
        "network.train_text_encoder": False,
        "network.rank": "8",
        "optimizer.weight_decay": 0.1,
        "optimizer.betas": [0.9, 0.99],
        "loss.debiased_estimation": True,
        "training.sample_every": "50",
    }
    assert "--xformers: not needed" in caplog.text
    with pytest.raises(InputError) as caught:
        parsed("--sample_prompts", prompts, "--adaptive_noise_scale", "1", "--netwrk_module", "x", "--network_args", "a")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["--netwrk_module", "--network_args"]


def test_values_are_accepted_as_sd_scripts_spells_them():
    given = {
        "optimizer_type": "AdamW8bit",
        "resolution": "512,512",
        "lr_scheduler": "constant_with_warmup",
        "log_with": "wandb",
    }
    config = load_config({"train_data_dir": "embedded"}, {**given, "lr_warmup_steps": "0.1", "betas": "0.9,0.99"})
    assert (config.optimizer.optimizer_type, config.data.resolution) == ("adamw8bit", 512)
    assert (config.optimizer.lr_scheduler, config.tracking.log_with) == ("constant", "mlflow")
    assert (config.optimizer.lr_warmup_steps, config.optimizer.betas) == (0.1, (0.9, 0.99))
    wrong = {"resolution": "512,640", "lr_warmup_steps": "1.5", "betas": "0.9", "optimizer_type": "adafactor"}
    with pytest.raises(InputError) as caught:
        load_config({"train_data_dir": "embedded"}, wrong)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "data.resolution",
        "optimizer.betas",
        "optimizer.lr_warmup_steps",
    ]


def test_files_of_sd_scripts_are_the_experiment_and_options_stand_over_them(tmp_path: Path):
    config, data = written(tmp_path / "t.toml", "network_dim = 8\nmax_train_epochs = 3\n"), written(tmp_path / "d.toml", DATA)
    alone = kohya_experiment(None, data, config, {})
    assert (alone["network.rank"], alone["network.alpha"], alone["evaluation.enabled"]) == (8, 1.0, False)
    over = kohya_experiment(
        tmp_path / "own.yaml", data, config, {"evaluation.references": "r", "data.train_data_dir": "photos"}
    )
    assert "network.alpha" not in over  # the YAML says it, or this project's default
    assert not {"evaluation.enabled", "data.subsets"} & over.keys()
    steps = load_config({**alone, "data.train_data_dir": "embedded"}, {"steps": "5"}).training
    assert (steps.max_train_steps, steps.max_train_epochs) == (5, None)


BAT = r"""@echo off
rem train_network.py --network_dim 1
set DATA=C:\data\my photos
set "OUT=D:\out\new"
set NAME=zarya
call venv\Scripts\activate.bat
accelerate launch --num_cpu_threads_per_process 1 "C:\kohya ss\sd-scripts\train_network.py" ^
  --train_data_dir="%DATA%" ^
  --output_dir=%OUT% --logging_dir=.\logs\10 ^
  --output_name %name% --network_args "conv_dim=4" ^
  --reg_data_dir "%~dp0reg" --xformers > log.txt 2>&1
pause
"""
POWERSHELL = r"""# settings
$pretrained_model = ".\models\v1-5.safetensors" # base
$train_data_dir = "C:\data\dress"
[int]$network_dim = 32
$Env:HF_HOME = "huggingface"
$ext_args = [System.Collections.ArrayList]::new()
if ($lowram) { [void]$ext_args.Add("--lowram") }
python -m accelerate.commands.launch "./scripts/train_network.py" `
  --pretrained_model_name_or_path=$pretrained_model `
  --train_data_dir="$train_data_dir\" `
  --network_dim=$network_dim --output_name "a_$($network_dim)" `
  --learning_rate=$lr --xformers $ext_args
Write-Output "it's done"
"""
LISTS = r"""#!/bin/sh
lr="1e-4" # of the UNet
dir=C:\data\dress
extra=(); [ "$lowram" ] && extra+=("--lowram")
EXTRA="--xformers --cache_latents"
accelerate launch train_network.py --train_data_dir=$dir --reg_data_dir D:\reg --unet_lr=$lr --network_dim ${DIM:-16} \
  $EXTRA --output_name "$1" --seed $(date +%s) --lowram ${extra[@]} 2>&1 | tee log.txt
"""


@pytest.mark.parametrize(
    ("name", "text", "options", "unknown"),
    [
        (
            "t.bat",
            BAT,
            {
                "train_data_dir": r"C:\data\my photos", "output_dir": r"D:\out\new", "logging_dir": r".\logs\10",
                "output_name": "zarya", "network_args": ["conv_dim=4"], "xformers": True,
            },
            ["--reg_data_dir %~dp0"],
        ),
        (
            "t.ps1",
            POWERSHELL,
            {
                "pretrained_model_name_or_path": r".\models\v1-5.safetensors", "train_data_dir": "C:\\data\\dress\\",
                "network_dim": "32", "output_name": "a_32", "xformers": True,
            },
            ["--learning_rate=$lr", "$ext_args"],
        ),
        (
            "t.sh",
            LISTS,
            {
                "train_data_dir": r"C:\data\dress", "reg_data_dir": r"D:\reg", "unet_lr": "1e-4", "network_dim": "16", "xformers": True,
                "cache_latents": True, "lowram": True,
            },
            ["--output_name $1", "--seed $(date +%s)", "${extra[@]}"],
        ),
    ],
)  # fmt: skip
def test_scripts_are_read_as_their_shell_reads_them_and_what_it_works_out_itself_is_named(
    name: str, text: str, options: dict[str, Any], unknown: list[str]
):
    for ending in (Path(name).suffix, ".txt"):  # in a .txt, or as a command line, its text tells which shell it is for
        _, words, notes = command_words(text, ending)
        assert options_of(words) == options
        assert [note.partition(":")[0] for note in notes] == unknown


def test_a_command_line_of_windows_on_one_line_keeps_its_backslashes():
    for quote in ("", '"'):
        command = rf"accelerate launch .\train_network.py --train_data_dir={quote}C:\data\10_dress{quote} --in_json=\\nas\x"
        script, words, _ = command_words(command)
        assert (script, options_of(words)) == (
            r".\train_network.py",
            {"train_data_dir": r"C:\data\10_dress", "in_json": r"\\nas\x"},
        )
    with pytest.raises(InputError, match="a quotation does not end"):
        command_words('train_network.py --output_name "zarya')


def test_subsets_stand_instead_of_the_folders_of_a_config(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = written(tmp_path / "data.toml", DATA)
    config = tmp_path / "ours.yaml"
    with caplog.at_level("INFO", logger="fashion_ml"):
        settings = kohya_experiment(config, data, "", {})
    assert (settings["data.train_data_dir"], settings["data.reg_data_dir"]) == (None, None)
    assert f"The subsets of {data} stand instead of the folders of {config}" in caplog.text
    given = kohya_experiment(config, data, "", {"reg_data_dir": "reg"})
    assert given["data.train_data_dir"] is None
    assert "data.reg_data_dir" not in given


def test_what_sd_scripts_does_untold_is_said_where_it_is_not_what_is_done_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = written(tmp_path / "data.toml", DATA)
    with caplog.at_level("INFO", logger="fashion_ml"):
        settings = kohya_experiment(None, data, "", {"base": "embedded"})
    assert "As in sd-scripts when it is not told, where this project has other defaults: " in caplog.text
    assert f"network.rank {settings['network.rank']}" in caplog.text


def test_of_two_names_of_a_setting_the_last_counts_and_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING", logger="fashion_ml"):
        assert parsed("--unet_lr", "1e-4", "--learning_rate", "1e-3") == {"optimizer.learning_rate": "1e-3"}
    assert "--learning_rate 1e-3 counts: --unet_lr 1e-4 is the same setting (optimizer.learning_rate)" in caplog.text
    caplog.clear()
    assert parsed("--unet_lr", "1e-4", "--lr", "1e-4", "--rank", "4", "--rank", "8")["network.rank"] == "8"
    assert "counts" not in caplog.text
