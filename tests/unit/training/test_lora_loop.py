from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fashion_ml.data.pictures import load_picture
from fashion_ml.errors import InputError
from fashion_ml.losses.diffusion import per_image_mse
from fashion_ml.models import lora_starts
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.stable_diffusion import encode_captions, encode_latents, load_pipeline
from fashion_ml.runtime.seeding import generator
from fashion_ml.training import lora_loop as loop
from fashion_ml.training.lora_inputs import prepare_inputs
from tests.unit.training.setup import Trained, train, write_images
from tests.unit.training.setup import small as experiment


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_images(folder, count=10, repeats=1)
    return folder


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """With the default of every switch."""
    return train(experiment(images), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def base_loss(images: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the base has on the images that are held out, measured in a training of a plain LoRA."""
    config = experiment(images, data={"validation_split": 0.4}, training={"max_train_steps": 1})
    return train(config, tmp_path_factory.mktemp("base")).rows[-1]["val_loss_base"]


def same(first: Path, second: Path, tolerance: float = 0.0) -> bool:
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    return all(torch.allclose(a[name], b[name], rtol=0, atol=tolerance) for name in a)


def test_the_first_loss_is_that_of_the_base_on_latents_noise_and_timesteps_of_seed_and_step(images: Path, tmp_path: Path):
    """B = 0 at the first step, so the value can be worked out with the plain UNet and diffusers' own add_noise."""
    config = experiment(images, data={"resolution": 64}, training={"train_batch_size": 6, "max_train_steps": 1, "seed": 9})
    trained = train(config, tmp_path)
    pipeline, items = load_pipeline("embedded"), trained.inputs.images.items
    chosen = [i for i in (0, 1, 2) for _ in range(2)]
    order = torch.randperm(6, generator=generator(9, "order", 1)).tolist()
    chosen = [chosen[i] for i in order]
    mean, std = encode_latents(pipeline, [[load_picture(item.path) for item in items]])
    sampled = torch.randn(6, 4, 16, 16, generator=generator(9, "latent", 1)) * std[chosen]
    latents = (mean[chosen] + sampled) * pipeline.vae.config.scaling_factor
    noise = torch.randn(6, 4, 16, 16, generator=generator(9, "noise", 1))
    timesteps = torch.randint(0, 1000, (6,), generator=generator(9, "timestep", 1))
    text = encode_captions(pipeline, [items[i].caption for i in chosen])
    with torch.no_grad():
        prediction = pipeline.unet(pipeline.scheduler.add_noise(latents, noise, timesteps), timesteps, text).sample
    assert trained.rows[0]["total_loss"] == pytest.approx(per_image_mse(prediction, noise).mean().item(), rel=1e-4)


def test_accumulation_gives_the_step_of_the_large_batch(images: Path, tmp_path: Path):
    """6 images an epoch, 4 a step: the second step of each epoch holds 2, and counts each image alike."""
    large, small = (
        train(
            experiment(images, training={"train_batch_size": size, "gradient_accumulation_steps": 4 // size}),
            tmp_path / str(size),
        ).result.path
        for size in (4, 1)
    )
    assert same(large, small, 1e-4)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(images: Path, tmp_path: Path):
    first, again, other = (
        train(experiment(images, training={"seed": seed}), tmp_path / name).result.path
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same(first, again)
    assert not same(first, other, 1e-4)


def test_cached_and_uncached_latents_and_a_cache_on_disk_give_the_same_weights_bit_for_bit(images: Path, tmp_path: Path):
    variants: list[dict[str, Any]] = [{}, {"cache_latents": False}, {"cache_dir": str(tmp_path / "cache")}]
    variants.append(variants[-1])  # the second training finds everything there
    paths = [train(experiment(images, data=data), tmp_path / str(index)).result.path for index, data in enumerate(variants)]
    assert all(same(paths[0], path) for path in paths[1:])
    assert (
        len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3 + 3 + 1
    )  # latents, captions, and the looks that tell near-duplicates


def test_an_edited_image_is_not_served_from_the_cache(tmp_path: Path):
    write_images(tmp_path / "images")
    config = experiment(tmp_path / "images", data={"cache_dir": str(tmp_path / "cache")})
    before = train(config, tmp_path / "a").result.path
    file = tmp_path / "images" / "2_x" / "a.png"
    file.write_bytes((tmp_path / "images" / "2_x" / "b.png").read_bytes())
    after = train(config, tmp_path / "b").result.path
    fresh = train(
        config.model_copy(update={"data": config.data.model_copy(update={"cache_dir": None})}), tmp_path / "c"
    ).result.path
    assert not same(before, after, 1e-6)
    assert same(after, fresh)


def test_clipping_clips_and_the_norm_logged_is_the_one_before(images: Path, tmp_path: Path):
    one, two = (
        train(experiment(images, optimizer={"max_grad_norm": limit}, training={"max_train_steps": 2}), tmp_path / str(limit))
        for limit in (0, 1e-9)
    )
    assert one.rows[0]["grad_norm"] == pytest.approx(two.rows[0]["grad_norm"], rel=1e-5)
    assert one.rows[0]["grad_norm"] > 1e-4
    assert not same(one.result.path, two.result.path, 1e-5)  # clipped to 1e-9, Adam's epsilon of 1e-8 holds the weights back


def test_a_loss_that_is_not_finite_stops_with_step_images_and_last_file(images: Path, tmp_path: Path):
    config = experiment(images, optimizer={"learning_rate": 1e30, "max_grad_norm": 0}, training={"max_train_steps": 20})
    with pytest.raises(
        InputError, match=r"total_loss is not finite at step \d+ \(images [abc]\.png\); lower the learning rate"
    ):
        train(config, tmp_path)
    assert (tmp_path / "training_logs" / "training_loss_log.txt").is_file()
    assert not (tmp_path / "lora.safetensors").exists()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_a_file_is_kept_every_so_many_epochs_or_steps_and_only_the_last_ones_stay(images: Path, tmp_path: Path):
    """6 images an epoch at batch 3: 2 steps; every 2 epochs of 10 steps: after steps 4 and 8."""
    shape = {"train_batch_size": 3, "max_train_steps": 10}
    train(experiment(images, training={**shape, "save_every_n_epochs": 2}), tmp_path / "epochs")
    assert names(tmp_path / "epochs") == ["lora-000002.safetensors", "lora-000004.safetensors", "lora.safetensors"]
    every_two = {**shape, "save_every_n_epochs": None, "save_every_n_steps": 2, "save_last_n": 2}
    train(experiment(images, training=every_two), tmp_path / "steps")
    assert names(tmp_path / "steps") == ["lora-step00000006.safetensors", "lora-step00000008.safetensors", "lora.safetensors"]


VARIANTS: dict[str, dict[str, Any]] = {
    "prior": {"loss": {"prior_loss_weight": 0.5}},
    "huber": {"loss": {"loss_type": "huber"}},
    "debiased": {"loss": {"debiased_estimation": True}},
    "offset": {"loss": {"noise_offset": 0.1}},
    "text encoder": {"network": {"train_text_encoder": True}, "optimizer": {"text_encoder_lr": 1e-4}},
    "everything": {
        "network": {
            "rank": 2,
            "feed_forward": True,
            "projections": True,
            "convolutions": True,
            "dropout": 0.2,
            "use_rslora": True,
        }
    },
    "dora": {"network": {"rank": 2, "use_dora": True}},
    "captions": {"data": {"shuffle_caption": True, "keep_tokens": 1, "caption_dropout_rate": 0.3, "flip_aug": True}},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "adafactor": {"optimizer": {"optimizer_type": "adafactor"}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_switch_trains_and_says_something_else_than_the_default(images: Path, plain: Trained, tmp_path: Path, name: str):
    sections = {key: dict(value) for key, value in VARIANTS[name].items()}
    if name == "prior":
        write_images(tmp_path / "prior", count=2, repeats=1, seed=8)
        sections["data"] = {"reg_data_dir": str(tmp_path / "prior")}
    trained = train(experiment(images, **sections), tmp_path)
    losses = [row["total_loss"] for row in trained.rows]
    assert len(losses) == 4
    if name != "checkpointing":
        assert losses != [row["total_loss"] for row in plain.rows]
    else:
        assert losses == pytest.approx([row["total_loss"] for row in plain.rows], rel=1e-4)
    groups = {key.split("_")[1] for key in load_file(trained.result.path)}
    assert groups == ({"unet", "te"} if name == "text encoder" else {"unet"})


def test_validation_measures_the_base_the_gain_and_the_bands_and_keeps_the_best(many: Path, tmp_path: Path):
    config = experiment(
        many,
        data={"validation_split": 0.3},
        training={"max_train_steps": 8, "validate_every_n_steps": 2, "train_batch_size": 4},
        optimizer={"learning_rate": 3e-3},
    )
    trained = train(config, tmp_path)
    rows = [row for row in trained.rows if "val_loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert len({row["val_loss_base"] for row in rows}) == 1
    for row in rows:
        assert row["val_loss_gain"] == pytest.approx(row["val_loss_base"] - row["val_loss"])
        bands = [value for key, value in row.items() if key.startswith("val_loss_bands/")]
        assert len(bands) == 4
        assert sum(bands) / 4 == pytest.approx(row["val_loss"])
    best = min(rows, key=lambda row: row["val_loss"])
    assert trained.result.best_step == best["step"]
    assert "best.safetensors" in names(tmp_path)
    assert trained.inputs.plan.images_per_epoch == 7


def stopping_at(step: int) -> Callable[..., Any]:
    """A batches method that raises at a step, as a power cut would stop the loop there."""
    original = loop.StepInputs.batches

    def batches(self: Any, wanted: int) -> Any:
        if wanted == step:
            raise RuntimeError("power cut")
        return original(self, wanted)

    return batches


@pytest.mark.parametrize(("accumulation", "cached"), [(1, True), (3, False)])
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), stop=st.integers(2, 8), every=st.integers(1, 3))
def test_resume_matches_the_uninterrupted_run_bit_for_bit(
    many: Path, tmp_path_factory: pytest.TempPathFactory, accumulation: int, cached: bool, seed: int, stop: int, every: int
):
    """Cut anywhere, mid-epoch too, with the last state some steps back: same weights, same rows, none missing."""
    folder = tmp_path_factory.mktemp("resume")
    config = experiment(
        many,
        data={"cache_latents": cached, "validation_split": 0.2, "caption_dropout_rate": 0.2, "flip_aug": True},
        network={"rank": 2, "dropout": 0.1},
        training={
            "seed": seed,
            "max_train_steps": 8,
            "gradient_accumulation_steps": accumulation,
            "save_every_n_steps": every,
            "validate_every_n_steps": 3,
        },
    )
    whole = train(config, folder / "whole")
    rows: list[dict[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.StepInputs, "batches", stopping_at(stop))
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, folder / "cut", rows=rows)
    resumed: Trained = train(config, folder / "cut", resume=True)
    assert same(whole.result.path, resumed.result.path)
    assert whole.result.total_loss == resumed.result.total_loss
    assert whole.result.best_step == resumed.result.best_step
    points = {row["step"]: row for row in rows}
    for row in resumed.rows:
        assert points.get(row["step"], row) == row  # a step measured twice has the same figures
        points[row["step"]] = row
    assert [points[row["step"]] for row in whole.rows] == whole.rows


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_an_image_that_changes_while_the_training_runs_is_an_error_and_not_a_wrong_cache_entry(tmp_path: Path, share: float):
    items = write_images(tmp_path / "set")
    config = experiment(tmp_path / "set", data={"cache_dir": str(tmp_path / "cache"), "validation_split": share})
    pipeline = load_pipeline("embedded")
    items[0].path.write_bytes(items[1].path.read_bytes())
    with pytest.raises(InputError, match=r"^data.train_data_dir: .*a\.png' was changed while the training ran"):
        prepare_inputs(config, pipeline, items, [], Accelerator(cpu=True))


def test_a_text_encoder_that_learns_long_weighted_captions_behind_clip_skip_goes_on_bit_for_bit(tmp_path: Path):
    """Two layers, of which clip skip 2 reads the first: the second's LoRA is in the file, as in kohya's, and its B stays 0."""
    sections: dict[str, Any] = {
        "model": {"clip_skip": 2},
        "data": {"max_token_length": 150, "weighted_captions": True, "validation_split": 0.4},
        "network": {"train_text_encoder": True},
        "optimizer": {"learning_rate": 1e-2},
    }
    write_images(tmp_path / "images", count=4)
    for path in (tmp_path / "images").rglob("*.txt"):
        path.write_text(f"({path.read_text(encoding='utf-8')}:1.2), " * 6, encoding="utf-8")
    config = experiment(tmp_path / "images", **sections)
    whole = train(config, tmp_path / "whole")
    train(experiment(tmp_path / "images", **sections, training={"max_train_steps": 2}), tmp_path / "parts")
    again = train(config, tmp_path / "parts", resume=True)
    assert same(whole.result.path, again.result.path)
    ups = {name: t for name, t in load_file(whole.result.path).items() if name.startswith("lora_te_") and "lora_up" in name}
    assert [any(bool(t.any()) for name, t in ups.items() if f"_layers_{layer}_" in name) for layer in (0, 1)] == [True, False]


@pytest.mark.parametrize("algo", ["loha", "lokr", "oft", "ia3"])
def test_every_network_goes_on_bit_for_bit(images: Path, base_loss: float, tmp_path: Path, algo: str):
    """Cut behind the second of four steps; what is measured without the network is the base."""
    sections: dict[str, Any] = {
        "data": {"validation_split": 0.4},
        "network": {"algo": algo, "convolutions": True, "train_text_encoder": True},
        "optimizer": {"learning_rate": 1e-2},
    }
    whole = train(experiment(images, **sections), tmp_path / "whole")
    train(experiment(images, **sections, training={"max_train_steps": 2}), tmp_path / "parts")
    again = train(experiment(images, **sections), tmp_path / "parts", resume=True)
    assert same(whole.result.path, again.result.path)
    assert whole.result.total_loss == again.result.total_loss
    assert whole.rows[-1]["val_loss_base"] == base_loss != whole.rows[-1]["val_loss"]
    metadata = read_metadata(whole.result.path)
    assert metadata["ss_network_module"] == "lycoris.kohya"
    assert json.loads(metadata["ss_network_args"])["algo"] == {"oft": "diag-oft"}.get(algo, algo)


def nothing(layer: Any, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros_like(layer.lora_A["default"].weight), torch.zeros_like(layer.lora_B["default"].weight)


@pytest.mark.parametrize("kind", ["pissa", "olora"])
def test_a_start_in_the_base_goes_on_bit_for_bit_from_the_start_that_was(
    images: Path, base_loss: float, tmp_path: Path, kind: str
):
    """Where a decomposition may come out otherwise, as on another machine: here the part that goes on has none at all."""
    sections: dict[str, Any] = {"network": {"init": kind, "convolutions": True}, "data": {"validation_split": 0.4}}
    whole = train(experiment(images, **sections), tmp_path / "whole")
    train(experiment(images, **sections, training={"max_train_steps": 2}), tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora_starts, "_start", nothing)
        again = train(experiment(images, **sections), tmp_path / "parts", resume=True)
    assert same(whole.result.path, again.result.path)
    assert whole.rows[-1]["val_loss_base"] == base_loss


@pytest.mark.parametrize("kind", ["lion", "came", "adamwschedulefree", "prodigy", "torch.optim.RAdam"])
def test_every_optimiser_goes_on_bit_for_bit_and_keeping_files_changes_nothing(images: Path, tmp_path: Path, kind: str):
    """Cut between two states, with files kept and val_loss measured on the way, which a schedule-free one takes its averages for."""
    sections: dict[str, Any] = {"optimizer": {"optimizer_type": kind, "learning_rate": 1.0 if kind == "prodigy" else 1e-2}}
    plain = train(experiment(images, **sections), tmp_path / "plain")
    sections |= {"data": {"validation_split": 0.4}}
    kept = train(
        experiment(images, **sections, training={"save_every_n_steps": 1, "validate_every_n_steps": 1}), tmp_path / "kept"
    )
    train(experiment(images, **sections, training={"max_train_steps": 2}), tmp_path / "parts")
    again = train(experiment(images, **sections), tmp_path / "parts", resume=True)
    assert same(kept.result.path, again.result.path)
    assert not same(plain.result.path, kept.result.path)  # which has fewer images


def test_averages_dropouts_norms_and_two_rates_go_on_bit_for_bit(images: Path, tmp_path: Path):
    """The file of the averages too; averages change nothing that is learnt, and lie nearer to the beginning than the last weights."""
    sections: dict[str, Any] = {
        "network": {"rank_dropout": 0.3, "module_dropout": 0.2, "scale_weight_norms": 0.05, "train_text_encoder": True},
        "optimizer": {"loraplus_lr_ratio": 16, "learning_rate": 1e-2},
    }
    plain = train(experiment(images, **sections), tmp_path / "plain")
    whole = train(experiment(images, **sections, training={"ema_decay": 0.9}), tmp_path / "whole")
    train(experiment(images, **sections, training={"ema_decay": 0.9, "max_train_steps": 2}), tmp_path / "parts")
    again = train(experiment(images, **sections, training={"ema_decay": 0.9}), tmp_path / "parts", resume=True)
    assert same(whole.result.path, plain.result.path)
    assert same(whole.result.path, again.result.path)
    averages = [one.result.path.with_name("lora-ema.safetensors") for one in (whole, again)]
    assert same(*averages)
    last, average = load_file(whole.result.path), load_file(averages[0])
    ups = [name for name in last if name.endswith("lora_up.weight") and last[name].any()]
    assert sum(average[name].norm() < last[name].norm() for name in ups) > 0.9 * len(ups)
    products = [last[name].flatten(1) @ last[name.replace("lora_up", "lora_down")].flatten(1) for name in ups]
    assert max(one.norm().item() for one in products) == pytest.approx(0.05, rel=1e-4)


def test_lora_up_has_its_own_rate_in_lora_plus(images: Path, tmp_path: Path):
    """AdamW's first step is the rate times the gradient's sign: 16 times as large for B as for A."""
    settings = {"learning_rate": 1e-3, "loraplus_lr_ratio": 16, "weight_decay": 0.0, "lr_scheduler": "constant"}
    before = train(
        experiment(images, optimizer={**settings, "learning_rate": 1e-12}, training={"max_train_steps": 1}), tmp_path / "a"
    )
    after = train(experiment(images, optimizer=settings, training={"max_train_steps": 2}), tmp_path / "b")
    first, last = load_file(before.result.path), load_file(after.result.path)
    moved = {
        part: max((last[name] - first[name]).abs().max().item() for name in last if name.endswith(part))
        for part in ("lora_down.weight", "lora_up.weight")
    }
    assert moved["lora_up.weight"] == pytest.approx(2 * 16e-3, rel=0.05)  # two steps of one sign somewhere
    assert moved["lora_down.weight"] < 2.1e-3
