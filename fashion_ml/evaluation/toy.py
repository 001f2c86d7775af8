"""What the embedded encoder may measure: it knows drawings of 64 pixels and nothing else, so elsewhere it is refused, or said."""

from __future__ import annotations

from collections.abc import Mapping

from fashion_ml.config import Evaluation, LoraExperiment, StarganExperiment
from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.embedded.collection import is_collection
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import marked, tr, translated

EMBEDDED = "embedded"
KNOWS = marked("a toy that knows drawings of 64 pixels")
"""What the embedded encoder is, in messages."""
_GIVE = marked(
    "give --encoder patrickjohncyh/fashion-clip (fetched once) or the folder of one, or --without fashion_clip; "
    "with --encoder embedded it is taken all the same"
)
TOY = "toy_encoder"
"""Noted fact of an evaluation whose encoder is out of its depth: why, in words."""


def own_of_lora(config: LoraExperiment) -> dict[str, str]:
    """What of base, training images and references is not embedded: setting -> value."""
    given = {"model.base": config.model.base, **_images_of(config)}
    if config.evaluation.references is not None:
        given["evaluation.references"] = config.evaluation.references
    return {
        name: value
        for name, value in given.items()
        if not (value == EMBEDDED or (name != "model.base" and is_collection(value)))
    }


def _images_of(config: LoraExperiment) -> dict[str, str]:
    """What is learnt from, by its setting; of subsets alone the first folder."""
    data = config.data
    if data.train_data_dir is not None:
        return {"data.train_data_dir": data.train_data_dir}
    return {"data.subsets": next(subset.image_dir for subset in data.subsets if not subset.is_reg)}


def own_of_stargan(config: StarganExperiment) -> dict[str, str]:
    """What of VAE and latents is not embedded: setting -> value."""
    given = {"model.vae": config.model.vae, "data.latents_dir": config.data.latents_dir}
    return {name: value for name, value in given.items() if value != EMBEDDED}


def own_references(references: str) -> dict[str, str]:
    """The references of an evaluation of images, unless they are those of the embedded collection."""
    return {} if is_collection(references) else {"the references": references}


def check_encoder(settings: Evaluation | GanEvaluation, own: Mapping[str, str], *, refuse: bool, quiet: bool = False) -> None:
    """Where an evaluation has an `own` thing that is not embedded and the encoder is: a warning, unless `quiet`.

    With `refuse` an InputError that says what to give, unless the settings name the encoder themselves.
    """
    if not is_toy(settings, own):
        return
    where = tr("evaluation.encoder: embedded is {knows}, and {listed}", knows=translated(KNOWS), listed=_listed(own))
    if refuse and "encoder" not in settings.model_fields_set:
        raise InputError(f"{where}; {translated(_GIVE)}")
    if not quiet:
        warn(
            tr(
                "{where}: its scores (fashion_clip_loss, weighted_total_loss, attributes, kid, nearness) say nothing of photos",
                where=where,
            )
        )


def check_base(config: LoraExperiment) -> None:
    """A warning where own images train the embedded base, and one where references of the embedded collection measure what they train."""
    ((name, data),), evaluation = _images_of(config).items(), config.evaluation
    if is_collection(data):
        return
    if config.model.base == EMBEDDED:
        warn(
            tr(
                "model.base: embedded is a toy that draws garments of 64 pixels, and {name} is {data!r}; for a LoRA "
                "that is of use set model.base to your checkpoint (--pretrained_model_name_or_path)",
                name=name,
                data=data,
            )
        )
    if evaluation.enabled and evaluation.references is not None and is_collection(evaluation.references):
        warn(
            tr(
                "evaluation.references: {references!r} are drawings of the embedded collection, and {name} is "
                "{data!r}; give references of your own (--references FOLDER, or null for the training images)",
                references=evaluation.references,
                name=name,
                data=data,
            )
        )


def is_toy(settings: Evaluation | GanEvaluation, own: Mapping[str, str]) -> bool:
    """Whether the embedded encoder measures what it does not know."""
    return bool(own) and settings.encoder == EMBEDDED and "fashion_clip" not in settings.without


def toy_facts(settings: Evaluation | GanEvaluation, own: Mapping[str, str]) -> dict[str, str]:
    """The noted fact of an evaluation, so that whoever compares it is told; empty where the encoder knows what it sees."""
    listed = " and ".join(f"{name} is {value!r}" if "." in name else f"{name} are {value!r}" for name, value in own.items())
    return (
        {TOY: f"the embedded encoder is {KNOWS}; {listed}"} if is_toy(settings, own) else {}
    )  # a fact is the same in every language


def known_to_read(settings: Evaluation | GanEvaluation, facts: Mapping[str, object]) -> bool | None:
    """What is known beforehand of whether the encoder reads the pictures: the embedded one reads its own drawings and nothing else; None of any
    other encoder."""
    return TOY not in facts if settings.encoder == EMBEDDED else None


def _listed(own: Mapping[str, str]) -> str:
    return tr(" and ").join(
        tr("{name} is {value!r}", name=name, value=value) if "." in name else tr("the references are {value!r}", value=value)
        for name, value in own.items()
    )
