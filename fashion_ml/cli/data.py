"""`fashion-ml encode` and `embedded collection`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fashion_ml.cli.options import KEYS, Json, check_json, option, say, write_json

embedded_app = typer.Typer(help="The small world inside the package that needs no download.", **KEYS)


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
    write_json(json, {"folder": str(result.folder), "domains": result.domains, "made": result.made, "removed": result.removed})
    counts = ", ".join(f"{name} {count}" for name, count in result.domains.items())
    removed = f", {result.removed} removed" if result.removed else ""
    say(f"{result.folder}: {counts}; {result.made} made now{removed}")
    experiment = "embedded.yaml" if vae == "embedded" else f"sd15_latent.yaml --latent_scale {result.latent_scale:g}"
    say(f"Next: fashion-ml train stargan --config experiments/stargan/{experiment} --latents-dir {result.folder} --vae {vae}")
