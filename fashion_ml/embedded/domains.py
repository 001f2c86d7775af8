"""The embedded domains for StarGAN: the same kinds of garments in three patterns, a folder of pictures for each."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.json_file import read_mapping
from fashion_ml.runtime.language import tr

DOMAINS = ("plain", "striped", "dotted")
PICTURES = 240
VERSION = 1
_SEED, _SIZE = 611, 64
_MANIFEST = "domains.json"


def write_domains(folder: Path) -> Path:
    """Write `plain/`, `striped/` and `dotted/` with 240 pictures each into a new folder; what is there already is kept.

    No two pictures show one garment, so that nothing is paired. The folder appears complete or not at all. InputError when it holds
    something else.
    """
    facts = {"domains": list(DOMAINS), "version": VERSION, "pictures": PICTURES, "size": _SIZE}
    if (folder / _MANIFEST).is_file() and read_mapping(folder / _MANIFEST, "DIR", tr("give a new or empty folder")) == facts:
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise InputError(tr("DIR: {folder!r} already holds something else; give a new or empty folder", folder=str(folder)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        new = Path(name) / folder.name
        with bar(tr("draw the domains"), len(DOMAINS) * PICTURES) as progress:
            for number, domain in enumerate(DOMAINS):
                (new / domain).mkdir(parents=True)
                for index, garment in enumerate(sample_garments(PICTURES, _SEED + number), 1):
                    picture = render(replace(garment, pattern=domain), _SIZE)
                    picture.save(new / domain / f"{domain}_{index:03d}.png")
                    progress.advance()
        (new / _MANIFEST).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        try:
            new.rename(folder)
        except OSError:
            if not (folder / _MANIFEST).is_file():  # not another process that was faster
                raise
    return folder
