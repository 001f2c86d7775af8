"""`fashion-ml export`, `inspect` and `register`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fashion_ml.cli.options import Json, check_json, option, say, write_json


def export(
    run_id: Annotated[str, typer.Argument(help="Training run: id, its first digits, name, or latest.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new file, or a new folder for diffusers and merged.")],
    form: Annotated[str, option("--format", help="kohya, diffusers, or merged (base and LoRA in one).")] = "kohya",
    checkpoint: Annotated[str, option("--checkpoint", help="last, best, or the name of a kept file.")] = "last",
    average: Annotated[str, option("--average", help="Instead: kept files whose weights are averaged, A,B,last.")] = "",
    json: Json = "",
) -> None:
    """Write the LoRA of a run for other programs."""
    check_json(json)
    from fashion_ml.deploy.export import export_lora

    form, checkpoint = form or "kohya", checkpoint or "last"
    names = [name.strip() for name in average.split(",") if name.strip()]
    path = export_lora(run_id, form, checkpoint, output, names)
    write_json(json, {"run_id": run_id, "format": form, "checkpoint": ",".join(names) or checkpoint, "path": str(path)})
    say(f"{path}: {form}")


def inspect(file: Annotated[Path, typer.Argument(help="A LoRA .safetensors file.")], json: Json = "") -> None:
    """Say what a LoRA file holds: rank, alpha, what it trains, size, metadata."""
    check_json(json)
    from fashion_ml.deploy.export import inspect_lora

    facts = inspect_lora(file)
    write_json(json, facts)
    targets = ", ".join(f"{count} {group}" for group, count in sorted(facts["targets"].items()))
    say(f"{file}: {facts['bytes'] / 2**20:.2f} MiB, {facts['parameters']:,} numbers, {', '.join(facts['dtype'])}")
    say(f"rank      {_list(facts['rank'])}")
    say(f"alpha     {_list(facts['alpha'])}")
    say(f"modules   {facts['modules']}: {targets}" + ("; DoRA" if facts["dora"] else ""))
    for key, value in sorted(facts["metadata"].items()):
        say(f"{key} = {value if len(value) <= 120 else value[:117] + '...'}")


def register(
    run_id: Annotated[str, typer.Argument(help="Finished training: id, its first digits, name, or latest.")],
    name: Annotated[str, option("--name", help="Registered model; a new version of it is made.")],
    suite: Annotated[
        str, option("--suite", help="Run of the suite that trained it: champion only where its recipe wins.")
    ] = "",
    json: Json = "",
) -> None:
    """Put a run's networks into the model registry; the alias champion moves only to what compare finds better."""
    check_json(json)
    from fashion_ml.deploy.register import register as add_version

    result = add_version(run_id, name, suite)
    write_json(json, vars(result))
    say(f"{result.name} version {result.version}: {'champion' if result.champion else 'registered'}. {result.why}")
    say(
        f"Serve     mlflow models serve -m models:/{result.name}/{result.version} --env-manager local --host 127.0.0.1 --port 5001"
    )


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
