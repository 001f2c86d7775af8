"""A training step of Stable Diffusion XL in float64 against one that is plainly written: no peft, no caches, no family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionXLPipeline
from torch.func import functional_call

from fashion_ml.models.kohya_format import lora_tensors
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runtime.tensor_tree import mapped
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import _Lora
from tests.unit.training.setup import experiment, write_images

RANK, ALPHA = 2, 3.0
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


@pytest.mark.parametrize(("trains", "length", "by_v"), [(False, 75, False), (True, 150, True)])
def test_loss_and_gradients_are_those_of_a_plain_step(
    trains: bool, length: int, by_v: bool, sdxl: Path, images: Path, tmp_path: Path
):
    kind = "v_prediction" if by_v else "epsilon"
    config = experiment(
        images,
        model={"base": str(sdxl), "prediction_type": kind, "zero_terminal_snr": by_v},
        data={"max_token_length": length, "flip_aug": True, "enable_bucket": True},
        network={"rank": RANK, "alpha": ALPHA, "train_text_encoder": trains},
        training={"train_batch_size": 3},
        evaluation={"enabled": False, "encoder": "embedded"},
    )
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
    loss = lora.backward(double(batch))

    theirs = StableDiffusionXLPipeline.from_pretrained(sdxl).to(dtype=torch.float64)
    unet_names = {one.data_ptr(): name for name, one in pipeline.unet.named_parameters() if ".lora_" in name}
    factors = {}
    gradients = {}
    for model, prefix in (
        (pipeline.unet, ""),
        (pipeline.text_encoder, "lora_te1_text_model_"),
        (pipeline.text_encoder_2, "lora_te2_text_model_"),
    ):
        for name, one in model.named_parameters():
            if ".lora_A" in name or ".lora_B" in name:
                module = name.partition(".lora_")[0]
                key = prefix + (module.removeprefix("text_model.").replace(".", "_") if prefix else module)
                factors.setdefault(key, {})["down" if ".lora_A" in name else "up"] = one.detach().clone().requires_grad_()
                gradients.setdefault(key, {})["down" if ".lora_A" in name else "up"] = one.grad
    assert unet_names
    assert len(factors) == len({name.partition(".")[0] for name in lora_tensors(pipeline.unet, lora.encoders, lora.spec)})
    weights = merged(theirs, {key: (pair["down"], pair["up"]) for key, pair in factors.items()})
    abar, order = lora._abar[batch.timesteps][:, None, None, None], list(inputs.plan.images(1))
    latents, noise = batch.latents.double(), batch.noise.double()
    noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
    target = abar.sqrt() * noise - (1 - abar).sqrt() * latents if by_v else noise
    if trains:
        told = [plain_text(theirs, weights, CAPTIONS[inputs.images.items[i].path.stem], length) for i in order]
    else:  # cached, in float32
        with torch.no_grad():
            whole = StableDiffusionXLPipeline.from_pretrained(sdxl)
            plain = merged(whole, {})
            told = [plain_text(whole, plain, CAPTIONS[inputs.images.items[i].path.stem], length) for i in order]
        torch.testing.assert_close(batch.text.hidden, torch.cat([one for one, _ in told]), rtol=0, atol=1e-5)
        told = [(batch.text.hidden[row, None].double(), batch.text.pooled[row, None].double()) for row in range(3)]
    ids = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * 3)
    added = {"text_embeds": torch.cat([one for _, one in told]), "time_ids": ids}
    predicted = functional_call(
        theirs.unet,
        weights["unet"],
        (noisy, batch.timesteps, torch.cat([one for one, _ in told])),
        {"added_cond_kwargs": added},
    ).sample
    expected = (predicted - target).square().mean()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-8
    assert loss.item() > 0.1
    compared = 0
    for key, pair in factors.items():
        for side, own in pair.items():
            given = gradients[key][side]
            if given is None:  # the first text encoder's last layer, of which nothing is read
                assert "te1_text_model_encoder_layers_2" in key
                assert own.grad is None or not own.grad.any()
                continue
            torch.testing.assert_close(given, own.grad, rtol=1e-7, atol=1e-8)
            compared += 1
    assert compared == 2 * len(factors) - (12 if trains else 0)
