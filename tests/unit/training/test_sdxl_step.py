"""A training step of Stable Diffusion XL in float64 against one that is plainly written: no peft, no caches, no family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline
from torch.func import functional_call

from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runtime.tensor_tree import mapped
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import _Lora
from tests.unit.training.setup import experiment, write_images

RANK, ALPHA = 2, 3.0
Factors = dict[str, dict[str, Any]]
CAPTIONS = {"a": "a red dress", "b": "", "c": "a long blue coat, " * 30}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for item in write_images(folder, count=3, repeats=1):
        item.path.with_suffix(".txt").write_text(CAPTIONS[item.path.stem], encoding="utf-8")
    return folder


def double(tree: Any) -> Any:
    return mapped(lambda one: one.double() if one.is_floating_point() else one, tree)


def plain_text(pipeline: Any, weights: dict[str, dict[str, torch.Tensor]], caption: str, length: int) -> tuple[Any, Any]:
    """Hidden states (1, L, 80) and summary (1, 48) of one caption."""
    states, summary = [], None
    for name in ("text_encoder", "text_encoder_2"):
        tokenizer, encoder = getattr(pipeline, name.replace("text_encoder", "tokenizer")), getattr(pipeline, name)
        words = tokenizer(caption, add_special_tokens=False).input_ids[:length]
        row = (words + [49407] + [tokenizer.pad_token_id] * length)[:length]
        chunks = []
        for first in range(0, length, 75):
            inner = row[first : first + 75]
            inner[0] = 49407 if first and inner[0] == tokenizer.pad_token_id else inner[0]
            end = tokenizer.pad_token_id if first + 75 > len(words) else 49407
            chunks.append([49406, *inner, end])
        found = functional_call(encoder, weights[name], (torch.tensor(chunks),), {"output_hidden_states": True})
        state = found.hidden_states[-2]
        states.append(torch.cat([state[0, :1], *(one[1:-1] for one in state), state[-1, -1:]]))
        if name == "text_encoder_2":
            summary = found.last_hidden_state[0, chunks[0].index(49407)] @ weights[name]["text_projection.weight"].T
    return torch.cat(states, dim=-1)[None], summary[None]  # type: ignore[index]


def merged(pipeline: Any, factors: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """The base's weights with alpha / r B A on those that have a LoRA, by kohya's name."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, model, key in modules(pipeline):
        weights = found.setdefault(name, dict(getattr(pipeline, name).named_parameters()))
        if key in factors:
            down, up = factors[key]
            weights[f"{model}.weight"] = weights[f"{model}.weight"] + ALPHA / RANK * up @ down
    return found


def modules(pipeline: Any) -> Iterator[tuple[str, str, str]]:
    for number, name in (("1", "text_encoder"), ("2", "text_encoder_2")):
        for module, _ in getattr(pipeline, name).named_modules():
            own = module.removeprefix("text_model.").replace(".", "_")
            yield name, module, f"lora_te{number}_text_model_{own}"
    for module, _ in pipeline.unet.named_modules():
        yield "unet", module, module


def in_float64(config: Any, sdxl: Path) -> tuple[_Lora, Any, Any]:
    """What trains, with a LoRA that is not nothing any more, and its first batch and inputs."""
    accelerator = Accelerator(cpu=True)
    pipeline, sources = load_pipeline(str(sdxl), **config.model.schedule()), read_sources(config)
    inputs, _ = prepare_inputs(config, pipeline, sources.items, [], accelerator)
    (batch,) = inputs.batches(1)
    lora = _Lora(config, pipeline, accelerator)
    with torch.no_grad():
        for one in lora.parameters.all:
            one.copy_(0.1 * torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())))
    for part in ("unet", "text_encoder", "text_encoder_2"):
        getattr(pipeline, part).double()
    lora._abar = lora._abar.double()
    return lora, batch, inputs


