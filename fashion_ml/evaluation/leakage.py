"""References that were trained on: near-duplicates and copies among the training images, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.split import alike
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_NAMED = 5


@dataclass(frozen=True)
class Leakage:
    """Which references have a near-duplicate among the training images."""

    pairs: tuple[tuple[str, str], ...]
    """Reference, training image; one line for each such reference."""
    known: bool
    """Whether there were training images to look at."""
    all_by_setting: bool
    """Whether the references are the training images, for want of others."""
    groups: tuple[int, ...]
    """A number that near-duplicates share: of the references, then of the training images."""
    copies: int = 0
    """Of the references, those whose bytes are a training image's."""

    @property
    def seen(self) -> bool | Literal["some"] | None:
        """Whether references were trained on; None where no training images were there to look at."""
        if self.all_by_setting:
            return True
        if not self.known:
            return None
        return "some" if self.pairs else False

    @property
    def tag(self) -> str:
        """The tag `references_seen_in_training`: true, some, false or unknown."""
        return "unknown" if self.seen is None else str(self.seen).lower()

    def held_out(self, references: int) -> list[bool]:
        """Of each reference, whether it has no near-duplicate among the training images."""
        trained = set(self.groups[references:])
        return [group not in trained for group in self.groups[:references]]

    def line(self, references: int) -> str:
        """How many, of what kind, and which."""
        shown = ", ".join(f"{reference} = {image}" for reference, image in self.pairs[:_NAMED])
        more = tr(" and {count} more", count=len(self.pairs) - _NAMED) if len(self.pairs) > _NAMED else ""
        kind = "copies" if self.copies == len(self.pairs) else "near-duplicates"
        were = tr("was trained on") if len(self.pairs) == 1 else tr("were trained on")
        return tr(
            "{count} of {references} references {were} ({kind}: {shown}{more})",
            count=len(self.pairs),
            references=references,
            were=were,
            kind=kind,
            shown=shown,
            more=more,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        pairs = [{"reference": reference, "training_image": image} for reference, image in self.pairs]
        return {"seen": self.seen, "near_duplicates": pairs, "copies": self.copies}


def find_leakage(
    references: Sequence[CaptionedImage],
    training: Sequence[CaptionedImage],
    cache: TensorCache | None = None,
    *,
    all_by_setting: bool = False,
) -> Leakage:
    """Look for near-duplicates of the references among the training images; what images look like is kept in `cache`."""
    items = [*references, *training]
    number = [0] * len(items)
    for place, group in enumerate(alike(items, cache if cache is not None else TensorCache())):
        for index in group:
            number[index] = place
    trained: dict[int, CaptionedImage] = {}
    for item, group_of in zip(training, number[len(references) :], strict=True):
        trained.setdefault(group_of, item)
    bytes_of = {item.sha256 for item in training}
    found = [] if all_by_setting else [(item, trained[n]) for item, n in zip(references, number, strict=False) if n in trained]
    pairs = tuple((reference.name, image.name) for reference, image in found)
    copies = sum(reference.sha256 in bytes_of for reference, _ in found)
    return Leakage(pairs, bool(training), all_by_setting, tuple(number), copies)


def refuse_leakage(leakage: Leakage, references: int) -> None:
    """InputError where references were trained on and that is not allowed (evaluation.strict), and where nobody can know."""
    if not leakage.known and not leakage.all_by_setting:
        raise InputError(
            tr(
                "evaluation.strict: no training images are here to look for the references among; give their folder "
                "(--training of `evaluate lora` and `evaluate images`), or leave --strict out"
            )
        )
    if leakage.all_by_setting:
        raise InputError(
            tr(
                "evaluation.strict: the references are the training images; give evaluation.references, or take some "
                "out: fashion-ml split"
            )
        )
    if leakage.pairs:
        raise InputError(
            tr(
                "evaluation.strict: {line}; take them out of one of the folders, or leave --strict out",
                line=leakage.line(references),
            )
        )
