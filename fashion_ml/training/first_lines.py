"""The block of settings that a training begins with: what decides it, and how many epochs its steps are."""

from __future__ import annotations

from collections.abc import Sequence

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.config.idle_settings import idle_settings
from fashion_ml.config.lora_network import Network
from fashion_ml.data.batch_sampler import StepPlan
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.models.lora_forms import readers_of
from fashion_ml.models.stargan import patch_side

_METHODS = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "ia3": "(IA)^3"}
"""What the networks are called."""
_TARGETS = ("feed_forward", "projections", "convolutions", "time_embeddings", "shortcuts", "train_text_encoder")


def step_plan(config: LoraExperiment, items: Sequence[CaptionedImage], factor: int, processes: int) -> StepPlan:
    """How the steps of a training on these images are counted, as its loop does, for a VAE of that factor.

    Images that validation holds out are not left out yet: which they are is only known when all have been looked at.
    """
    sizes = image_sizes([item.size for item in items], **config.data.bucketing(factor))
    known = {size: number for number, size in enumerate(sorted(set(sizes)))}
    training = config.training
    return StepPlan(
        tuple(item.repeats for item in items),
        training.train_batch_size * processes,
        training.gradient_accumulation_steps,
        training.seed,
        tuple(known[size] for size in sizes),
    )


def lora_lines(config: LoraExperiment, items: Sequence[CaptionedImage], factor: int, processes: int) -> list[str]:
    """Base, encoder, rank, alpha, where, rates, resolution, batch, steps and epochs, with a label each; then settings that do nothing."""
    network, rates, data, training = config.network, config.optimizer, config.data, config.training
    where = ["attention", *(name for name in _TARGETS if getattr(network, name))]
    if network.conv_rank is not None:
        where[where.index("convolutions")] += f" (rank {network.conv_rank}, alpha {network.conv_alpha or network.conv_rank:g})"
    text_rate = f" (text encoder {rates.text_encoder_lr or rates.learning_rate:g})" if network.train_text_encoder else ""
    plan = step_plan(config, items, factor, processes)
    steps = f"{rates.lr_warmup_steps * 100:g} % of the" if rates.lr_warmup_steps < 1 else rates.lr_warmup_steps
    warm_up = f", {steps} steps of warm-up" if rates.lr_warmup_steps else ""
    size = f"{len(items)} at {data.resolution} px{' in buckets' if data.enable_bucket else ''}"
    batch = _batch(training.train_batch_size, training.gradient_accumulation_steps, processes)
    return [
        _labelled("Base", f"{config.model.base}; encoder {_encoder(config)}"),
        _labelled(_METHODS[network.algo], f"{_size(network)} on {', '.join(where)}"),
        _labelled(
            "Rates", f"{rates.optimizer_type}, learning rate {rates.learning_rate:g}{text_rate}, {rates.lr_scheduler}{warm_up}"
        ),
        _labelled("Images", f"{size}; {batch}; precision {training.mixed_precision}; seed {training.seed}"),
        _labelled("Steps", _epochs(config, plan)),
        *_word(config),
        *readers_of([_METHODS[network.algo], *(["DoRA"] if network.use_dora else [])]),
        *idle_settings(config, plan.steps_per_epoch),
    ]


def _word(config: LoraExperiment) -> list[str]:
    word, rates = config.embedding, config.optimizer
    if word.token is None:
        return []
    begins = f"begun as {word.init_text!r}" if word.init_text else "as network.network_weights has it"
    tokens = f"{word.vectors} tokens" if word.vectors > 1 else "one token"
    return [
        _labelled(
            "Word",
            f"{word.token!r} of {tokens}, {begins}, learning rate {rates.embedding_lr or rates.learning_rate:g}; it is in the LoRA's metadata "
            f"and, for other programs, in {word.token}.safetensors",
        )
    ]


def network_words(network: Network) -> str:
    """The kind of network, how large it is, and what is special of it."""
    return f"{_METHODS[network.algo]}: {_size(network)}"


