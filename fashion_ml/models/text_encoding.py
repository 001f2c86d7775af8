"""Captions as token ids and embeddings: chunks of 75 tokens, clip skip and weighted words, as kohya's trainer and the WebUIs know them.

Shapes: B captions, n chunks, width 77 (BOS, 75 tokens, EOS), D of the text encoder (768 for SD 1.x, 1,024 for 2.x). The embedded base's text
encoder is 32 wide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fashion_ml.models.new_words import spelt
from fashion_ml.runtime.pinned import moved
from fashion_ml.runtime.tensor_tree import mapped

CHUNK = 75
"""Tokens of a caption that the text encoder sees at once, beside BOS and EOS."""
_UP, _DOWN = 1.1, 1 / 1.1
"""What plain round and square brackets multiply by, in AUTOMATIC1111's syntax."""
_PIECES = re.compile(r"\\(?P<escaped>[()\[\]\\]?)|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]:]|[^\\()\[\]:]+")


@dataclass(frozen=True)
class TextSettings:
    """How captions become embeddings, by the names of the experiment's settings."""

    max_token_length: int = CHUNK
    """A multiple of 75: what is longer is cut."""
    clip_skip: int | None = None
    """Take the hidden states of the layer that is so many from the end; None is `usual_clip_skip`."""
    weighted_captions: bool = False
    """Read `(red:1.2)`, `(red)` and `[red]` as weights."""
    usual_clip_skip: int = 1
    """What the base's family takes: 1, the last layer, for SD 1.x and 2.x."""

    @property
    def chunks(self) -> int:
        """How often the text encoder is asked for one caption."""
        return self.max_token_length // CHUNK

    def to_dict(self) -> dict[str, Any]:
        """By the settings' names; the layer is a number, however it was asked for."""
        return {
            "max_token_length": self.max_token_length,
            "clip_skip": self.clip_skip or self.usual_clip_skip,
            "weighted_captions": self.weighted_captions,
        }

    def unusual(self) -> dict[str, Any]:
        """Of these what is not as every diffusers pipeline has it: empty for 75 tokens, the family's layer, no weights."""
        usual = TextSettings(usual_clip_skip=self.usual_clip_skip).to_dict()
        return {key: value for key, value in self.to_dict().items() if value != usual[key]}


USUAL = TextSettings()


@dataclass(frozen=True)
class Tokens:
    """Captions as the text encoder takes them."""

    ids: torch.Tensor
    """(B, n, 77), int64."""
    weights: torch.Tensor | None = None
    """(B, n, 77), float32: of each token; None where no caption has another weight than 1."""
    second: torch.Tensor | None = None
    """(B, n, 77), int64: as a second text encoder takes them; None where the base has one."""
    sizes: torch.Tensor | None = None
    """As `Embedded.sizes`."""

    def to(self, device: Any) -> Tokens:
        """The same on a device."""
        return mapped(lambda one: moved(one, torch.device(device)), self)


@dataclass(frozen=True)
class Embedded:
    """What a UNet reads that is told more than a caption's embeddings."""

    hidden: torch.Tensor
    """(B, L, D), for cross-attention."""
    pooled: torch.Tensor
    """(B, P): the caption as a whole."""
    sizes: torch.Tensor | None = None
    """(B, 6), float32, pixels: height and width of the picture as it was, top and left of the crop, height and width of what is seen."""

    def to(self, device: Any) -> Embedded:
        """The same on a device."""
        return mapped(lambda one: moved(one, torch.device(device)), self)


Text = torch.Tensor | Embedded
"""Captions as a UNet reads them: embeddings (B, L, D), or more than these."""


def rows_of(text: Text | Tokens, count: int) -> Text | Tokens:
    """One caption `count` times."""
    return mapped(lambda one: one.expand(count, *[-1] * (one.dim() - 1)), text)


def in_precision(text: Text, dtype: torch.dtype) -> Text:
    """Embeddings in a precision; sizes stay float32, of which half precision rounds those above 256."""
    if isinstance(text, torch.Tensor):
        return text.to(dtype)
    return replace(text, hidden=text.hidden.to(dtype), pooled=text.pooled.to(dtype))


def stacked(rows: Sequence[Text]) -> Text:
    """Captions one by one, without B, as a batch."""
    return mapped(lambda *parts: torch.stack(parts), rows[0], *rows[1:])


def to_tensors(text: Text) -> dict[str, torch.Tensor]:
    """By names, for a file; without sizes, which are of a picture."""
    return {"text": text} if isinstance(text, torch.Tensor) else {"text": text.hidden, "pooled": text.pooled}


def from_tensors(tensors: Mapping[str, torch.Tensor]) -> Text:
    """What `to_tensors` made of it."""
    return Embedded(tensors["text"], tensors["pooled"]) if "pooled" in tensors else tensors["text"]


def token_counter(tokenizer: Any, *, weighted_captions: bool = False) -> Callable[[str], int]:
    """A function from a caption to its number of tokens without BOS and EOS; what is above `token_limit` is cut."""
    return lambda caption: len(_tokens_of(tokenizer, caption, weighted_captions)[0])


