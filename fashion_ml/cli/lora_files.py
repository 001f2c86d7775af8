"""`fashion-ml merge`, `resize` and `extract`: LoRA files made of others."""

from pathlib import Path
from typing import Annotated

import typer

from fashion_ml.cli.options import Json, check_json, option, say, whole, write_json
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

Output = Annotated[str, typer.Option("--output", metavar="OUT", help="A new .safetensors file.")]


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="LoRA files in kohya's layout.")],
    output: Output = "",
    weights: Annotated[str, option("--weights", help="Strength of each file, 0.7,0.5; 1 each when not given.")] = "",
    json: Json = "",
) -> None:
    """Make one LoRA that does what several do together, exactly: its rank is the sum of theirs (resize makes it smaller)."""
    check_json(json)
    from fashion_ml.deploy.lora_files import merge_loras

    given = [_number(one, "--weights") for one in weights.split(",")] if weights else [1.0] * len(files)
    _report(merge_loras(files, given, _output(output)), json)


def resize(
    file: Annotated[Path, typer.Argument(help="A LoRA file in kohya's layout.")],
    output: Output = "",
    rank: Annotated[str, option("--rank", help="The largest rank of a module.")] = "",
    keep: Annotated[str, option("--keep", help="Instead: share of each update's norm that is to be left, such as 0.99.")] = "",
    json: Json = "",
) -> None:
    """Make the nearest LoRA of a smaller rank, by the singular values of each update; says how much of it is left."""
    check_json(json)
    from fashion_ml.deploy.lora_files import resize_lora

    share = _number(keep, "--keep") if keep else None
    _report(resize_lora(file, _output(output), whole(rank, "--rank") if rank else None, share), json)


def extract(
    base: Annotated[str, typer.Argument(help="The base that was trained on: embedded, a folder, a file, or a hub id.")],
    tuned: Annotated[str, typer.Argument(help="The base that came out of it.")],
    output: Output = "",
    rank: Annotated[str, option("--rank", help="Rank of the LoRA; 32 when not given.")] = "",
    conv_rank: Annotated[
        str,
        option(
            "--conv-rank", "--conv-dim", help="Also 3 x 3 convolutions, of this rank, time projections and shortcuts: a LoCon."
        ),
    ] = "",
    json: Json = "",
) -> None:
    """Make the LoRA that brings one base nearest to another; says how much of the difference is in it."""
    check_json(json)
    from fashion_ml.deploy.lora_files import extract_lora

    of_convolutions = whole(conv_rank, "--conv-rank") if conv_rank else None
    _report(extract_lora(base, tuned, _output(output), whole(rank, "--rank") if rank else 32, of_convolutions), json)


def _output(output: str) -> Path:
    if not output:
        raise InputError(tr("--output: is not given; name the new .safetensors file"))
    return Path(output).expanduser()


def _number(text: str, name: str) -> float:
    from math import isfinite

    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise InputError(tr("{name}: {text!r} is no number; give for example 0.7", name=name, text=text))
    return number


def _report(made: object, json: str) -> None:
    facts = vars(made)
    write_json(json, facts)
    low, high = facts["ranks"]
    of_all = (
        ""
        if facts["of_all"] is None
        else tr("; {of_all:.1%} of all that differs in UNet and text encoder", of_all=facts["of_all"])
    )
    left = (
        ""
        if facts["kept"] is None
        else tr(
            "; of the updates' norms {kept:.1%} is left on average, at least {kept_2:.1%}",
            kept=facts["kept"][1],
            kept_2=facts["kept"][0],
        )
    )
    say(
        tr(
            "{path}: {modules} modules of rank {low}{left}{of_all}",
            path=facts["path"],
            modules=facts["modules"],
            low=low if low == high else tr("{low} to {high}", low=low, high=high),
            left=left,
            of_all=of_all,
        )
    )
