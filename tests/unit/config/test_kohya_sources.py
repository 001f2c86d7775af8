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
    script, words = command_words(SCRIPT)
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
        "network.convolutions": True,
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
        parsed("--sample_prompts", prompts, "--scale_weight_norms", "1", "--netwrk_module", "x", "--network_args", "a")
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
