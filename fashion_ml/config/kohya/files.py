"""Files and command lines of sd-scripts and kohya_ss: read into options by their names, and into a data set."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion_ml.config.kohya.options import known_options
from fashion_ml.config.kohya.shell import lines_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import read_utf8
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LISTS = frozenset(
    {"network_args", "optimizer_args", "lr_scheduler_args", "base_weights", "base_weights_multiplier", "text_encoder_lr"}
)
"""Options that take several words."""


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping in a TOML or JSON file. InputError when it cannot be read or holds none."""
    try:
        text = read_utf8(path)
    except FileNotFoundError:
        raise InputError(tr("{path}: does not exist; give the path of a TOML or JSON file", path=path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            tr("{path}: cannot be read ({error}); give a TOML or JSON file in UTF-8", path=path, error=error)
        ) from None
    try:
        tree = parsed(text) if path.suffix.lower() == ".json" else _toml(text)
    except ValueError as error:  # both kinds of syntax errors
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise InputError(tr("{path}: is not {kind} ({error}); mend that line", path=path, kind=kind, error=error)) from None
    if not isinstance(tree, dict):
        raise InputError(tr("{path}: holds no settings; give a file of sd-scripts or kohya_ss", path=path))
    return tree


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(tr("it is nested too deep")) from None


def is_data_set(tree: Mapping[str, Any]) -> bool:
    """Whether a file is what `--dataset_config` takes, and not options."""
    return isinstance(tree.get("datasets"), list)


def flat_options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a file; its sections mean nothing, as in sd-scripts."""
    options: dict[str, Any] = {}
    for name, value in tree.items():
        options |= value if isinstance(value, Mapping) else {name: value}
    return options


def is_command(text: str) -> bool:
    """Whether a text is a command line and not the name of a file."""
    return " --" in text or text.startswith("--") or "train_network.py" in text.split()


def read_script(path: Path) -> str:
    """The text of a shell script. InputError when it cannot be read."""
    try:
        return read_utf8(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(tr("{path}: cannot be read ({error}); give a shell script in UTF-8", path=path, error=error)) from None


def command_words(script: str, ending: str = "") -> tuple[str, list[str], list[str]]:
    """The script of sd-scripts that a shell script or command line starts, the words behind it, and a line for each thing in it that is not
    known before the shell runs; no script where the line begins with options.

    It is read as the shell of its file's `ending` reads it, without one as the shell that it looks like. InputError when no script is started.
    """
    for line in lines_of(script, ending):
        words = line.words
        place = next((index for index, word in enumerate(words) if word.endswith(".py")), None)
        if place is None and not (words and words[0].startswith("--")):
            continue
        if not line.ends:
            raise InputError(
                tr("the command line cannot be read (a quotation does not end): {names}", names=" ".join(words)[:80])
            )
        notes = [
            tr("{one}: known only while the script runs, so it is left out; write its value", one=one) for one in line.unknown
        ]
        return ("", words, notes) if place is None else (words[place], words[place + 1 :], notes)
    raise InputError(
        tr("no line starts a script of sd-scripts; give one such as: accelerate launch train_network.py --network_dim 8")
    )


def options_of(words: Sequence[str]) -> dict[str, Any]:
    """The options of a command line: a flag alone is true, and the beginning of a name may stand for it, as argparse reads them.

    InputError with a line for each option that sd-scripts does not have.
    """
    options: dict[str, Any] = {}
    problems, rest = list[str](), list(words)
    while rest:
        word, equals, text = rest.pop(0).partition("=")
        values = [text] if equals else []
        while not equals and rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if not word.startswith("--"):
            problems.append(tr("{word}: was not expected here; options begin with --", word=word))
            continue
        name = full_name(word.lstrip("-").replace("-", "_"))
        if name not in known_options():
            problems.append(tr("{word}: sd-scripts has no such option{nearest}", word=word, nearest=nearest(name)))
        elif name in _LISTS:
            options[name] = values
        else:
            options[name] = " ".join(values) if values else True
    if problems:
        raise InputError(problems)
    return options


def full_name(name: str) -> str:
    """The option that a name is the only beginning of; else the name itself."""
    if name in known_options():
        return name
    longer = [one for one in known_options() if one.startswith(name)]
    return longer[0] if len(longer) == 1 else name


def nearest(name: str) -> str:
    """`; did you mean x?`, or nothing where no option is near."""
    import difflib

    near = difflib.get_close_matches(name, sorted(known_options()), n=1, cutoff=0.7)
    return tr("; did you mean {near}?", near=near[0]) if near else ""
