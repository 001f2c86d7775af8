"""Trainings of Stable Diffusion XL: caches, sizes, validation, two learning rates, and what is killed goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fashion_ml.config import LoraExperiment, validate
from fashion_ml.data.pictures import load_picture
from fashion_ml.errors import InputError
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import Embedded
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runs.lora import check_on_base
from fashion_ml.training.lora_inputs import prepare_inputs
from tests.runs.forked import processes
from tests.tiny_sdxl import tiny_sdxl
from tests.unit.training.setup import experiment, train, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, one of them wide."""
    folder = tmp_path_factory.mktemp("images")
    items = write_images(folder, count=3, repeats=1)
    load_picture(items[0].path).crop((0, 0, 64, 40)).save(items[0].path)
    return folder


def of(images: Path, sdxl: Path, **sections: Any) -> LoraExperiment:
    """Two steps of one image."""
    tree: dict[str, Any] = {
        "model": {"base": str(sdxl)},
        "training": {"max_train_steps": 2, "log_every": 1},
        "evaluation": {"enabled": False, "encoder": "embedded"},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return experiment(images, **tree)


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_cached_and_uncached_captions_and_a_cache_on_disk_give_the_same_weights(images: Path, sdxl: Path, tmp_path: Path):
    variants: list[dict[str, Any]] = [{}, {"cache_latents": False}, {"cache_dir": str(tmp_path / "cache")}]
    variants.append(variants[-1])
    paths = [train(of(images, sdxl, data=data), tmp_path / str(number)).result.path for number, data in enumerate(variants)]
    assert all(same(paths[0], path) for path in paths[1:])
    kept = {path: load_file(path) for path in (tmp_path / "cache").rglob("*.safetensors")}
    texts = {path: one for path, one in kept.items() if one.keys() == {"text", "pooled"}}
    assert len(texts) == 3
    for path, one in texts.items():  # it is what is in the cache that trains
        with safe_open(path, framework="pt") as file:
            save_file({**one, "pooled": one["pooled"] + 1}, path, metadata=file.metadata())
    assert not same(paths[0], train(of(images, sdxl, data=variants[-1]), tmp_path / "other").result.path)


def test_a_batch_tells_each_pictures_size_and_prior_images_theirs(images: Path, sdxl: Path, tmp_path: Path):
    data = {"enable_bucket": True, "flip_aug": True}
    trained = train(of(images, sdxl, data=data, training={"max_train_steps": 3}), tmp_path)
    seen = set()
    for step in (1, 2, 3):
        (batch,) = trained.inputs.batches(step)
        assert isinstance(batch.text, Embedded)
        assert batch.text.sizes is not None
        height, width = (4 * side for side in batch.latents.shape[2:])
        assert batch.text.sizes[0, 4:].tolist() == [height, width]
        seen.add(tuple(batch.text.sizes[0, :2].tolist()))
    assert seen == {(40, 64), (64, 64)}
    padded = batch.padded(2)
    assert torch.equal(padded.text.sizes, batch.text.sizes.expand(2, -1))  # type: ignore[union-attr]


def test_a_mirrored_picture_that_is_cut_has_the_margin_of_its_other_side(
    sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """38 x 64 pixels fitted into 32 x 32 are 19 columns, with 6 left of them and 7 right, as sd-scripts has it of a mirrored one."""
    (item,) = write_images(tmp_path / "images", count=1, repeats=1)
    load_picture(item.path).crop((5, 0, 43, 64)).save(item.path)
    config = of(tmp_path / "images", sdxl, data={"flip_aug": True, "resolution": 32})
    pipeline, sources = load_pipeline(str(sdxl)), read_sources(config)
    inputs, _ = prepare_inputs(config, pipeline, sources.items, sources.prior, Accelerator(cpu=True))
    means = {mirrored: inputs.images.moments(0, mirrored)["mean"] for mirrored in (False, True)}
    nothing_drawn = {mirrored: {"mean": mean, "std": torch.zeros_like(mean)} for mirrored, mean in means.items()}
    monkeypatch.setattr(inputs.images, "moments", lambda index, mirrored: nothing_drawn[mirrored])
    seen = dict[bool, Any]()
    for step in range(1, 9):
        (batch,) = inputs.batches(step)
        assert isinstance(batch.text, Embedded)
        assert batch.text.sizes is not None
        plain, flipped = (torch.equal(batch.latents[0], pipeline.vae.config.scaling_factor * means[one]) for one in means)
        assert plain != flipped
        seen[flipped] = batch.text.sizes[0].tolist()
    assert seen == {False: [64, 38, 0, 6, 32, 32], True: [64, 38, 0, 7, 32, 32]}


def test_held_out_images_are_measured_and_the_first_gain_is_nothing(images: Path, sdxl: Path, tmp_path: Path):
    config = of(
        images, sdxl, data={"validation_split": 0.34}, optimizer={"learning_rate": 1e-12}, training={"max_train_steps": 1}
    )
    (row,) = train(config, tmp_path).rows
    assert row["val_loss"] == pytest.approx(row["val_loss_base"], rel=1e-6)
    assert row["val_loss"] > 0.1


@pytest.mark.parametrize(("length", "second"), [(75, 3e-2), (225, None)])
def test_both_text_encoders_train_at_their_rates(length: int, second: float | None, images: Path, sdxl: Path, tmp_path: Path):
    config = of(
        images,
        sdxl,
        data={"max_token_length": length},
        network={"train_text_encoder": True},
        optimizer={"learning_rate": 1e-3, "text_encoder_lr": 1e-2, "text_encoder_2_lr": second, "weight_decay": 0.0},
        training={"max_train_steps": 1},
    )
    path = train(config, tmp_path).result.path
    found, said = load_file(path), read_metadata(path)["ss_text_encoder_lr"]
    assert said == ("[0.01, 0.03]" if second else "0.01")
    ups = {name: one.abs().max().item() for name, one in found.items() if "lora_up" in name}
    for prefix, rate in (("lora_unet_", 1e-3), ("lora_te1_", 1e-2), ("lora_te2_", second or 1e-2)):
        moved = [value for name, value in ups.items() if name.startswith(prefix)]
        assert max(moved) == pytest.approx(rate, rel=1e-2)
    assert all(value == 0 for name, value in ups.items() if name.startswith("lora_te1_text_model_encoder_layers_2_"))
    assert all(value > 0 for name, value in ups.items() if name.startswith("lora_te2_text_model_encoder_layers_2_"))


def test_a_rate_of_a_second_text_encoder_is_refused_where_there_is_none(images: Path):
    config = experiment(images, network={"train_text_encoder": True}, optimizer={"text_encoder_2_lr": 1e-5})
    with pytest.raises(
        InputError, match=r"^optimizer\.text_encoder_2_lr: Stable Diffusion 1\.x has one text encoder; leave it out"
    ):
        check_on_base(config, load_pipeline("embedded"), "cpu", 1)


@pytest.mark.parametrize(
    ("wanted", "module", "width", "found"),
    [
        ("SD 1.x", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, r"SDXL \(cross-attention of 2048"),
        ("SD 1.x", "lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, r"SDXL \(it holds lora_te2_"),
        (
            "SDXL",
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            768,
            r"SD 1.x \(cross-attention of 768",
        ),
        ("SDXL", "lora_te_text_model_encoder_layers_0_mlp_fc1", 768, r"SD 1.x \(its metadata says ss_base_model_version sd_v1"),
    ],
)
@pytest.mark.parametrize("algo", ["lora", "loha"])
def test_weights_of_another_family_to_go_on_with_are_refused_by_both_names(
    algo: str, wanted: str, module: str, width: int, found: str, images: Path, tmp_path: Path
):
    parts = {"lora": ("lora_down.weight", "lora_up.weight"), "loha": ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a")}[algo]
    tensors = {f"{module}.{part}": torch.ones(*((2, width) if i % 2 == 0 else (width, 2))) for i, part in enumerate(parts)}
    version = "sd_v1" if "lora_te_" in module or "_down_" in module else "sdxl_base_v1-0"
    save_file(tensors, tmp_path / "x.safetensors", {"ss_base_model_version": version})
    config = experiment(images, network={"network_weights": str(tmp_path / "x.safetensors"), "algo": algo})
    pipeline = load_pipeline("embedded") if wanted == "SD 1.x" else tiny_sdxl()
    fix = rf", and this base is {wanted}; use a LoRA that was trained on this base, or give model\.base \(--base\)"
    with pytest.raises(InputError, match=rf"^network\.network_weights: '.*x\.safetensors' is a LoRA of {found}.*{fix}"):
        check_on_base(config, pipeline, torch.device("cpu"), 1)


def test_a_new_word_is_refused_in_a_line(images: Path, sdxl: Path, tmp_path: Path):
    config = of(images, sdxl, data={"caption_prefix": "zarya"}, embedding={"token": "zarya", "init_text": "dress"})
    with pytest.raises(
        InputError, match=r"^embedding\.token: a new word does not train on Stable Diffusion XL here; leave it out"
    ):
        train(config, tmp_path)


def test_the_bases_own_output_is_held_on_to(images: Path, sdxl: Path, tmp_path: Path):
    for trains in (False, True):
        config = of(
            images,
            sdxl,
            loss={"output_preservation_prompt": "a dress"},
            network={"train_text_encoder": trains},
            optimizer={"learning_rate": 0.1},
        )
        rows = train(config, tmp_path / str(trains)).rows
        assert rows[0]["output_preservation_loss"] == pytest.approx(0, abs=1e-10)
        assert rows[1]["output_preservation_loss"] > 1e-6


class _Killed(list[dict[str, float]]):
    """Rows that end their process, as `kill -9` does, when the third step's are handed out."""

    def extend(self, new: Any) -> None:
        if any(row["step"] == 3 for row in new):
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(tree: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(1)
    train(validate(tree), folder, rows=_Killed())


def test_what_is_killed_goes_on_bit_for_bit(images: Path, sdxl: Path, tmp_path: Path):
    config = of(
        images,
        sdxl,
        network={"train_text_encoder": True, "feed_forward": True, "convolutions": True},
        data={"caption_dropout_rate": 0.3, "flip_aug": True},
        optimizer={"learning_rate": 1e-2},
        training={"max_train_steps": 4, "save_every_n_steps": 1, "save_last_n": 1, "train_batch_size": 2},
    )
    whole = train(config, tmp_path / "whole")
    child = processes().Process(target=train_until_killed, args=(config.model_dump(mode="json"), tmp_path / "cut"))
    child.start()
    child.join(240)
    assert child.exitcode == -signal.SIGKILL
    again = train(config, tmp_path / "cut", resume=True)
    assert again.result.steps_now == 2
    assert again.rows == whole.rows[2:]
    assert same(whole.result.path, again.result.path)
