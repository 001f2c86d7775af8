"""What the first training in a folder needs and takes seconds to make, made by a process of its own while this one imports torch.

`python -m fashion_ml.runs.warm_start [collection] [store]` is that process: the embedded collection, then the tables of a new sqlite store.
Nothing depends on it: whoever needs one of them first makes it, and the other process waits at its lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from fashion_ml.embedded.collection import collection_folder, embedded_collection
from fashion_ml.runtime.module_command import module_command


def make_ahead(*, collection: bool, store: bool = True) -> bool:
    """Start that process if the store's sqlite file, or the `collection`, is wanted and not there yet, and go on.

    Returns whether it draws the collection, which takes two seconds: time to import something.
    """
    if not is_main():
        return False
    wanted = ["collection"] if collection and not collection_folder().exists() else []
    wanted += ["store"] if store and _is_new_store(os.environ.get("MLFLOW_TRACKING_URI", "")) else []
    if wanted:
        with suppress(OSError):
            subprocess.Popen(
                module_command("fashion_ml.runs.warm_start", *wanted),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C stops the training, not half a store
            )
    return "collection" in wanted


def is_main() -> bool:
    """Whether this is the main one of several processes, as far as the environment tells before torch is there."""
    return os.environ.get("RANK", "") in ("", "0")


def is_there(given: str) -> bool:
    """Whether a setting names a file or folder that is there; what is wrong with one that is not, is said by whoever reads it."""
    try:
        return Path(given).expanduser().exists()
    except (OSError, RuntimeError):  # a name that is too long, an unknown ~user
        return False


def _is_new_store(uri: str) -> bool:
    if os.environ.get("MLFLOW_RUN_ID"):  # then a store has made that run
        return False
    if uri.startswith("sqlite:///"):  # others have no lock to wait at
        return not Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).exists()
    return not uri and not Path("mlflow.db").exists() and not Path("mlruns").exists()  # MLflow takes one of these by default


def _main(wanted: list[str]) -> None:
    if "collection" in wanted:
        embedded_collection()
    if "store" in wanted:
        from fashion_ml.tracking.store import open_tracking

        open_tracking()


if __name__ == "__main__":
    _main(sys.argv[1:])
