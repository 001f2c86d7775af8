"""Settings that were given and do nothing beside the others, or not what they are for: a line each, with what would make them count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fashion_ml.config.base import Section
from fashion_ml.config.lora import Data, LoraExperiment
from fashion_ml.config.lora_loss import Loss
from fashion_ml.config.stargan import StarganExperiment
from fashion_ml.config.subsets import Subset
from fashion_ml.runtime.language import tr


def idle_settings(config: LoraExperiment | StarganExperiment, steps_per_epoch: int) -> list[str]:
    """Those of an experiment whose epoch has so many steps; a setting that has its default was not given."""
    if isinstance(config, LoraExperiment):
        return [
            *_of_images(config),
            *_of_the_network(config),
            *_of_training(config),
            *_of_the_length(config, steps_per_epoch),
            *_of_measuring(config),
        ]
    return [*_of_stargan(config, steps_per_epoch)]


def _given(section: Section, *keys: str) -> list[tuple[str, Any]]:
    """Those of a section's settings that are not their defaults, with their values."""
    found = [(key, getattr(section, key)) for key in keys]
    return [(key, value) for key, value in found if value != type(section).model_fields[key].get_default()]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _idle(name: str, section: Section, *keys: str, without: str, what: str) -> Iterator[str]:
    """A line for each of the settings that was given; `without` is what is missing, `what` makes them count."""
    for key, value in _given(section, *keys):
        yield tr(
            "{name}.{key}: {shown} does nothing {without}; {what}",
            name=name,
            key=key,
            shown=_shown(value),
            without=without,
            what=what,
        )


def _of_images(config: LoraExperiment) -> Iterator[str]:
    data = config.data
    yield from _of_captions(data)
    if data.masks is not None and config.loss.unmasked_weight == 1:
        yield (
            tr(
                "data.masks: {masks} changes nothing in training with loss.unmasked_weight 1, which is as without "
                "masks; use less than 1, such as 0.3",
                masks=data.masks,
            )
        )
    if data.enable_wildcard:
        yield from _idle(
            "data", data, "caption_lines", without=tr("where one line is drawn"), what=tr("leave data.enable_wildcard out")
        )
    sides = ("bucket_no_upscale", "bucket_reso_steps", "min_bucket_reso", "max_bucket_reso")
    if not data.enable_bucket:
        yield from _idle("data", data, *sides, without=tr("without buckets"), what=tr("add data.enable_bucket true"))
    elif (data.min_bucket_reso or 0) > data.resolution or (data.max_bucket_reso or data.resolution) < data.resolution:
        low, high = data.min_bucket_reso or tr("half of it"), data.max_bucket_reso or tr("twice of it")
        yield (
            tr(
                "data.enable_bucket: no bucket but the square is left, for data.resolution {resolution} is not "
                "between min_bucket_reso ({low}) and max_bucket_reso ({high})",
                resolution=data.resolution,
                low=low,
                high=high,
            )
        )
    if not data.validation_split:
        what = tr("add data.validation_split 0.1")
        yield from _idle("data", data, "validation_seed", without=tr("where no image is held out"), what=what)
        yield from _idle(
            "training", config.training, "validate_every_n_steps", without=tr("where no image is held out"), what=what
        )
    if data.reg_data_dir is None and not any(subset.is_reg for subset in data.subsets):
        what = tr("add data.reg_data_dir FOLDER")
        yield from _idle("loss", config.loss, "prior_loss_weight", without=tr("without prior images"), what=what)


