"""What an evaluation found, in three lines: what got nearer and what farther, whether it obeys and varies, what cannot be said.

The same three lines head the report, end the terminal's output and describe the MLflow run. What has no number is left out, or said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fashion_ml.evaluation.encoder_check import FOUND, EncoderCheck
from fashion_ml.evaluation.leakage import Leakage
from fashion_ml.evaluation.one_domain import Winner
from fashion_ml.evaluation.power_sentence import power_sentence
from fashion_ml.evaluation.sentence_forms import FORMS
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY, Verdict
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.power import Power
from fashion_ml.metrics.registry import ATTRIBUTE_SIMILARITY
from fashion_ml.runtime.language import Language

_NAMED = 2
_DIGITS = 3
"""Of numbers, where no more are needed."""
_BY_CHANCE = 0.05
"""The share of pictures above the 95th percentile where nothing is repeated."""


@dataclass(frozen=True)
class Gain:
    """What one loss gained over the base; positive is nearer to the references."""

    own: Interval
    verdict: Verdict = ""
    others: Interval | None = None
    """Of it, what there is on other references too: the look that all of them share."""
    specific: Interval | None = None
    power: Power | None = None


@dataclass(frozen=True)
class Beside:
    """A number of obedience or variety, and what it is to be held against."""

    value: float
    base: float | None = None
    gain: Interval | None = None
    references: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Gan:
    """What a StarGAN's evaluation says beside ssim; shares of images whose target domain is recognised, None without an encoder."""

    domains: int
    diversity: float
    reference: float | None = None
    latent: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    won: Sequence[Winner] = field(default=(), kw_only=True)
    """The domain as which nearly all images are recognised, by reference and by latent."""


@dataclass(frozen=True)
class Findings:
    """Everything that the three lines tell; None and empty where it was not measured."""

    n: int
    """References (of a StarGAN contents) that the first line's metric is over."""
    gains: Mapping[str, Gain] = field(default_factory=dict)
    """By loss, against a base; empty where there is none."""
    alone: tuple[str, Interval] | None = None
    """Without a base: metric and its mean."""
    pairs: int = 0
    """Without a base: how many."""
    gan: Gan | None = None
    obedience: Mapping[str, Beside] = field(default_factory=dict)
    """prompt_similarity, prompt_retrieval."""
    garments: Mapping[str, Beside] = field(default_factory=dict)
    """Shares of images in which the encoder reads what their captions ask for, by `attribute_CATEGORY`; against a base."""
    likeness: Beside | None = None
    """fashion_attribute_similarity: how far what is read of the images, and how surely, is what is read of the references."""
    variety: Beside | None = None
    leak: Interval | None = None
    editability: Beside | None = None
    encoder: EncoderCheck | None = None
    toy: bool = False
    """The encoder is the embedded one and the pictures are not."""
    unread: Sequence[str] = ()
    """Metrics on which there is no verdict, for the encoder cannot read the pictures."""
    leakage: Leakage | None = None
    references: int = 0
    memorised: float | None = None
    """Share of images that are nearer to a training image than held-out references are."""


def first_sentence(line: str) -> str:
    """The beginning of a line, for a title."""
    return re.split(r"(?<=。)|(?<=\.) ", line, maxsplit=1)[0]


def three_lines(found: Findings, language: Language) -> str:
    """The lines, in a language; with the same numbers and signs in every one."""
    told = _Teller(FORMS[language], found)
    return "\n".join([told.first(), told.second(), told.third()])


def in_every_language(found: Findings) -> dict[Language, str]:
    """The lines by language, so that who reads them later may choose."""
    return {language: three_lines(found, language) for language in FORMS}


def over_the_grid(found: Findings, language: Language) -> str:
    """What stands over the pictures, in words: whether the LoRA's are nearer to the references, and whether garments stayed; empty where there
    is no verdict on the whole."""
    return _Teller(FORMS[language], found).seen()


