"""`fashion-ml runs` and `fashion-ml show`: which runs there are, and what there is to look at of one."""

from typing import Annotated

import typer

from fashion_ml.cli.options import Json, check_json, option, say, table, whole, write_json
from fashion_ml.runtime.language import language, tr
from fashion_ml.runtime.printable import near


def runs(
    experiment: Annotated[str, option("--experiment", help="Runs of this MLflow experiment alone.")] = "",
    count: Annotated[str, option("--count", help="At most so many, the newest.")] = "20",
    json: Json = "",
) -> None:
    """List runs, the newest first: name, gain over the base with its interval, verdict, how long it took, status."""
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.runs.listing import list_runs

    most = whole(count or "20", "--count")
    if most < 1:
        raise InputError(tr("--count: {count!r} is not accepted; give a whole number above 0", count=count))
    found = list_runs(experiment, most)
    write_json(json, found.to_dict())
    if not found.rows:
        say(tr("No runs yet. Make some: fashion-ml demo"))
        return
    table(["run", tr("name"), tr("gain (95 % interval)"), tr("verdict"), tr("time"), tr("status")], found.cells(), left=2)
    if found.more:
        say(tr("The {most} newest; --count {most_2} lists more", most=most, most_2=most * 2))
    say(tr("Look at one: fashion-ml show RUN        (its first digits, its name, or latest)"))


def show(
    run_id: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Run: id, its first digits, name, latest, or its folder.")
    ] = "latest",
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print where the files are.")] = False,
    json: Json = "",
) -> None:
    """Open the report and the grids of a run with what the desktop has for them, and say where they are and what was found."""
    check_json(json)
    from fashion_ml.runs.show import shown_of
    from fashion_ml.runtime.opener import open_file

    found = shown_of(run_id)
    write_json(json, found.to_dict())
    labels = {"Report": tr("Report   "), "Grid": tr("Grid     "), "Curves": tr("Curves   ")}
    say(tr("Run       {name}", name=found.name) + (f" ({found.run_id})" if found.run_id else ""))
    for what, path in found.files:
        say(f"{labels[what]} {near(path)}")
    opened = [open_file(path) for _, path in found.files] if not no_open else []
    if not all(opened):
        say(tr("Not opened: there is no desktop here; the files are where it says"))
    if found.said:
        say("")
        if found.language and found.language != language():
            say(tr("English, as it was written:") if found.language == "en" else tr("Traditional Chinese, as it was written:"))
        say("\n".join(line for line in found.said.splitlines() if line))
