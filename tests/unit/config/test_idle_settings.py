from __future__ import annotations

from typing import Any

import pytest

from fashion_ml.config import load_config
from fashion_ml.config.idle_settings import idle_settings
from fashion_ml.config.shipped_files import default_experiment

EPOCH = 50
"""Steps in an epoch, of 200 steps in all."""


@pytest.mark.parametrize(
    ("given", "said", "counts"),
    [
        (
            {"keep_tokens": 2},
            "data.keep_tokens: 2 does nothing where captions are not mixed; add data.shuffle",
            {"shuffle_caption": True},
        ),
        (
            {"secondary_separator": ";;;"},
            "data.secondary_separator: ;;; is no more than taken out where captions are not mixed; add",
            {"caption_tag_dropout_rate": 0.1},
        ),
        (
            {"keep_tokens_separator": "|||"},
            "data.keep_tokens_separator: ||| is no more than taken out where",
            {"data.subsets": [{"image_dir": "y", "shuffle_caption": True}]},
        ),
        ({"keep_tokens": 2}, "data.keep_tokens: 2 does", {"data.subsets": [{"image_dir": "y", "shuffle_caption": True}]}),
        (
            {"data.subsets": [{"image_dir": "y", "keep_tokens": 1}]},
            "data.subsets.0.keep_tokens: 1 does nothing where captions are not mixed; add data.subsets.0.shuffle_caption true",
            {"shuffle_caption": True},
        ),
        (
            {
                "shuffle_caption": True,
                "data.subsets": [{"image_dir": "y", "shuffle_caption": False, "secondary_separator": ";"}],
            },
            "data.subsets.0.secondary_separator: ; is no more than taken out where captions are not mixed",
            {"caption_tag_dropout_rate": 0.1},
        ),
        (
            {"masks": "alpha", "unmasked_weight": 1},
            "data.masks: alpha changes nothing in training with loss.unmasked_weight 1",
            {"unmasked_weight": 0.5},
        ),
        ({"lokr_factor": 4}, "network.lokr_factor: 4 does nothing with algo lora; use network.algo lokr", {"algo": "lokr"}),
        ({"algo": "oft", "alpha": 3}, "network.alpha: 3 does nothing with algo oft, which has none", {"algo": "loha"}),
        (
            {"init": "pissa"},
            "network.init: pissa with optimizer.weight_decay 0.01 draws what is the base's own",
            {"weight_decay": 0},
        ),
        ({"algo": "ia3", "weight_decay": 0.1}, "optimizer.weight_decay: does nothing with algo ia3", {"algo": "lokr"}),
        (
            {"algo": "loha", "loraplus_lr_ratio": 4},
            "optimizer.loraplus_lr_ratio: does nothing with algo loha",
            {"algo": "lora"},
        ),
        ({"min_bucket_reso": 64}, "data.min_bucket_reso: 64 does nothing without buckets", {"enable_bucket": True}),
        ({"max_bucket_reso": 1024}, "data.max_bucket_reso: 1024 does nothing without buckets", {"enable_bucket": True}),
        ({"bucket_no_upscale": True}, "data.bucket_no_upscale: true does nothing", {"enable_bucket": True}),
        (
            {"enable_bucket": True, "max_bucket_reso": 256},
            "data.enable_bucket: no bucket but the square is left",
            {"resolution": 256},
        ),
        ({"validation_seed": 1}, "data.validation_seed: 1 does nothing where no image is held out", {"validation_split": 0.1}),
        ({"validate_every_n_steps": 9}, "training.validate_every_n_steps: 9 does nothing", {"validation_split": 0.1}),
        ({"prior_loss_weight": 0.5}, "loss.prior_loss_weight: 0.5 does nothing without prior", {"reg_data_dir": "prior"}),
        ({"lr_scheduler_power": 2}, "optimizer.lr_scheduler_power: 2 does nothing with", {"lr_scheduler": "polynomial"}),
        ({"logit_std": 2.0}, "loss.logit_std: 2 does nothing with", {"timestep_distribution": "logit_normal"}),
        ({"mode_scale": 0.5}, "loss.mode_scale: 0.5 does nothing with", {"timestep_distribution": "mode"}),
        (
            {"output_preservation_weight": 2.0},
            "loss.output_preservation_weight: 2 does nothing without output_preservation_prompt",
            {"output_preservation_prompt": "a dress"},
        ),
        ({"multires_noise_discount": 0.5}, "loss.multires_noise_discount: 0.5 does", {"multires_noise_iterations": 6}),
        ({"lr_decay_steps": 9}, "optimizer.lr_decay_steps: 9 does nothing", {"lr_scheduler": "warmup_stable_decay"}),
        ({"lr_scheduler_min_lr_ratio": 0.5}, "optimizer.lr_scheduler_min_lr_ratio: 0.5 does", {"lr_scheduler": "cosine"}),
        (
            {"optimizer_type": "AdamWScheduleFree", "lr_scheduler": "cosine"},
            "optimizer.lr_scheduler: cosine is laid over",
            {"lr_scheduler": "constant"},
        ),
        ({"huber_c": 0.5}, "loss.huber_c: 0.5 does nothing with loss_type l2", {"loss_type": "huber"}),
        ({"save_last_n": 2, "save_every_n_epochs": None}, "training.save_last_n: 2 does nothing", {"save_every_n_steps": 50}),
        ({"save_state": False, "save_state_minutes": 1}, "training.save_state_minutes: 1 does nothing", {"save_state": True}),
        ({"sample_prompts": "a hat"}, "training.sample_prompts: no sample images are made", {"sample_every": 100}),
        (
            {"sample_every": 9},
            "training.sample_every: sample images show the first four captions of the",
            {"sample_prompts": "a hat"},
        ),
        (
            {"sample_every": 201, "sample_prompts": "a"},
            "training.sample_every: 201 is beyond the training's 200 steps, so only the base's images are drawn, before the first; ",
            {"steps": 201},
        ),
        ({"save_every_n_steps": 201}, "training.save_every_n_steps: 201 is beyond the training's 200 steps", {"steps": 201}),
        ({"save_every_n_epochs": 5}, "training.save_every_n_epochs: 5 epochs are beyond the training's 4", {"steps": 250}),
        ({"performance_check_interval": 201}, "training.performance_check_interval: 201 is beyond", {"steps": 201}),
        ({"lr_warmup_steps": 200}, "optimizer.lr_warmup_steps: 200 is no less than the training's 200", {"steps": 201}),
        (
            {"evaluation.enabled": False, "encoder": "x"},
            "evaluation.encoder: x does nothing where nothing",
            {"evaluation.enabled": True},
        ),
        (
            {"without": "fashion_clip", "encoder": "x"},
            "evaluation.encoder: x does nothing without fashion_clip",
            {"without": []},
        ),
        (
            {"extra_metrics": "kid", "attributes": "x.yaml"},
            "evaluation.attributes: x.yaml does nothing where no attributes",
            {"extra_metrics": "attributes"},
        ),
    ],
)
def test_a_setting_of_a_lora_that_does_nothing_is_said_with_what_makes_it_count(
    given: dict[str, Any], said: str, counts: dict[str, Any]
):
    (line,) = idle_settings(load_config({"train_data_dir": "x", **given}), EPOCH)
    assert line.startswith(said)
    assert idle_settings(load_config({"train_data_dir": "x", **given, **counts}), EPOCH) == []


