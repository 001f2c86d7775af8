"""Commands around training: export, inspect, encode, the embedded world, doctor, ui."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fashion_ml.cli.options import KEYS, Json, check_json, option, say, table, write_json

_SYNC_SECONDS = 60.0
embedded_app = typer.Typer(help="The small world inside the package that needs no download.", **KEYS)


def export(
    run_id: Annotated[str, typer.Argument(help="Id of a training run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new file, or a new folder for diffusers and merged.")],
    form: Annotated[str, option("--format", help="kohya, diffusers, or merged (base and LoRA in one).")] = "kohya",
    checkpoint: Annotated[str, option("--checkpoint", help="last, best, or the name of a kept file.")] = "last",
    json: Json = "",
) -> None:
    """Write the LoRA of a run for other programs."""
    check_json(json)
    from fashion_ml.exporting import export_lora

    form, checkpoint = form or "kohya", checkpoint or "last"
    path = export_lora(run_id, form, checkpoint, output)
    write_json(json, {"run_id": run_id, "format": form, "checkpoint": checkpoint, "path": str(path)})
    say(f"{path}: {form}")


def inspect(file: Annotated[Path, typer.Argument(help="A LoRA .safetensors file.")], json: Json = "") -> None:
    """Say what a LoRA file holds: rank, alpha, what it trains, size, metadata."""
    check_json(json)
    from fashion_ml.exporting import inspect_lora

    facts = inspect_lora(file)
    write_json(json, facts)
    targets = ", ".join(f"{count} {group}" for group, count in sorted(facts["targets"].items()))
    say(f"{file}: {facts['bytes'] / 2**20:.2f} MiB, {facts['parameters']:,} numbers, {', '.join(facts['dtype'])}")
    say(f"rank      {_list(facts['rank'])}")
    say(f"alpha     {_list(facts['alpha'])}")
    say(f"modules   {facts['modules']}: {targets}" + ("; DoRA" if facts["dora"] else ""))
    for key, value in sorted(facts["metadata"].items()):
        say(f"{key} = {value if len(value) <= 120 else value[:117] + '...'}")


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


def doctor(
    close_runs: Annotated[
        bool, typer.Option("--close-runs", help="Mark runs as KILLED that say RUNNING and whose process has ended.")
    ] = False,
    json: Json = "",
) -> None:
    """Look at Python, torch, memory, packages, the tracking store and the model files; say what is wrong and how to mend it."""
    check_json(json)
    from fashion_ml.doctor import examine

    if close_runs:
        from fashion_ml.tracking import close_dead_runs

        say(f"{close_dead_runs()} runs closed")

    findings = examine()
    write_json(json, {"ok": not any(f.state == "wrong" for f in findings), "findings": [vars(f) for f in findings]})
    for finding in findings:
        mark = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}[finding.state]
        say(f"{mark} {finding.name:<16} {finding.found}" + (f"; {finding.fix}" if finding.fix else ""))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def register(
    run_id: Annotated[str, typer.Argument(help="Id of a finished training run.")],
    name: Annotated[str, option("--name", help="Registered model; a new version of it is made.")],
    json: Json = "",
) -> None:
    """Put a run's networks into the model registry; the alias champion moves only to what compare finds better."""
    check_json(json)
    from fashion_ml.registering import register as add_version

    result = add_version(run_id, name)
    write_json(json, vars(result))
    say(f"{result.name} version {result.version}: {'champion' if result.champion else 'registered'}. {result.why}")
    say(
        f"Serve     mlflow models serve -m models:/{result.name}/{result.version} --env-manager local --host 127.0.0.1 --port 5001"
    )


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Id of a finished training run.")],
    output_dir: Annotated[str, option("--output-dir", help="Folder for the new run's files; in outputs/ when not given.")] = "",
    json: Json = "",
) -> None:
    """Train a run again from the config that it logged, and compare every number; exit code 1 when one differs."""
    check_json(json)
    from fashion_ml.recipes.reproducing import reproduce as train_again

    result = train_again(run_id, Path(output_dir) if output_dir else None)
    write_json(json, {**vars(result), "identical": result.identical})
    for package, (before, after) in result.versions.items():
        say(f"Version   {package} was {before} and is {after}")
    if result.different:
        rows = [[name, *("absent" if v is None else f"{v:.9g}" for v in pair)] for name, pair in result.different.items()]
        table(["differs", "before", "now"], rows, left=1)
    if result.evaluated_again:
        say("Not compared: eval/ values, for the run was evaluated again since, with other settings")
    what = "identical" if result.identical else f"{len(result.different)} metrics differ"
    say(f"Run {result.after} repeats {run_id}: {what}, {result.points} equal points")
    if not result.identical:
        raise typer.Exit(1)


def sync(
    run_dirs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN_DIR]…", help="Folders of runs; all below outputs/ when not given.")
    ] = None,
    json: Json = "",
) -> None:
    """Send to the tracking store what runs logged while it was away; each point arrives once, however often this is called."""
    check_json(json)
    from fashion_ml.syncing import sync_folders, unsent

    folders = [path.absolute() for path in run_dirs or unsent(Path("outputs"))]
    done = []
    for one in sync_folders(folders, _SYNC_SECONDS):
        done.append({"folder": str(one.folder), "run_id": one.run_id, "sent": one.sent, "ended": one.ended})
        what = "everything is in the store" if one.sent else "NOT all sent: the store is away or refuses some; call this again"
        say(f"{one.folder}: run {one.run_id}, {what}" + ("; its process had been killed: ended now" if one.ended else ""))
    if not folders:
        say("Nothing waits to be sent.")
    write_json(json, {"synced": done})
    if not all(one["sent"] for one in done):
        raise typer.Exit(1)


def ui(
    port: Annotated[str, option("--port", help="Port on 127.0.0.1.")] = "5000",
    sweeps: Annotated[bool, typer.Option("--sweeps", help="Say how to open the sweeps' studies in optuna-dashboard.")] = False,
) -> None:
    """Open the MLflow UI on this machine only, and print the link to the runs."""
    from fashion_ml.errors import InputError
    from fashion_ml.ui import serve

    if sweeps:
        from fashion_ml.sweep.study import dashboards

        for line in dashboards():
            say(line)
        return

    number = port or "5000"
    if not number.isdecimal() or not 1 <= int(number) <= 65535:
        raise InputError(f"--port: {port!r} is not accepted; give a number from 1 to 65535")
    serve(int(number), say)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"


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
    from fashion_ml.encoding import encode_folder
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.evaluate import device_of_evaluation

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
