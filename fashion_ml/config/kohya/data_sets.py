"""kohya's data set files: `[general]`, `[[datasets]]` and `[[datasets.subsets]]` as settings of the data, and a line for what has no equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

from fashion_ml.config.kohya.options import NEUTRAL, NO_EQUAL, NOT_NEEDED, known_options
from fashion_ml.config.kohya.values import is_nothing
from fashion_ml.config.subsets import Subset
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr, translated

_NAMES = {"batch_size": "train_batch_size"}
_OF_SUBSETS = frozenset(Subset.model_fields) - {"image_dir", "is_reg"}
_ONLY_THERE = frozenset({"num_repeats", "class_tokens"})
"""What has no place for all subsets together."""
_OF_MASKS = ("alpha_mask", "conditioning_data_dir")
"""What has a place for all of them alone."""


def data_set(tree: Mapping[str, Any], file: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Options for all images, the subsets, and a line for each that has no equal. InputError when the file has not kohya's form.

    A lower place wins over a higher one; what is the same for all subsets is said once, for all.
    """
    general, sets = tree.get("general", {}), tree["datasets"]
    _check_form(general, sets, file)
    shared = {**general, **_without_subsets(sets[0])} if len(sets) == 1 else dict(general)
    for one in sets[:1]:
        shared |= {name: value for name, value in _without_subsets(one).items() if name not in _OF_SUBSETS}
    subsets, notes = list[dict[str, Any]](), _differences(sets, general)
    seen: set[str] = set()
    masks: dict[str, dict[str, Any]] = {name: {} for name in _OF_MASKS}
    for number, one in enumerate(sets):
        for subset in one.get("subsets", []):
            place = str(subset.get("image_dir", ""))
            if not place or place in seen:
                reason = (
                    tr("given before, and an image has one size here")
                    if place
                    else tr("without image_dir: captions are files beside the images")
                )
                notes.append(
                    tr(
                        "datasets[{number}].subsets {value}: {reason}; left out",
                        number=number,
                        value=place or subset,
                        reason=reason,
                    )
                )
                continue
            seen.add(place)
            above = shared if len(sets) == 1 else {**general, **_without_subsets(one)}
            subsets.append(_subset(subset, above, own=one if len(sets) > 1 else {}))
            notes += _notes(subset, place)
            for name, values in masks.items() if is_nothing(subset.get("is_reg")) else ():
                values[place] = subset.get(name, above.get(name))
    options = {_NAMES.get(name, name): value for name, value in shared.items() if name not in _ONLY_THERE}
    for name, values in masks.items():
        options.pop(name, None)
        value = _one_for_all(values)
        if value is not None:
            options[name] = value
        elif any(not is_nothing(one) for one in values.values()):
            said = ", ".join(f"{place} {one}" for place, one in values.items())
            notes.append(
                tr(
                    "{name} of each subset ({said}): all images have masks of one kind in one folder; give data.masks",
                    name=name,
                    said=said,
                )
            )
    unknown = sorted(name for name in options if name not in known_options())
    notes += [tr("{name} {pop}: no option of a data set", name=name, pop=options.pop(name)) for name in unknown]
    return options, subsets, notes


def _check_form(general: Any, sets: Any, file: str) -> None:
    wrong = not isinstance(general, Mapping) or not sets or not all(isinstance(one, Mapping) for one in sets)
    below = [] if wrong else [part.get("subsets", []) for part in sets]
    if wrong or not all(isinstance(part, list) and all(isinstance(one, Mapping) for one in part) for part in below):
        raise InputError(
            tr("{file}: has not the form of a data set file; it needs [[datasets]] with [[datasets.subsets]]", file=file)
        )
    if not any(part.get("subsets") for part in sets):
        raise InputError(tr("{file}: has no [[datasets.subsets]]; add one with the image_dir of a folder of images", file=file))


def _without_subsets(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name != "subsets"}


def _differences(sets: list[Any], general: Mapping[str, Any]) -> list[str]:
    """Where data sets are trained in different ways, the first counts."""
    first, notes = {**general, **_without_subsets(sets[0])}, []
    for number, one in enumerate(sets[1:], start=1):
        for name, value in {**general, **_without_subsets(one)}.items():
            if name not in _OF_SUBSETS and first.get(name) != value:
                notes.append(
                    tr(
                        "datasets[{number}].{name} {value}: all images have one; {get} is written",
                        number=number,
                        name=name,
                        value=value,
                        get=first.get(name, "the default"),
                    )
                )
    return notes


def _subset(subset: Mapping[str, Any], above: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What is only this subset's, and what has no place above it."""
    higher = {name: value for name, value in above.items() if name in _ONLY_THERE}
    higher |= {name: value for name, value in own.items() if name in _OF_SUBSETS}
    found = {**higher, **{name: value for name, value in subset.items() if name in Subset.model_fields}}
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _one_for_all(values: Mapping[str, Any]) -> Any:
    """The value that all subsets have, by their folders; of folders of masks called as these the one that they lie in; else None."""
    if any(is_nothing(value) for value in values.values()):
        return None
    if len({str(value) for value in values.values()}) == 1:
        return next(iter(values.values()))
    folders = {PureWindowsPath(str(value)): PureWindowsPath(place) for place, value in values.items()}
    alike = len({str(folder.parent) for folder in folders}) == 1 and all(
        one.name == place.name for one, place in folders.items()
    )
    return next(iter(folders)).parent.as_posix() if alike else None


def _notes(subset: Mapping[str, Any], place: str) -> list[str]:
    notes = []
    for name, value in subset.items():
        if (
            name in Subset.model_fields
            or name in _OF_MASKS
            or name in NOT_NEEDED
            or is_nothing(value)
            or value in NEUTRAL.get(name, ())
        ):
            continue
        notes.append(
            f"{place} {name} {value}: {translated(NO_EQUAL[name]) if name in NO_EQUAL else tr('no option of a subset')}"
        )
    return notes
