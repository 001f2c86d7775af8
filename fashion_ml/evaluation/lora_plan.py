"""Everything that an evaluation of a LoRA needs, looked at before its run exists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.fingerprint import evaluation_facts, fingerprint
from fashion_ml.evaluation.free_prompts import BASE, MAIN, FreePlan, plan_free
from fashion_ml.evaluation.generate import Job, generation_key, jobs_of
from fashion_ml.evaluation.leakage import Leakage, find_leakage, refuse_leakage
from fashion_ml.evaluation.lora_pipeline import base_identity
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.toy import EMBEDDED, own_of_lora, toy_facts
from fashion_ml.evaluation.trigger import Wording, wording_of
from fashion_ml.metrics.registry import PROMPT_SIMILARITY
from fashion_ml.models.applied_lora import AppliedLora, apply_lora
from fashion_ml.models.families.known import family_of
from fashion_ml.models.half_precision import decode_one_by_one, lower_pipeline
from fashion_ml.models.kohya_format import model_hash, read_metadata
from fashion_ml.models.new_words import WORDS, put_words, words_in
from fashion_ml.models.samplers import scheduler_of
from fashion_ml.models.shared_base import shared_base
from fashion_ml.models.stable_diffusion import load_pipeline, vae_factor
from fashion_ml.models.text_encoding import TextSettings
from fashion_ml.models.vae import keep_decoder, load_other_vae
from fashion_ml.runtime.console import say
from fashion_ml.runtime.gpu_memory import fits_into_memory
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.weights_hash import weights_sha256
from fashion_ml.training.precision import DTYPES, settled


@dataclass(frozen=True)
class Plan:
    """Everything an evaluation needs, looked at before its run exists."""

    config: LoraExperiment
    lora: Path
    references: Sequence[CaptionedImage]
    training: Sequence[CaptionedImage]
    """Empty where they are not there."""
    leakage: Leakage
    suite: MetricSuite
    pipeline: Any
    applied: AppliedLora
    """The LoRA on the pipeline."""
    jobs: list[Job]
    sizes: list[tuple[int, int]]
    wording: Wording
    free: FreePlan | None
    """None where no free prompts are asked for."""
    facts: dict[str, Any]
    shared: bool = False
    """Whether the pipeline's weights are those of a training that goes on."""
    device: str = "cpu"
    """The kind of device that makes the images."""

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def base_jobs(self) -> list[Job]:
        """What the base is given, the same seeds."""
        return [replace(job, prompt=self.wording.of_base(job.prompt)) for job in self.jobs]

    @property
    def key(self) -> str:
        """What decides the LoRA's images: the file's tensors and its alphas, wherever these stand; its dates and ids do not."""
        return self.key_of(self.jobs, MAIN)

    @property
    def base_key(self) -> str:
        """What decides the base's images."""
        return self.key_of(self.base_jobs, BASE)

    @property
    def text(self) -> TextSettings:
        """How prompts are read."""
        return family_of(self.pipeline).reading(self.config.text_encoding())

    def key_of(self, jobs: Sequence[Job], who: str) -> str:
        """What decides images that the LoRA or the base makes."""
        model = self._base if who == BASE else f"{self._base} + {self._lora}"
        return generation_key(jobs, self.config.evaluation, model, self.text, self.device)

    @property
    def _lora(self) -> str:
        beside = self.applied.alphas_beside
        words = read_metadata(self.lora).get(WORDS)
        told = {**({"alphas": beside} if beside else {}), **({"words": words} if words else {})}
        return model_hash(self.lora.read_bytes()) + "".join(
            f" {name} {json.dumps(value, sort_keys=True)}" for name, value in told.items()
        )

    @property
    def _base(self) -> str:
        other, vae = self.config.model, self.facts["vae_sha256"]
        to_noise = "" if other.zero_terminal_snr is None else f" zero terminal snr {other.zero_terminal_snr}"
        return f"{base_identity(other.base)} {other.prediction_type}{to_noise}{f' vae {vae}' if vae else ''}"


