"""The block of settings that a training begins with: what decides it, and how many epochs its steps are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.config.idle_settings import idle_settings
from fashion_ml.config.lora_network import Network
from fashion_ml.data.batch_sampler import StepPlan
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.models.lora_forms import readers_of
from fashion_ml.models.stargan import patch_side
from fashion_ml.runtime.language import tr

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
        where[where.index("convolutions")] += tr(
            " (rank {conv_rank}, alpha {value:g})", conv_rank=network.conv_rank, value=network.conv_alpha or network.conv_rank
        )
    of_text = rates.text_encoder_lr or rates.learning_rate
    if not network.train_text_encoder:
        text_rate = ""
    elif rates.text_encoder_2_lr is None:
        text_rate = tr(" (text encoder {value:g})", value=of_text)
    else:
        text_rate = tr(" (text encoders {value:g} and {value_2:g})", value=of_text, value_2=rates.text_encoder_2_lr)
    plan = step_plan(config, items, factor, processes)
    steps = (
        tr("{lr_warmup_steps:g} % of the", lr_warmup_steps=rates.lr_warmup_steps * 100)
        if rates.lr_warmup_steps < 1
        else rates.lr_warmup_steps
    )
    warm_up = tr(", {steps} steps of warm-up", steps=steps) if rates.lr_warmup_steps else ""
    size = tr(
        "{count} at {resolution} px{part}",
        count=len(items),
        resolution=data.resolution,
        part=tr(" in buckets") if data.enable_bucket else "",
    )
    batch = _batch(training.train_batch_size, training.gradient_accumulation_steps, processes)
    return [
        _labelled(tr("Base"), tr("{base}; encoder {encoder}", base=config.model.base, encoder=_encoder(config))),
        _labelled(_METHODS[network.algo], tr("{size} on {names}", size=_size(network), names=", ".join(where))),
        _labelled(
            tr("Rates"),
            tr(
                "{optimizer_type}, learning rate {learning_rate:g}{text_rate}, {lr_scheduler}{warm_up}",
                optimizer_type=rates.optimizer_type,
                learning_rate=rates.learning_rate,
                text_rate=text_rate,
                lr_scheduler=rates.lr_scheduler,
                warm_up=warm_up,
            ),
        ),
        _labelled(
            tr("Images"),
            tr(
                "{size}; {batch}; precision {mixed_precision}; seed {seed}",
                size=size,
                batch=batch,
                mixed_precision=training.mixed_precision,
                seed=training.seed,
            ),
        ),
        _labelled(tr("Steps"), _epochs(config, plan)),
        *_word(config),
        *readers_of([_METHODS[network.algo], *(["DoRA"] if network.use_dora else [])]),
        *idle_settings(config, plan.steps_per_epoch),
    ]


def _word(config: LoraExperiment) -> list[str]:
    word, rates = config.embedding, config.optimizer
    if word.token is None:
        return []
    begins = (
        tr("begun as {init_text!r}", init_text=word.init_text) if word.init_text else tr("as network.network_weights has it")
    )
    tokens = tr("{vectors} tokens", vectors=word.vectors) if word.vectors > 1 else tr("one token")
    return [
        _labelled(
            tr("Word"),
            tr(
                "{token!r} of {tokens}, {begins}, learning rate {value:g}; it is in the LoRA's metadata and, for "
                "other programs, in {token}.safetensors",
                token=word.token,
                tokens=tokens,
                begins=begins,
                value=rates.embedding_lr or rates.learning_rate,
            ),
        )
    ]


def network_words(network: Network) -> str:
    """The kind of network, how large it is, and what is special of it."""
    return f"{_METHODS[network.algo]}: {_size(network)}"


def _size(network: Network) -> str:
    if network.algo == "ia3":
        return tr("scales")
    if network.algo == "oft":
        return tr("blocks of at most {rank} outputs", rank=network.rank)
    start = {"pissa": tr(", started as PiSSA"), "olora": tr(", started as OLoRA")}.get(network.init, "")
    dora = "DoRA, " if network.use_dora else ""
    if network.block_ranks is not None:
        return tr("{dora}ranks {names} by block{start}", dora=dora, names=", ".join(map(str, network.block_ranks)), start=start)
    alpha = float(network.alpha or network.rank)
    scale = alpha / network.rank**0.5 if network.use_rslora else alpha / network.rank
    return tr(
        "{dora}rank {rank}, alpha {alpha:g} (scale {scale:g}){start}",
        dora=dora,
        rank=network.rank,
        alpha=alpha,
        scale=scale,
        start=start,
    )


def _labelled(label: str, words: str) -> str:
    return f"{label}{' ' * max(10 - cell_len(label), 1)}{words}"


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
        _labelled("VAE", tr("{vae}; encoder {encoder}", vae=config.model.vae, encoder=_encoder(config))),
        _labelled(
            "StarGAN",
            tr(
                "base_dim {base_dim}, {n_res_blocks} residual blocks; domains {names}",
                base_dim=network.base_dim,
                n_res_blocks=network.n_res_blocks,
                names=names,
            ),
        ),
        _labelled("D", _discriminator(config)),
        _labelled(
            tr("Rates"),
            f"{rates.lr_g or given:g} (G, E), {rates.lr_d or given:g} (D), {rates.lr_mapping:g} (F), {rates.lr_scheduler}",
        ),
        _labelled(
            tr("Latents"),
            tr(
                "{count} of {shape}, drawn by {contents_by}; {batch}; precision {mixed_precision}; seed {seed}",
                count=count,
                shape=shape,
                contents_by=config.data.contents_by,
                batch=batch,
                mixed_precision=training.mixed_precision,
                seed=training.seed,
            ),
        ),
        _labelled(
            tr("Steps"),
            tr(
                "{epochs} = {epochs_2} epochs of {per_epoch} steps",
                epochs=training.epochs * per_epoch,
                epochs_2=training.epochs,
                per_epoch=per_epoch,
            ),
        ),
        *idle_settings(config, per_epoch),
    ]


def _discriminator(config: StarganExperiment) -> str:
    network, loss = config.network, config.loss
    side = patch_side(network.d_layers)
    judges = tr("patches of {side} x {side} latents", side=side) if network.discriminator == "patch" else tr("whole latents")
    normed = tr(", spectral norm") if network.spectral_norm else ""
    penalty = (
        tr(
            "R1 every {r1_interval} steps of the {r1_counted_by}",
            r1_interval=loss.r1_interval,
            r1_counted_by=loss.r1_counted_by,
        )
        if loss.w_r1
        else tr("no R1")
    )
    return tr("judges {judges}{normed}; {penalty}", judges=judges, normed=normed, penalty=penalty)


def _encoder(config: LoraExperiment | StarganExperiment) -> str:
    evaluation = config.evaluation
    checks = isinstance(config, LoraExperiment) and config.training.performance_check_interval is not None
    if not (evaluation.enabled or checks):
        return tr("none (not evaluated)")
    return tr("none (without fashion_clip)") if "fashion_clip" in evaluation.without else evaluation.encoder


def _batch(size: int, accumulation: int, processes: int) -> str:
    parts = [str(size)]
    if accumulation > 1:
        parts.append(tr("{accumulation} accumulated", accumulation=accumulation))
    if processes > 1:
        parts.append(tr("{processes} processes", processes=processes))
    total = size * accumulation * processes
    return tr("batch {names}", names=" x ".join(parts)) + (f" = {total}" if len(parts) > 1 else "")


def _epochs(config: LoraExperiment, plan: StepPlan) -> str:
    steps, held = config.training.max_train_steps, config.data.validation_split
    per_epoch = max(plan.steps_per_epoch * (1 - held), 1)
    about = tr("about ") if held else ""
    return tr(
        "{steps} = {about}{steps_2:.3g} epochs of {about}{per_epoch:.0f} steps",
        steps=steps,
        about=about,
        steps_2=steps / per_epoch,
        per_epoch=per_epoch,
    )