@pytest.mark.parametrize(
    ("given", "said", "counts"),
    [
        ({"w_ds": 0, "ds_decay_epochs": 3}, "loss.ds_decay_epochs: 3 does nothing where w_ds is 0", {"w_ds": 1}),
        (
            {"min_lr_ratio": 0.3},
            "optimizer.min_lr_ratio: 0.3 does nothing with lr_scheduler constant",
            {"lr_scheduler": "linear"},
        ),
        ({"w_r1": 0, "r1_interval": 4}, "loss.r1_interval: 4 does nothing where w_r1 is 0", {"w_r1": 1}),
        (
            {"w_r1": 0, "r1_counted_by": "epoch"},
            "loss.r1_counted_by: epoch does nothing where w_r1 is 0",
            {"r1_counted_by": "run"},
        ),
        (
            {"r1_counted_by": "epoch", "r1_interval": EPOCH + 1},
            f"loss.r1_interval: {EPOCH + 1} is beyond the {EPOCH} steps of an epoch, by which",
            {"r1_interval": EPOCH},
        ),
        ({"w_sty": 0, "detach_style_target": True}, "loss.detach_style_target: true does nothing", {"w_sty": 1}),
        ({"lr": 1e-3, "lr_g": 1e-4, "lr_d": 1e-4}, "optimizer.learning_rate: 0.001 does nothing", {"lr_d": None}),
        ({"save_last_n": 2}, "training.save_last_n: 2 does nothing", {"save_every_n_epochs": 2}),
        ({"epochs": 3, "save_every_n_epochs": 4}, "training.save_every_n_epochs: 4 is beyond", {"epochs": 4}),
        ({"epochs": 3, "lr_warmup_steps": 150}, "optimizer.lr_warmup_steps: 150 is no less than", {"epochs": 4}),
        ({"evaluation.enabled": False, "styles": 4}, "evaluation.styles: 4 does nothing", {"evaluation.enabled": True}),
        (
            {"evaluation.by_pair": False, "evaluation.inception": "x"},
            "evaluation.inception: x does nothing where pairs",
            {"evaluation.by_pair": True},
        ),
        ({"without": "fashion_clip", "domain_prompt": "{}"}, "evaluation.domain_prompt: {} does nothing", {"without": []}),
    ],
)
def test_a_setting_of_a_stargan_that_does_nothing_is_said_with_what_makes_it_count(
    given: dict[str, Any], said: str, counts: dict[str, Any]
):
    (line,) = idle_settings(load_config(given, kind="stargan"), EPOCH)
    assert line.startswith(said)
    assert idle_settings(load_config({**given, **counts}, kind="stargan"), EPOCH) == []


def test_what_is_shipped_has_no_setting_that_does_nothing():
    for name in ("embedded", "sd15_fashion", "sd15_8gb", "sdxl_fashion"):
        config = load_config(default_experiment(f"experiments/lora/{name}.yaml"), {"sample_prompts": "a hat"})
        assert [line for line in idle_settings(config, EPOCH) if "sample_prompts" not in line] == []
    for name in ("embedded", "sd15_latent"):
        assert idle_settings(load_config(default_experiment(f"experiments/stargan/{name}.yaml"), kind="stargan"), EPOCH) == []
