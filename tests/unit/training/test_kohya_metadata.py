from __future__ import annotations

import json
from pathlib import Path

from fashion_ml.data.images import CaptionedImage
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.training.kohya_metadata import tag_frequency
from tests.unit.training.setup import experiment, train, write_images

ITEMS = [
    CaptionedImage(Path("10_zarya/a.png"), "a red dress, zarya style", "10_zarya/a.png", 10),
    CaptionedImage(Path("10_zarya/b.png"), "a blue hat, zarya style", "10_zarya/b.png", 10),
]
NOT_OURS = {"ss_sd_scripts_commit_hash", "ss_sd_model_hash", "ss_new_sd_model_hash"}
"""The commit of kohya's own code, and hashes of a single-file base, which the embedded one is not."""
KOHYA_KEYS = (Path(__file__).parent / "kohya_metadata_keys.txt").read_text(encoding="utf-8").split()
"""As sd-scripts v0.10 writes them into a LoRA of SD 1.5."""


def test_tag_frequency_counts_comma_separated_parts_by_folder():
    assert tag_frequency(ITEMS) == {"10_zarya": {"a red dress": 1, "zarya style": 2, "a blue hat": 1}}


def test_the_file_carries_every_key_of_kohyas_that_applies_and_the_true_counts(tmp_path: Path):
    """3 images x 10 repeats = 30, batch 4: 8 batches an epoch; accumulation 2 makes 4 steps an epoch, so step 5 is in epoch 2."""
    write_images(tmp_path / "images", repeats=10)
    config = experiment(
        tmp_path / "images",
        network={"rank": 8, "alpha": 4},
        training={"max_train_steps": 5, "train_batch_size": 4, "gradient_accumulation_steps": 2},
    )
    metadata = read_metadata(train(config, tmp_path / "out").result.path)
    assert set(KOHYA_KEYS) - set(metadata) == NOT_OURS
    counts = ("ss_steps", "ss_epoch", "ss_num_epochs", "ss_num_train_images", "ss_num_batches_per_epoch", "ss_total_batch_size")
    assert [metadata[key] for key in counts] == ["5", "2", "2", "30", "8", "8"]
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"], metadata["ss_network_module"]) == (
        "8",
        "4.0",
        "networks.lora",
    )
    assert (metadata["ss_base_model_version"], metadata["ss_v2"], metadata["ss_output_name"]) == ("sd_v1", "False", "lora")
    assert (metadata["modelspec.architecture"], metadata["modelspec.prediction_type"]) == (
        "stable-diffusion-v1/lora",
        "epsilon",
    )
    assert json.loads(metadata["ss_dataset_dirs"]) == {"10_x": {"n_repeats": 10, "img_count": 3}}
    assert (metadata["ss_text_encoder_lr"], metadata["ss_min_snr_gamma"]) == ("None", "None")


def test_a_kept_file_says_the_step_and_the_epoch_that_it_is_of(tmp_path: Path):
    """3 images, batch 1: 3 steps an epoch."""
    write_images(tmp_path / "images", repeats=1)
    config = experiment(tmp_path / "images", training={"max_train_steps": 5, "save_every_n_steps": 2})
    train(config, tmp_path / "out")
    found = {path.stem: read_metadata(path) for path in (tmp_path / "out").glob("*.safetensors")}
    said = {stem: (metadata["ss_steps"], metadata["ss_epoch"]) for stem, metadata in found.items()}
    assert said == {"lora-step00000002": ("2", "1"), "lora-step00000004": ("4", "2"), "lora": ("5", "2")}