class _Teller:
    """Puts findings into the forms of a language."""

    def __init__(self, forms: Mapping[str, str], found: Findings):
        self.forms, self.found = forms, found

    def first(self) -> str:
        """What got nearer to the references and what got farther, on the whole, with what is only the common look, and by part."""
        found = self.found
        if found.gan is not None and found.alone is not None:
            value = _with_ends(found.alone[1])
            return self._line([self._say("gan", n=found.n, domains=found.gan.domains, value=value)])
        if found.alone is not None:
            metric, mean = found.alone
            told = self._say("pairs", n=found.pairs, metric=metric, value=_with_ends(mean))
            missing = [] if metric == PRIMARY else [self._say("no_total", metric=PRIMARY)]
            return self._line([self.forms["semicolon"].join([told, *missing])])
        parts = [name for name in PARTS if name in found.gains]
        if PRIMARY not in found.gains:
            clauses = self.forms["comma"].join(self._clause(name) + self._verdict(name) for name in parts)
            told = self._say("whole", clause=clauses)
            return self._line([self.forms["semicolon"].join([told, self._say("no_total", metric=PRIMARY)])])
        whole = found.gains[PRIMARY]
        form = f"whole_{whole.verdict}" if whole.verdict else "whole_none" if self._no_verdict() else "whole"
        said = [self._say(form, clause=self._clause(PRIMARY)), *self._share(whole)]
        for word, sign in (("nearer", 1), ("farther", -1)):
            those = [name for name in parts if (1 if _signed(found.gains[name].own.mean)[0] == "+" else -1) == sign]
            said += [self._say(word, parts=self._parts(those))] if those else []
        return self._line(said)

    def seen(self) -> str:
        """What the pictures show, for someone who knows none of the metrics."""
        whole = self.found.gains.get(PRIMARY)
        if whole is None or not whole.verdict:
            return ""
        told = [self._say(f"seen_{whole.verdict}", clause=self._clause(PRIMARY, "clause_"))]
        told += [kept] if (kept := self._kept()) else []
        return self._line([self.forms["semicolon"].join(told)])

    def second(self) -> str:
        """In what it obeys prompts and keeps variety more than the base, less and as it; the report has the numbers of what is as the base."""
        found = self.found
        if found.gan is not None:
            return self._line([self._accuracy(found.gan)])
        if not found.gains:
            alone = [("prompts_alone", "obeying", found.obedience)]
            alone += [("variety", "varying", {"diversity_seeds": found.variety} if found.variety else {})]
            told = [self._numbers(form, numbers) for form, _, numbers in alone if numbers]
            return self._line([*told, *self._unmeasured([what for _, what, numbers in alone if not numbers])])
        if self._unread:
            return self._line([self.forms["unread"]])
        groups = self._beside_base()
        said = [self._say(side, what=self.forms["comma"].join(those)) for side, those in groups.items() if those]
        if found.leak is not None:
            said.append(self._say(_by_ends(found.leak, "leak", "leak_less", "leak_same"), value=_signed_ends(found.leak)))
        missing = [name for name, one in (("obeying", found.obedience), ("varying", found.variety)) if not one]
        return self._line([*said, *self._unmeasured(missing)])

    def third(self) -> str:
        """What cannot be said: no verdict and why, what would be seen where nothing is, what leaked, one training."""
        found = self.found
        said, judged = self._no_verdict(), next((name for name in (PRIMARY, *PARTS) if name in found.gains), "")
        power = found.gains[judged].power if judged else None
        if power is not None and found.gains[judged].verdict not in ("better", "worse"):
            said.append(power_sentence(judged, power, self.forms))
        said += self._leaks()
        if (found.memorised or 0) > _BY_CHANCE and not self._unread:
            said.append(self._say("memorised", share=f"{found.memorised:.0%}"))
        if found.toy and not any(self.forms["unreadable_toy"] in one for one in said):
            said.append(self.forms["toy"])
        if found.gains or found.gan:
            said.append(self.forms["training"])
        return self._line(said) if said else ""

    @property
    def _unread(self) -> bool:
        """Whether the encoder cannot read the pictures: then nothing is claimed by it."""
        return self.found.encoder is not None and not self.found.encoder.readable

    def _say(self, form: str, **values: object) -> str:
        return self.forms[form].format(**values)

    def _line(self, sentences: Sequence[str]) -> str:
        return self.forms["stop"].join(sentences) + self.forms["end"]

    def _clause(self, metric: str, form: str = "") -> str:
        gain = self.found.gains[metric].own
        verb = form + ("lowers" if gain.mean >= 0 else "raises")
        ends = None if gain.ends is None else gain.ends if gain.mean >= 0 else (-gain.ends[1], -gain.ends[0])
        by = f"{abs(gain.mean):.3f}" + ("" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]")
        return self._say(verb, metric=metric, by=by)

    def _verdict(self, metric: str) -> str:
        verdict = self.found.gains[metric].verdict
        return self._say("brackets", inside=self.forms[verdict]) if verdict else ""

    def _parts(self, names: Sequence[str]) -> str:
        """What parts gained, and their verdicts: one word where all have the same."""
        verdicts = {self.found.gains[name].verdict for name in names}
        alike = len(names) > 1 and verdicts in ({"better"}, {"worse"})
        told = [f"{name} {_signed(self.found.gains[name].own.mean)}{'' if alike else self._verdict(name)}" for name in names]
        noted = self._say("brackets", inside=self._say("all", verdict=self.forms[verdicts.pop()])) if alike else ""
        return self.forms["comma"].join(told) + noted

    def _share(self, whole: Gain) -> list[str]:
        if whole.others is None or whole.specific is None:
            return []
        share = whole.others.mean / whole.own.mean if whole.own.mean else -1.0
        specific = _signed_ends(whole.specific)
        if not 0 <= share <= 1:  # a part is no larger than its whole
            return [self._say("no_share", others=_signed(whole.others.mean), specific=specific)]
        return [self._say("share", share=f"{share:.0%}", specific=specific)]

    def _beside_base(self) -> dict[str, list[str]]:
        """What is more than of the base, less, and not shown to differ, with the gain of what differs."""
        found = self.found
        measured = [("obeying", dict(list(found.obedience.items())[:1])), ("garments", found.garments)]
        measured += [("likeness", {ATTRIBUTE_SIMILARITY: found.likeness} if found.likeness and self._is_unlike() else {})]
        measured += [("varying", {"diversity_seeds": found.variety} if found.variety else {})]
        measured += [("novelty", {"editability": found.editability} if found.editability else {})]
        groups: dict[str, list[str]] = {"above": [], "below": [], "same": []}
        for what, numbers in measured:
            gains = {name: one.gain for name, one in numbers.items() if one.gain is not None}
            sides = {name: _by_ends(gain, "above", "below", "same") for name, gain in gains.items()}
            for side in ("above", "below"):
                named = "{name} {gain}" if what == "garments" else "{gain}"  # the others are of one metric
                those = [named.format(name=name, gain=_signed_ends(gains[name])) for name in gains if sides[name] == side]
                told = self._say("named", what=self.forms[what], numbers=self.forms["comma"].join(those))
                groups[side] += [told] if those else []
            groups["same"] += [self.forms[what]] if gains and set(sides.values()) == {"same"} else []
        return groups

    def _unmeasured(self, names: Sequence[str]) -> list[str]:
        return [self._say("unmeasured", what=self.forms["comma"].join(self.forms[name] for name in names))] if names else []

    def _kept(self) -> str:
        """Whether garments stay what captions ask for; empty where that was not measured, or the encoder cannot read the pictures."""
        found = self.found.garments
        if not found or self._unread:
            return ""
        forms = [_by_ends(one.gain, "kept_more", "kept_less", "kept_same") for one in found.values() if one.gain is not None]
        chosen = next((one for one in ("kept_less", "kept_more") if one in forms), "kept_same")
        return self.forms["kept_unlike" if chosen == "kept_same" and self._is_unlike() else chosen]

    def _is_unlike(self) -> bool:
        """Whether what is read of garments is less like what is read of the references'."""
        like = self.found.likeness
        return like is not None and like.gain is not None and _by_ends(like.gain, "", "less", "") == "less"

    def _numbers(self, form: str, found: Mapping[str, Beside]) -> str:
        return self._say(form, numbers=self.forms["comma"].join(self._beside(name, one) for name, one in found.items()))

    def _beside(self, name: str, one: Beside) -> str:
        said = [self._say("value", name=name, value=f"{one.value:.{_DIGITS}f}")]
        for form, value in (("references", one.references), ("chance", one.chance)):
            said += [self._say(form, value=f"{value:.{_DIGITS}f}")] if value is not None else []
        return self.forms["comma"].join(said)

    def _accuracy(self, gan: Gan) -> str:
        variety = self._say("variety", numbers=self._say("value", name="diversity", value=f"{gan.diversity:.3f}"))
        if gan.reference is None or gan.latent is None or gan.floor is None or gan.ceiling is None:
            return self.forms["semicolon"].join([self.forms["no_accuracy"], variety])
        shares = {"reference": gan.reference, "latent": gan.latent, "floor": gan.floor, "ceiling": gan.ceiling}
        said = [self._say("accuracy", **{name: f"{value:.0%}" for name, value in shares.items()})]
        said += [self._say(f"won_{one.guided}", share=f"{one.share:.0%}", domain=one.domain) for one in gan.won]
        return self.forms["semicolon"].join([*said, variety])

    def _no_verdict(self) -> list[str]:
        found = self.found
        form: Literal["no_verdict", "no_interval"] = "no_verdict" if found.gains else "no_interval"
        said = [self._say(form, why=self._few())] if found.n < FEWEST else []
        if self._unread and found.encoder is not None and found.unread:
            form_on = "no_verdict_on" if PRIMARY in found.gains else "nothing"
            said.append(self._say(form_on, metrics=self.forms["comma"].join(found.unread), why=self._unreadable(found.encoder)))
        return said

    def _few(self) -> str:
        what = "content" if self.found.gan is not None else "reference"
        return self._say(f"one_{what}" if self.found.n == 1 else f"few_{what}", n=self.found.n, fewest=FEWEST)

    def _unreadable(self, check: EncoderCheck) -> str:
        """That the encoder cannot read the pictures and why, or that they are too few for one that knows such."""
        nearest, what = max(check.noise, check.flat), "noise" if check.noise >= check.flat else "flat"
        hidden = check.real is not None and check.real <= nearest
        numbers = {"value": f"{nearest:.3f}", "real": f"{check.real:.3f}" if check.real is not None else ""}
        if hidden and check.by == "nearest" and self.found.references:
            return self._say("unreadable_few", n=self.found.references, what=self.forms[what], **numbers)
        why = [self.forms["unreadable_toy"]] if self.found.toy else []
        if hidden:
            why.append(self._say(f"unreadable_{what}", **numbers))
        elif check.found is not None and check.found < FOUND:
            why.append(self._say("unreadable_found", found=f"{check.found:.0%}"))
        return self._say("unreadable", why=self.forms["and"].join(why))

    def _leaks(self) -> list[str]:
        leakage = self.found.leakage
        if leakage is None or not (leakage.pairs or leakage.all_by_setting):
            return []
        if leakage.all_by_setting:
            return [self.forms["seen_all"]]
        count = len(leakage.pairs)
        names = ", ".join(f"{reference} = {image}" for reference, image in leakage.pairs[:_NAMED])
        names += self._say("more", n=count - _NAMED) if count > _NAMED else ""
        kind = self.forms["copies" if leakage.copies == count else "near-duplicates"]
        form = "seen_one" if count == 1 else "seen"
        return [self._say(form, n=count, all=self.found.references, kind=kind, names=names)]


def _by_ends(interval: Interval, above: str, below: str, neither: str) -> str:
    """Which of three forms an interval allows: that of above 0, of below 0, or, where it holds 0 or there is none, of neither."""
    low, high = interval.ends if interval.ends is not None else (0.0, 0.0)
    return above if low > 0 else below if high < 0 else neither


def _signed(value: float, digits: int = _DIGITS) -> str:
    """With its own sign, also where it rounds to zero, so that table and sentence agree; a plus where it is 0."""
    return f"{value + 0.0:+.{digits}f}"


def _signed_ends(interval: Interval, digits: int = _DIGITS) -> str:
    ends = f" [{_signed(interval.ends[0], digits)}, {_signed(interval.ends[1], digits)}]" if interval.ends else ""
    return f"{_signed(interval.mean, digits)}{ends}"


def _with_ends(interval: Interval) -> str:
    ends = f" [{interval.ends[0]:.3f}, {interval.ends[1]:.3f}]" if interval.ends else ""
    return f"{interval.mean:.3f}{ends}"
