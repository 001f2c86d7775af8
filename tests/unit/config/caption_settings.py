"""Where each setting of captions shows, of all images and of a subset: in the weights of a training on captions of several lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.unit.config.leaves import Setting

CAPTION = "{blue|green} dress, red, long, white\nyellow, a shirt"
_LINES = {"data.train_data_dir": "LINES"}
_LONG = {"training.max_train_steps": 13}
_SUBSET = {"data.subsets.*.image_dir": "SUBSET"}


def write_captions(folder: Path) -> None:
    """Captions of several lines beside the images of a folder, and others with another ending."""
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        path.with_suffix(".txt").write_text(f"{index} black, {CAPTION}", encoding="utf-8")
        path.with_suffix(".tag2").write_text(f"other {index}", encoding="utf-8")


def caption_settings(weights: Callable[[Any], Any]) -> Mapping[str, Setting]:
    """The rows of the table, by leaf."""

    def shuffled(prefix: str) -> dict[str, Any]:
        return {f"{prefix}shuffle_caption": True}

    of_all = {
        "caption_lines": Setting("all", weights, _LINES),
        "caption_prefix": Setting("sks", weights),
        "caption_suffix": Setting("striped", weights, _LINES),
        "caption_separator": Setting(" ", weights, shuffled("data.")),
        "keep_tokens_separator": Setting("green", weights, shuffled("data.")),
        "secondary_separator": Setting("blue", weights),
        "enable_wildcard": Setting(True, weights, _LINES),
        "caption_dropout_every_n_epochs": Setting(17, weights, {"training.max_train_steps": 40}),
        "caption_tag_dropout_rate": Setting(0.55, weights),
    }
    of_subset: dict[str, tuple[Any, dict[str, Any]]] = {
        "num_repeats": (19, {}),
        "is_reg": (True, {}),
        "caption_extension": (".tag2", {}),
        "caption_prefix": ("sks2", {}),
        "caption_suffix": ("dotted", {}),
        "caption_separator": ("w", shuffled("data.subsets.*.")),
        "shuffle_caption": (True, {}),
        "keep_tokens": (25, shuffled("data.subsets.*.")),
        "keep_tokens_separator": ("long", shuffled("data.subsets.*.")),
        "secondary_separator": ("red", {}),
        "enable_wildcard": (True, {}),
        "caption_dropout_rate": (0.95, {}),
        "caption_dropout_every_n_epochs": (10, {"training.max_train_steps": 40}),
        "caption_tag_dropout_rate": (0.65, {}),
        "flip_aug": (True, _LONG),
    }
    rows = {f"data.{name}": row for name, row in of_all.items()}
    rows["data.subsets.*.image_dir"] = Setting("SUBSET", weights)
    for name, (value, needs) in of_subset.items():
        rows[f"data.subsets.*.{name}"] = Setting(value, weights, {**_SUBSET, **needs})
    rows["data.subsets.*.caption_lines"] = Setting("first", weights, {**_SUBSET, "data.caption_lines": "all"})
    bare = {**_SUBSET, "data.subsets.*.caption_extension": ".none"}
    rows["data.subsets.*.class_tokens"] = Setting("coat", lambda lora: lora.refused, bare)
    return rows