def _of_captions(data: Data) -> Iterator[str]:
    """What is about the parts of captions, where these are neither mixed nor dropped: in no folder, or in one with settings of its own."""
    what = tr("add {}.shuffle_caption true")

    def not_mixed(name: str, section: Data | Subset) -> Iterator[str]:
        yield from _idle(
            name,
            section,
            "keep_tokens",
            "caption_separator",
            without=tr("where captions are not mixed"),
            what=what.format(name),
        )
        for key, value in _given(section, "keep_tokens_separator", "secondary_separator"):
            yield tr(
                "{name}.{key}: {value} is no more than taken out where captions are not mixed; {format}",
                name=name,
                key=key,
                value=value,
                format=what.format(name),
            )

    def is_mixed(subset: Subset) -> bool:
        shuffled = data.shuffle_caption if subset.shuffle_caption is None else subset.shuffle_caption
        dropped = data.caption_tag_dropout_rate if subset.caption_tag_dropout_rate is None else subset.caption_tag_dropout_rate
        return shuffled or dropped > 0

    if not data.shuffle_caption and not data.caption_tag_dropout_rate and not any(map(is_mixed, data.subsets)):
        yield from not_mixed("data", data)
    for index, subset in enumerate(data.subsets):
        if not is_mixed(subset):
            yield from not_mixed(f"data.subsets.{index}", subset)


def _of_the_network(config: LoraExperiment) -> Iterator[str]:
    network = config.network
    if network.algo != "lokr":
        yield from _idle(
            "network",
            network,
            "lokr_factor",
            without=tr("with algo {algo}", algo=network.algo),
            what=tr("use network.algo lokr"),
        )
    if network.init != "default" and config.optimizer.weight_decay > 0:
        yield (
            tr(
                "network.init: {init} with optimizer.weight_decay {weight_decay:g} draws what is the base's own to "
                "0; use optimizer.weight_decay 0",
                init=network.init,
                weight_decay=config.optimizer.weight_decay,
            )
        )
    if network.algo == "ia3" and "weight_decay" in config.optimizer.model_fields_set and config.optimizer.weight_decay > 0:
        yield tr("optimizer.weight_decay: does nothing with algo ia3, whose factors it would draw to 0 and not to 1")
    if network.algo != "lora" and config.optimizer.loraplus_lr_ratio is not None:
        yield tr(
            "optimizer.loraplus_lr_ratio: does nothing with algo {algo}, which has no lora_up; leave it out", algo=network.algo
        )
    without = {
        "oft": ("alpha", "conv_alpha", "block_alphas", "conv_block_alphas"),
        "ia3": ("rank", "alpha", "conv_rank", "conv_alpha"),
    }
    for key in without.get(network.algo, ()):
        if key in network.model_fields_set:
            yield tr(
                "network.{key}: {shown} does nothing with algo {algo}, which has none; leave it out",
                key=key,
                shown=_shown(getattr(network, key)),
                algo=network.algo,
            )


_OF_SCHEDULES = {
    ("lr_scheduler_min_lr_ratio",): ("cosine", "linear", "rex", "warmup_stable_decay"),
    ("lr_decay_steps",): ("warmup_stable_decay",),
}


def _of_training(config: LoraExperiment) -> Iterator[str]:
    rates, training, loss = config.optimizer, config.training, config.loss
    if rates.lr_scheduler != "polynomial":
        what = tr("use optimizer.lr_scheduler polynomial")
        yield from _idle(
            "optimizer",
            rates,
            "lr_scheduler_power",
            without=tr("with lr_scheduler {lr_scheduler}", lr_scheduler=rates.lr_scheduler),
            what=what,
        )
    for keys, shapes in _OF_SCHEDULES.items():
        if rates.lr_scheduler not in shapes:
            what = tr("use optimizer.lr_scheduler {shapes}", shapes=shapes[0])
            yield from _idle(
                "optimizer",
                rates,
                *keys,
                without=tr("with lr_scheduler {lr_scheduler}", lr_scheduler=rates.lr_scheduler),
                what=what,
            )
    if rates.optimizer_type == "adamwschedulefree" and rates.lr_scheduler != "constant":
        yield (
            tr(
                "optimizer.lr_scheduler: {lr_scheduler} is laid over a schedule-free optimiser, which is meant to go "
                "without; use constant",
                lr_scheduler=rates.lr_scheduler,
            )
        )
    if rates.lr_scheduler != "cosine_with_restarts":
        what = tr("use optimizer.lr_scheduler cosine_with_restarts")
        yield from _idle(
            "optimizer",
            rates,
            "lr_scheduler_num_cycles",
            without=tr("with lr_scheduler {lr_scheduler}", lr_scheduler=rates.lr_scheduler),
            what=what,
        )
    yield from _of_the_loss(loss)
    if training.save_every_n_steps is None and training.save_every_n_epochs is None:
        what = tr("add training.save_every_n_steps")
        yield from _idle("training", training, "save_last_n", without=tr("where no file is kept on the way"), what=what)
    if not training.save_state:
        what = tr("use training.save_state true")
        yield from _idle("training", training, "save_state_minutes", without=tr("where no state is saved"), what=what)
    if training.sample_every is None and training.sample_prompts:
        yield tr("training.sample_prompts: no sample images are made; add training.sample_every, such as 100")
    elif training.sample_every is not None and not training.sample_prompts:
        of = "references" if config.evaluation.references and config.evaluation.enabled else tr("training images")
        yield tr(
            "training.sample_every: sample images show the first four captions of the {of}; "
            "training.sample_prompts gives others",
            of=of,
        )


