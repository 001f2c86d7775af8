"""The trigger: the words of a caption that call the look which a LoRA learnt, and that its base never saw."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.errors import InputError
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.new_words import NewWord, without_words, words_in
from fashion_ml.models.text_encoding import weighted_pieces
from fashion_ml.runtime.console import say
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.whole_words import whole_word

AUTO, NONE = "auto", "none"
PROMPTS_OF_BASE = "prompts_of_base"
"""Among the facts of an evaluation: what the base was given, where that is not what the LoRA was given without its trigger."""
_PARTS = re.compile(r"[,，]")
_CLASS = re.compile(r"\d+_(.+)")


@dataclass(frozen=True)
class Wording:
    """The captions of an evaluation's references, and what is taken out of them for whom."""

    trigger: str
    """Empty where none is known."""
    plain: Sequence[str]
    """As an encoder of texts reads them, without the trigger."""
    token_free_base: bool = False
    words: Sequence[NewWord] = ()
    """Those that were trained along with the LoRA, which neither base nor encoder knows."""

    def of_base(self, prompt: str) -> str:
        """What the base is given for a prompt."""
        known = known_words(prompt, self.trigger, self.words)
        return without_trigger(known, self.trigger) if self.token_free_base else known

    def facts(self, captions: Sequence[str], *, read: bool) -> dict[str, Any]:
        """What of it decides numbers: the trigger where it is taken out of any prompt, for the encoder (`read`) or for the base, and the
        base's prompts where words of the LoRA's own make them others."""
        trigger = {"trigger": self.trigger or None} if read or self.token_free_base else {}
        plain, own = replace(self, words=()), [self.of_base(caption) for caption in captions]
        prompts = {} if own == [plain.of_base(caption) for caption in captions] else {PROMPTS_OF_BASE: own}
        return {**trigger, **prompts, "token_free_base": self.token_free_base}


def wording_of(settings: Evaluation, captions: Sequence[str], lora: Path, *, weighted: bool, read: bool) -> Wording:
    """The wording of captions for the evaluation of a LoRA file, whose metadata name the classes that it was trained on.

    With `read`, or a token-free base, it says which trigger is taken. InputError where a token-free base has no trigger to go without.
    """
    metadata = read_metadata(lora)
    words = words_in(metadata, f"lora: {str(lora)!r}")
    trigger = find_trigger(settings.trigger, captions, classes_of(metadata))
    if settings.trigger == AUTO and not any(_holds(trigger, word.token) for word in words):
        trigger = ", ".join(word.token for word in words) or trigger
    if read or settings.token_free_base:
        check_token_free(settings, trigger, captions)
        if not words:
            say_trigger(settings.trigger, trigger, captions)
    known = [known_words(caption, trigger, words) for caption in captions]
    _say_words(settings, words, captions, known)
    return Wording(trigger, plain_prompts(known, trigger, weighted=weighted), settings.token_free_base, words)


def _say_words(settings: Evaluation, words: Sequence[NewWord], captions: Sequence[str], known: Sequence[str]) -> None:
    """Say what is read in place of a LoRA's own words. InputError where the negative prompt has one, which the base cannot be given."""
    for word in words:
        if _holds(settings.negative_prompt, word.token):
            raise InputError(
                tr(
                    "evaluation.negative_prompt: holds {token!r}, a word of the LoRA's own that the base does not have; "
                    "leave it out",
                    token=word.token,
                )
            )
        inside = [index for index, caption in enumerate(captions) if _holds(caption, word.token)]
        example = (
            tr("; base and encoder read {known!r} for {captions!r}", known=known[inside[0]], captions=captions[inside[0]])
            if inside
            else ""
        )
        say(
            tr(
                "The word {token!r}, trained along with the LoRA, is in {count} of {count_2} prompts{example}",
                token=word.token,
                count=len(inside),
                count_2=len(captions),
                example=example,
            )
        )


def known_words(caption: str, trigger: str, words: Sequence[NewWord]) -> str:
    """A caption for whoever does not know a LoRA's own words: parts between commas that are the trigger with such a word go, or the words of
    a trigger that says more than that; what the word began as stands wherever else it is, and alone.

    >>> known_words("a red dress, zarya style", "zarya style", [NewWord("zarya", torch.zeros(1, 4), "dress")])
    'a red dress'
    >>> known_words("a photo of zarya", "zarya", [NewWord("zarya", torch.zeros(1, 4), "dress")])
    'a photo of dress'
    """
    left = caption
    for word in words:
        for part in (one.strip() for one in _PARTS.split(trigger) if _holds(one, word.token)):
            alone = part.casefold() == word.token.casefold()
            left = _without_parts(left, part) if alone else without_trigger(left, part)
    return without_words(left if left.strip() else caption, words)


