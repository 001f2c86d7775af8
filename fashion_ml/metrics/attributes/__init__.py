"""Fashion attributes by zero-shot classification: which label of each category a picture is nearest to, and how surely."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_yaml

if TYPE_CHECKING:
    from fashion_ml.metrics.fashion_clip import FashionClip

FOLDER = Path(__file__).parent
TEMPERATURE = 100.0
"""Cosines are multiplied by this before the softmax over a category's labels, as CLIP's zero-shot classification does."""
_SAME, _SURE = 0.7, 0.3
"""Shares of equal top labels and of equal confidence in fashion_attribute_similarity."""
PARAMETERS = {"temperature": TEMPERATURE, "same": _SAME, "sure": _SURE}
"""What decides its numbers, beside the encoder and the categories."""
_FIELD = "evaluation.attributes"


@dataclass(frozen=True)
class Category:
    """One attribute: `prompt` with {} for the label."""

    name: str
    prompt: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Attributes:
    """The categories, and the SHA-256 of the file they came from."""

    categories: tuple[Category, ...]
    sha256: str


Labels = dict[str, tuple[str, float]]
"""For one picture: category -> its top label and that label's probability in (0, 1]."""


def read_attributes(path: Path) -> Attributes:
    """The categories of a YAML file: name -> {prompt, labels}. InputError, naming what is wrong, with all problems at once."""
    content, tree = read_yaml(path, _FIELD, tr("a YAML file of categories"))
    if not isinstance(tree, dict) or not tree:
        raise InputError(
            tr(
                "{field}: {path!r} holds no categories; see {folder} for the form",
                field=_FIELD,
                path=str(path),
                folder=FOLDER / "fashion.yaml",
            )
        )
    odd = [name for name in tree if not re.fullmatch(r"[\w .:/-]+", str(name))]
    if odd:
        raise InputError(
            tr(
                "{field}: {path!r}, {odd!r}: a category's name may hold letters, digits, spaces and _ . : / - only",
                field=_FIELD,
                path=str(path),
                odd=odd[0],
            )
        )
    problems = [f"{_FIELD}: {str(path)!r}, {name}: {said}" for name, entry in tree.items() if (said := _problem(entry))]
    if problems:
        raise InputError(problems)
    categories = tuple(
        Category(str(name), entry["prompt"], tuple(str(label) for label in entry["labels"])) for name, entry in tree.items()
    )
    return Attributes(categories, hashlib.sha256(content).hexdigest())


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict) or set(entry) != {"prompt", "labels"}:
        return tr("must have prompt and labels and nothing else")
    if not isinstance(entry["prompt"], str) or entry["prompt"].count("{}") != 1:
        return tr("prompt: {prompt!r} must hold {{}} once, for the label", prompt=entry["prompt"])
    labels = entry["labels"]
    if not isinstance(labels, list) or len(labels) < 2 or len({str(label) for label in labels}) != len(labels):
        return tr("labels: give a list of at least two different ones")
    return ""


class AttributeReader:
    """Labels pictures; the texts are embedded once."""

    def __init__(self, attributes: Attributes, encoder: FashionClip):
        self.attributes = attributes
        self._texts = {
            category.name: encoder.embed_texts([category.prompt.replace("{}", label) for label in category.labels])
            for category in attributes.categories
        }

    def read(self, embeddings: torch.Tensor) -> list[Labels]:
        """The top labels of each picture, for L2-normalised image embeddings (N, D)."""
        found: list[Labels] = [{} for _ in embeddings]
        for category in self.attributes.categories:
            best = (TEMPERATURE * embeddings @ self._texts[category.name].T).softmax(1).max(1)
            for picture, index, probability in zip(found, best.indices.tolist(), best.values.tolist(), strict=True):
                picture[category.name] = (category.labels[index], probability)
        return found

    def margins(self, embeddings: torch.Tensor) -> list[dict[str, tuple[str, float]]]:
        """For each picture and category the top label, and by how much its probability is above the next one's, in [0, 1]."""
        found: list[dict[str, tuple[str, float]]] = [{} for _ in embeddings]
        for category in self.attributes.categories:
            two = (TEMPERATURE * embeddings @ self._texts[category.name].T).softmax(1).topk(2)
            ahead = (two.values[:, 0] - two.values[:, 1]).tolist()
            for picture, index, margin in zip(found, two.indices[:, 0].tolist(), ahead, strict=True):
                picture[category.name] = (category.labels[index], margin)
        return found


def attribute_similarity(first: Labels, second: Labels) -> tuple[float, dict[str, float]]:
    """`fashion_attribute_similarity` of two pictures, in [0, 1], and by category whether the top labels agree (1 or 0).

    The mean over categories of 0.7 * [same top label] + 0.3 * (1 - |difference of the two confidences|).
    """
    same = {name: float(first[name][0] == second[name][0]) for name in first}
    parts = [_SAME * same[name] + _SURE * (1 - abs(first[name][1] - second[name][1])) for name in first]
    return sum(parts) / len(parts), same


def default_attributes(encoder_name: str) -> Path:
    """The categories that come with the package: those of the embedded world for its own encoder, fashion's for every other."""
    return FOLDER / ("embedded.yaml" if encoder_name == "embedded" else "fashion.yaml")