def _of_the_loss(loss: Loss) -> Iterator[str]:
    if loss.loss_type not in ("huber", "smooth_l1"):
        what = tr("use loss.loss_type huber")
        yield from _idle(
            "loss",
            loss,
            "huber_c",
            "huber_schedule",
            without=tr("with loss_type {loss_type}", loss_type=loss.loss_type),
            what=what,
        )
    drawn = loss.timestep_distribution
    for name, keys in (("logit_normal", ("logit_mean", "logit_std")), ("mode", ("mode_scale",))):
        if drawn != name:
            what = tr("use loss.timestep_distribution {name}", name=name)
            yield from _idle("loss", loss, *keys, without=tr("with timestep_distribution {drawn}", drawn=drawn), what=what)
    if loss.output_preservation_prompt is None:
        what = tr("add loss.output_preservation_prompt 'a dress'")
        yield from _idle(
            "loss", loss, "output_preservation_weight", without=tr("without output_preservation_prompt"), what=what
        )
    if not loss.multires_noise_iterations:
        what = tr("add loss.multires_noise_iterations 6")
        yield from _idle("loss", loss, "multires_noise_discount", without=tr("without multires_noise_iterations"), what=what)


def _of_the_length(config: LoraExperiment, steps_per_epoch: int) -> Iterator[str]:
    training, steps = config.training, config.training.max_train_steps
    for key in ("save_every_n_steps", "sample_every", "validate_every_n_steps", "performance_check_interval"):
        every = getattr(training, key)
        if every is not None and every > steps and key == "sample_every":
            yield tr(
                "training.sample_every: {every} is beyond the training's {steps} steps, so only the base's images are drawn, before the "
                "first; use at most {steps}",
                every=every,
                steps=steps,
            )
        elif every is not None and every > steps:
            yield tr(
                "training.{key}: {every} is beyond the training's {steps} steps, so it never comes; use at most {steps}",
                key=key,
                every=every,
                steps=steps,
            )
    epochs = steps / steps_per_epoch
    for key, value in _given(training, "save_every_n_epochs"):
        if value is not None and value > epochs:
            yield (
                tr(
                    "training.{key}: {value} epochs are beyond the training's {epochs:.3g}, so it never comes; use "
                    "fewer, or training.save_every_n_steps",
                    key=key,
                    value=value,
                    epochs=epochs,
                )
            )
    yield from _warm_up(config, steps)


def _warm_up(config: LoraExperiment | StarganExperiment, steps: int) -> Iterator[str]:
    warm_up = config.optimizer.lr_warmup_steps
    if warm_up >= steps:
        yield (
            tr(
                "optimizer.lr_warmup_steps: {warm_up} is no less than the training's {steps} steps, so the learning "
                "rate never gets to its peak; use fewer",
                warm_up=warm_up,
                steps=steps,
            )
        )


