"""The command line: parse, load, call, print. Heavy imports are inside the commands, so that --help answers at once."""

import errno
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli import data, lora_files, models, runs, show
from fashion_ml.cli.evaluate import ComparisonCommand, compare, evaluate_app
from fashion_ml.cli.kohya_options import import_
from fashion_ml.cli.options import KEYS, option
from fashion_ml.cli.suite import suite, suite_report, suite_worker
from fashion_ml.cli.sweep import sweep, sweep_report, sweep_worker
from fashion_ml.cli.train import demo, train_app
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import VARIABLE, language, language_of, set_language, tr
from fashion_ml.runtime.printable import is_printable, shown
from fashion_ml.runtime.redact import without_credentials

app = typer.Typer(help="Fine-tune image models for fashion, and know whether it worked.", **KEYS)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(data.embedded_app, name="embedded")
for command in (
    demo,
    sweep,
    sweep_worker,
    sweep_report,
    suite,
    suite_worker,
    suite_report,
    show.runs,
    show.show,
    data.encode,
    data.split,
    data.caption,
    data.prior,
    models.export,
    models.inspect,
    lora_files.merge,
    lora_files.resize,
    lora_files.extract,
    runs.doctor,
    runs.sync,
    runs.reproduce,
    models.register,
    models.serve,
    runs.ui,
):
    app.command(command.__name__.replace("_", "-"))(command)
app.command("import")(import_)
app.command("compare", cls=ComparisonCommand)(compare)
app.command("data", cls=data.DataCommand)(data.data)
_INTERRUPTED, _LONGEST = 130, 4000
_LANG = "--lang"


@app.callback()
def _of_all(
    lang: Annotated[
        str, option(_LANG, help="Language of messages, reports and figures: en or zh-TW; by LANG when not given.")
    ] = "",
) -> None:
    if lang:
        set_language(lang)


def _lang_first(arguments: list[str]) -> list[str]:
    """`--lang` may stand anywhere: it is of no one command."""
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word == _LANG or word.startswith(f"{_LANG}="):
            end = place + (2 if word == _LANG else 1)
            return [*arguments[place:end], *arguments[:place], *arguments[end:]]
    return arguments


def _speak(command: Any, arguments: Sequence[str]) -> None:
    """Begin with the language that `--lang` asks for, so that --help, which comes before it is read, is in it too."""
    asked = (arguments[:1] == [_LANG] and arguments[1:2]) or [
        one[len(_LANG) + 1 :] for one in arguments[:1] if one.startswith(f"{_LANG}=")
    ]
    if asked and asked[0]:
        set_language(asked[0])
    if language() != "en":
        from fashion_ml.cli.help_language import translate_help

        translate_help(command)


def _with_latest(arguments: list[str]) -> list[str]:
    """`--resume` without a folder means the latest run."""
    result = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        result.append(argument)
        if argument == "--resume" and following.startswith("-"):
            result.append("latest")
    return result


