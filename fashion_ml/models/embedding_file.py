"""Files of textual inversions (embeddings that a prompt calls by a name): whose, of which base, and their vectors, by names and shapes.

Read are `emb_params` (A1111, ComfyUI, kohya), `clip_l` with or without `clip_g` (kohya's of SDXL, diffusers' advanced DreamBooth scripts), and
diffusers' `learned_embeds.safetensors`, a tensor called as the prompt calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fashion_ml.runtime.language import tr

Shapes = Mapping[str, tuple[int, ...]]

_BASES = {768: "SD 1.x", 1024: "SD 2.x"}
"""By the numbers of a token that the text encoder reads."""


@dataclass(frozen=True)
class EmbeddingForm:
    """What a file of a textual inversion is."""

    names: str
    """Whose form it is."""
    word: str
    """What a prompt calls it."""
    vectors: int
    """How many tokens of a prompt it takes, of each text encoder."""
    widths: tuple[int, ...]
    """Numbers of a vector, one for each text encoder."""
    base: str
    """SD 1.x, SD 2.x, SDXL, …, or `unknown`."""

    @property
    def use(self) -> str:
        """What can be done with it."""
        return tr(
            "evaluation puts in the words that a LoRA's own file holds, and no others; WebUIs call it by its "
            "file's name from their folder of embeddings, diffusers by load_textual_inversion(…, token={word!r})",
            word=self.word,
        )


def recognise_embedding(shapes: Shapes, stem: str) -> EmbeddingForm | None:
    """What a file with these names and shapes is; None when it is no textual inversion alone. `stem` is the file's name without its ending,
    which is how WebUIs call an embedding whose file has no name in it."""
    rows = {name: shape if len(shape) == 2 else (1, *shape) for name, shape in shapes.items()}
    if not rows or any(len(shape) != 2 or min(shape) < 1 for shape in rows.values()):
        return None
    if set(rows) == {"emb_params"}:
        count, width = rows["emb_params"]
        return EmbeddingForm(tr("A1111 and ComfyUI"), stem, count, (width,), _BASES.get(width, "unknown"))
    if "clip_l" in rows and set(rows) <= {"clip_l", "clip_g"}:
        widths = tuple(rows[name][1] for name in ("clip_l", "clip_g") if name in rows)
        base = "SDXL" if "clip_g" in rows else "SD 1.x or Flux" if widths == (768,) else "unknown"
        return EmbeddingForm(tr("kohya and diffusers' advanced scripts"), stem, rows["clip_l"][0], widths, base)
    (word, (count, width)), *others = rows.items()
    if others or "." in word or ":" in word or width not in _BASES:
        return None
    return EmbeddingForm("diffusers", word, count, (width,), _BASES[width])
