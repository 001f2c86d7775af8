"""What a search sees and what confirms it, looked at before anything is trained: halves that share no garment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment, StarganExperiment, SweepSpec
from fashion_ml.data.images import CaptionedImage, scan_references
from fashion_ml.data.latent_domains import held_out
from fashion_ml.data.latents import read_latents
from fashion_ml.data.reference_parts import choose_part, one_garment, part_of_held
from fashion_ml.data.split import alike
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.embedded.collection import REFERENCES, TRAINING_IMAGES
from fashion_ml.embedded.domains import DOMAINS, PICTURES
from fashion_ml.errors import InputError
from fashion_ml.evaluation.leakage import find_leakage
from fashion_ml.evaluation.toy import EMBEDDED
from fashion_ml.metrics.bootstrap import FEWEST
from fashion_ml.runs.inputs import all_references
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.language import tr

_NAMED = 3


def held_of(spec: SweepSpec, base: Any) -> int:
    """How many references, of a StarGAN contents, confirm the best settings; 0 where none can, or nothing is confirmed."""
    if not spec.confirm.best or not base.evaluation.enabled:
        return 0
    if isinstance(base, StarganExperiment):
        counts = _of_contents(base)
        return sum(min(count, base.evaluation.contents_per_domain) for count in counts) if all(counts) else 0
    return len(_others(spec.confirm.references, base)) if spec.confirm.references else _of_references(base)[1]


def check_halves(spec: SweepSpec, base: Any) -> None:
    """Say by how many references, of a StarGAN contents, the best settings will be confirmed; a warning where a verdict takes more.

    InputError where none can be held back, and where those of confirm.references are near-duplicates of what the search sees.
    """
    if not spec.confirm.best or not base.evaluation.enabled:
        return
    count, of_gan = held_of(spec, base), isinstance(base, StarganExperiment)
    if of_gan:
        field, what = "data.validation_split", "contents"
        fix = tr("use more, such as 0.1, or set confirm.best to 0")
    elif spec.confirm.references:
        field, what = "confirm.references", "references"
        fix = tr("put more into the folder (and raise evaluation.max_references), or set confirm.best to 0")
        _refuse_known(_others(spec.confirm.references, base), base)
    else:
        field, what = "confirm.references", "references"
        fix = tr(
            "give more evaluation.references (and max_references), a folder of others as confirm.references, or "
            "set confirm.best to 0"
        )
    some = what[:-1] if count == 1 else what
    held = (
        tr("{some} of {references}", some=some, references=spec.confirm.references)
        if spec.confirm.references
        else tr("{some} held back from the search", some=some)
    )
    if not count:
        why = "" if of_gan else tr(" (there are {of_references} different ones)", of_references=_of_references(base)[2])
        raise InputError(
            tr("{field}: no {what} can be held back to confirm by{why}; {fix}", field=field, what=what, why=why, fix=fix)
        )
    say(tr("By {count} {held} its best settings are confirmed", count=count, held=held))
    if count < FEWEST:
        warn(
            tr(
                "{field}: {count} {some} to confirm by, fewer than the {fewest} that a verdict takes; {fix}",
                field=field,
                count=count,
                some=some,
                fewest=FEWEST,
                fix=fix,
            )
        )
    if not of_gan:
        _warn_of_trained_on(spec, base)


def _warn_of_trained_on(spec: SweepSpec, base: LoraExperiment) -> None:
    """A warning where references that confirm are training images, or look like some: what learns these by heart is then called better."""
    own, settings = spec.confirm.references, base.evaluation
    by_heart = tr("so the confirmation cannot tell what is better from what is learnt by heart")
    if not own and not settings.references:
        warn(
            tr(
                "evaluation.references: none are given, and the training images that stand for them are trained on, "
                "{by_heart}; give other images (fashion-ml split takes some out), or a folder as confirm.references",
                by_heart=by_heart,
            )
        )
        return
    if EMBEDDED in (own or settings.references, base.data.train_data_dir):
        return  # of the embedded images none is both
    items = _others(own, base) if own else all_references(base)
    held = items if own else choose_part(items, one_garment(items), "held")
    alone = {"references": None, "max_references": sys.maxsize}
    try:
        training = all_references(base.model_copy(update={"evaluation": settings.model_copy(update=alone)}))
    except InputError:
        return  # they are not on this machine, or are told of where the trainings' inputs are checked
    leakage = find_leakage(held, training)
    if leakage.pairs:
        field = "confirm.references" if own else "evaluation.references"
        warn(
            tr(
                "{field}: of those that confirm {line}, {by_heart}; take them out of one of the folders",
                field=field,
                line=leakage.line(len(held)),
                by_heart=by_heart,
            )
        )


def _of_references(base: LoraExperiment) -> tuple[int, int, int]:
    """How many references there are, how many of them are held back, and of how many garments they are; the embedded ones are not drawn for
    it."""
    if _is_embedded(base):
        count = min(REFERENCES if base.evaluation.references else TRAINING_IMAGES, base.evaluation.max_references)
        return count, count // 2, count
    items = all_references(base)
    groups = one_garment(items)
    return len(items), len(choose_part(items, groups, "held")), len(groups)


def _is_embedded(base: LoraExperiment) -> bool:
    """Whether the references are those that come with the package."""
    return (base.evaluation.references or base.data.train_data_dir) == EMBEDDED


def _others(folder: str, base: LoraExperiment) -> list[CaptionedImage]:
    """References of a folder of their own."""
    most, extension = base.evaluation.max_references, base.data.caption_extension
    return scan_references(Path(folder).expanduser(), extension, most, field="confirm.references").items


def _refuse_known(others: list[CaptionedImage], base: LoraExperiment) -> None:
    """InputError where references look like one that the search sees."""
    seen = [] if _is_embedded(base) else all_references(base)
    both = []
    for group in alike([*others, *seen], TensorCache()):
        theirs = [index - len(others) for index in group if index >= len(others)]
        both += [f"{others[index].name} = {seen[theirs[0]].name}" for index in group if index < len(others) and theirs]
    if both:
        more = tr(" and {count} more", count=len(both) - _NAMED) if len(both) > _NAMED else ""
        raise InputError(
            tr(
                "confirm.references: {count} of {count_2} are near-duplicates of references that the search sees "
                "({names}{more}); take them out of one of the folders",
                count=len(both),
                count_2=len(others),
                names=", ".join(sorted(both)[:_NAMED]),
                more=more,
            )
        )


def _of_contents(base: StarganExperiment) -> list[int]:
    """Of each domain, how many latents are held back from the search."""
    given, share = base.data.latents_dir, base.data.validation_split
    if given == EMBEDDED:
        return [max(round(share * PICTURES), 1 if share else 0) // 2] * len(DOMAINS)
    latents = read_latents(Path(given).expanduser())
    return [len(half) for half in part_of_held(latents, [held_out(one, share)[1] for one in latents.domains], "held")]
