"""LoRA files made of others: merged, of a smaller rank, extracted from two checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar, say
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.models.new_words import NewWord


@dataclass(frozen=True)
class Made:
    """A file that was made, for a line and for JSON."""

    path: str
    modules: int
    ranks: tuple[int, int]
    """The smallest and the largest of a module."""
    kept: tuple[float, float] | None
    """Of the updates' Frobenius norms the smallest and the mean share that is left; None where nothing is lost."""
    of_all: float | None = None
    """Of an extraction: what is left of the Frobenius norm of everything that differs in UNet and text encoder."""


def merge_loras(files: Sequence[Path], weights: Sequence[float], output: Path) -> Made:
    """Write the LoRA that does what several do together, each at its weight, exactly: its rank is the sum of theirs.

    InputError when a file is no plain LoRA in kohya's layout, they do not go together, or `output` exists.
    """
    from fashion_ml.models.lora_arithmetic import weighted_sum
    from fashion_ml.models.new_words import as_metadata, together

    if len(files) != len(weights):
        raise InputError(
            tr(
                "--weights: {count} for {count_2} files; give one for each, such as 0.7,0.5",
                count=len(weights),
                count_2=len(files),
            )
        )
    read = [_read(path) for path in files]
    try:
        tensors, words = weighted_sum(read, weights), together([_words(path) for path in files])
    except ValueError as error:
        raise InputError(
            tr("files: {names} cannot be merged: {error}", names=", ".join(map(str, files)), error=error)
        ) from error
    told = json.dumps([[path.name, weight] for path, weight in zip(files, weights, strict=True)])
    return _write(output, tensors, files[0], {"fashion_ml_merged_from": told, **as_metadata(words)}, None)


def resize_lora(file: Path, output: Path, rank: int | None, keep: float | None) -> Made:
    """Write the nearest LoRA of at most `rank`, or the smallest that keeps the share `keep` of each update's norm; one of the two is given.

    InputError when the file is no plain LoRA in kohya's layout, or `output` exists.
    """
    from fashion_ml.models.lora_arithmetic import resize
    from fashion_ml.models.new_words import as_metadata

    if (rank is None) == (keep is None):
        raise InputError(tr("--rank: give it or --keep, one of the two; such as --rank 8 or --keep 0.99"))
    if keep is not None and not 0 < keep <= 1:
        raise InputError(tr("--keep: {keep:g} is no share; give one above 0 and at most 1, such as 0.99", keep=keep))
    if rank is not None and rank < 1:
        raise InputError(tr("--rank: {rank} is below 1; give at least 1", rank=rank))
    read = _read(file)
    try:
        small = resize(read, rank, keep)
    except ValueError as error:
        raise InputError(
            tr("file: {file!r}: {error}; give a plain LoRA in kohya's layout", file=str(file), error=error)
        ) from error
    shares = list(small.kept.values())
    told = {"fashion_ml_resized_from": file.name, **as_metadata(_words(file))}
    return _write(output, small.tensors, file, told, (min(shares), sum(shares) / len(shares)))


def _nothing_differs(base: str, tuned: str, conv_rank: int | None) -> InputError:
    modules = tr("a LoRA (--conv-rank takes convolutions too)") if conv_rank is None else "a LoCon"
    return InputError(
        tr(
            "tuned: {tuned!r} does what {base!r} does in all modules of {modules}; nothing can be extracted",
            tuned=tuned,
            base=base,
            modules=modules,
        )
    )


def extract_lora(base: str, tuned: str, output: Path, rank: int, conv_rank: int | None = None) -> Made:
    """Write the LoRA of at most `rank` that brings one base nearest to another, over the modules of the UNet and of every text encoder that
    kohya's LoRA has; with `conv_rank` over those of its LoCon, whose 3 x 3 convolutions have that rank.

    InputError when a base cannot be loaded, their shapes differ, or `output` exists.
    """
    import torch

    from fashion_ml.models.families.known import family_of
    from fashion_ml.models.file_metadata import base_metadata
    from fashion_ml.models.kohya_format import target_weights
    from fashion_ml.models.lora import LoraSpec
    from fashion_ml.models.lora_arithmetic import difference
    from fashion_ml.models.stable_diffusion import load_pipeline

    _check_output(output)
    for name, value in (("--rank", rank), ("--conv-rank", conv_rank)):
        if value is not None and value < 1:
            raise InputError(tr("{name}: {value} is below 1; give at least 1", name=name, value=value))
    spec = LoraSpec(
        *(rank, float(rank)),
        feed_forward=True,
        projections=True,
        convolutions=conv_rank is not None,
        time_embeddings=conv_rank is not None,
        shortcuts=conv_rank is not None,
        train_text_encoder=True,
    )
    pipelines = [load_pipeline(one) for one in (base, tuned)]
    sides = [dict(target_weights(one.unet, family_of(one).encoders(one), spec)) for one in pipelines]
    if {name: one.shape for name, one in sides[0].items()} != {name: one.shape for name, one in sides[1].items()}:
        raise InputError(
            tr(
                "tuned: {tuned!r} has another architecture than {base!r}; give a base that was made from it",
                tuned=tuned,
                base=base,
            )
        )
    tensors, shares, left = dict[str, Any](), [], 0.0
    with bar(tr("extract"), len(sides[0])) as progress:
        for name, weight in sides[0].items():
            progress.advance()
            if torch.equal(weight, sides[1][name]):
                continue
            own = conv_rank if conv_rank is not None and tuple(weight.shape[2:]) == (3, 3) else rank
            down, up, kept = difference(weight, sides[1][name], own)
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            tensors[f"{name}.alpha"] = torch.tensor(float(len(down)))
            shares.append(kept)
            left += kept**2 * float((sides[1][name].double() - weight.double()).square().sum())
    if not tensors:
        raise _nothing_differs(base, tuned, conv_rank)
    changed, whole = _changed(pipelines)
    _say_what_is_left_out(pipelines, changed - len(shares), conv_rank is None)
    told = {key: str(value) for key, value in base_metadata(pipelines[0]).items()}
    metadata = {**told, "fashion_ml_extracted_from": f"{Path(tuned).name} - {Path(base).name}"}
    made = _write(output, tensors, None, metadata, (min(shares), sum(shares) / len(shares)))
    return replace(made, of_all=(left / whole) ** 0.5)


