"""A finished run's LoRA in other forms, and what a LoRA file holds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.deploy.lora_files import average_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_mapping

if TYPE_CHECKING:
    import torch

    from fashion_ml.models.applied_lora import FittedLora
    from fashion_ml.models.families.family import Family

FORMATS = ("kohya", "diffusers", "merged", "hub")


def export_lora(run_id: str, form: str, checkpoint: str, output: Path, average: Sequence[str] = (), base: str = "") -> Path:
    """Write the LoRA of a training run to `output` as `kohya` (a .safetensors file), `diffusers` (a folder for `load_lora_weights`) or
    `merged` (base and LoRA in one: a pipeline folder, or a single-file checkpoint when `output` ends in .safetensors) or `hub` (a folder with a
    card, `hub_folder`).

    `run_id` may be a LoRA's file instead, of any program, and `base` its base. `checkpoint` is `last`, `best`, or a file's name among the
    run's `lora/` artifacts; `average` names several instead, whose weights are averaged. InputError when something is missing.
    """
    from fashion_ml.config import validate
    from fashion_ml.deploy.exported_words import word_files, write_words
    from fashion_ml.deploy.hub_folder import write_hub_folder
    from fashion_ml.runtime.weight_files import not_there
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.store import open_tracking

    _check_output(form, output)
    if Path(run_id).is_file():
        return _export_file(Path(run_id), form, checkpoint, output, average, base)
    if average and len(set(average)) < max(2, len(average)):
        raise InputError(
            tr("--average: {names} is no average; give two kept files or more, each once", names=",".join(average))
        )
    if run_id.endswith(".safetensors"):
        raise not_there(run_id, "file")
    if base:
        raise InputError(tr("--base: {base!r} is for a LoRA's file; a run says its own base, leave it out", base=base))
    client = open_tracking(make=False)
    run_id = _run_meant(client, run_id)
    with tempfile.TemporaryDirectory() as temporary:
        tree = read_mapping(
            download(client, run_id, "config.yaml", Path(temporary)), "run_id", tr("a run whose config.yaml is whole")
        )
        config = validate(tree)
        usual = {"last": config.output.output_name, "best": "best"}
        names = [usual.get(name, name.removesuffix(".safetensors")) for name in (average or [checkpoint])]
        _check_kept(client, run_id, names, "--average" if average else "--checkpoint")
        files = [download(client, run_id, f"lora/{name}.safetensors", Path(temporary)) for name in names]
        lora = average_of(files, Path(temporary) / "average" / "lora.safetensors") if average else files[0]
        word_files(lora, output, form)  # what is there already is said before anything is written
        if form == "hub":
            write_hub_folder(client, run_id, config, lora, output, averaged=bool(average))
        elif form == "kohya":
            say_readers(lora)
            with atomic_path(output, field="--output") as target:
                target.write_bytes(lora.read_bytes())
        else:
            with_base(lora, config.model.base, config.model.schedule(), form, output)
            unusual = family_of_file(lora).reading(config.text_encoding()).unusual()
            told = ", ".join(f"{name} {value}" for name, value in unusual.items())
            if told:
                say(
                    tr("Captions were read with {told}, which this form cannot say: set the same where you generate", told=told)
                )
        if form != "hub":
            write_words(lora, output, form)
    return output


def _check_output(form: str, output: Path) -> None:
    if form not in FORMATS:
        raise InputError(tr("--format: {form!r} is not known; use {names}", form=form, names=", ".join(FORMATS)))
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise InputError(tr("--output: {output!r} exists already; give a new name", output=str(output)))
    if form == "kohya" and output.suffix != ".safetensors":
        raise InputError(
            tr(
                "--output: {output!r} is no .safetensors file, which WebUIs look for; give a name that ends so",
                output=str(output),
            )
        )


def _export_file(path: Path, form: str, checkpoint: str, output: Path, average: Sequence[str], base: str) -> Path:
    """Write a LoRA's file of any program in another form, with its words beside it. InputError for what only a run has."""
    from fashion_ml.deploy.export_file import convert_lora
    from fashion_ml.deploy.exported_words import word_files, write_words

    if average or checkpoint != "last":
        what = f"--average: {','.join(average)}" if average else f"--checkpoint: {checkpoint}"
        raise InputError(
            tr(
                "{what} is of a run's kept files, and {path!r} is one file; leave it out, or give the run",
                what=what,
                path=str(path),
            )
        )
    if form == "hub":
        raise InputError(
            tr(
                "--format: hub makes its card of a run's evaluation, and {path!r} is one file; give the run, or another form",
                path=str(path),
            )
        )
    word_files(path, output, form)
    convert_lora(path, form, output, base)
    write_words(path, output, form)
    return output


