"""Every setting of a LoRA training changes what it is for: the weights bit for bit, the files, or the model that trains.

Two trainings on the embedded base differ in the one setting; without threads the same settings give the same bits, so another bit says that
the setting arrived. What shows only in a whole run (evaluation, tracking, base model) is in test_every_setting_counts_evaluation.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from fashion_ml.config import LoraExperiment, flat, to_yaml, validate
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.reports.loss_log import read_loss_log
from fashion_ml.training import lora_loop
from tests.unit.config.caption_settings import caption_settings, write_captions
from tests.unit.config.leaves import Setting, leaves, nested, repeated
from tests.unit.config.test_every_setting_counts_evaluation import WHOLE
from tests.unit.training.setup import Trained, train

pytestmark = pytest.mark.slow

CHANGES_NOTHING: dict[str, str] = {}
"""Settings of a LoRA experiment that change nothing that could be looked at, each with its "because …"; none does."""
SIZES = [(64, 64), (128, 64), (96, 80), (40, 48)]
WORDS = "red, green, blue, long, short, wide, tight, wool, silk, linen, old, new"


@dataclass
class Lora:
    """What a training did and left."""

    folder: Path
    config: LoraExperiment
    trained: Trained | None = None
    refused: str = ""
    compiled: list[str] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    checked: list[int] = field(default_factory=list)
    tf32: set[tuple[bool, bool]] = field(default_factory=set)
    """Whether a GPU would round the factors of products, and of convolutions, in a step."""
    sizes: Any = None
    checkpointing: bool = False
    channels_last: bool = False

    @property
    def result(self) -> Trained:
        assert self.trained is not None, self.refused
        return self.trained

    @property
    def file(self) -> Path:
        return self.result.result.path

    @cached_property
    def weights(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(load_file(self.file).items()):
            if name.endswith(".alpha"):
                continue  # the setting itself, not what was learnt with it
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        with safe_open(self.file, framework="pt") as file:
            return dict(file.metadata())


class Trainings:
    """Trainings by their settings, each made once."""

    def __init__(self, folder: Path):
        self.folder, self._made = folder, dict[str, Lora]()
        train_images, self.prior, self.mended, self.lines = (folder / name for name in ("train", "prior", "mended", "lines"))
        self.left, self.top = folder / "left", folder / "top"
        write(train_images, SIZES, seed=3)
        write(self.prior, SIZES[:2], seed=4)
        write(self.mended, SIZES[:1], seed=5)
        write(self.lines, SIZES[:2], seed=6)
        write_captions(self.lines / "1_x")
        (self.mended / "1_x" / "bad.png").write_bytes(b"no image")
        write_masks(self.left, width=0.5, height=1)
        write_masks(self.top, width=1, height=0.5)
        self.base = {
            "data.train_data_dir": str(train_images),
            "data.resolution": 32,
            "network.rank": 2,
            "optimizer.learning_rate": 1e-2,
            "training.max_train_steps": 3,
            "training.train_batch_size": 2,
        }

    def __call__(self, changes: Mapping[str, Any]) -> Lora:
        places = {"PRIOR": self.prior, "MENDED": self.mended, "LINES": self.lines, "SUBSET": self.lines / "1_x"}
        places |= {"LEFT": self.left, "TOP": self.top}
        places["CACHE"] = self.folder / f"cache{len(self._made)}"
        tree = {key: str(places[value]) if value in list(places) else value for key, value in {**self.base, **changes}.items()}
        if tree.get("network.network_weights") == "TRAINED":
            tree["network.network_weights"] = str(self({}).file)
        config = validate(nested(tree))
        key = to_yaml(config)
        if key not in self._made:
            self._made[key] = self._train(config, self.folder / f"run{len(self._made)}")
        return self._made[key]

    def _train(self, config: LoraExperiment, folder: Path) -> Lora:
        made = Lora(folder, config)

        def remember(model: Any, *_: Any, **__: Any) -> Any:
            made.compiled.append(type(model).__name__)
            return model

        def check(step: int, path: Path) -> dict[str, float]:
            made.checked.append(step)
            return {}

        loss_of = lora_loop._Lora.loss_of

        def watched(lora: Any, batch: Any) -> torch.Tensor:
            made.tf32.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return loss_of(lora, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "compile", remember)  # the compiler itself takes a minute
            patch.setattr(lora_loop._Lora, "loss_of", watched)
            try:
                made.trained = train(config, folder, check=check, sample=made.sampled.append)
                unet, made.sizes = made.trained.pipeline.unet, made.trained.inputs.images.sizes
                made.checkpointing, made.channels_last = unet.is_gradient_checkpointing, is_channels_last(unet)
                made.trained = replace(made.trained, inputs=None, pipeline=None)  # hundreds of which would fill the memory
            except InputError as error:
                made.refused = str(error)
        return made


def write(folder: Path, sizes: list[tuple[int, int]], seed: int) -> None:
    """Garments of some sizes with captions of many parts, beside each a second caption file."""
    place = folder / "1_x"
    place.mkdir(parents=True)
    for number, (size, garment) in enumerate(zip(sizes, sample_garments(len(sizes), seed=seed), strict=True)):
        render(garment).resize(size, Image.Resampling.BICUBIC).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"{garment.caption()}, {WORDS}", encoding="utf-8")
        (place / f"{number}.tags").write_text(f"tags of ({garment.kind}:1.4)", encoding="utf-8")


def write_masks(folder: Path, width: float, height: float) -> None:
    """White so far from the left and the top."""
    folder.mkdir()
    for number, size in enumerate(SIZES):
        mask = Image.new("L", size)
        mask.paste(255, (0, 0, int(size[0] * width), int(size[1] * height)))
        mask.save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    torch.set_num_threads(1)
    return Trainings(tmp_path_factory.mktemp("trainings"))


def weights(lora: Lora) -> Any:
    return lora.weights


def files(lora: Lora) -> Any:
    return sorted(path.relative_to(lora.folder).as_posix() for path in lora.folder.rglob("*") if path.is_file())


def shapes(lora: Lora) -> Any:
    return sorted((name, tuple(tensor.shape)) for name, tensor in load_file(lora.file).items())


def logged_steps(lora: Lora) -> Any:
    return [row.step for row in read_loss_log(lora.folder / "training_logs" / "training_loss_log.txt")]


def validations(lora: Lora) -> Any:
    return [(row["step"], row["val_loss"]) for row in lora.result.rows if "val_loss" in row]


def validated_steps(lora: Lora) -> Any:
    return [step for step, _ in validations(lora)]


def cached(lora: Lora) -> Any:
    """How much a cache of this training's own holds."""
    folder = lora.config.data.cache_dir
    return len(list(Path(folder).rglob("*.safetensors"))) if folder else 0


