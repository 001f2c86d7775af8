"""New words of a text encoder: vectors of their own that captions and prompts call by a name, beside those of its vocabulary.

Textual inversion: Gal et al. 2022, arXiv:2208.01618. D is the width of the text encoder, 768 for SD 1.x.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.whole_words import whole_word

WORDS = "fashion_ml_words"
"""Where a LoRA file's metadata hold the words that were trained along with it: by their tokens what each begins as, its shape, and its
vectors, float32 in base64."""
EMBEDDING = "emb_params"
"""The tensor of a WebUI's embedding file."""


@dataclass(frozen=True, eq=False)
class NewWord:
    """A word and its vectors."""

    token: str
    """As captions write it."""
    vectors: torch.Tensor
    """(n, D), float32, CPU: of the n tokens that it takes."""
    init_text: str
    """What it began as, in words that every base knows."""


class WithNewWords(torch.nn.Module):
    """A text encoder's table of embeddings with rows of new words behind it: ids (…) to vectors (…, D). The table's own are what they were,
    bit for bit."""

    def __init__(self, table: torch.nn.Embedding, first: int, vectors: torch.Tensor, rows: Sequence[tuple[NewWord, list[int]]]):
        """`rows` are of the vectors those of each word."""
        super().__init__()
        self.table, self.first, self.rows = table, first, rows
        self.vectors = torch.nn.Parameter(vectors.to(table.weight.device, table.weight.dtype), requires_grad=False)
        """(n, D), of the ids from `first` on."""

    @property
    def weight(self) -> torch.Tensor:
        """The table's, which is what the libraries ask the precision of."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Where no id is a new word, gradients of the vectors are 0, not absent: processes share what all of them have."""
        known = self.table(ids.clamp(max=self.first - 1))
        own = functional.embedding((ids - self.first).clamp(min=0), self.vectors)
        return torch.where((ids >= self.first).unsqueeze(-1), own, known)


def put_words(pipeline: Any, words: Sequence[NewWord]) -> None:
    """Let a pipeline's tokenizer and text encoder know these words and no others.

    InputError when the text encoder has another width.
    """
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    table = encoder.get_input_embeddings()
    if isinstance(table, WithNewWords):
        encoder.set_input_embeddings(table.table)
        table = table.table
    tokenizer.new_words = {}
    if not words:
        return
    for word in words:
        if word.vectors.shape[1] != table.embedding_dim:
            raise InputError(
                tr(
                    "embedding.token: the word {token!r} has vectors of {shape} numbers and this base's text encoder "
                    "reads {embedding_dim}; use the kind of base that it was trained on",
                    token=word.token,
                    shape=word.vectors.shape[1],
                    embedding_dim=table.embedding_dim,
                )
            )
    from transformers import AddedToken

    own = {word.token: [f"<|{word.token}|{index}|>" for index in range(len(word.vectors))] for word in words}
    if not hasattr(tokenizer, "first_new_id"):
        tokenizer.first_new_id = len(tokenizer)
    first = tokenizer.first_new_id  # tokens of words that were put before stay in the tokenizer, and nothing is spelt with them
    tokenizer.add_tokens([AddedToken(name, normalized=False) for names in own.values() for name in names])
    vectors = table.weight.detach().new_zeros(len(tokenizer) - first, table.embedding_dim)
    rows = [(word, [one - first for one in tokenizer.convert_tokens_to_ids(own[word.token])]) for word in words]
    for word, places in rows:
        vectors[places] = word.vectors.to(vectors)
    encoder.set_input_embeddings(WithNewWords(table, first, vectors, rows))
    tokenizer.new_words = {token: "".join(names) for token, names in own.items()}


def word_vectors(pipeline: Any) -> torch.nn.Parameter | None:
    """The vectors of a pipeline's new words, one below the other; None where it has none."""
    table = pipeline.text_encoder.get_input_embeddings()
    return table.vectors if isinstance(table, WithNewWords) else None


def words_of(pipeline: Any, dtype: torch.dtype = torch.float32) -> list[NewWord]:
    """A pipeline's new words with their vectors as they are, rounded to a precision as a file's tensors are."""
    table = pipeline.text_encoder.get_input_embeddings()
    if not isinstance(table, WithNewWords):
        return []
    vectors = table.vectors.detach().cpu().to(dtype).float()
    return [replace(word, vectors=vectors[places].clone()) for word, places in table.rows]


def spelt(tokenizer: Any, text: str) -> str:
    """A text with each new word that the tokenizer knows as the tokens that it is."""
    known = {token.casefold(): tokens for token, tokens in getattr(tokenizer, "new_words", {}).items()}
    if not known:
        return text
    any_word = "|".join(whole_word(token).pattern for token in sorted(known, key=len, reverse=True))
    return re.sub(any_word, lambda found: known[found[0].casefold()], text, flags=re.IGNORECASE)


def without_words(text: str, words: Sequence[NewWord]) -> str:
    """A text with what each new word began as in its place: for whoever does not know the words."""
    for word in words:
        text = whole_word(word.token).sub(lambda _, own=word.init_text: own, text)  # type: ignore[misc]
    return text