def _changed(pipelines: Sequence[Any]) -> tuple[int, float]:
    """How many tensors of UNet and text encoders differ, and the squared Frobenius norm of what differs."""
    import torch

    from fashion_ml.models.families.known import family_of

    count, squares = 0, 0.0
    for part in family_of(pipelines[0]).models:
        if part == "vae":
            continue
        before, after = (getattr(own, part).state_dict() for own in pipelines)
        for name, one in before.items():
            other = after.get(name)
            if other is not None and other.shape == one.shape and not torch.equal(one, other):
                count += 1
                squares += float((other.double() - one.double()).square().sum())
    return count, squares


def _say_what_is_left_out(pipelines: Sequence[Any], others: int, plain: bool) -> None:
    """Say how many weights differ beside those of the file's modules, and whether the VAEs do."""
    import torch

    if others:
        kinds = (
            tr("convolutions, norms, biases, …) and are not in the file; --conv-rank takes the convolutions too")
            if plain
            else (tr("norms, biases, …) and are not in the file, which no LoRA holds"))
        )
        say(tr("{others} other weights differ too ({kinds}", others=others, kinds=kinds))
    before, after = (own.vae.state_dict() for own in pipelines)
    if not all(name in after and torch.equal(one, after[name]) for name, one in before.items()):
        say(tr("The VAEs differ too, which no LoRA holds: use the tuned one's with the file"))


def average_of(files: Sequence[Path], output: Path) -> Path:
    """Write the mean of each tensor of some files of one training, with the last one's metadata. InputError when they are not of one."""
    from fashion_ml.models.kohya_format import read_metadata, save_lora
    from fashion_ml.models.lora_arithmetic import average
    from fashion_ml.models.new_words import as_metadata, mean_of

    read = [_read(path) for path in files]
    try:
        tensors, words = average(read), mean_of([_words(path) for path in files])
    except ValueError as error:
        raise InputError(
            tr(
                "--average: {names}: {error}; give kept files of one training",
                names=", ".join(path.stem for path in files),
                error=error,
            )
        ) from error
    told = {"fashion_ml_average_of": ", ".join(path.stem for path in files), **as_metadata(words)}
    metadata = {**read_metadata(files[-1]), **told}
    save_lora(output, tensors, metadata)
    return output


def _read(path: Path) -> Mapping[str, Any]:
    from fashion_ml.models.kohya_format import read_lora
    from fashion_ml.models.lora_file import note_of_zero_alphas, parts_by_module

    tensors = read_lora(path.expanduser(), "file")
    if note := note_of_zero_alphas(parts_by_module(tensors), path.name):
        say(note)
    return tensors


def _words(path: Path) -> list[NewWord]:
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.models.new_words import words_in

    return words_in(read_metadata(path.expanduser()), f"file: {str(path)!r}")


def _check_output(output: Path) -> None:
    if output.exists():
        raise InputError(tr("--output: {output!r} exists already; give a new name", output=str(output)))
    if output.suffix != ".safetensors":
        raise InputError(tr("--output: {output!r} is no .safetensors file; give a name that ends so", output=str(output)))


def _write(
    output: Path, tensors: Mapping[str, Any], like: Path | None, more: Mapping[str, str], kept: tuple[float, float] | None
) -> Made:
    """Write a file with what still holds of another's metadata: its base, not how it was trained."""
    from fashion_ml.models.file_metadata import size_metadata
    from fashion_ml.models.kohya_format import read_metadata, save_lora

    _check_output(output)
    ranks = [len(tensor) for name, tensor in tensors.items() if name.endswith(".lora_down.weight")]
    had = read_metadata(like) if like is not None else {}
    metadata = {key: value for key, value in had.items() if key in _OF_BASE} | {
        "ss_network_module": "networks.lora",
        **size_metadata(tensors),
        "ss_output_name": output.stem,
        **more,
    }
    save_lora(output, tensors, metadata)
    return Made(str(output), len(ranks), (min(ranks), max(ranks)), kept)


_OF_BASE = frozenset({
    "ss_base_model_version", "ss_v2", "ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash", "ss_clip_skip",
    "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.prediction_type", "modelspec.resolution",
})  # fmt: skip
"""Metadata about the base, which the new file is for as well."""
