"""A new word of a LoRA experiment: a textual inversion that is trained along with the LoRA."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from fashion_ml.config.base import Names, Section, Text
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.whole_words import whole_word

MOST_VECTORS = 32


def _word(value: str | None) -> str | None:
    if value is None or re.fullmatch(r"(?=.*[a-z])[a-z0-9][a-z0-9_-]{1,63}", value):
        return value
    raise ValueError(
        tr("{value!r} is no word of 2 to 64 letters a to z, digits, - and _, in lower case; use one such as zarya", value=value)
    )


class Embedding(Section):
    """A word of its own for the look: vectors of the text encoder that captions call by it, trained along (arXiv:2208.01618)."""

    token: Annotated[str | None, AfterValidator(_word), Names("token_string", own=False)] = None
    """The new word, `zarya`, in lower case as diffusers looks for it; captions may write it in any case. It is trained along and written to
    `<token>.safetensors` beside the LoRA, which WebUIs read from their folder of embeddings. None when not given. kohya's token_string."""
    vectors: Annotated[int, Field(ge=1, le=MOST_VECTORS), Names("num_vectors_per_token", own=False)] = 1
    """How many tokens of a caption the word takes; kohya's num_vectors_per_token."""
    init_text: Annotated[Text | None, Field(pattern=r"\S"), Names("init_word", own=False)] = None
    """The words whose embeddings it begins as, in turn: what a picture of it would be called without it, `dress`. In its evaluation the base
    is given these in its place. kohya's init_word."""

    @model_validator(mode="after")
    def _a_word_that_is_there(self) -> Embedding:
        given = [name for name, default in (("vectors", 1), ("init_text", None)) if getattr(self, name) != default]
        if self.token is None and given:
            raise ValueError(
                tr("{given} is given, but there is no new word; add embedding.token, such as zarya", given=given[0])
            )
        if self.token is not None and self.init_text is not None and self.is_in(self.init_text):
            raise ValueError(
                tr(
                    "init_text {init_text!r} holds the new word itself; give words that every base knows, such as dress",
                    init_text=self.init_text,
                )
            )
        return self

    def is_in(self, text: str) -> bool:
        """Whether a text holds the word, as a whole one in any case."""
        return self.token is not None and whole_word(self.token).search(text) is not None
