"""Links in folders that may come from anywhere: what a command writes or removes in a folder lies in it, with links followed."""

from __future__ import annotations

import os
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_OF_EDITORS = ".#"
"""Begins the links to nowhere by which Emacs notes that a file beside them is open."""


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path lies outside a folder once links are followed; the folder itself may be a link."""
    inside, whole = os.path.realpath(folder), os.path.realpath(path)
    return os.path.commonpath((inside, whole)) != inside


def refuse_link_out(path: Path, folder: Path, field: str) -> None:
    """InputError, naming the setting `field`, where a folder that lies in another by its name is a link to one outside it."""
    if leads_out(path, folder):
        raise InputError(
            tr(
                "{field}: {path!r} is a link to the folder {target!r}, and nothing is written or removed outside {folder!r}; "
                "put a folder in its place, or give another one",
                field=field,
                path=str(path),
                target=os.path.realpath(path),
                folder=str(folder),
            )
        )


def refuse_links_out(folder: Path, field: str) -> None:
    """InputError, naming the setting `field`, where a folder to write into holds, at any depth, a link to a folder outside it, or one that
    leads nowhere, in whose place no folder can be made.

    Links to files may lead anywhere: files are replaced, or removed, by their names, and what a link leads to stays.
    """
    for place, names, files in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if path.is_symlink():
                refuse_link_out(path, folder, field)
        for path in (Path(place, name) for name in files if not name.startswith(_OF_EDITORS)):
            if path.is_symlink() and not path.exists():
                raise InputError(
                    tr(
                        "{field}: {path!r} is a link to {target!r}, where nothing is that can be reached; remove the link, or give "
                        "another folder",
                        field=field,
                        path=str(path),
                        target=str(path.readlink()),
                    )
                )