def _size(network: Network) -> str:
    if network.algo == "ia3":
        return "scales"
    if network.algo == "oft":
        return f"blocks of at most {network.rank} outputs"
    start = {"pissa": ", started as PiSSA", "olora": ", started as OLoRA"}.get(network.init, "")
    dora = "DoRA, " if network.use_dora else ""
    if network.block_ranks is not None:
        return f"{dora}ranks {', '.join(map(str, network.block_ranks))} by block{start}"
    alpha = float(network.alpha or network.rank)
    scale = alpha / network.rank**0.5 if network.use_rslora else alpha / network.rank
    return f"{dora}rank {network.rank}, alpha {alpha:g} (scale {scale:g}){start}"


def _labelled(label: str, words: str) -> str:
    return f"{label:<10}{words}"


def stargan_lines(config: StarganExperiment, inputs: GanInputs, processes: int) -> list[str]:
    """VAE, encoder, sizes, domains, what the discriminator judges, rates, latents, batch, steps and epochs; then settings that do nothing, a
    line each."""
    rates, training, network = config.optimizer, config.training, config.network
    shape = " x ".join(map(str, inputs.latents.shape))
    per_epoch, given = inputs.steps_per_epoch, rates.learning_rate
    names = ", ".join(domain.name for domain in inputs.latents.domains)
    count = sum(len(part) for part in inputs.training)
    batch = _batch(training.batch_size, 1, processes)
    return [
        _labelled("VAE", f"{config.model.vae}; encoder {_encoder(config)}"),
        _labelled(
            "StarGAN",
            f"base_dim {network.base_dim}, {network.n_res_blocks} residual blocks; domains {names}",
        ),
        _labelled("D", _discriminator(config)),
        _labelled(
            "Rates",
            f"{rates.lr_g or given:g} (G, E), {rates.lr_d or given:g} (D), {rates.lr_mapping:g} (F), {rates.lr_scheduler}",
        ),
        _labelled(
            "Latents",
            f"{count} of {shape}, drawn by {config.data.contents_by}; {batch}; precision {training.mixed_precision}; seed {training.seed}",
        ),
        _labelled("Steps", f"{training.epochs * per_epoch} = {training.epochs} epochs of {per_epoch} steps"),
        *idle_settings(config, per_epoch),
    ]


def _discriminator(config: StarganExperiment) -> str:
    network, loss = config.network, config.loss
    side = patch_side(network.d_layers)
    judges = f"patches of {side} x {side} latents" if network.discriminator == "patch" else "whole latents"
    normed = ", spectral norm" if network.spectral_norm else ""
    penalty = f"R1 every {loss.r1_interval} steps of the {loss.r1_counted_by}" if loss.w_r1 else "no R1"
    return f"judges {judges}{normed}; {penalty}"


def _encoder(config: LoraExperiment | StarganExperiment) -> str:
    evaluation = config.evaluation
    checks = isinstance(config, LoraExperiment) and config.training.performance_check_interval is not None
    if not (evaluation.enabled or checks):
        return "none (not evaluated)"
    return "none (without fashion_clip)" if "fashion_clip" in evaluation.without else evaluation.encoder


def _batch(size: int, accumulation: int, processes: int) -> str:
    parts = [str(size)]
    if accumulation > 1:
        parts.append(f"{accumulation} accumulated")
    if processes > 1:
        parts.append(f"{processes} processes")
    total = size * accumulation * processes
    return f"batch {' x '.join(parts)}" + (f" = {total}" if len(parts) > 1 else "")


def _epochs(config: LoraExperiment, plan: StepPlan) -> str:
    steps, held = config.training.max_train_steps, config.data.validation_split
    per_epoch = max(plan.steps_per_epoch * (1 - held), 1)
    about = "about " if held else ""
    return f"{steps} = {about}{steps / per_epoch:.3g} epochs of {about}{per_epoch:.0f} steps"
