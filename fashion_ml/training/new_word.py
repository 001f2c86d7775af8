"""The new word of a LoRA training: what it begins as, and which captions have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment
from fashion_ml.data.images import CaptionedImage
from fashion_ml.errors import InputError
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.new_words import NewWord, initial_vectors, put_words, tokens_of, words_in
from fashion_ml.models.text_encoding import token_counter
from fashion_ml.runtime.console import say
from fashion_ml.runtime.whole_words import whole_word
from fashion_ml.training.subset_images import caption_settings


def put_word(config: LoraExperiment, pipeline: Any) -> None:
    """Let a pipeline know the word of an experiment as it begins; nothing without one. InputError as `begun_word`."""
    word = begun_word(config, pipeline)
    put_words(pipeline, [word] if word else [])


def begun_word(config: LoraExperiment, pipeline: Any) -> NewWord | None:
    """The word of an experiment as it begins: as `embedding.init_text`, or as the file that is continued from has it; None without one.

    InputError when the base has that word already, or the file has another word or number of vectors.
    """
    settings, weights = config.embedding, config.network.network_weights
    path = Path(weights).expanduser() if weights else None
    before = words_in(read_metadata(path), f"network.network_weights: {weights!r}") if path else []
    if settings.token is None:
        if before:
            raise InputError(
                f"network.network_weights: {weights!r} was trained with the word {before[0].token!r}; give embedding.token {before[0].token}"
            )
        return None
    if token_counter(pipeline.tokenizer)(settings.token) == 1:
        raise InputError(
            f"embedding.token: {settings.token!r} is a word of this base already, whose captions would lose it; choose a new one, such as "
            f"{settings.token}0"
        )
    same = next((word for word in before if word.token == settings.token), None)
    if len(before) > 1:
        raise InputError(
            f"network.network_weights: {weights!r} has {len(before)} words, and one trains here; use a file with one"
        )
    if before and same is None:
        raise InputError(
            f"embedding.token: {settings.token!r} is not the word that {weights!r} was trained with; use {before[0].token}"
        )
    if same is None:
        if settings.init_text is None:
            raise InputError(
                f"embedding.init_text: missing, and {weights!r} has no word to go on with; give words such as dress"
            )
        vectors, tokens = (
            initial_vectors(pipeline, settings.init_text, settings.vectors),
            len(tokens_of(pipeline, settings.init_text)),
        )
        if tokens > settings.vectors:
            say(
                f"embedding.vectors: {settings.vectors}, so {settings.token!r} begins as the first of the {tokens} tokens of "
                f"{settings.init_text!r}; {tokens} hold all of them"
            )
        return NewWord(settings.token, vectors, settings.init_text)
    if len(same.vectors) != settings.vectors:
        raise InputError(
            f"embedding.vectors: {settings.vectors}, but {settings.token!r} has {len(same.vectors)} in {weights!r}; use {len(same.vectors)}"
        )
    return replace(same, init_text=settings.init_text or same.init_text)


def check_captions(config: LoraExperiment, items: Sequence[CaptionedImage]) -> None:
    """Say how many captions have the word, where not all do. InputError where none has it."""
    token = config.embedding.token
    if token is None:
        return
    seen = [item.captions or caption_settings(config.data) for item in items]
    around_own = [f"{one.caption_prefix or ''} {one.caption_suffix or ''}" for one in seen]
    captions = [
        f"{item.caption} {own}" for item, own in zip(items, around_own, strict=True)
    ]  # with all lines and choices of a wildcard
    inside = sum(whole_word(token).search(caption) is not None for caption in captions)
    if not inside:
        raise InputError(
            f"embedding.token: {token!r} is in no caption, so nothing would teach it; write it into the captions, or add data.caption_prefix "
            f"{token}"
        )
    if inside < len(captions):
        say(f"The new word {token!r} (embedding.token) is in {inside} of {len(captions)} captions; the others do not teach it")
