"""`fashion-ml split`: references taken out of a training folder, into folders that a training takes as they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashion_ml.data.caption_files import CaptionFiles
from fashion_ml.data.choose_references import Chosen, choose
from fashion_ml.data.folder_listing import list_folder
from fashion_ml.data.images import CaptionedImage, scan_training_folder
from fashion_ml.data.split import alike
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.links import refuse_link_out
from fashion_ml.runtime.printable import printable

TRAIN, REFERENCES, ALIKE = "train", "references", "near_duplicates"
"""The folders of a split; the last one, of what may be on neither side, only where there is such."""


@dataclass(frozen=True)
class Taken:
    """An image that leaves the training folder."""

    image: Path
    caption: Path | None
    """Its caption file; None where the class is its caption, which is written beside it then."""
    text: str
    target: Path
    """Where the image goes, below the split's folder."""


@dataclass(frozen=True)
class Split:
    """What goes where."""

    folder: Path
    """The training folder that was given."""
    out: Path
    train: Path
    references: Path
    chosen: list[tuple[CaptionedImage, Chosen, Path]]
    """Each reference as it was, why it was chosen, and its new place below `out`."""
    taken: list[Taken]
    stay: int
    """Images that are left for training."""


def plan_split(folder: Path, out: Path | None, count: int, seed: int, *, move: bool, extension: str) -> Split:
    """Choose references and say where everything goes; nothing is written. InputError when the folder or the new one cannot be used, and where
    images are to `move` out of a folder that a link leads to."""
    if count < 1:
        raise InputError(tr("--references: {count} is not accepted; give how many to take, at least 1", count=count))
    reading = scan_training_folder(folder, extension, field="DIR", skip=True)
    reading.say_left_out()
    place = (out or folder.absolute().with_name(f"{folder.absolute().name}_split")).absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(
            tr("--out: {place!r} already holds something; give a new folder, for nothing is ever overwritten", place=str(place))
        )
    if place.is_relative_to(folder.absolute()):
        raise InputError(tr("--out: {place!r} lies in the training folder; give a folder beside it", place=str(place)))
    items = reading.items
    groups = alike(items, TensorCache(None, 64 << 20))
    chosen = choose(items, groups, count, seed)
    group_of = {index: group for group in groups for index in group}
    beside = [index for one in chosen for index in group_of[one.index] if index != one.index]
    names = Counter(Path(items[one.index].name).stem for one in chosen)
    targets = [_target(items[one.index], REFERENCES, names) for one in chosen]
    places = {items[index].path.parent for index in (*(one.index for one in chosen), *beside)}
    for one in sorted({item.path.parent for item in items}) if move else ():
        refuse_link_out(one, folder, "--move")
    files = {place: CaptionFiles(frozenset(list_folder(place).others), extension) for place in places}
    taken = [_taken(items[one.index], target, files) for one, target in zip(chosen, targets, strict=True)]
    taken += [_taken(items[index], Path(ALIKE) / items[index].name, files) for index in beside]
    return Split(
        folder,
        place,
        folder if move else place / TRAIN,
        place / REFERENCES,
        [(items[one.index], one, target) for one, target in zip(chosen, targets, strict=True)],
        taken,
        len(items) - len(taken),
    )


def carry_out(split: Split, *, move: bool, extension: str) -> None:
    """Copy the training folder without the references, and these, to the new folder, which appears complete; or move these alone.

    InputError when it cannot be written; then everything is where it was.
    """
    fixed = sorted({str(one.image.parent) for one in split.taken if not os.access(one.image.parent, os.W_OK)}) if move else []
    if fixed:
        raise InputError(
            tr(
                "--move: {fixed!r} cannot be written, so nothing can leave it; leave --move out, and it is copied",
                fixed=fixed[0],
            )
        )
    try:
        split.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{split.out.name}.", dir=split.out.parent) as name:
            new = Path(name) / split.out.name
            for one in split.taken:
                _copy(one, new, extension)
            if not move:
                gone = {path for one in split.taken for path in (one.image, one.caption) if path} - _shared(split, extension)
                _copy_rest(split.folder, new / TRAIN, gone)
            if split.out.exists():
                split.out.rmdir()  # it is empty
            new.rename(split.out)
        if move:
            shared = _shared(split, extension)
            for one in split.taken:
                one.image.unlink()
                if one.caption is not None and one.caption not in shared:
                    one.caption.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            tr(
                "--out: {out!r} cannot be written ({value}); choose another folder",
                out=str(split.out),
                value=error.strerror or error,
            )
        ) from error


def _target(item: CaptionedImage, folder: str, names: Counter[str]) -> Path:
    """A flat name; that of the class folder stands before it where another reference is called the same."""
    path = Path(item.name)
    twice = names[path.stem] > 1
    return Path(folder) / (f"{path.parent.name}_{path.name}" if twice else path.name)


def _taken(item: CaptionedImage, target: Path, files: Mapping[Path, CaptionFiles]) -> Taken:
    folder = item.path.parent
    caption = files[folder].of(item.path.name)
    return Taken(item.path, folder / caption if caption else None, item.caption, target)


def _copy(one: Taken, new: Path, extension: str) -> None:
    target = new / one.target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(one.image, target)
    beside = target.with_suffix(extension)
    if one.caption is not None:
        shutil.copy2(one.caption, beside)
    else:
        beside.write_text(f"{one.text}\n", encoding="utf-8")


def _copy_rest(folder: Path, target: Path, gone: set[Path]) -> None:
    def left_out(place: str, names: Sequence[str]) -> set[str]:
        return {name for name in names if Path(place) / name in gone}

    shutil.copytree(folder, target, ignore=left_out, ignore_dangling_symlinks=True)  # type: ignore[arg-type]


def _shared(split: Split, extension: str) -> set[Path]:
    """Caption files of references that images which stay have too: `a.txt` of a.jpg and a.png."""
    moved = {one.image for one in split.taken}
    shared = set[Path]()
    for folder in {one.image.parent for one in split.taken}:
        listing = list_folder(folder)
        files = CaptionFiles(frozenset(listing.others), extension)
        stay = [files.of(path.name) for path in listing.images if path not in moved]
        shared |= {folder / name for name in stay if name}
    return shared


def to_dict(split: Split) -> dict[str, object]:
    """For `--json`."""
    return {
        "train_data_dir": printable(str(split.train)),
        "references": printable(str(split.references)),
        "training_images": split.stay,
        "chosen": [
            {
                "reference": printable(str(target)),
                "from": item.name,
                "caption": item.caption,
                "stands_for": why.stands_for,
                "near_duplicates_taken_along": why.copies,
            }
            for item, why, target in split.chosen
        ],
    }