def sizes_seen(lora: Lora) -> Any:
    return lora.sizes


def dtypes(lora: Lora) -> Any:
    return {tensor.dtype for tensor in load_file(lora.file).values()}


def is_channels_last(unet: torch.nn.Module) -> bool:
    large = [p for p in unet.parameters() if p.dim() == 4 and min(p.shape) > 1]
    return bool(large) and all(p.is_contiguous(memory_format=torch.channels_last) for p in large)


LONG = {"training.max_train_steps": 13}
BUCKETS = {"data.enable_bucket": True, "data.resolution": 64, "training.max_train_steps": 1}
HELD = {"data.validation_split": 0.5}
PREDICTS_V = {"model.prediction_type": "v_prediction"}
WORD = {"data.caption_prefix": "zarya quila", "embedding.token": "zarya", "embedding.init_text": "dress"}
LORA: dict[str, Setting] = {
    "data.train_data_dir": Setting("PRIOR", weights),
    "data.reg_data_dir": Setting("PRIOR", weights),
    "data.resolution": Setting(64, weights),
    "data.enable_bucket": Setting(True, sizes_seen, {"data.resolution": 64, "training.max_train_steps": 1}),
    "data.bucket_no_upscale": Setting(True, sizes_seen, BUCKETS),
    "data.bucket_reso_steps": Setting(16, sizes_seen, BUCKETS),
    "data.min_bucket_reso": Setting(65, sizes_seen, BUCKETS),
    "data.max_bucket_reso": Setting(72, sizes_seen, {**BUCKETS, "data.bucket_reso_steps": 8}),
    "data.caption_extension": Setting(".tags", weights),
    "data.shuffle_caption": Setting(True, weights),
    "data.keep_tokens": Setting(30, weights, {"data.shuffle_caption": True}),
    "data.caption_dropout_rate": Setting(0.7, weights),
    "data.max_token_length": Setting(150, weights),
    "data.masks": Setting("garment", weights),
    "data.masks_dir": Setting("TOP", weights, {"data.masks": "folder", "data.masks_dir": "LEFT"}),
    "data.weighted_captions": Setting(True, weights, {"data.caption_extension": ".tags"}),
    "data.flip_aug": Setting(True, weights),
    "data.cache_latents": Setting(False, cached, {"data.cache_dir": "CACHE"}),
    "data.cache_dir": Setting("CACHE", cached),
    "data.on_bad_image": Setting("skip", lambda lora: lora.refused, {"data.train_data_dir": "MENDED"}),
    "data.validation_split": Setting(0.26, validations),
    "data.validation_seed": Setting(202, validations, HELD),
    "model.clip_skip": Setting(2, weights),
    "model.zero_terminal_snr": Setting(True, weights, PREDICTS_V),
    **caption_settings(weights),
    "network.rank": Setting(28, shapes),
    "network.alpha": Setting(1.5, weights),
    "network.feed_forward": Setting(True, shapes),
    "network.projections": Setting(True, shapes),
    "network.convolutions": Setting(True, shapes),
    "network.conv_rank": Setting(21, shapes, {"network.convolutions": True}),
    "network.conv_alpha": Setting(22.5, weights, {"network.convolutions": True}),
    "network.algo": Setting("loha", shapes),
    "network.init": Setting("pissa", shapes),
    "network.lokr_factor": Setting(32, shapes, {"network.algo": "lokr"}),
    "network.time_embeddings": Setting(True, shapes),
    "network.shortcuts": Setting(True, shapes),
    "network.block_ranks": Setting((0, 1, 2, 3, 4, 5, 6, 7, 8), shapes),
    "network.block_alphas": Setting((0.5, 1, 2, 3, 4, 5, 6, 7, 8), weights),
    "network.conv_block_ranks": Setting((1, 1, 2, 3, 4, 5, 6, 7, 9), shapes, {"network.convolutions": True}),
    "network.conv_block_alphas": Setting((0.5, 1, 2, 3, 4, 5, 6, 7, 9), weights, {"network.convolutions": True}),
    "network.train_text_encoder": Setting(True, shapes),
    "network.dropout": Setting(0.35, weights),
    "network.rank_dropout": Setting(0.41, weights),
    "network.module_dropout": Setting(0.42, weights),
    "network.scale_weight_norms": Setting(1e-3, weights),
    "network.use_dora": Setting(True, shapes),
    "network.use_rslora": Setting(True, weights),
    "network.network_weights": Setting("TRAINED", weights),
    "optimizer.optimizer_type": Setting("adafactor", weights),
    "optimizer.learning_rate": Setting(0.003, weights),
    "optimizer.text_encoder_lr": Setting(0.0007, weights, {"network.train_text_encoder": True}),
    "optimizer.embedding_lr": Setting(0.0071, weights, WORD),
    "optimizer.loraplus_lr_ratio": Setting(16.5, weights),
    "optimizer.block_lr": Setting((1, 1, 0.5, 1, 1, 1, 0, 1, 1.5), weights),
    "optimizer.weight_decay": Setting(0.4, weights),
    "optimizer.betas": Setting((0.5, 0.8), weights),
    "optimizer.max_grad_norm": Setting(1e-9, weights),
    "optimizer.lr_scheduler": Setting("cosine", weights),
    "optimizer.lr_scheduler_power": Setting(2.5, weights, {"optimizer.lr_scheduler": "polynomial"}),
    "optimizer.lr_scheduler_num_cycles": Setting(23, weights, {"optimizer.lr_scheduler": "cosine_with_restarts"}),
    "optimizer.optimizer_args": Setting({"eps": 0.5}, weights),
    "optimizer.lr_scheduler_min_lr_ratio": Setting(0.565, weights, {"optimizer.lr_scheduler": "cosine"}),
    "optimizer.lr_decay_steps": Setting(0.965, weights, {"optimizer.lr_scheduler": "warmup_stable_decay"}),
    "optimizer.lr_warmup_steps": Setting(15, weights),
    "training.max_train_steps": Setting(22, weights),
    "training.max_train_epochs": Setting(24, logged_steps),
    "training.train_batch_size": Setting(20, weights),
    "training.gradient_accumulation_steps": Setting(18, weights),
    "training.ema_decay": Setting(0.98, files),
    "training.gradient_checkpointing": Setting(True, lambda lora: lora.checkpointing),
    "training.compile": Setting("default", lambda lora: lora.compiled),
    "training.channels_last": Setting(True, lambda lora: lora.channels_last),
    "training.tf32": Setting(True, lambda lora: lora.tf32),
    "training.seed": Setting(101, weights),
    "training.save_every_n_epochs": Setting(4, files, LONG),
    "training.save_every_n_steps": Setting(12, files, LONG),
    "training.save_last_n": Setting(11, files, {**LONG, "training.save_every_n_steps": 1}),
    "training.save_state": Setting(False, files),
    "training.log_every": Setting(9, logged_steps, LONG),
    "training.validate_every_n_steps": Setting(7, validated_steps, {**LONG, **HELD}),
    "training.sample_every": Setting(13, lambda lora: lora.sampled, LONG),
    "training.performance_check_interval": Setting(8, lambda lora: lora.checked, LONG),
    "loss.loss_type": Setting("huber", weights),
    "loss.huber_c": Setting(0.2, weights, {"loss.loss_type": "huber"}),
    "loss.huber_schedule": Setting("exponential", weights, {"loss.loss_type": "huber"}),
    "loss.min_snr_gamma": Setting(0.33, weights),
    "loss.debiased_estimation": Setting(True, weights),
    "loss.noise_offset": Setting(0.06, weights),
    "loss.multires_noise_iterations": Setting(26, weights),
    "loss.multires_noise_discount": Setting(0.75, weights, {"loss.multires_noise_iterations": 3}),
    "loss.ip_noise_gamma": Setting(0.11, weights),
    "loss.scale_v_pred_loss_like_noise_pred": Setting(True, weights, PREDICTS_V),
    "loss.v_pred_like_loss": Setting(0.9, weights),
    "loss.timestep_weights": Setting(((0, 0.0), (900, 3.0)), weights),
    "loss.min_timestep": Setting(700, weights),
    "loss.max_timestep": Setting(300, weights),
    "loss.timestep_distribution": Setting("logit_normal", weights),
    "loss.logit_mean": Setting(-1.25, weights, {"loss.timestep_distribution": "logit_normal"}),
    "loss.logit_std": Setting(0.45, weights, {"loss.timestep_distribution": "logit_normal"}),
    "loss.mode_scale": Setting(-0.65, weights, {"loss.timestep_distribution": "mode"}),
    "loss.unmasked_weight": Setting(0.15, weights, {"data.masks": "garment"}),
    "loss.output_preservation_prompt": Setting("a dress", weights),
    "loss.output_preservation_weight": Setting(0.5, weights, {"loss.output_preservation_prompt": "a dress"}),
    "loss.prior_loss_weight": Setting(0.8, weights, {"data.reg_data_dir": "PRIOR"}),
    "embedding.token": Setting("quila", files, WORD),
    "embedding.vectors": Setting(27, weights, WORD),
    "embedding.init_text": Setting("hat", weights, WORD),
    "output.output_name": Setting("other", files),
    "output.save_precision": Setting("fp16", dtypes),
    "output.training_comment": Setting("said of it", lambda lora: lora.metadata["ss_training_comment"]),
}
SEPARATE = {"training.save_state_minutes", "optimizer.text_encoder_2_lr"}
"""Have tests of their own: below, and in tests/unit/training/test_sdxl_training.py, for this base has one text encoder."""


