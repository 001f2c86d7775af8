"""The new word of a LoRA training: what it begins as, and which captions have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment
from fashion_ml.data.images import CaptionedImage
from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.new_words import NewWord, initial_vectors, put_words, tokens_of, words_in
from fashion_ml.models.text_encoding import token_counter
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.whole_words import whole_word
from fashion_ml.training.subset_images import settings_of_each


def put_word(config: LoraExperiment, pipeline: Any) -> None:
    """Let a pipeline know the word of an experiment as it begins; nothing without one. InputError as `begun_word`."""
    word = begun_word(config, pipeline)
    put_words(pipeline, [word] if word else [])


def _same(before: Sequence[NewWord], token: str, weights: str | None) -> NewWord | None:
    """The word of the file that is continued from; InputError where it has another, or several."""
    same = next((word for word in before if word.token == token), None)
    if len(before) > 1:
        raise InputError(
            tr(
                "network.network_weights: {weights!r} has {count} words, and one trains here; use a file with one",
                weights=weights,
                count=len(before),
            )
        )
    if before and same is None:
        raise InputError(
            tr(
                "embedding.token: {token!r} is not the word that {weights!r} was trained with; use {token_2}",
                token=token,
                weights=weights,
                token_2=before[0].token,
            )
        )
    return same


def _fresh(config: LoraExperiment, pipeline: Any, token: str) -> NewWord:
    """A word that begins as `embedding.init_text`; InputError without one."""
    settings, weights = config.embedding, config.network.network_weights
    if settings.init_text is None:
        raise InputError(
            tr(
                "embedding.init_text: missing, and {weights!r} has no word to go on with; give words such as dress",
                weights=weights,
            )
        )
    vectors, tokens = (
        initial_vectors(pipeline, settings.init_text, settings.vectors),
        len(tokens_of(pipeline, settings.init_text)),
    )
    if tokens > settings.vectors:
        say(
            tr(
                "embedding.vectors: {vectors}, so {token!r} begins as the first of the {tokens} tokens of "
                "{init_text!r}; {tokens} hold all of them",
                vectors=settings.vectors,
                token=token,
                tokens=tokens,
                init_text=settings.init_text,
            )
        )
    return NewWord(token, vectors, settings.init_text)


def begun_word(config: LoraExperiment, pipeline: Any) -> NewWord | None:
    """The word of an experiment as it begins: as `embedding.init_text`, or as the file that is continued from has it; None without one.

    InputError when none can train on the base, the base has that word already, or the file has another word or number of vectors.
    """
    settings, weights, family = config.embedding, config.network.network_weights, family_of(pipeline)
    if settings.token is not None and not family.new_words:
        raise InputError(tr("embedding.token: a new word does not train on {title} here; leave it out", title=family.title))
    path = Path(weights).expanduser() if weights else None
    before = words_in(read_metadata(path), f"network.network_weights: {weights!r}") if path else []
    if settings.token is None:
        if before:
            raise InputError(
                tr(
                    "network.network_weights: {weights!r} was trained with the word {token!r}; give embedding.token {token}",
                    weights=weights,
                    token=before[0].token,
                )
            )
        return None
    if token_counter(pipeline.tokenizer)(settings.token) == 1:
        raise InputError(
            tr(
                "embedding.token: {token!r} is a word of this base already, whose captions would lose it; choose a "
                "new one, such as {token}0",
                token=settings.token,
            )
        )
    same = _same(before, settings.token, weights)
    if same is None:
        return _fresh(config, pipeline, settings.token)
    if len(same.vectors) != settings.vectors:
        raise InputError(
            tr(
                "embedding.vectors: {vectors}, but {token!r} has {count} in {weights!r}; use {count}",
                vectors=settings.vectors,
                token=settings.token,
                count=len(same.vectors),
                weights=weights,
            )
        )
    return replace(same, init_text=settings.init_text or same.init_text)


def check_captions(config: LoraExperiment, items: Sequence[CaptionedImage]) -> None:
    """Say how many captions have the word, where not all do. InputError where none has it."""
    token = config.embedding.token
    if token is None:
        return
    seen = settings_of_each(items, config.data)
    around_own = [f"{one.caption_prefix or ''} {one.caption_suffix or ''}" for one in seen]
    captions = [
        f"{item.caption} {own}" for item, own in zip(items, around_own, strict=True)
    ]  # with all lines and choices of a wildcard
    inside = sum(whole_word(token).search(caption) is not None for caption in captions)
    if not inside:
        raise InputError(
            tr(
                "embedding.token: {token!r} is in no caption, so nothing would teach it; write it into the captions, "
                "or add data.caption_prefix {token}",
                token=token,
            )
        )
    if inside < len(captions):
        say(
            tr(
                "The new word {token!r} (embedding.token) is in {inside} of {count} captions; the others do not teach it",
                token=token,
                inside=inside,
                count=len(captions),
            )
        )