def _of_measuring(config: LoraExperiment) -> Iterator[str]:
    settings = config.evaluation
    if not settings.enabled and config.training.performance_check_interval is None:
        keys = ("encoder", "without", "images_per_reference", "strengths", "attributes")
        yield from _idle(
            "evaluation", settings, *keys, without=tr("where nothing is measured"), what=tr("use evaluation.enabled true")
        )
        return
    if "fashion_clip" in settings.without:
        what = tr("leave evaluation.without out")
        keys = ("encoder", "attributes", "weights", "fashion_clip_score", "prompts")
        yield from _idle("evaluation", settings, *keys, without=tr("without fashion_clip"), what=what)
    elif "attributes" not in settings.extra_metrics and settings.fashion_clip_score != "attributes":
        what = tr("add attributes to evaluation.extra_metrics")
        yield from _idle("evaluation", settings, "attributes", without=tr("where no attributes are measured"), what=what)


def _of_stargan(config: StarganExperiment, steps_per_epoch: int) -> Iterator[str]:
    loss, training, rates, settings = config.loss, config.training, config.optimizer, config.evaluation
    if not loss.w_ds:
        yield from _idle("loss", loss, "ds_decay_epochs", without=tr("where w_ds is 0"), what=tr("give loss.w_ds"))
    if not loss.w_r1:
        yield from _idle("loss", loss, "r1_interval", "r1_counted_by", without=tr("where w_r1 is 0"), what=tr("give loss.w_r1"))
    elif loss.r1_counted_by == "epoch" and loss.r1_interval > steps_per_epoch:
        yield (
            tr(
                "loss.r1_interval: {r1_interval} is beyond the {steps_per_epoch} steps of an epoch, by which it is "
                "counted: there is never a gradient penalty; use at most {steps_per_epoch}, or loss.r1_counted_by run",
                r1_interval=loss.r1_interval,
                steps_per_epoch=steps_per_epoch,
            )
        )
    if not loss.w_sty:
        yield from _idle("loss", loss, "detach_style_target", without=tr("where w_sty is 0"), what=tr("give loss.w_sty"))
    if rates.lr_g is not None and rates.lr_d is not None:
        what = tr("leave optimizer.lr_g or optimizer.lr_d out")
        yield from _idle("optimizer", rates, "learning_rate", without=tr("where lr_g and lr_d are given"), what=what)
    if rates.lr_scheduler == "constant":
        what = tr("use optimizer.lr_scheduler cosine")
        yield from _idle("optimizer", rates, "min_lr_ratio", without=tr("with lr_scheduler constant"), what=what)
    if training.save_every_n_epochs is None:
        what = tr("add training.save_every_n_epochs")
        yield from _idle("training", training, "save_last_n", without=tr("where no networks are kept on the way"), what=what)
    elif training.save_every_n_epochs > training.epochs:
        every = training.save_every_n_epochs
        yield tr(
            "training.save_every_n_epochs: {every} is beyond the training's {epochs} epochs, so it never comes",
            every=every,
            epochs=training.epochs,
        )
    if not training.save_state:
        what = tr("use training.save_state true")
        yield from _idle("training", training, "save_state_minutes", without=tr("where no state is saved"), what=what)
    if not settings.enabled:
        keys: tuple[str, ...] = ("encoder", "without", "contents_per_domain", "styles", "domain_prompt", "by_pair", "inception")
        yield from _idle(
            "evaluation", settings, *keys, without=tr("where nothing is measured"), what=tr("use evaluation.enabled true")
        )
    elif "fashion_clip" in settings.without:
        what = tr("leave evaluation.without out")
        keys = ("encoder", "domain_prompt", "weights", "fashion_clip_score", "attributes")
        yield from _idle("evaluation", settings, *keys, without=tr("without fashion_clip"), what=what)
    elif settings.fashion_clip_score == "cosine":
        what = tr("add evaluation.fashion_clip_score attributes")
        yield from _idle("evaluation", settings, "attributes", without=tr("where no attributes are measured"), what=what)
    if settings.enabled and not settings.by_pair:
        what = tr("use evaluation.by_pair true")
        yield from _idle("evaluation", settings, "inception", without=tr("where pairs of domains are not measured"), what=what)
    yield from _warm_up(config, training.epochs * steps_per_epoch)