@pytest.mark.parametrize("leaf", leaves(LoraExperiment))
def test_every_setting_changes_what_is_trained_or_the_files_or_says_why_not(leaf: str, trainings: Trainings):
    places = [leaf in table for table in (LORA, WHOLE, CHANGES_NOTHING, SEPARATE)]
    assert sum(places) == 1, f"{leaf}: say in one of the tables where it shows, or in CHANGES_NOTHING why it does not"
    if leaf not in LORA:
        return
    setting = LORA[leaf]
    default = flat(validate({"data": {"train_data_dir": "x"}})).get(leaf)
    assert setting.value != default
    without, with_it = trainings(setting.needs), trainings({**setting.needs, leaf: setting.value})
    assert setting.seen(without) != setting.seen(with_it)


def test_the_tables_name_no_setting_that_is_gone_and_no_two_have_one_value():
    assert {*LORA, *WHOLE, *CHANGES_NOTHING, *SEPARATE} <= set(leaves(LoraExperiment))
    values = {leaf: setting.value for leaf, setting in LORA.items()} | {leaf: value for leaf, (value, _) in WHOLE.items()}
    assert repeated({leaf: value for leaf, value in values.items() if value not in ("PRIOR", "CACHE", "SUBSET")}) == []


def test_what_was_not_changed_gives_the_same_bits(trainings: Trainings, tmp_path: Path):
    """Else the other tests of this file would find a difference in anything."""
    again = trainings._train(trainings({}).config, tmp_path)
    assert again.weights == trainings({}).weights


@pytest.mark.parametrize(("minutes", "written"), [(1e-9, True), (5.0, False)])
def test_a_state_is_written_every_so_many_minutes(minutes: float, written: bool, trainings: Trainings, tmp_path: Path):
    """A training that breaks off at the third step has left one from before, or none."""

    def broken(step: int) -> None:
        if step:  # the untrained ones come before the first
            raise RuntimeError("power cut")

    tree = {**trainings.base, "training.save_state_minutes": minutes, "training.sample_every": 3}
    with pytest.raises(RuntimeError, match="power cut"):
        train(validate(nested(tree)), tmp_path, sample=broken)
    assert (tmp_path / "state" / "training_state.safetensors").is_file() == written