def token_limit(tokenizer: Any, max_token_length: int) -> int:
    """How many tokens of a caption count: max_token_length, and less with a text encoder that reads fewer than 75 at once (embedded: 30)."""
    return (tokenizer.model_max_length - 2) * (max_token_length // CHUNK)


def tokenize(tokenizer: Any, captions: Sequence[str], settings: TextSettings) -> Tokens:
    """Captions cut to max_token_length and split into chunks of 75, each between BOS and EOS and padded, as kohya's trainer does.

    Padding is the tokenizer's: EOS for SD 1.x, `!` for SD 2.x. There a chunk that begins with `!` begins with EOS instead, and one that ends in
    `!` has no EOS: kohya takes it for padding, which it is but for captions with a `!?` just there.
    """
    inner = tokenizer.model_max_length - 2
    found = [_tokens_of(tokenizer, caption, settings.weighted_captions) for caption in captions]
    ids = torch.tensor([_chunks(tokenizer, ids, settings, inner) for ids, _ in found])
    if all(weight == 1 for _, weights in found for weight in weights):
        return Tokens(ids)
    weights = torch.ones(len(captions), settings.chunks * inner)
    for row, (_, given) in enumerate(found):
        kept = torch.tensor(given[: settings.chunks * inner])
        weights[row, : len(kept)] = kept
    edges = torch.ones(len(captions), settings.chunks, 1)
    return Tokens(ids, torch.cat([edges, weights.view(len(captions), settings.chunks, inner), edges], dim=2))


def encode_tokens(text_encoder: Any, tokens: Tokens, clip_skip: int | None) -> torch.Tensor:
    """Embeddings (B, n * 75 + 2, D) on the text encoder's device, with gradients where it trains.

    Each chunk goes through the encoder on its own; of the results BOS of the first, the 75 in the middle of each and EOS of the last are
    joined. With clip_skip k > 1 they are the k-th hidden states from the end under the final layer norm. Weights multiply the embeddings of
    their tokens, and the caption's mean is scaled back to what it was.
    """
    ids = tokens.ids.reshape(-1, tokens.ids.shape[-1])
    if clip_skip in (None, 1):
        hidden = text_encoder(ids).last_hidden_state
    else:
        plain = getattr(text_encoder, "module", text_encoder)  # distributed
        states = text_encoder(ids, output_hidden_states=True).hidden_states
        hidden = getattr(plain, "text_model", plain).final_layer_norm(states[-clip_skip])
    return one_caption_each(hidden, tokens)


def one_caption_each(hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Hidden states of all chunks (B * n, 77, D), joined and weighted: (B, n * 75 + 2, D)."""
    captions, chunks, width = tokens.ids.shape
    if chunks > 1:
        hidden = _joined(hidden.view(captions, chunks, width, -1))
    return hidden if tokens.weights is None else _weighted(hidden, _joined(tokens.weights[..., None]))


def _joined(chunks: torch.Tensor) -> torch.Tensor:
    """(B, n, 77, D) -> (B, n * 75 + 2, D)."""
    return torch.cat([chunks[:, 0, :1], chunks[:, :, 1:-1].flatten(1, 2), chunks[:, -1, -1:]], dim=1)


def _weighted(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, L, D) times weights (B, L, 1), each caption scaled so that its mean over all numbers stays what it was."""
    before = hidden.float().mean(dim=(1, 2), keepdim=True)
    weighted = hidden * weights.to(hidden.dtype)
    after = weighted.float().mean(dim=(1, 2), keepdim=True)
    scale = torch.where(after == 0, 1.0, before / after)  # a text encoder that was never trained can have means of 0
    return weighted * scale.to(hidden.dtype)


def _tokens_of(tokenizer: Any, caption: str, weighted: bool) -> tuple[list[int], list[float]]:
    """All tokens of a caption without BOS and EOS, and the weight of each."""
    ids, weights = list[int](), list[float]()
    for text, weight in weighted_pieces(caption) if weighted else [(caption, 1.0)]:
        found = tokenizer(spelt(tokenizer, text), add_special_tokens=False, verbose=False).input_ids
        ids += found
        weights += [weight] * len(found)
    return ids, weights


def _chunks(tokenizer: Any, ids: list[int], settings: TextSettings, inner: int) -> list[list[int]]:
    """`settings.chunks` rows of `inner` + 2 token ids."""
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    room = settings.chunks * inner
    body = (ids[:room] + [eos] + [pad] * room)[:room]
    parts = [body[first : first + inner] for first in range(0, room, inner)]
    end = eos if len(ids) >= room else pad
    ends = [end if part[-1] in (eos, pad) else eos for part in parts]
    if settings.chunks > 1:
        parts = [[eos, *part[1:]] if part[0] == pad else part for part in parts]
    return [[bos, *part, last] for part, last in zip(parts, ends, strict=True)]


def weighted_pieces(caption: str) -> list[tuple[str, float]]:
    r"""A caption in AUTOMATIC1111's syntax as texts and their weights, neighbours of one weight joined.

    `(x)` is 1.1 times, `[x]` 1 / 1.1 times, `(x:1.3)` 1.3 times the weight around it; `\(`, `\)`, `\[`, `\]` and `\\` are the characters. A
    bracket that is never closed reaches to the end, one that was never opened is text.

    >>> weighted_pieces("a (red:1.2) dress")
    [('a ', 1.0), ('red', 1.2), (' dress', 1.0)]
    """
    found: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        first = opened[bracket].pop()
        found[first:] = [(text, weight * factor) for text, weight in found[first:]]

    for match in _PIECES.finditer(caption):
        piece, weight = match[0], match["weight"]
        if match["escaped"] is not None:
            found.append((match["escaped"], 1.0))
        elif piece in opened:
            opened[piece].append(len(found))
        elif weight is not None and opened["("]:
            close("(", float(weight))
        elif piece == ")" and opened["("]:
            close("(", _UP)
        elif piece == "]" and opened["["]:
            close("[", _DOWN)
        else:
            found.append((piece, 1.0))
    for bracket, factor in (("(", _UP), ("[", _DOWN)):
        while opened[bracket]:
            close(bracket, factor)
    joined: list[tuple[str, float]] = []
    for text, value in found:
        if joined and joined[-1][1] == value:
            joined[-1] = (joined[-1][0] + text, value)
        else:
            joined.append((text, value))
    return joined
