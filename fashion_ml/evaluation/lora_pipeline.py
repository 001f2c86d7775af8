"""What tells one base from another, and how a LoRA file was trained."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fashion_ml.models.families.known import called
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.lora_forms import base_of
from fashion_ml.models.stable_diffusion import find_base
from fashion_ml.runtime.weight_files import WEIGHTS


@lru_cache(maxsize=8)
def base_identity(base: str) -> str:
    """What tells one base from another without reading gigabytes: its name, and sizes and times of its weight files."""
    path = Path(find_base(base))
    if not path.exists():
        return base
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix.lower() in WEIGHTS)
    found = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return f"{base} {hashlib.sha256(' '.join(found).encode()).hexdigest()}"


def trained_with(lora: Path) -> dict[str, Any]:
    """How a LoRA was trained as its file says it (kohya's metadata): the images' sizes, how captions were read; empty where it says nothing."""
    told = read_metadata(lora)
    side = re.match(r"\((\d+), \1\)", told.get("ss_resolution", ""))
    found: dict[str, Any] = {"data.resolution": int(side[1])} if side else {}
    if told.get("ss_enable_bucket", "").lower() == "true":
        sides = {
            f"data.{name}": int(told[f"ss_{name}"])
            for name in ("min_bucket_reso", "max_bucket_reso")
            if told.get(f"ss_{name}", "").isdecimal()  # kohya writes None where buckets have no bound
        }
        no_upscale = told.get("ss_bucket_no_upscale", "").lower() == "true"
        found |= {"data.enable_bucket": True, "data.bucket_no_upscale": no_upscale, **sides}
    if told.get("ss_max_token_length", "") in ("150", "225"):
        found["data.max_token_length"] = int(told["ss_max_token_length"])
    skip, family = told.get("ss_clip_skip", ""), called(base_of(told.get("ss_base_model_version", "")) or "")
    # of XL sd-scripts writes 1 and reads the second to last layer whatever it is
    if skip.isdecimal() and (family is None or int(skip) >= family.clip_skip):
        found["model.clip_skip"] = int(skip)
    if told.get("ss_weighted_captions") == "True":
        found["data.weighted_captions"] = True
    return found