def _storage_problem(error: Exception) -> str | None:
    """One line for a path or a disk that no setting's own check has met."""
    number, place = getattr(error, "errno", None), getattr(error, "filename", None)
    if isinstance(error, RuntimeError) and str(error) == "Could not determine home directory.":
        return tr("path: one that was given begins with ~ and the name of no user of this machine; write it out")
    if "database or disk is full" in str(error):
        return tr("MLFLOW_TRACKING_URI: the disk of the tracking store is full; free space and go on with --resume")
    if number in (errno.ENOSPC, errno.EDQUOT):
        where = (
            tr("disk of {place}", place=place)
            if place
            else tr("disk (of output.output_dir, data.cache_dir, the tracking store, or the temporary folder)")
        )
        return tr("the {where} is full; free space and go on with --resume, what was written before is intact", where=where)
    if place is not None and number in (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return tr(
            "path: {place!r} cannot be used ({strerror}); give another path",
            place=str(place)[:300],
            strerror=os.strerror(number),
        )
    return None


def _check_names(arguments: list[str]) -> None:
    """InputError for names that no store, file or server takes; those of images inside a folder may be such."""
    problems = [
        tr("{word!r} is not UTF-8; rename that file or folder (convmv does it)", word=word)
        for word in arguments
        if not is_printable(word)
    ]
    try:
        here = str(Path.cwd())
    except OSError:  # it was removed
        here = ""
    if not is_printable(here):
        problems.append(tr("the working folder {here!r} is not UTF-8; rename it, or work in another one", here=here))
    if problems:
        raise InputError(problems)


def _store_problem(error: Exception) -> str | None:
    """One line for a tracking store that goes away, or does not allow something, in the middle of a command."""
    if not type(error).__module__.startswith("mlflow."):
        return None
    from fashion_ml.tracking.sender import is_temporary
    from fashion_ml.tracking.store import store_uri
    from fashion_ml.tracking.store_checks import FIELD, is_refusal, what_is_wrong

    return f"{FIELD}: {what_is_wrong(store_uri(), error)}" if is_temporary(error) or is_refusal(error) else None


def _memory_problem(error: Exception) -> str | None:
    """One line for memory that is full where no phase has a setting of its own to name."""
    if not isinstance(error, MemoryError | RuntimeError):
        return None
    from fashion_ml.runtime.gpu_memory import full_memory

    where = full_memory(error)
    return (
        tr(
            "memory: what was asked for does not fit into {where}; use smaller sizes (resolution, batch, rank), or more of it",
            where=where,
        )
        if where
        else None
    )


def _shortened(line: str) -> str:
    """A line of error of at most 4,000 characters."""
    return (
        line
        if len(line) <= _LONGEST
        else tr("{line}… ({count:,} characters more)", line=line[:_LONGEST], count=len(line) - _LONGEST)
    )


def main() -> None:
    """Run the command; a problem the user can mend is one line each and exit code 2, Ctrl-C is 130."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # with Python's 700 the imports of torch and mlflow spend more than a second looking for garbage
    gc.set_threshold(20_000, 10, 10)
    command = typer.main.get_command(app)
    arguments = _lang_first(_with_latest(sys.argv[1:]))
    from fashion_ml.runtime.console import show_lines
    from fashion_ml.runtime.lasting_output import outlive_readers
    from fashion_ml.runtime.parent_process import end_with_parent
    from fashion_ml.runtime.signals import interrupt_on_signals

    os.environ[VARIABLE] = language_of(os.environ)
    outlive_readers()
    show_lines()
    interrupt_on_signals()
    end_with_parent()
    try:
        _check_names(arguments)
        _speak(command, arguments)
        code = command.main(arguments, standalone_mode=False)
        if code == _INTERRUPTED:  # typer makes an exit code of Ctrl-C
            raise KeyboardInterrupt
    except InputError as error:
        for problem in error.problems:
            typer.echo(
                tr("error: {shortened}", shortened=_shortened(shown(without_credentials(" ".join(problem.split()))))),
                err=True,
            )
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo(tr("Stopped. A run that had begun is marked KILLED; its log and files are kept."), err=True)
        code = _INTERRUPTED
    except Exception as error:
        storage = _storage_problem(error) or _store_problem(error) or _memory_problem(error)
        if storage:
            typer.echo(tr("error: {storage}", storage=shown(storage)), err=True)
            sys.exit(2)
        if not hasattr(error, "format_message"):  # not a usage error of the command line
            typer.echo(without_credentials("".join(traceback.format_exception(error))), err=True)
            sys.exit(1)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            sys.exit(0)
        said = error.format_message()
        if language() != "en":
            from fashion_ml.cli.help_language import usage_problem

            said = usage_problem(said)
        typer.echo(tr("error: {shortened} (--help shows what there is)", shortened=_shortened(shown(said))), err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
