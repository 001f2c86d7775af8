"""A LoRA file of any program, written in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr


def convert_lora(path: Path, form: str, output: Path, base: str = "") -> Path:
    """Write a LoRA file as `kohya`, `diffusers` (a folder) or `merged` (with `base` in one).

    `base` is needed for merged, and where the file does not say that it is of Stable Diffusion 1.x, 2.x or XL. InputError when the file
    cannot be converted, naming what it is.
    """
    from fashion_ml.deploy.export import with_base
    from fashion_ml.models.applied_lora import fit_lora
    from fashion_ml.models.kohya_format import read_lora, read_metadata, save_lora
    from fashion_ml.models.lora_convert import fit_without_base, kohya_tensors
    from fashion_ml.models.lora_forms import readers_of, recognise
    from fashion_ml.models.stable_diffusion import load_pipeline

    what = f"file: {str(path)!r}"
    tensors, metadata = read_lora(path, "file"), read_metadata(path)
    found = recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()}, metadata)
    if found is None:
        raise InputError(tr("{what} holds no LoRA; give a LoRA's file", what=what))
    if found.use.startswith("nothing") or "not applied here" in found.use or found.names == "cloneofsimo":
        raise InputError(tr("{what} is {title}: {use}", what=what, title=found.title, use=found.use))
    if form != "kohya":
        if not base:
            raise InputError(
                tr(
                    "--base: {form} needs the base's own modules; name the base that {path!r} was trained on",
                    form=form,
                    path=str(path),
                )
            )
        with_base(path, base, {}, form, output)
        return output
    for line in readers_of(found.methods):
        say(line)
    fitted = fit_lora(load_pipeline(base), path) if base else fit_without_base(path, found)
    made = kohya_tensors(fitted)
    kinds = {tensor.dtype for name, tensor in made.items() if not name.endswith(".alpha")}
    save_lora(output, made, _metadata(metadata, found, made), *(kinds if len(kinds) == 1 else ()))
    return output


def _metadata(given: dict[str, str], found: Any, made: Any) -> dict[str, str]:
    """What the file said itself, less what only its old names have; the module that reads the new ones, and the sizes that it has."""
    from fashion_ml.models.families.known import called
    from fashion_ml.models.file_metadata import size_metadata

    kept = {key: value for key, value in given.items() if key != "lora_adapter_metadata" and not key.startswith("sshs_")}
    plain = set(found.methods) <= {"LoRA", "LoCon"}
    told = {"ss_network_module": "networks.lora" if plain else "lycoris.kohya"}
    family = called(found.base)
    if family is not None:
        told["ss_base_model_version"] = family.metadata("epsilon")["ss_base_model_version"]
    try:
        args = dict(parsed(kept.get("ss_network_args", "{}")))
    except (ValueError, TypeError):
        args = {}
    return {**told, **kept, **size_metadata(made, args)}
