"""A diffusers folder as a Stable Diffusion base: whether it is one, what it lacks, and each part with every weight from its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES, by_config
from fashion_ml.runtime.clip_tokenizer import read_tokenizer
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import fill
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import WeightFiles, find_weights, read_json

_OF_DIFFUSERS, _OF_TRANSFORMERS = ("diffusion_pytorch_model",), ("model", "pytorch_model")
"""Names of weight files without their endings."""
_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
_TEXT_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
_FOREIGN = (("Diffusion3", "Stable Diffusion 3"), ("Flux", "Flux"))
_LOOKED_AT = 2000
"""Most folders and files that are looked through for the right one."""


def check_folder(base: str, path: Path) -> None:
    """InputError, naming the right folder near it if there is one, unless it is a Stable Diffusion pipeline with all parts that are used."""
    name = f"model.base: {base!r}"
    index = path / "model_index.json"
    if not index.is_file():
        raise InputError(tr("{name} holds no model_index.json; {nearest}", name=name, nearest=_nearest(path)))
    listed = read_json(index, "model.base")
    kind = listed.get("_class_name", "")
    kind = str(kind[-1] if isinstance(kind, list) and kind else kind)
    for mark, family in _FOREIGN:
        if mark in kind:
            raise InputError(
                tr(
                    "{name} is a {family} pipeline ({kind}); this trainer is for SD 1.x, 2.x and XL, choose one of those",
                    name=name,
                    family=family,
                    kind=kind,
                )
            )
    missing = [
        part for part in family_of_folder(path).folders if not (path / part).is_dir() or not any((path / part).iterdir())
    ]
    unlisted = [part for part in missing if listed.get(part) in (None, [None, None])]
    if "unet" in unlisted or "text_encoder" in unlisted:
        raise InputError(
            tr(
                "{name} is a {value} without {unlisted}; choose one of Stable Diffusion 1.x, 2.x or XL",
                name=name,
                value=kind or "pipeline",
                unlisted=unlisted[0],
            )
        )
    if missing:
        raise InputError(
            tr(
                "{name} lacks {names} (not there, or empty): half a download; download it again",
                name=name,
                names=", ".join(missing),
            )
        )


def _nearest(path: Path) -> str:
    inside = next((one for one in _folders(path) if (one / "model_index.json").is_file()), None)
    if inside is not None:
        return tr("the pipeline is {inside!r}, give that", inside=str(inside))
    if (path.absolute().parent / "model_index.json").is_file():
        return tr("it is a part of the pipeline {parent!r}, give that", parent=str(path.parent))
    if (path / "unet").is_dir():
        return tr("half a download: get that file too")
    files = sorted(one for one in path.iterdir() if one.suffix.lower() == ".safetensors")
    if files:
        return tr("for a single-file checkpoint give the file itself, such as {files!r}", files=str(files[0]))
    return tr("give the folder of a diffusers pipeline")


def _folders(path: Path, depth: int = 3) -> Iterator[Path]:
    """The folders below, the nearer ones first (a hub cache has three levels)."""
    level = [path]
    for _ in range(depth):
        level = [one for folder in level for one in islice(sorted(folder.iterdir()), _LOOKED_AT) if one.is_dir()][:_LOOKED_AT]
        yield from level


def read_pipeline(path: Path) -> Any:
    """The pipeline of a folder, on the CPU, in the precision of its files. InputError when a part is not as it should be."""
    family, models, files = family_of_folder(path), dict[str, Any](), dict[str, WeightFiles]()
    for part in family.models:
        models[part], files[part] = read_model(path / part, part, f"model.base: {str(path / part)!r}")
    variants = {part: found.variant for part, found in files.items() if found.variant}
    if variants:
        said = ", ".join(f"{part} {variant}" for part, variant in variants.items())
        say(tr("{name}: loaded from the variant that is there ({said})", name=path.name, said=said))
    tokenizers = {
        part.tokenizer: read_tokenizer(
            path / part.tokenizer, models[part.model].config, f"model.base: {str(path / part.tokenizer)!r}"
        )
        for part in family.texts
    }
    facts = read_json(path / "model_index.json", "model.base")
    return family.made({**models, **tokenizers, "scheduler": _scheduler(path / "scheduler")}, facts)


def family_of_folder(path: Path) -> Family:
    """By the configuration of the UNet; the first where that is not there or says nothing."""
    config = path / "unet" / "config.json"
    return by_config(read_json(config, "model.base")) if config.is_file() else FAMILIES[0]


def read_model(folder: Path, part: str, what: str) -> tuple[Any, WeightFiles]:
    """The `unet`, `vae`, `text_encoder` or `text_encoder_2` in a folder of its own, and the files it came from; `what` begins the messages.
    InputError."""
    field = what.partition(":")[0]
    if not (folder / "config.json").is_file():
        raise InputError(tr("{what} holds no config.json; download it again", what=what))
    config = read_json(folder / "config.json", field)
    files = find_weights(folder, _OF_TRANSFORMERS if part in _TEXT_CLASSES else _OF_DIFFUSERS, field)
    model = empty_model(part, config, what)
    fill(model, files.read(field), what)
    return model, files


def empty_model(part: str, config: Mapping[str, Any], what: str) -> Any:
    """A model by its configuration, its weights on the meta device: none is drawn, each is to come from a file. InputError for another kind."""
    import diffusers
    from accelerate import init_empty_weights

    kind, wanted = str(config.get("_class_name", "")), _CLASSES.get(part, "")
    try:
        if wanted:
            if kind and kind != wanted:
                raise InputError(
                    tr(
                        "{what} is a {kind}, not {wanted}; choose a base of Stable Diffusion 1.x, 2.x or XL",
                        what=what,
                        kind=kind,
                        wanted=wanted,
                    )
                )
            with init_empty_weights():
                return getattr(diffusers, wanted).from_config(dict(config))
        return _empty_text_encoder(_TEXT_CLASSES[part], config, what)
    except InputError:
        raise
    except Exception as error:  # each library has its own errors for a configuration it cannot build
        raise InputError(
            tr(
                "{what} has a config.json that describes no model ({first_line}); download it again",
                what=what,
                first_line=first_line(error),
            )
        ) from error


def _empty_text_encoder(wanted: str, config: Mapping[str, Any], what: str) -> Any:
    import transformers
    from accelerate import init_empty_weights

    kind = str(config.get("model_type") or (config.get("architectures") or [""])[0])
    if kind and not kind.lower().startswith("clip"):
        raise InputError(
            tr(
                "{what} is a {kind}, not a CLIP text encoder; choose a base of Stable Diffusion 1.x, 2.x or XL",
                what=what,
                kind=kind,
            )
        )
    text = config.get("text_config") if kind == "clip" else None
    with init_empty_weights():
        return getattr(transformers, wanted)(transformers.CLIPTextConfig.from_dict(dict(text or config)))


def _scheduler(folder: Path) -> Any:
    import diffusers

    path = folder / "scheduler_config.json"
    if not path.is_file():
        raise InputError(
            tr(
                "model.base: {folder!r} holds no scheduler_config.json, which says how the base adds noise; download it again",
                folder=str(folder),
            )
        )
    config = read_json(path, "model.base")
    kind = getattr(diffusers, str(config.get("_class_name", "DDIMScheduler")), None)
    if kind is None or not hasattr(kind, "add_noise"):
        raise InputError(
            tr(
                "model.base: {path!r} names {get!r}, which adds no noise as Stable Diffusion does",
                path=str(path),
                get=config.get("_class_name"),
            )
        )
    return kind.from_config(config)


def check_no_meta(model: Any) -> None:
    """AssertionError when a weight or buffer was not filled: our own invariant, for `fill` names what a file lacks."""
    assert not any(tensor.device == torch.device("meta") for tensor in (*model.parameters(), *model.buffers()))
