"""The demo's collection: garments in a signature look that the embedded base has never seen, in kohya folder layout.

The look is called zarya: the cloth sinks into indigo towards the hem, with a gold edge, on a plum backdrop.
What is trained on shows every colour in every pattern: a LoRA forgets of a colour what it is never shown of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fashion_ml.embedded.garments import Garment, even_garments, render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr

TOKEN = "zarya"
TRAINING_IMAGES, REFERENCES, REPEATS = 72, 24, 10
_TRAINING_SEED, _TUNING_SEED, _REFERENCE_SEED = 501, 907, 1_319
VERSION = 3
_VERSIONS = ((2, 48), (VERSION, TRAINING_IMAGES))
_FINISH = "dip-dyed"
_MANIFEST, _PARTS = "collection.json", ("train", "tuning", "references")


def collection_folder() -> Path:
    """Where the embedded collection lies, or will."""
    return (Path("outputs") / f"embedded_collection_v{VERSION}").absolute()


def embedded_collection() -> Path:
    """The folder of the embedded collection, drawn where it is not there yet, by one process at a time."""
    from filelock import FileLock

    folder = collection_folder()
    if folder.exists():
        return write_collection(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            return write_collection(folder)
    except OSError:
        return write_collection(folder)  # which says what is wrong with the place


def folder_of(given: str | Path, part: str) -> Path:
    """A folder that was given; for `embedded` that part of the collection, for `embedded/tuning` the named one; drawn where it is not there."""
    own = part_of(given)
    return Path(given).expanduser() if own is None else embedded_collection() / (own or part)


def part_of(given: str | Path) -> str | None:
    """`` for `embedded`, `tuning` for `embedded/tuning`; None for a folder of someone's own."""
    name, _, part = str(given).partition("/")
    return part if name == "embedded" and part in ("", *_PARTS) else None


def other_names(given: Path) -> str:
    """The names that there are, for a folder below `embedded` that is not there, as of a slip of the keyboard; empty for any other."""
    names = ("embedded", *(f"embedded/{part}" for part in _PARTS))
    return ", ".join(names) if given.parts[:1] == ("embedded",) else ""


def is_collection(given: str | Path) -> bool:
    """Whether that is the embedded collection or a part of one that was written: `embedded`, `embedded/tuning`, or a folder of that kind.

    One of version 2 is one too. What lies beside a `collection.json` of another kind, or is another folder, is someone's own.
    """
    if part_of(given) is not None:
        return True
    try:
        place = Path(given).expanduser().absolute()
        note = parsed(read_whole(place.parent / _MANIFEST))
        kept = {"version": note["version"], "training": note["training"]}
        return place.name in _PARTS and note == _facts(note["size"]) | kept and (note["version"], note["training"]) in _VERSIONS
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
    ):  # a name that is too long, an unknown ~user, another note
        return False


def write_collection(folder: Path, *, size: int = 64) -> Path:
    """Write `train/10_zarya/`, `tuning/` and `references/` (both held out) into a new or empty folder; a collection already there is kept.

    Recipes are chosen by what they score on `tuning`, so that `references` judge them by pictures that nothing was chosen by. A new folder
    appears complete or not at all. InputError when it holds something else.
    """
    facts = _facts(size)
    folder = folder.absolute()  # "." has no name
    if _holds(folder, facts):
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(tr("DIR: {folder!r} already holds something else; give a new or empty folder", folder=str(folder)))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
            new = Path(name) / folder.name
            _write_part(
                new / "train" / f"{REPEATS}_{TOKEN}", even_garments(TRAINING_IMAGES, _TRAINING_SEED, finish=_FINISH), size
            )
            _write_part(new / "tuning", sample_garments(REFERENCES, _TUNING_SEED, finish=_FINISH), size)
            _write_part(new / "references", sample_garments(REFERENCES, _REFERENCE_SEED, finish=_FINISH), size)
            (new / _MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            _move(new, folder)
    except OSError as error:
        if _holds(folder, facts):  # another process was faster
            return folder
        raise InputError(
            tr(
                "DIR: {folder!r} cannot be written ({value}); choose another folder",
                folder=str(folder),
                value=error.strerror or error,
            )
        ) from error
    return folder


def _facts(size: object) -> dict[str, object]:
    """What the manifest says."""
    return {
        "collection": TOKEN,
        "version": VERSION,
        "size": size,
        "training": TRAINING_IMAGES,
        "tuning": REFERENCES,
        "references": REFERENCES,
    }


def _move(new: Path, folder: Path) -> None:
    """Rename a folder; into an empty one, which may be someone's working folder, its content with the manifest last."""
    if not folder.exists():
        new.rename(folder)
        return
    for path in sorted(new.iterdir(), key=lambda path: path.name == _MANIFEST):
        path.rename(folder / path.name)


def _holds(folder: Path, facts: dict[str, object]) -> bool:
    try:
        return bool(parsed(read_whole(folder / _MANIFEST)) == facts)
    except (OSError, ValueError):  # none, or someone's own
        return False


def _write_part(folder: Path, garments: Sequence[Garment], size: int) -> None:
    folder.mkdir(parents=True)
    for index, garment in enumerate(garments, 1):
        render(garment, size).save(folder / f"{TOKEN}_{index:03d}.png")
        (folder / f"{TOKEN}_{index:03d}.txt").write_text(f"{garment.caption()}, {TOKEN} style\n", encoding="utf-8")
