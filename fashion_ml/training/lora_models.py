"""The models of a LoRA training as its loop calls them: fused, checkpointed, compiled, distributed, under autocast or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment, Optimizer
from fashion_ml.models.checkpointing import checkpoint_blocks
from fashion_ml.models.families.known import family_of
from fashion_ml.models.fused_attention import use_fused_attention
from fashion_ml.models.fused_lora import all_fused, use_fused_linears
from fashion_ml.models.kohya_format import load_lora, mixed_ranks, read_lora
from fashion_ml.models.lora import LoraSpec
from fashion_ml.models.lora_file import note_of_zero_alphas, parts_by_module
from fashion_ml.models.matmul_conv import use_small_convolutions
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.training.precision import DTYPES, compiled
from fashion_ml.training.torch_private import sdpa_backend

COMPILED = ("default", "max-autotune")
"""Words of training.compile that let torch write kernels."""


def lora_spec(config: LoraExperiment) -> LoraSpec:
    """The LoRA of an experiment, each setting by its name; alphas follow the ranks of blocks, and a file of many ranks says its own."""
    network = config.network
    found: dict[str, Any] = network.model_dump(exclude={"network_weights", "scale_weight_norms"})
    if network.block_ranks is not None and network.block_alphas is None and not network.alpha_is_given:
        found["block_alphas"] = tuple(float(rank or 1) for rank in network.block_ranks)
    if network.algo == "lora" and network.network_weights and not (network.block_ranks or network.conv_block_ranks):
        found["modules"] = mixed_ranks(Path(network.network_weights).expanduser())
    return LoraSpec(**found, block_lr=config.optimizer.block_lr)


def load_weights(config: LoraExperiment, pipeline: Any, spec: LoraSpec) -> None:
    """Continue from network.network_weights, where it is given."""
    if not config.network.network_weights:
        return
    path = Path(config.network.network_weights).expanduser()
    load_lora(path, pipeline.unet, family_of(pipeline).encoders(pipeline), spec)
    if note := note_of_zero_alphas(parts_by_module(read_lora(path, "network.network_weights")), path.name):
        say(note)
    if spec.modules is not None:
        ranks = ", ".join(map(str, sorted({rank for rank, _ in spec.modules.values()})))
        say(
            tr(
                "{name} has modules of ranks {ranks}, which go on as they are, alphas too; network.rank, alpha and "
                "conv_… do not count",
                name=path.name,
                ranks=ranks,
            )
        )


def optimizer_settings(config: LoraExperiment) -> Optimizer:
    """The optimiser's; factors of (IA)^3, which are 1 where they change nothing, have no weight decay."""
    return config.optimizer.model_copy(update={"weight_decay": 0.0}) if config.network.algo == "ia3" else config.optimizer


def prepared_models(
    config: LoraExperiment, pipeline: Any, trained: Sequence[Any], accelerator: Any
) -> tuple[bool, Callable[[], AbstractContextManager[Any]], tuple[Any, ...]]:
    """Whether the UNet goes without autocast in half precision, what models are called under, and the trained ones in training mode as the
    loop calls them."""
    models = list(trained)
    for model in models:
        model.train()
        if config.training.gradient_checkpointing:
            checkpoint_blocks(model)
    if config.training.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
    for model in models:
        fuse(model, config.training.compile)
    use_small_convolutions(pipeline.unet)
    half = without_autocast(config, pipeline.unet, accelerator.device.type, accelerator.num_processes)
    under = autocast_of(config, pipeline.unet, accelerator)
    if config.training.compile in COMPILED:
        models[0] = compiled(models[0], config.training.compile)
    if half:  # what accelerate prepares for a precision computes under autocast
        return True, under, tuple(models)
    return False, under, tuple(accelerator.prepare(model) for model in models)


def fuse(model: torch.nn.Module, mode: str) -> None:
    """Let a model with its LoRA compute in few operations; where torch writes kernels for it (`mode`), it joins more itself."""
    use_fused_linears(model)
    if mode not in COMPILED:
        use_fused_attention(model)


def without_autocast(config: LoraExperiment, unet: Any, device: str, processes: int) -> bool:
    """Whether a UNet in half precision, whose LoRA layers are all fused, computes as it is: norms in half precision with sums in float32, and
    no casts, an eighth fewer operations. On a GPU, where kernels do that; one process alone, for others are wrapped by accelerate."""
    half = config.training.mixed_precision != "no" and not config.text_trains
    return half and device == "cuda" and processes == 1 and all_fused(unet)


def attention_of(config: LoraExperiment, unet: Any, latents: Sequence[int], device: torch.device) -> str | None:
    """The kernels that compute the UNet's largest attention, the first one, over latents (B, 4, h, w): `sdpa_backend`; None without one."""
    from diffusers.models.attention_processor import Attention

    first = next((one for one in unet.modules() if isinstance(one, Attention)), None)
    if first is None:
        return None
    shape = (latents[0], first.heads, latents[2] * latents[3], first.inner_dim // first.heads)
    return sdpa_backend(shape, DTYPES[config.training.mixed_precision], device)


def autocast_of(config: LoraExperiment, unet: Any, accelerator: Any) -> Callable[[], AbstractContextManager[Any]]:
    """What the UNet is called under, in a training step and for images alike: nothing where it computes as it is, in half precision or float32,
    for which accelerate's own context would ask each time."""
    as_it_is = config.training.mixed_precision == "no" or without_autocast(
        config, unet, accelerator.device.type, accelerator.num_processes
    )
    return nullcontext if as_it_is else accelerator.autocast


@contextmanager
def own_gradients(accelerator: Any, models: Sequence[Any], unless: bool) -> Iterator[None]:
    """Gradients of this block are not yet shared with the other processes, unless it is the step's last one."""
    with ExitStack() as stack:
        if not unless:
            for model in models:
                stack.enter_context(accelerator.no_sync(model))
        yield
