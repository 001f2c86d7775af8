"""What a registered model says of itself, which is input as any other: kinds and ranges are checked before anything is made by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from fashion_ml.config.stargan import GanNetwork
from fashion_ml.config.value_words import reason
from fashion_ml.data.latent_domains import MOST_DOMAINS
from fashion_ml.deploy.asked import MOST_GUIDANCE, MOST_SIDE, MOST_STEPS
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_Size = Annotated[StrictInt, Field(ge=1, le=8192)]
_Side = Annotated[StrictInt, Field(ge=8, le=MOST_SIDE, multiple_of=8)]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Text(_Facts):
    max_token_length: Annotated[StrictInt, Field(ge=75, le=225, multiple_of=75)] = 75
    clip_skip: Annotated[StrictInt, Field(ge=1, le=48)] | None = None
    weighted_captions: StrictBool = False
    usual_clip_skip: Annotated[StrictInt, Field(ge=1, le=2)] = 1


class _Schedule(_Facts):
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    zero_terminal_snr: StrictBool | None = None


class LoraFacts(_Facts):
    """`metadata` of a LoRA's MLmodel."""

    base: StrictStr
    text: _Text = _Text()
    schedule: _Schedule = _Schedule()
    num_inference_steps: Annotated[StrictInt, Field(ge=1, le=MOST_STEPS)]
    guidance_scale: Annotated[float, Field(strict=True, ge=0, le=MOST_GUIDANCE)]
    width: _Side
    height: _Side


class StarganFacts(_Facts):
    """`metadata` of a StarGAN's MLmodel."""

    vae: StrictStr
    size: Annotated[StrictInt, Field(ge=8, le=MOST_SIDE)]


class _Sizes(GanNetwork):
    num_domains: Annotated[StrictInt, Field(ge=2, le=MOST_DOMAINS)] = 2


class NetworkFacts(_Facts):
    """What a file of networks says: `stargan` in its head."""

    sizes: _Sizes
    domains: tuple[Annotated[StrictStr, Field(min_length=1, max_length=200)], ...]
    latent_shape: tuple[_Size, _Size, _Size]
    latent_scale: Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
    step: StrictInt


def checked(kind: type[Any], facts: Any, file: Path, place: str) -> Any:
    """Facts of a kind. InputError naming the file, the field and its value for what they cannot be."""
    try:
        return kind.model_validate(facts if isinstance(facts, Mapping) else {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join([place, *(str(part) for part in first["loc"])])
        why = {
            "missing": tr("it is not there"),
            "extra_forbidden": tr("it is not known"),
        }.get(first["type"]) or reason(first)
        raise wrong(file, field, "" if first["type"] == "missing" else repr(first["input"])[:80], why) from None


def check_signature(found: Any, wanted: Any, file: Path) -> None:
    """Hold the signature of a model against the one that it is registered with. InputError naming the first column or parameter that is of
    another kind, or not known: requests would fail on it, and be blamed for it. One that was registered before there was a parameter lacks
    it."""
    for key in ("inputs", "params"):
        own, others = (getattr(one, key).to_dict() for one in (wanted, found))
        for number, entry in enumerate(others):
            name = str(entry.get("name", number))
            like = next((one for one in own if one["name"] == entry.get("name")), None)
            if like is None:
                raise wrong(file, f"signature.{key}.{name[:80]}", "", tr("it is not known"))
            if (told := next((part for part in like if entry.get(part) != like[part]), None)) is not None:
                why = tr("this model has {value}", value=repr(like[told]))
                raise wrong(file, f"signature.{key}.{name}.{told}", repr(entry.get(told))[:80], why)
            own.remove(like)  # one that stands twice is not known
        if key == "inputs" and own:
            raise wrong(file, f"signature.inputs.{own[0]['name']}", "", tr("it is not there"))


def wrong(file: Path, field: str, value: str, why: str) -> InputError:
    """The error for a fact that a file cannot have."""
    told = tr("{field}: {value} is not accepted ({why})", field=field, value=value, why=why) if value else f"{field}: {why}"
    return InputError(tr("MODEL: {file!r} is damaged: {told}; register the run again", file=str(file), told=told))