def factors_of(pipeline: Any) -> tuple[Factors, Factors]:
    """The LoRA by kohya's names, of the UNet by its own, as leaves of another graph; and its gradients."""
    factors: Factors = {}
    gradients: Factors = {}
    prefixes = {"unet": "", "text_encoder": "lora_te1_text_model_", "text_encoder_2": "lora_te2_text_model_"}
    for part, prefix in prefixes.items():
        for name, one in getattr(pipeline, part).named_parameters():
            module, found, end = name.partition(".lora_")
            if found:
                key = prefix + (module.removeprefix("text_model.").replace(".", "_") if prefix else module)
                side = "down" if end.startswith("A") else "up"
                factors.setdefault(key, {})[side] = one.detach().clone().requires_grad_()
                gradients.setdefault(key, {})[side] = one.grad
    return factors, gradients


def told(pipeline: Any, weights: Any, captions: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, L, 80) and (B, 48)."""
    found = [plain_text(pipeline, weights, caption, length) for caption in captions]
    return torch.cat([one for one, _ in found]), torch.cat([one for _, one in found])


@pytest.mark.parametrize(("trains", "length", "by_v"), [(False, 75, False), (True, 150, True)])
def test_loss_and_gradients_are_those_of_a_plain_step(trains: bool, length: int, by_v: bool, sdxl: Path, images: Path):
    config = experiment(
        images,
        model={
            "base": str(sdxl),
            "prediction_type": "v_prediction" if by_v else "epsilon",
            "zero_terminal_snr": by_v,
        },
        data={"max_token_length": length, "flip_aug": True, "enable_bucket": True},
        network={"rank": RANK, "alpha": ALPHA, "train_text_encoder": trains},
        training={"train_batch_size": 3},
        evaluation={"enabled": False, "encoder": "embedded"},
    )
    lora, batch, inputs = in_float64(config, sdxl)
    loss = lora.backward(replace(double(batch), share=torch.full((3,), 1 / 3, dtype=torch.float64)))
    factors, gradients = factors_of(lora.pipeline)
    captions = [CAPTIONS[inputs.images.items[index].path.stem] for index in inputs.plan.images(1)]

    theirs = StableDiffusionXLPipeline.from_pretrained(sdxl).to(dtype=torch.float64)
    weights = merged(theirs, {key: (pair["down"], pair["up"]) for key, pair in factors.items()})
    abar = lora._abar[batch.timesteps][:, None, None, None]
    latents, noise = batch.latents.double(), batch.noise.double()
    noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
    target = abar.sqrt() * noise - (1 - abar).sqrt() * latents if by_v else noise
    if trains:
        hidden, pooled = told(theirs, weights, captions, length)
    else:  # kept, in float32
        whole = StableDiffusionXLPipeline.from_pretrained(sdxl)
        with torch.no_grad():
            hidden, pooled = told(whole, merged(whole, {}), captions, length)
        torch.testing.assert_close(batch.text.hidden, hidden, rtol=0, atol=1e-5)
        torch.testing.assert_close(batch.text.pooled, pooled, rtol=0, atol=1e-5)
        hidden, pooled = batch.text.hidden.double(), batch.text.pooled.double()
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * 3)}
    asked = (noisy, batch.timesteps, hidden)
    expected = (
        (functional_call(theirs.unet, weights["unet"], asked, {"added_cond_kwargs": added}).sample - target).square().mean()
    )
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-8
    assert loss.item() > 0.1
    unread = [key for key in factors if "te1_text_model_encoder_layers_2" in key]  # the last layer, of which nothing comes
    assert len(unread) == (6 if trains else 0)
    for key, pair in factors.items():
        for side, own in pair.items():
            if key in unread:
                assert gradients[key][side] is None
                assert own.grad is None or not own.grad.any()
            else:
                torch.testing.assert_close(gradients[key][side], own.grad, rtol=1e-7, atol=1e-8)