@contextmanager
def as_begun(pipeline: Any) -> Iterator[None]:
    """Inside the block each new word of a pipeline means what it began as."""
    table = pipeline.text_encoder.get_input_embeddings()
    if not isinstance(table, WithNewWords):
        yield
        return
    kept = table.vectors.detach().clone()
    with torch.no_grad():
        for word, places in table.rows:
            table.vectors[places] = initial_vectors(pipeline, word.init_text, len(places)).to(table.vectors)
    try:
        yield
    finally:
        with torch.no_grad():
            table.vectors.copy_(kept)


def tokens_of(pipeline: Any, text: str) -> list[int]:
    """The ids of a text's tokens without BOS and EOS, new words as letters."""
    return list(pipeline.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def initial_vectors(pipeline: Any, text: str, count: int) -> torch.Tensor:
    """(count, D), float32, CPU: the embeddings of the text's tokens in turn. InputError when it has none."""
    ids = tokens_of(pipeline, text)
    if not ids:
        raise InputError(tr("embedding.init_text: {text!r} has no token; give words such as dress", text=text))
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    return table[[ids[index % len(ids)] for index in range(count)]].float().cpu()


def as_metadata(words: Sequence[NewWord]) -> dict[str, str]:
    """The metadata of a LoRA file with these words; empty without any."""
    if not words:
        return {}
    told = {
        word.token: {
            "init_text": word.init_text,
            "shape": list(word.vectors.shape),
            "vectors": base64.b64encode(word.vectors.float().numpy().astype("<f4").tobytes()).decode(),
        }
        for word in words
    }
    return {WORDS: json.dumps(told, ensure_ascii=False, sort_keys=True)}


def words_in(metadata: Mapping[str, str], what: str) -> list[NewWord]:
    """The words that a LoRA file's metadata hold; empty where there are none. InputError, beginning with `what`, where they are damaged."""
    if WORDS not in metadata:
        return []
    try:
        told = parsed(metadata[WORDS])
        found = [_word(token, entry) for token, entry in told.items()]
        if len({word.token.casefold() for word in found}) < len(found):
            raise ValueError(tr("one word twice"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error) as error:
        raise InputError(
            tr(
                "{what}: the word trained along with it is damaged ({error}); bring back a whole copy of the file",
                what=what,
                error=error,
            )
        ) from None
    for word in found:
        if not bool(word.vectors.isfinite().all()):
            raise InputError(
                tr(
                    "{what}: the vectors of its word {token!r} hold NaN or Inf; bring back a whole copy of the file",
                    what=what,
                    token=word.token,
                )
            )
    return found


def _word(token: str, entry: Mapping[str, Any]) -> NewWord:
    count, width = (int(side) for side in entry["shape"])
    began = entry["init_text"]
    if not re.fullmatch(r"[\w-]{1,64}", token) or count < 1 or width < 1 or not (isinstance(began, str) and began.strip()):
        raise ValueError(
            tr("{token!r} of {count} x {width}, begun as {began!r}", token=token, count=count, width=width, began=began)
        )
    numbers = np.frombuffer(base64.b64decode(entry["vectors"], validate=True), dtype="<f4")
    return NewWord(token, torch.from_numpy(numbers.astype(np.float32).reshape(count, width)), began)


def together(files: Sequence[Sequence[NewWord]]) -> list[NewWord]:
    """The words of several LoRA files in one. ValueError where two have one word with different vectors."""
    found: dict[str, NewWord] = {}
    for word in (word for words in files for word in words):
        before = found.setdefault(word.token.casefold(), word)
        if before is not word and not torch.equal(before.vectors, word.vectors):
            raise ValueError(
                tr("they have the word {token!r} with different vectors, and a prompt can call one of them", token=word.token)
            )
    return list(found.values())


def mean_of(files: Sequence[Sequence[NewWord]]) -> list[NewWord]:
    """The words of kept files of one training, each the mean of theirs. ValueError where their words are not the same."""
    if len({tuple((word.token, word.vectors.shape) for word in words) for words in files}) > 1:
        raise ValueError(tr("they are not of one training: their words differ"))
    return [
        replace(same[-1], vectors=torch.stack([word.vectors.double() for word in same]).mean(dim=0).float())
        for same in zip(*files, strict=True)
    ]


def write_embedding(path: Path, word: NewWord, dtype: torch.dtype = torch.float32) -> None:
    """Write the file that WebUIs and diffusers read as an embedding: `emb_params` (n, D). WebUIs call it by the file's name."""
    from safetensors.torch import save_file

    told = {"format": "pt", "init_text": word.init_text, "name": word.token}
    with atomic_path(path) as target:
        save_file({EMBEDDING: word.vectors.to(dtype).contiguous()}, target, told)


def is_embedding_of(path: Path, word: NewWord) -> bool:
    """Whether a file is what `write_embedding` writes of a word, in float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular(path)
        found = load_file(path)
    except (OSError, SafetensorError):
        return False
    return found.keys() == {EMBEDDING} and torch.equal(found[EMBEDDING], word.vectors)


def how_to_call(token: str, file: str) -> str:
    """What readers do with the file of a word."""
    return tr(
        "The word {token!r} is in {file}: WebUIs read it from their folder of embeddings, ComfyUI as "
        "embedding:{token}, diffusers by load_textual_inversion({file!r}, token={token!r})",
        token=token,
        file=file,
    )
