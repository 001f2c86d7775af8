"""What makes two trainings of one recipe: every setting that decides what is learnt, but the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fashion_ml.config.base import Section
from fashion_ml.config.settings import defaults_of, settings_of

SEED = "training.seed"
RECIPE = "recipe"
"""Tag of a training run: `recipe_id`; runs with the same value are of one recipe."""
LENGTHS = ("training.max_train_steps", "training.max_train_epochs", "training.epochs")
"""A run may be resumed with another length, but then it is another recipe."""
_PLACES = ("data.train_data_dir", "data.reg_data_dir", "data.masks_dir", "data.latents_dir")
"""Where data lie, which the digest of the data stands for."""


def recipe_of(kind: type[Section], settings: Mapping[str, Any], data_digest: str) -> dict[str, str]:
    """The recipe of a training from its flat settings (also as MLflow's params hold them) and the digest of its data, as name -> text.

    A setting that is missing, because an earlier version did not have it, has its default, which is what that version did.
    """
    free = {one.path for one in settings_of(kind) if one.may_change and one.path not in LENGTHS}
    dropped = {SEED, *(_PLACES if data_digest else ())}
    sections = {one.path.partition(".")[0] for one in settings_of(kind)}
    found = {
        name: str(value)
        for name, value in {**_defaults(kind), **settings}.items()
        if name.partition(".")[0] in sections and name not in dropped and not _is_free(name, free)
    }
    return {**found, **({"data_digest": data_digest} if data_digest else {})}


def recipe_id(kind: type[Section], recipe: Mapping[str, str]) -> str:
    """Twelve hex digits that tell one recipe from another; they stay when a later version has more settings."""
    usual = {name: str(value) for name, value in _defaults(kind).items()}
    own = {name: value for name, value in recipe.items() if usual.get(name) != value}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]


def _defaults(kind: type[Section]) -> dict[str, Any]:
    """Of settings that always have a value: where one may be null, missing means that."""
    optional = {one.path for one in settings_of(kind) if one.is_optional}
    return {
        name: value
        for name, value in defaults_of(kind).items()
        if value is not None and not isinstance(value, Mapping) and name not in optional
    }


def _is_free(name: str, free: set[str]) -> bool:
    """Whether a setting, or the one that it is inside of (`training.sample_prompts.0`), decides nothing that is learnt."""
    return any(name == path or name.startswith(f"{path}.") for path in free)
