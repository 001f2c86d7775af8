"""`fashion-ml export`, `inspect` and `register`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli.options import Json, check_json, option, say, write_json
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr


def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Training run, or a LoRA's file.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new file, or a new folder (diffusers, merged, hub).")],
    form: Annotated[str, option("--format", help="kohya, diffusers, merged (base and LoRA in one), or hub.")] = "kohya",
    checkpoint: Annotated[str, option("--checkpoint", help="last, best, or the name of a kept file.")] = "last",
    average: Annotated[str, option("--average", help="Instead: kept files whose weights are averaged, A,B,last.")] = "",
    base: Annotated[str, option("--base", help="Of a file: its base, where it does not say or it is merged.")] = "",
    json: Json = "",
) -> None:
    """Write the LoRA of a run, or a LoRA file of any program, for other programs."""
    check_json(json)
    from fashion_ml.deploy.export import export_lora

    form, checkpoint = form or "kohya", checkpoint or "last"
    names = [name.strip() for name in average.split(",") if name.strip()]
    path = export_lora(run_id, form, checkpoint, output, names, base)
    write_json(json, {"run_id": run_id, "format": form, "checkpoint": ",".join(names) or checkpoint, "path": str(path)})
    say(f"{path}: {form}")


def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA's or an embedding's .safetensors file, of any program.")],
    picture: Annotated[Path | None, option("--picture", help="A PNG that is written: where the weights are.")] = None,
    json: Json = "",
) -> None:
    """Say what a LoRA's or embedding's file is and holds: whose names, method, base, rank, norms, hashes, and what can be done with it."""
    check_json(json)
    from fashion_ml.deploy.inspect_embedding import inspect_embedding
    from fashion_ml.deploy.inspect_file import inspect_lora

    embedding = inspect_embedding(file)
    if embedding is not None:
        if picture is not None:
            raise InputError(
                tr(
                    "--picture: {file!r} is a textual inversion, and the picture is of a LoRA's blocks; leave it out",
                    file=str(file),
                )
            )
        write_json(json, embedding)
        _say_embedding(embedding)
        return
    facts = inspect_lora(file, picture)
    write_json(json, facts)
    _say_lora(file, facts)


def _say_lora(file: Path, facts: dict[str, Any]) -> None:
    targets = ", ".join(f"{count} {group}" for group, count in sorted(facts["targets"].items()))
    say(
        tr(
            "{file}: {bytes:.2f} MiB, {parameters:,} numbers, {names}",
            file=file,
            bytes=facts["bytes"] / 2**20,
            parameters=facts["parameters"],
            names=", ".join(facts["dtype"]),
        )
    )
    say(
        tr(
            "form      {names}, in the names of {names_2}; base: {base}",
            names=tr(" and ").join(facts["methods"]),
            names_2=facts["names"],
            base=facts["base"],
        )
    )
    say(tr("use       {use}", use=facts["use"]))
    say(tr("rank      {list}", list=_list(facts["rank"])))
    say(tr("alpha     {list} (scale {list_2})", list=_list(facts["alpha"]), list_2=_list(facts["scale"])))
    for note in facts["notes"]:
        say(tr("note      {note}", note=note))
    say(tr("modules   {modules}: {targets}", modules=facts["modules"], targets=targets) + ("; DoRA" if facts["dora"] else ""))
    for word in facts["words"]:
        say(
            tr(
                "word      {word}, begun as {init_text!r}; norms of its vectors {list}",
                word=word["word"],
                init_text=word["init_text"],
                list=_list(word["norms"]),
            )
        )
    if facts["norms"]:
        say(tr("norms     {names}", names=", ".join(f"{block}: {value:.3g}" for block, value in facts["norms"].items())))
    if ranks := facts["effective_ranks"]:
        say(tr("effective rank  {names}", names=", ".join(f"{block}: {value:.1f}" for block, value in ranks.items())))
    if facts["not_finite"]:
        say(
            tr(
                "NaN or Inf in {count} tensors, first {not_finite}: the file is damaged",
                count=len(facts["not_finite"]),
                not_finite=facts["not_finite"][0],
            )
        )
    say(
        tr(
            "hashes    SHA-256 {sha256}, without metadata {sshs_model_hash} (kohya's, WebUIs'), old {sshs_legacy_hash}",
            sha256=facts["sha256"],
            sshs_model_hash=facts["sshs_model_hash"],
            sshs_legacy_hash=facts["sshs_legacy_hash"],
        )
    )
    for key, value in sorted(facts["metadata"].items()):
        say(f"{key} = {value if len(value) <= 120 else value[:117] + '...'}")


def _say_embedding(facts: dict[str, Any]) -> None:
    say(f"{facts['file']}: {facts['bytes'] / 2**20:.2f} MiB, {', '.join(facts['dtype'])}")
    say(tr("form      textual inversion, in the form of {names}; base: {base}", names=facts["names"], base=facts["base"]))
    say(tr("use       {use}", use=facts["use"]))
    say(
        tr(
            "word      {word}: {vectors} of a prompt's tokens, of {list} numbers",
            word=facts["word"],
            vectors=facts["vectors"],
            list=_list(facts["widths"]),
        )
    )
    for name, norms in facts["norms"].items():
        say(tr("norms     {name}: {list}", name=name, list=_list(norms)))
    if facts["not_finite"]:
        say(tr("NaN or Inf in {names}: the file is damaged", names=", ".join(facts["not_finite"])))
    say(tr("hash      SHA-256 {sha256}", sha256=facts["sha256"]))
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
    say(
        tr(
            "{name} version {version}: {part}. {why}",
            name=result.name,
            version=result.version,
            part=tr("champion") if result.champion else tr("registered"),
            why=result.why,
        )
    )
    say(tr("Serve     fashion-ml serve models:/{name}/{version} --port 5001", name=result.name, version=result.version))


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="models:/NAME/1, models:/NAME@champion, or a folder, that register has made.")
    ],
    port: Annotated[int, option("--port", help="Port to answer at.")] = 5001,
    host: Annotated[str, option("--host", help="Address to answer at; whoever reaches it may ask.")] = "127.0.0.1",
    seconds: Annotated[float, option("--seconds", help="The most that a request takes.")] = 60.0,
    most_images: Annotated[
        float, option("--most-images", help="The most work of one request, in images of 512 x 512 pixels at 50 steps.")
    ] = 16.0,
    names: Annotated[
        str, option("--names", help="Hosts beside this machine's that requests are addressed to, by commas.")
    ] = "",
) -> None:
    """Answer over HTTP with a model of register, by MLflow's protocol: bounded requests, a time limit, an end at once.

    Models of other programs bring code that would run, and are refused.
    """
    from fashion_ml.deploy.serve import serve as answer

    hosts = [one.strip() for one in names.split(",") if one.strip()]
    answer(model, host, port, say, seconds=seconds, most_images=most_images, names=hosts)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
