from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fashion_ml.data.images import CaptionedImage
from fashion_ml.models.kohya_format import lora_tensors, read_metadata, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.lora_delta import rank_of
from fashion_ml.models.lora_file import parts_by_module
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.unet_blocks import UnetBlocks
from fashion_ml.training.kohya_metadata import kohya_metadata, tag_frequency
from fashion_ml.training.lora_models import lora_spec
from tests.unit.training.setup import Trained, experiment, train, write_images

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


BLOCKS = {"block_ranks": [0, 2, 4, 2, 2, 3, 2, 2, 5]}
CONV_BLOCKS = {"convolutions": True, "conv_block_ranks": [0, 1, 2, 1, 3, 1, 1, 2, 1]}
LOCON = {"convolutions": True, "time_embeddings": True, "shortcuts": True, "conv_rank": 3, "conv_alpha": 1.5}
NETWORKS: dict[str, dict[str, Any]] = {
    "LoRA": {"alpha": 3.0, "feed_forward": True, "train_text_encoder": True},
    "LoCon": {"alpha": 3.0, **LOCON},
    "convolutions alike": {"alpha": 3.0, "convolutions": True},
    "blocks": {**BLOCKS, "train_text_encoder": True},
    "blocks of an alpha": {**BLOCKS, **CONV_BLOCKS, "alpha": 3.0},
    "blocks and rates": {**BLOCKS, **CONV_BLOCKS, "block_lr": [1, 1, 0, 1, 1, 0.5, 1, 0, 1]},
    "rates": {**LOCON, "block_lr": [1, 1, 0, 1, 1, 0.5, 1, 0, 1]},
    "rsLoRA": {"alpha": 3.0, "use_rslora": True, **LOCON},
    "rsLoRA in blocks": {"alpha": 3.0, "use_rslora": True, **BLOCKS, **CONV_BLOCKS},
    "PiSSA": {"alpha": 3.0, "init": "pissa", **LOCON},
    "PiSSA in blocks": {"init": "pissa", **BLOCKS, **CONV_BLOCKS, "train_text_encoder": True},
    "OLoRA": {"init": "olora", "use_rslora": True},
    "DoRA": {"alpha": 3.0, "use_dora": True, **LOCON},
    "LoHa": {"algo": "loha", "alpha": 3.0, **LOCON},
    "LoKr": {"algo": "lokr", "alpha": 3.0, **LOCON},
    "LoKr of whole factors": {"algo": "lokr", "alpha": 3.0, "rank": 64},
    "OFT": {"algo": "oft", "alpha": 3.0, "convolutions": True},
    "(IA)^3": {"algo": "ia3"},
    "a file of many ranks": {"network_weights": "mixed"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("metadata")
    write_images(folder / "images", repeats=1)
    return train(experiment(folder / "images", training={"max_train_steps": 1}), folder / "out")


def told_of(name: str, metadata: dict[str, str], blocks: UnetBlocks) -> tuple[str, str]:
    """Rank and alpha of a module by what kohya's scripts read of a file's metadata: block_dims before network_dim, conv_dim of 3 x 3 ones."""
    args = json.loads(metadata["ss_network_args"]) if metadata["ss_network_args"] != "None" else {}
    convolution = re.search(r"_conv[12]?$", name) is not None
    prefix, block = "conv_" if convolution else "", blocks.number(name.removeprefix("lora_unet_"))
    if f"{prefix}block_dims" in args and block is not None:
        return tuple(args[f"{prefix}block_{what}"].split(",")[block] for what in ("dims", "alphas"))  # type: ignore[return-value]
    if convolution and metadata["ss_network_dim"] != "Dynamic":
        return str(args["conv_dim"]), str(args["conv_alpha"])
    return metadata["ss_network_dim"], metadata["ss_network_alpha"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_metadata_say_of_every_network_what_its_tensors_are(kind: str, trained: Trained, tmp_path: Path):
    """Ranks and alphas, in kohya's words; a rank is not told by LoKr's whole factors, and OFT's is the largest block."""
    network = dict(NETWORKS[kind])
    optimizer = {"block_lr": network.pop("block_lr")} if "block_lr" in network else {}
    if "network_weights" in network:
        pipeline, own = load_pipeline("embedded"), LoraSpec(2, 2.0, block_ranks=tuple(BLOCKS["block_ranks"]))
        add_lora(pipeline.unet, pipeline.text_encoder, own, seed=0)
        save_lora(tmp_path / "mixed.safetensors", lora_tensors(pipeline.unet, pipeline.text_encoder, own), {})
        network["network_weights"] = str(tmp_path / "mixed.safetensors")
    config = experiment(tmp_path, network={"rank": 4, **network}, optimizer=optimizer)
    pipeline, spec = load_pipeline("embedded"), lora_spec(config)
    add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0)
    tensors = lora_tensors(pipeline.unet, pipeline.text_encoder, spec)
    metadata = kohya_metadata(config, spec, trained.inputs, pipeline, None, step=1, started=0.0)
    for name, parts in parts_by_module(tensors).items():
        rank, alpha = told_of(name, metadata, UnetBlocks.of(pipeline.unet))
        if kind == "a file of many ranks":
            assert (rank, alpha) == ("Dynamic", "Dynamic")
        elif kind == "(IA)^3":
            assert (rank, alpha) == ("None", "None")
        else:
            assert float(alpha) == pytest.approx(float(parts["alpha"]), rel=1e-6), name
            held = int(parts["oft_blocks"].shape[1]) if kind == "OFT" else rank_of(parts)
            assert held is None or int(rank) == held or (kind == "OFT" and held <= int(rank)), name


def test_metadata_say_what_the_optimiser_is_made_with(trained: Trained, tmp_path: Path):
    told = {}
    for algo in ("lora", "ia3"):
        given = {"betas": [0.8, 0.9], "weight_decay": 0.25, "optimizer_args": {"eps": 1e-6}}
        config = experiment(tmp_path, network={"algo": algo}, optimizer=given)
        spec = lora_spec(config)
        told[algo] = kohya_metadata(config, spec, trained.inputs, trained.pipeline, None, step=1, started=0.0)["ss_optimizer"]
    assert told["lora"] == "torch.optim.adamw.AdamW(weight_decay=0.25,betas=(0.8, 0.9),eps=1e-06)"
    assert told["ia3"] == "torch.optim.adamw.AdamW(weight_decay=0.0,betas=(0.8, 0.9),eps=1e-06)"
