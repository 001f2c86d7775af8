"""`fashion-ml data`, `encode` and `embedded collection`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fashion_ml.cli.options import KEYS, Config, Json, Set, assignments, check_json, option, say, write_json
from fashion_ml.cli.setting_options import Offered, settings_command

embedded_app = typer.Typer(help="The small world inside the package that needs no download.", **KEYS)


def _of_data() -> list[Offered]:
    """The settings that decide what becomes of images and captions."""
    from fashion_ml.config import LoraExperiment, settings_of

    return [Offered(one, one.section) for one in settings_of(LoraExperiment) if one.section in ("data", "model")]


DataCommand = settings_command(_of_data)
"""The class of `data`, which stands at the top."""


def data(
    context: typer.Context,
    directory: Annotated[
        str, typer.Argument(metavar="[DIR]", help="Folder of N_class folders; that of --config if left out.")
    ] = "",
    references: Annotated[bool, typer.Option("--references", help="DIR is a flat folder of references.")] = False,
    config: Config = "",
    contact_sheet: Annotated[str, option("--contact-sheet", help="PNG; contact_sheet_<name of DIR>.png by default.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Say what a folder of images holds and what a training would make of it, and draw it on a contact sheet; nothing is trained.

    Settings are those of a training. Without --config and --base images and captions are looked at as Stable Diffusion 1.5 takes them.
    """
    check_json(json)
    from fashion_ml.data.contact_sheet import write_contact_sheet
    from fashion_ml.data.summary_lines import lines_of
    from fashion_ml.runs.data_summary import facts_of, look_at_data

    looked = look_at_data(directory, {**context.obj, **assignments(set_)}, config, references=references)
    for line, important in lines_of(looked.summaries):
        say(f"{'! ' if important else ''}{line}")
    path = Path(contact_sheet or f"contact_sheet_{looked.folder.name}.png")
    say(f"Contact sheet: {write_contact_sheet(path, looked.items, str(looked.folder))}")
    write_json(json, facts_of(looked.summaries))


def split(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Training folder of N_class folders.")],
    references: Annotated[str, option("--references", help="How many to take.")] = "8",
    out: Annotated[str, option("--out", help="New folder for the result; <DIR>_split by default.")] = "",
    move: Annotated[bool, typer.Option("--move", help="Move the references out of DIR; else DIR stays as it is.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken, and do nothing.")] = False,
    seed: Annotated[str, option("--seed", help="Another seed takes others.")] = "0",
    caption_extension: Annotated[str, option("--caption-extension", help="Ending of the caption files.")] = ".txt",
    json: Json = "",
) -> None:
    """Take references for the evaluation out of a training folder: unlike all that stays, spread over its folders and looks.

    The result has a folder to train on and one of references; with --move DIR is the former. Nothing is overwritten.
    """
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.runs.split_references import carry_out, plan_split, to_dict

    numbers = {"--references": references or "8", "--seed": seed or "0"}
    if wrong := [
        f"{name}: {value!r} is not accepted; give a whole number" for name, value in numbers.items() if not value.isdecimal()
    ]:
        raise InputError(wrong)
    count, extension = int(numbers["--references"]), caption_extension or ".txt"
    place = Path(out) if out else None
    planned = plan_split(directory, place, count, int(numbers["--seed"]), move=move, extension=extension)
    for item, why, target in planned.chosen:
        along = f", and {why.copies} near-duplicates go with it" if why.copies else ""
        say(f"{target.name}: {item.name}, stands for {why.stands_for} of its folder{along}: {item.caption[:60]!r}")
    say(f"{len(planned.chosen)} references, {planned.stay} images stay for training; none that stays looks like a reference")
    if not dry_run:
        carry_out(planned, move=move, extension=extension)
    write_json(json, to_dict(planned))
    say(f"Next: fashion-ml train lora --train-data-dir {planned.train} --references {planned.references}")
    if dry_run:
        say("Nothing was written (--dry-run)")


@embedded_app.command("collection")
def embedded_collection(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")], json: Json = ""
) -> None:
    """Write the demo's collection: a signature look in kohya folder layout, with held-out references."""
    check_json(json)
    from fashion_ml.embedded.collection import TOKEN, write_collection

    folder = write_collection(directory)
    train, references = (sorted((folder / part).rglob("*.png")) for part in ("train", "references"))
    facts = {"folder": str(folder), "train": len(train), "references": len(references), "token": TOKEN}
    write_json(json, facts)
    say(f"{folder}: {len(train)} training images in {train[0].parent}, {len(references)} held-out references")
    say(f"Next: fashion-ml train lora --train-data-dir {folder / 'train'} --references {folder / 'references'}")


def encode(
    images_dir: Annotated[
        Path, typer.Argument(metavar="IMAGES_DIR", help="Folder that holds a folder of images for each domain.")
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for the latents, or one to go on with.")],
    vae: Annotated[str, option("--vae", help="embedded, hub id, diffusers folder or .safetensors file.")] = "embedded",
    size: Annotated[
        str, option("--size", help="Side of the square images, pixels; 512 (64 for the embedded VAE) by default.")
    ] = "",
    flips: Annotated[bool, typer.Option("--flips", help="Encode mirrored images too.")] = False,
    packed: Annotated[bool, typer.Option("--packed/--no-packed", help="Also write the packed form for large sets.")] = True,
    json: Json = "",
) -> None:
    """Encode a folder of images for each domain to VAE latents; stopped and started again, it goes on."""
    check_json(json)
    from fashion_ml.data.encode_latents import encode_folder
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.instruments import device_of_evaluation

    vae = vae or "embedded"
    side = size or ("64" if vae == "embedded" else "512")
    if not side.isdecimal() or int(side) < 1:
        raise InputError(f"--size: {size!r} is not accepted; give a whole number of pixels, such as 512")
    result = encode_folder(images_dir, out_dir, vae, size=int(side), flips=flips, packed=packed, device=device_of_evaluation())
    facts = {"folder": str(result.folder), "domains": result.domains, "made": result.made, "removed": result.removed}
    write_json(json, facts | {"data": result.summary.to_dict()})
    counts = ", ".join(f"{name} {count}" for name, count in result.domains.items())
    removed = f", {result.removed} removed" if result.removed else ""
    say(f"{result.folder}: {counts}; {result.made} made now{removed}")
    experiment = "embedded.yaml" if vae == "embedded" else f"sd15_latent.yaml --latent_scale {result.latent_scale:g}"
    say(f"Next: fashion-ml train stargan --config experiments/stargan/{experiment} --latents-dir {result.folder} --vae {vae}")