def _run_meant(client: Any, given: str) -> str:
    """The id of the training that is meant. InputError, which says so of a folder that is none."""
    from fashion_ml.runtime.weight_files import not_there
    from fashion_ml.tracking.run_ids import find_meant

    try:
        return str(find_meant(client, given, kinds=("train_lora",)).info.run_id)
    except InputError as error:
        raise not_there(given, "file") if Path(given).is_dir() else error from error


def _check_kept(client: Any, run_id: str, names: Sequence[str], option: str) -> None:
    """InputError, with what there is, for files that a run did not keep."""
    kept = [Path(one.path).name.removesuffix(".safetensors") for one in client.list_artifacts(run_id, "lora")]
    for name in names:
        if name not in kept:
            raise InputError(
                tr(
                    "{option}: run {run_id} kept no {name!r}; give {value}",
                    option=option,
                    run_id=run_id,
                    name=name,
                    value=", ".join(sorted(kept)) or tr("a finished training run"),
                )
            )


def say_readers(lora: Path) -> None:
    """Say who reads a LoRA file as it was trained, where that is not every program. InputError when it is no LoRA's file."""
    for line in readers_of_file(lora):
        say(line)


def family_of_file(lora: Path) -> Family:
    """The family of bases that a LoRA's file is of, the first where it does not say. InputError when it is no LoRA's file."""
    from fashion_ml.models.families.known import FAMILIES, called
    from fashion_ml.models.kohya_format import read_lora, read_metadata
    from fashion_ml.models.lora_forms import recognise

    found = recognise({name: tuple(tensor.shape) for name, tensor in read_lora(lora, "file").items()}, read_metadata(lora))
    return (called(found.base) if found else None) or FAMILIES[0]


def readers_of_file(lora: Path) -> list[str]:
    """`readers_of` the methods of a LoRA's file. InputError when it is none."""
    from fashion_ml.models.kohya_format import read_lora, read_metadata
    from fashion_ml.models.lora_forms import readers_of, recognise

    shapes = {name: tuple(tensor.shape) for name, tensor in read_lora(lora, "file").items()}
    found = recognise(shapes, read_metadata(lora))
    return readers_of(found.methods if found else ())


def with_base(lora: Path, base: str, schedule: Mapping[str, Any], form: str, output: Path) -> None:
    """Write a LoRA file as a folder for diffusers, or merged into its base. InputError when the file does not fit the base."""
    from safetensors.torch import save_file

    from fashion_ml.models.applied_lora import apply_lora, fit_lora
    from fashion_ml.models.diffusers_folder import write_lora_folder, write_pipeline_folder
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import WORDS
    from fashion_ml.models.original_checkpoint import original_tensors
    from fashion_ml.models.stable_diffusion import load_pipeline, quiet_libraries

    pipeline = load_pipeline(base, **schedule)
    if form == "diffusers":
        tensors, metadata = _for_diffusers(fit_lora(pipeline, lora))
        write_lora_folder(
            output, tensors, {**metadata, **{key: value for key, value in read_metadata(lora).items() if key == WORDS}}
        )
        return
    apply_lora(pipeline, lora).merge()
    if output.suffix != ".safetensors":
        with quiet_libraries():
            write_pipeline_folder(output, pipeline)
        return
    try:
        tensors = original_tensors(pipeline)
    except ValueError as error:
        raise InputError(
            tr("--output: {output!r} cannot be one file ({error}); give the name of a folder", output=str(output), error=error)
        ) from None
    with atomic_path(output, field="--output") as target:
        save_file(tensors, target, {"format": "pt"})


def _for_diffusers(fitted: FittedLora) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of diffusers' form, every tensor in the shape that the module's kind has there."""
    from fashion_ml.models.diffusers_folder import diffusers_lora
    from fashion_ml.models.lora_forms import readers_of

    other = sorted(set(fitted.methods.values()) - {"LoRA", "DoRA"})
    if other:
        raise InputError(
            tr(
                "--format: diffusers reads plain LoRA and DoRA, and this one holds {names}; use kohya, or merged, "
                "which is exact",
                names=", ".join(other),
            )
        )
    for line in readers_of(fitted.methods.values()):
        say(line)
    modules, names, scales = {}, {}, {}
    for module, parts in fitted.file.modules.items():
        target, rank = fitted.targets[module], parts["down"].shape[0]
        down = parts["down"].reshape(rank, *target.shape[1:])
        up = parts["up"].reshape(target.shape[0], rank, *[1] * (len(target.shape) - 2))
        modules[module] = {**parts, "down": down, "up": up}
        names[module], scales[module] = target.name, fitted.alphas[module] / rank
    return diffusers_lora(modules, names, scales)