def put_on(pipeline: Any, lora: Path, device: torch.device | str, precision: str) -> AppliedLora:
    """Put a LoRA file, and the words that were trained along, on a pipeline that has none, and all of it on the device in a precision.
    InputError when it does not fit the base."""
    applied = apply_lora(pipeline, lora)  # first, for it says best what is no LoRA's file
    put_words(pipeline, words_in(read_metadata(lora), f"lora: {str(lora)!r}"))
    keep_decoder(pipeline.vae)
    with fits_into_memory(
        tr("loading the base for images"), "evaluation.precision", precision, tr("use bf16, or a GPU that is free")
    ):
        lower_pipeline(pipeline, device, DTYPES[precision])
    decode_one_by_one(pipeline.vae)
    return applied


_UNGUIDED = marked(
    "evaluation.negative_prompt: does nothing with evaluation.guidance_scale 1, which guides nowhere; use more, such as 7.5"
)


def plan_evaluation(
    config: LoraExperiment,
    lora: Path,
    references: Sequence[CaptionedImage],
    training: Sequence[CaptionedImage],
    suite: MetricSuite,
    device: str,
    trained: Any = None,
) -> Plan:
    """Load the base and the LoRA file, and settle sizes, seeds and fingerprint. InputError when the LoRA does not fit the base.

    `trained` is the pipeline of a training on the same base, which goes on: its weights are used where the images are the same bit for bit.
    """
    settings = config.evaluation
    if settings.negative_prompt and settings.guidance_scale == 1:
        say(translated(_UNGUIDED))
    settings = settings.model_copy(update={"precision": settled(settings.precision, device)})
    config = config.model_copy(update={"evaluation": settings})
    shared = trained is not None and _may_share(config, trained.unet.dtype)
    pipeline = shared_base(trained) if shared else load_pipeline(config.model.base, **config.model.schedule())
    family = family_of(pipeline)
    family.check_clip_skip(config.model.clip_skip, pipeline)
    vae_sha256 = None
    if settings.vae:
        pipeline.vae = load_other_vae(settings.vae, pipeline.vae)
        vae_sha256 = weights_sha256(pipeline.vae)
    sizes = image_sizes([reference.size for reference in references], **config.data.bucketing(vae_factor(pipeline)))
    applied = put_on(pipeline, lora, device, settings.precision)
    text = family.reading(config.text_encoding())
    sampled = scheduler_of(pipeline.scheduler, settings.sampler)
    facts = evaluation_facts(settings, references, suite, sizes, type(sampled).__name__, sampled.config, text, vae_sha256)
    facts |= toy_facts(settings, own_of_lora(config))
    read, captions = suite.measures(PROMPT_SIMILARITY), [reference.caption for reference in references]
    wording = wording_of(settings, captions, lora, weighted=text.weighted_captions, read=read)
    facts |= wording.facts(captions, read=read)
    free = plan_free(settings, wording, sizes, suite, embedded=config.model.base == EMBEDDED)
    facts["free_prompts"] = free.facts() if free else None
    leakage = find_leakage(references, training, suite.cache, all_by_setting=settings.references is None)
    if settings.strict:
        refuse_leakage(leakage, len(references))
    jobs = jobs_of(references, settings, sizes)
    return Plan(
        config,
        lora,
        references,
        training,
        leakage,
        suite,
        pipeline,
        applied,
        jobs,
        sizes,
        wording,
        free,
        facts,
        shared,
        torch.device(device).type,
    )


def _may_share(config: LoraExperiment, trained_in: torch.dtype) -> bool:
    """Whether a training's base makes the images that one from its file makes, to the last bit.

    Not where it is in another half precision; where something is added to its weights, which is done before they are rounded; where its
    convolutions lie in another order; or where its text encoder knows a word more.
    """
    same = trained_in in (torch.float32, DTYPES[config.evaluation.precision]) and config.embedding.token is None
    return same and config.network.algo == "lora" and not config.training.channels_last
