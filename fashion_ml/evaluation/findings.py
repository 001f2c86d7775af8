"""From the results of evaluations to what their three lines tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fashion_ml.evaluation.aggregate import Comparison
from fashion_ml.evaluation.free_prompts import FreePrompts
from fashion_ml.evaluation.leakage import Leakage
from fashion_ml.evaluation.obedience import CHANCE, REFERENCES_VARY
from fashion_ml.evaluation.one_domain import Winner
from fashion_ml.evaluation.ruler import Ruler
from fashion_ml.evaluation.three_lines import Beside, Findings, Gain, Gan
from fashion_ml.evaluation.toy import TOY
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.control_rows import OTHERS, SPECIFIC
from fashion_ml.metrics.registry import (
    ATTRIBUTE,
    ATTRIBUTE_SIMILARITY,
    DIVERSITY_SEEDS,
    LOSSES,
    MEMORISED,
    PROMPT_RETRIEVAL,
    PROMPT_SIMILARITY,
)

_OBEDIENCE = (PROMPT_SIMILARITY, PROMPT_RETRIEVAL)


def of_lora(
    scores: Mapping[str, Comparison],
    held: Mapping[str, Interval],
    facts: Mapping[str, Any],
    *,
    ruler: Ruler | None = None,
    leakage: Leakage | None = None,
    references: int = 0,
    free: FreePrompts | None = None,
) -> Findings:
    """Of a LoRA against its base; `held` is what obedience is held against, `facts` the evaluation's."""
    judged = next(name for name in (PRIMARY, *PARTS) if name in scores)
    gains = {name: _gain(scores, name) for name in (PRIMARY, *PARTS) if name in scores}
    told = {name: one for name in _OBEDIENCE if (one := _beside(scores, held, name)) is not None}
    return Findings(
        n=gains[judged].own.n or 0,
        gains=gains,
        obedience=told,
        garments={
            name: one for name in scores if name.startswith(ATTRIBUTE) and (one := _beside(scores, held, name)) is not None
        },
        likeness=_beside(scores, held, ATTRIBUTE_SIMILARITY),
        variety=_beside(scores, held, DIVERSITY_SEEDS),
        leak=free.leak if free else None,
        editability=_editability(free),
        encoder=ruler.encoder if ruler else None,
        toy=TOY in facts,
        unread=_unread(ruler),
        leakage=leakage,
        references=references,
        memorised=scores[MEMORISED].lora.mean if MEMORISED in scores else None,
    )


def of_images(
    scores: Mapping[str, Interval],
    held: Mapping[str, Interval],
    facts: Mapping[str, Any],
    *,
    pairs: int,
    ruler: Ruler | None = None,
    leakage: Leakage | None = None,
    references: int = 0,
) -> Findings:
    """Of images made elsewhere, against which there is no base."""
    name = PRIMARY if PRIMARY in scores else LOSSES[0]
    measured = [one for one in (*_OBEDIENCE, DIVERSITY_SEEDS) if one in scores]
    against = {one: Beside(scores[one].mean, None, None, *_held(held, one)) for one in measured}
    return Findings(
        n=scores[name].n or 0,
        alone=(name, scores[name]),
        pairs=pairs,
        obedience={one: against[one] for one in _OBEDIENCE if one in against},
        variety=against.get(DIVERSITY_SEEDS),
        encoder=ruler.encoder if ruler else None,
        toy=TOY in facts,
        unread=_unread(ruler, *measured),
        leakage=leakage,
        references=references,
        memorised=scores[MEMORISED].mean if MEMORISED in scores else None,
    )


def of_stargan(
    scores: Mapping[str, Interval],
    by_target: Mapping[str, float],
    contents: int,
    domains: int,
    facts: Mapping[str, Any],
    ruler: Ruler,
    won: Sequence[Winner] = (),
) -> Findings:
    """Of held-out contents in the style of every domain; `won` are the domains as which nearly all are recognised."""
    accuracy = [scores[name].mean if name in scores else None for name in ("domain_accuracy", "latent_domain_accuracy")]
    bounds = [by_target.get(f"domain_accuracy_{end}") for end in ("unchanged", "real")]
    gan = Gan(domains, scores["diversity"].mean, *accuracy, *bounds, won=won)
    unread = _unread(ruler, *(name for name in (PRIMARY, "domain_accuracy") if name in scores))
    return Findings(n=contents, alone=("ssim", scores["ssim"]), gan=gan, encoder=ruler.encoder, unread=unread, toy=TOY in facts)


def _unread(ruler: Ruler | None, *beside: str) -> list[str]:
    """The metrics of which nothing follows where the encoder cannot read the pictures: losses, and others by the same encoder."""
    losses = list(ruler.no_verdict()) if ruler else []
    return [*losses, *(name for name in beside if name not in losses)] if losses else []


def _gain(scores: Mapping[str, Comparison], name: str) -> Gain:
    one = scores[name]
    assert one.gain is not None
    others, specific = (scores[key].gain if key in scores else None for key in (f"{OTHERS}{name}", f"{SPECIFIC}{name}"))
    return Gain(one.gain, one.verdict, others, specific, one.power)


def _editability(free: FreePrompts | None) -> Beside | None:
    if free is None or free.editability is None:
        return None
    one = free.editability
    return Beside(one.lora.mean, one.base.mean, one.gain, None, free.chance)


def _beside(scores: Mapping[str, Comparison], held: Mapping[str, Interval], name: str) -> Beside | None:
    if name not in scores:
        return None
    return Beside(scores[name].lora.mean, scores[name].base.mean, scores[name].gain, *_held(held, name))


def _held(held: Mapping[str, Interval], name: str) -> tuple[float | None, float | None]:
    """Of the references, and by chance."""
    references = held.get(REFERENCES_VARY if name == DIVERSITY_SEEDS else f"reference_{name}")
    chance = held.get(CHANCE) if name == PROMPT_RETRIEVAL else None
    return references.mean if references else None, chance.mean if chance else None
