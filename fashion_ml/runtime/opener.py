"""Opening a file with what the desktop has for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def desktop_opener(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> list[str] | None:
    """The command that opens a file on this desktop, without the file; None where there is no desktop or no such command."""
    given = os.environ if environment is None else environment
    if platform == "darwin":
        names: tuple[str, ...] = () if given.get("SSH_CONNECTION") else ("open",)
    elif platform == "win32":
        return ["cmd", "/c", "start", ""]
    else:
        names = ("xdg-open", "gio") if given.get("DISPLAY") or given.get("WAYLAND_DISPLAY") else ()
    found = next((name for name in names if shutil.which(name, path=given.get("PATH"))), None)
    return None if found is None else [found, "open"] if found == "gio" else [found]


def open_file(path: Path) -> bool:
    """Open a file with the desktop's opener, without waiting for it; whether there was one that began."""
    command = desktop_opener()
    if command is None:
        return False
    try:
        subprocess.Popen(
            [*command, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