def find_trigger(setting: str, captions: Sequence[str], classes: Iterable[str] = ()) -> str:
    """The trigger of captions; empty where there is none. `setting` is `evaluation.trigger`: `auto`, `none`, or the words themselves.

    `auto` takes the parts, by commas, that different captions all have: of these the ones that name a class of the training folders (`zarya`
    of `10_zarya`), all of them where none does. Where no part is shared it takes the first word of a class of several words (`sks` of
    `10_sks dress`) if that is in every caption. A part that is a whole caption's only word tells nothing, so one caption has no trigger.
    """
    if setting != AUTO:
        return "" if setting == NONE else setting
    different = list(dict.fromkeys(captions))
    if len(different) < 2:
        return ""
    split = [[part.strip() for part in _PARTS.split(caption) if part.strip()] for caption in different]
    known = [{part.casefold() for part in parts} for parts in split]
    shared = [part for part in dict.fromkeys(split[0]) if all(part.casefold() in parts for parts in known)]
    names = [name.split() for name in classes if name.split()]
    named = [part for part in shared if any(_holds(part, words[0]) for words in names)]
    if shared:
        return ", ".join(named or shared)
    first = [words[0] for words in names if len(words) > 1]
    return next((word for word in first if all(_holds(caption, word) for caption in different)), "")


def classes_of(metadata: Mapping[str, str]) -> list[str]:
    """The classes of the folders that a LoRA file says it was trained on (kohya's `ss_tag_frequency`, keys `N_class`)."""
    try:
        folders = parsed(metadata.get("ss_tag_frequency", "{}"))
    except ValueError:
        return []
    found = [_CLASS.fullmatch(str(name)) for name in folders] if isinstance(folders, dict) else []
    return [match[1] for match in found if match]


def classes_of_folders(items: Iterable[CaptionedImage]) -> list[str]:
    """The classes of the `N_class` folders that images lie in."""
    found = [_CLASS.fullmatch(name) for name in dict.fromkeys(item.path.parent.name for item in items)]
    return [match[1] for match in found if match]


def without_trigger(caption: str, trigger: str) -> str:
    """The caption without the trigger's parts: a part between commas that is one goes with its comma, elsewhere the words alone go.

    >>> without_trigger("a red dress, zarya style", "zarya style")
    'a red dress'
    """
    for part in (one.strip() for one in _PARTS.split(trigger)):
        if not part:
            continue
        caption = _without_parts(caption, part)
        caption = re.sub(r"\s{2,}", " ", whole_word(part).sub(" ", caption)).strip() if _holds(caption, part) else caption
    return re.sub(r"\s+([,，])", r"\1", caption)


def _without_parts(caption: str, part: str) -> str:
    """Without the parts between commas that are this one."""
    kept = _PARTS.sub(",", caption).split(",")
    marks = [*_PARTS.findall(caption), ""]
    pieces = [(text, mark) for text, mark in zip(kept, marks, strict=True) if text.strip().casefold() != part.casefold()]
    return "".join(text + mark for text, mark in pieces).strip().rstrip(",，").strip()


def plain_prompts(captions: Sequence[str], trigger: str, *, weighted: bool = False) -> list[str]:
    """Captions as an encoder of texts should read them: without the trigger and, where they are `weighted`, without brackets and weights."""
    if weighted:
        captions = ["".join(text for text, _ in weighted_pieces(caption)) for caption in captions]
    return [without_trigger(caption, trigger) for caption in captions]


def check_token_free(settings: Evaluation, trigger: str, captions: Collection[str]) -> None:
    """InputError where a token-free base is asked for and no caption has a trigger to go without."""
    if settings.token_free_base and not _with(trigger, captions):
        why = tr("{trigger!r} is in no caption", trigger=trigger) if trigger else tr("no trigger is known")
        raise InputError(
            tr(
                "evaluation.token_free_base: {why}, so the base would get the same captions; give "
                "evaluation.trigger, the words that call the look",
                why=why,
            )
        )


def say_trigger(setting: str, trigger: str, captions: Collection[str]) -> None:
    """Say which words are taken for the trigger, and what changes it."""
    inside = _with(trigger, captions)
    if trigger and inside < len(captions):
        say(
            tr(
                "Trigger {trigger!r} (evaluation.trigger) is in {inside} of {count} captions; prompts are compared "
                "with images without it",
                trigger=trigger,
                inside=inside,
                count=len(captions),
            )
        )
    elif trigger and setting == AUTO:
        say(
            tr(
                "Trigger {trigger!r}, which all captions have; prompts are compared with images without it "
                "(evaluation.trigger)",
                trigger=trigger,
            )
        )
    elif not trigger and setting == AUTO:
        say(tr("No words that all captions share, so no trigger is known; evaluation.trigger names it"))


def _with(trigger: str, captions: Collection[str]) -> int:
    """How many captions have it."""
    return sum(without_trigger(caption, trigger) != caption for caption in captions) if trigger else 0


def _holds(text: str, words: str) -> bool:
    return whole_word(words).search(text) is not None
