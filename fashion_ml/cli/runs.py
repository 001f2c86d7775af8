"""`fashion-ml sync`, `doctor`, `reproduce` and `ui`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli.options import Json, check_json, option, say, table, write_json
from fashion_ml.runtime.language import tr, translated

_SYNC_SECONDS = 60.0


def doctor(
    close_runs: Annotated[
        bool, typer.Option("--close-runs", help="End runs that say RUNNING and whose process has ended.")
    ] = False,
    json: Json = "",
) -> None:
    """Look at Python, torch, memory, packages, the tracking store and the model files; say what is wrong and how to mend it."""
    check_json(json)
    from fashion_ml.runs.doctor import examine

    if close_runs:
        from fashion_ml.runs.ending import close_dead_runs

        say(tr("{close_dead_runs} runs closed", close_dead_runs=close_dead_runs()))

    from rich.cells import cell_len

    findings = examine()
    write_json(json, {"ok": not any(f.state == "wrong" for f in findings), "findings": [vars(f) for f in findings]})
    for finding in findings:
        mark = {"ok": tr("ok   "), "note": tr("note "), "wrong": tr("WRONG")}[finding.state]
        name = translated(finding.name)
        head = f"{mark} {name}{' ' * (16 - cell_len(name))} "
        say(head + finding.found + (tr("; ") + finding.fix if finding.fix else ""), label=cell_len(head))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Finished training: id, its first digits, name, or latest.")],
    output_dir: Annotated[str, option("--output-dir", help="Folder for the new run's files; in outputs/ when not given.")] = "",
    json: Json = "",
) -> None:
    """Train a run again from the config that it logged, and compare every number; exit code 1 when one differs."""
    check_json(json)
    from fashion_ml.runs.reproduce import reproduce as train_again

    result = train_again(run_id, Path(output_dir) if output_dir else None)
    write_json(json, {**vars(result), "identical": result.identical})
    for package, (before, after) in result.versions.items():
        say(tr("Version   {package} was {before} and is {after}", package=package, before=before, after=after))
    if result.different:
        rows = [[name, *(tr("absent") if v is None else f"{v:.9g}" for v in pair)] for name, pair in result.different.items()]
        table([tr("differs"), tr("before"), tr("now")], rows, left=1)
    if result.evaluated_again:
        say(tr("Not compared: eval/ values, for the run was evaluated again since, with other settings"))
    what = tr("identical") if result.identical else tr("{count} metrics differ", count=len(result.different))
    say(
        tr(
            "Run {after} repeats {run_id}: {what}, {points} equal points",
            after=result.after,
            run_id=run_id,
            what=what,
            points=result.points,
        )
    )
    if not result.identical:
        raise typer.Exit(1)


def sync(
    run_dirs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN_DIR]…", help="Folders of runs, or above them; outputs/ and those of killed runs when not given."
        ),
    ] = None,
    json: Json = "",
) -> None:
    """Send to the tracking store what runs logged while it was away or offline; each point arrives once, however often this is called."""
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.runs.sync import NotSynced, everywhere, folders_of, sync_folders

    folders, problems = list[Path](), list[str]()
    for path in run_dirs or (None,):
        try:
            found = folders_of(path) if path else everywhere()
            folders += found.folders
            problems += found.problems
        except InputError as error:
            problems += error.problems
    done, waiting = list[dict[str, Any]](), False
    for one in sync_folders([path.absolute() for path in folders], _SYNC_SECONDS) if folders else ():
        if isinstance(one, NotSynced):
            problems += one.why.problems
            done.append({"folder": str(one.folder), "run_id": None, "sent": False, "ended": False})
            continue
        waiting |= not one.sent
        done.append({"folder": str(one.folder), "run_id": one.run_id, "sent": one.sent, "ended": one.ended})
        what = (
            tr("everything is in the store")
            if one.sent
            else tr("NOT all sent: the store is away or refuses some; call this again")
        )
        say(
            tr("{folder}: run {run_id}, {what}", folder=one.folder, run_id=one.run_id, what=what)
            + (tr("; its process had been killed: ended now") if one.ended else "")
        )
    if not folders and not problems:
        say(tr("Nothing waits to be sent."))
    write_json(json, {"synced": done})
    if problems:  # said last, when the others are sent
        raise InputError(problems)
    if waiting:
        raise typer.Exit(1)


def ui(
    port: Annotated[str, option("--port", help="Port on 127.0.0.1.")] = "5000",
    open_: Annotated[bool, typer.Option("--open", help="Also open the page in a browser.")] = False,
    sweeps: Annotated[bool, typer.Option("--sweeps", help="Say how to open the sweeps' studies in optuna-dashboard.")] = False,
) -> None:
    """Serve a page of results on this machine only, the MLflow UI beside it, and print their links: did it work, which is best, how sure."""
    from fashion_ml.errors import InputError
    from fashion_ml.runs.ui import serve

    if sweeps:
        from fashion_ml.sweep.study import dashboards

        for line in dashboards():
            say(line)
        return

    number = port or "5000"
    if not number.isdecimal() or not 1 <= int(number) <= 65535:
        raise InputError(tr("--port: {port!r} is not accepted; give a number from 1 to 65535", port=port))
    serve(int(number), say, browser=open_)
