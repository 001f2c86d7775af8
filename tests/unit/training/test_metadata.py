from __future__ import annotations

import json
from pathlib import Path

from fashion_ml.config import validate
from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.data.order import StepPlan
from fashion_ml.training.metadata import kohya_metadata, tag_frequency

ITEMS = [
    CaptionedImage(Path("10_zarya/a.png"), "a red dress, zarya style", 10),
    CaptionedImage(Path("10_zarya/b.png"), "a blue hat, zarya style", 10),
]


def test_tag_frequency_counts_comma_separated_parts_by_folder():
    assert tag_frequency(ITEMS) == {"10_zarya": {"a red dress": 1, "zarya style": 2, "a blue hat": 1}}


def test_metadata_tells_the_network_and_the_counting():
    """2 images x 10 repeats = 20, batch 4 x accumulation 2 = 8 a step: 3 steps an epoch, so step 7 is in epoch 3."""
    config = validate(
        {
            "data": {"train_data_dir": "x"},
            "network": {"rank": 8, "alpha": 4},
            "training": {"max_train_steps": 7, "train_batch_size": 4, "gradient_accumulation_steps": 2},
        }
    )
    plan = StepPlan((10, 10), 8, 0)
    metadata = kohya_metadata(config, ITEMS, plan, step=7, started=0.0, prediction_type="epsilon")
    assert {type(value) for value in metadata.values()} == {str}
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"], metadata["ss_network_module"]) == (
        "8",
        "4.0",
        "networks.lora",
    )
    assert (metadata["ss_steps"], metadata["ss_epoch"], metadata["ss_num_train_images"]) == ("7", "3", "20")
    assert metadata["ss_num_batches_per_epoch"] == "5"
    assert (metadata["ss_base_model_version"], metadata["ss_output_name"]) == ("sd_v1", "lora")
    assert json.loads(metadata["ss_dataset_dirs"]) == {"10_zarya": {"n_repeats": 10, "img_count": 2}}
    assert json.loads(metadata["ss_tag_frequency"])["10_zarya"]["zarya style"] == 2
