"""Every network, optimiser and loss, killed in the midst of a training: it goes on bit for bit, and its file is what was trained."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.config import LoraExperiment, validate
from fashion_ml.evaluation.lora_plan import put_on
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import USUAL, tokenize
from tests.runs.forked import processes
from tests.unit.training.setup import experiment, train, write_images

Sections = dict[str, dict[str, Any]]

AVERAGED = "LoRA, schedule-free, l2"
"""Its file holds averages of what was trained (test_optimizers)."""
KINDS: dict[str, tuple[Sections, Sections, Sections]] = {
    AVERAGED: ({}, {"optimizer": {"optimizer_type": "AdamWScheduleFree"}}, {}),
    "LoCon, Lion, l1": (
        {
            "network": {
                "feed_forward": True,
                "projections": True,
                "convolutions": True,
                "time_embeddings": True,
                "shortcuts": True,
            }
        },
        {"optimizer": {"optimizer_type": "lion", "lr_scheduler": "rex"}},
        {"loss": {"loss_type": "l1"}},
    ),
    "DoRA, CAME, smooth l1": (
        {"network": {"use_dora": True, "train_text_encoder": True}},
        {"optimizer": {"optimizer_type": "came", "lr_scheduler": "cosine_with_restarts"}},
        {"loss": {"loss_type": "smooth_l1"}},
    ),
    "rsLoRA, Adafactor, log-cosh": (
        {"network": {"use_rslora": True, "convolutions": True, "conv_rank": 3, "conv_alpha": 1.0}},
        {"optimizer": {"optimizer_type": "adafactor"}},
        {"loss": {"loss_type": "log_cosh"}},
    ),
    "LoHa, Prodigy, Huber": (
        {"network": {"algo": "loha", "train_text_encoder": True}},
        {"optimizer": {"optimizer_type": "prodigy", "learning_rate": 1.0, "optimizer_args": {"d0": 0.05}}},
        {"loss": {"loss_type": "huber"}},
    ),
    "LoKr, AMSGrad, multires noise": (
        {"network": {"algo": "lokr", "lokr_factor": 4, "convolutions": True}},
        {"optimizer": {"learning_rate": 0.1, "optimizer_args": {"amsgrad": True}}},
        {"loss": {"multires_noise_iterations": 3}},
    ),
    "OFT, RAdam, input perturbation": (
        {"network": {"algo": "oft"}},
        {"optimizer": {"optimizer_type": "torch.optim.RAdam", "learning_rate": 10.0, "optimizer_args": {"eps": 1e-6}}},
        {"loss": {"ip_noise_gamma": 0.1}},
    ),
    "(IA)^3, SGD, logit-normal": (
        {"network": {"algo": "ia3", "feed_forward": True}},
        {"optimizer": {"optimizer_type": "torch.optim.SGD", "learning_rate": 10.0, "optimizer_args": {"momentum": 0.9}}},
        {"loss": {"timestep_distribution": "logit_normal"}},
    ),
    "PiSSA, AdamW, mode and a range": (
        {"network": {"init": "pissa"}},
        {"optimizer": {"weight_decay": 0.0, "lr_scheduler": "warmup_stable_decay", "lr_warmup_steps": 0.2}},
        {"loss": {"timestep_distribution": "mode", "min_timestep": 100, "max_timestep": 900}},
    ),
    "OLoRA, LoRA+, a curve": (
        {"network": {"init": "olora"}},
        {"optimizer": {"loraplus_lr_ratio": 4.0}},
        {"loss": {"timestep_weights": [[0, 0.5], [999, 2.0]]}},
    ),
    "dropouts and norms, averages, offset noise and min-SNR": (
        {"network": {"dropout": 0.1, "rank_dropout": 0.3, "module_dropout": 0.3, "scale_weight_norms": 0.5}},
        {"training": {"ema_decay": 0.9}},
        {"loss": {"noise_offset": 0.1, "min_snr_gamma": 5.0}},
    ),
    "a new word, averages": (
        {"network": {"train_text_encoder": True}, "data": {"caption_prefix": "zarya"}},
        {"embedding": {"token": "zarya", "init_text": "dress", "vectors": 2}, "optimizer": {"embedding_lr": 0.1}},
        {"training": {"ema_decay": 0.9}},
    ),
    "zero terminal SNR and v-prediction": (
        {"model": {"prediction_type": "v_prediction", "zero_terminal_snr": True}},
        {},
        {"loss": {"debiased_estimation": True, "scale_v_pred_loss_like_noise_pred": True}},
    ),
}


def of(images: Path, kind: str) -> LoraExperiment:
    """Four steps of two images, a state after each."""
    sections: Sections = {
        "training": {"save_every_n_steps": 1, "save_last_n": 1, "log_every": 1, "train_batch_size": 2},
        "optimizer": {"learning_rate": 1e-2},
    }
    for part in KINDS[kind]:
        for name, section in part.items():
            sections[name] = {**sections.get(name, {}), **section}
    return experiment(images, **sections)


class _Killed(list[dict[str, float]]):
    """Rows that end their process, as `kill -9` does, when the third step's are handed out: its state is not written yet."""

    def extend(self, new: Any) -> None:
        if any(row["step"] == 3 for row in new):
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(tree: dict[str, Any], folder: Path) -> None:
    """What the process that is killed does."""
    torch.set_num_threads(1)
    train(validate(tree), folder, rows=_Killed())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, count=3, repeats=1)
    return folder


def said(pipeline: Any) -> torch.Tensor:
    """What UNet and text encoder make of fixed inputs, in one row."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        text = pipeline.text_encoder(torch.arange(20)[None])[0]
        noisy = torch.randn(1, 4, 8, 8, generator=draws)
        own = tokenize(pipeline.tokenizer, ["a red zarya"], USUAL).ids[0]
        word = pipeline.text_encoder(own)[0]
        return torch.cat([
            pipeline.unet.eval()(noisy, torch.tensor([500]), text).sample.flatten(), text.flatten(), word.flatten()
        ])  # fmt: skip


USUAL_KINDS = (
    AVERAGED,
    "LoHa, Prodigy, Huber",
    "dropouts and norms, averages, offset noise and min-SNR",
    "a new word, averages",
)
"""States of every shape: averages, a rate that is found, the layers' random numbers, weights beside the network; tests/full has the others."""


@pytest.mark.parametrize("kind", USUAL_KINDS)
def test_what_is_killed_goes_on_bit_for_bit_and_its_file_is_what_was_trained(images: Path, tmp_path: Path, kind: str):
    check_killed(images, tmp_path, kind)


def check_killed(images: Path, tmp_path: Path, kind: str) -> None:
    """A training of a kind that is killed and goes on, against one that never was."""
    config = of(images, kind)
    whole = train(config, tmp_path / "whole")
    child = processes().Process(target=train_until_killed, args=(config.model_dump(mode="json"), tmp_path / "cut"))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    again = train(config, tmp_path / "cut", resume=True)
    assert again.result.steps_now == 2
    assert [row["step"] for row in again.rows] == [3, 4]
    assert again.rows == whole.rows[2:]
    files = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert files == sorted(path.name for path in (tmp_path / "cut").glob("*.safetensors"))
    for name in files:
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "cut" / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    evaluated = load_pipeline("embedded", **config.model.schedule())
    before = said(evaluated)
    put_on(evaluated, again.result.path, "cpu", "no")
    if kind != AVERAGED:
        torch.testing.assert_close(said(evaluated), said(again.pipeline), atol=1e-5, rtol=0)
    assert (said(evaluated) - before).abs().max() > 1e-3
