"""The experiment that is equal to files or a command line of sd-scripts, as settings and as the text of a YAML file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from fashion_ml.config.kohya.convert import Equal, equal_of
from fashion_ml.config.kohya.data_sets import data_set
from fashion_ml.config.kohya.files import (
    command_words,
    flat_options,
    is_command,
    is_data_set,
    nearest,
    options_of,
    read_script,
    read_tree,
)
from fashion_ml.config.kohya.forms import is_form, options_of_form
from fashion_ml.config.kohya.options import DEFAULTS, known_options
from fashion_ml.config.kohya.sdxl import OfBase, drop_what_sdxl_has_not, kind_of, tells_another
from fashion_ml.config.kohya.values import is_nothing
from fashion_ml.config.loading import load_experiment
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.settings import settings_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_SCRIPTS = {"flux": "Flux", "sd3": "SD 3", "lumina": "Lumina", "hunyuan": "HunyuanImage", "anima": "Anima"}
_NEEDED = ("model.base", "data.resolution")


@dataclass
class Read:
    """What was read of sd-scripts, from one source after the other; a later one wins."""

    options: dict[str, Any] = field(default_factory=dict)
    subsets: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sdxl: bool | None = None
    """Whether it says that the base is one of SDXL; None where no script and no form says which it is."""
    open: list[Path] = field(default_factory=list)
    """Files that name the one that is read, from the outermost."""


def imported(
    sources: Sequence[str],
    *,
    dataset_config: str = "",
    config_file: str = "",
    defaults: bool = True,
    sdxl: bool | None = None,
    of_base: OfBase | None = None,
) -> Equal:
    """The settings equal to files (TOML, JSON, a saved form of the GUI, a shell script) and command lines.

    `sdxl` says whether the base is one of SDXL, whatever they say; `of_base` looks into the base.

    InputError, with every problem at once, for what cannot be read and for options of a command line that sd-scripts does not have.
    """
    read = Read()
    for source in ([config_file] if config_file else []) + list(sources):
        _read_source(source, read, as_options=source == config_file)
    if dataset_config:
        _read_data_set(Path(dataset_config).expanduser(), read)
    options = read.options
    if read.subsets:
        for name in ("train_data_dir", "reg_data_dir"):
            given = options.pop(name, None)
            if not is_nothing(given):
                read.notes.append(
                    tr("{name} {given}: the data set file counts instead, as in sd-scripts", name=name, given=given)
                )
    kind = kind_of(options, read.sdxl if sdxl is None else sdxl, of_base)
    if kind.sdxl:
        drop_what_sdxl_has_not(options, read.notes)
        options["sdxl"] = True
    equal = equal_of(options, defaults=defaults)
    equal.kind = kind.line()
    if read.subsets:
        equal.settings["data.subsets"] = read.subsets
    equal.notes[:0] = read.notes
    return equal


def _read_source(source: str, read: Read, *, as_options: bool = False) -> None:
    path = Path(source).expanduser()
    if not as_options and is_command(source):
        _read_command(source, read)
        return
    if as_options and path.name and path.suffix.lower() not in (".toml", ".json"):
        path = path.with_name(f"{path.name}.toml")  # sd-scripts leaves the ending out
    if path.absolute() in read.open:
        raise InputError(
            tr("config_file: {path!r} is named by a file that it names; leave config_file out of it", path=str(path))
        )
    read.open.append(path.absolute())
    try:
        _read_file(path, read)
    finally:
        read.open.pop()


def _read_file(path: Path, read: Read) -> None:
    if path.suffix.lower() in (".sh", ".bat", ".cmd", ".ps1", ".txt"):
        _read_command(read_script(path), read, path.suffix)
        return
    tree = read_tree(path)
    if is_data_set(tree):
        _read_data_set(path, read)
        return
    options = options_of_form(tree) if is_form(tree) else flat_options(tree)
    if "sdxl" in tree:
        read.sdxl = not is_nothing(tree["sdxl"])
        options.pop("sdxl", None)
    elif read.sdxl is None and tells_another(options):
        read.sdxl = False
    for name in sorted(options.keys() - known_options()):
        value = options.pop(name)
        if not is_nothing(value):
            read.notes.append(
                tr("{name} {value}: no option of train_network.py{nearest}", name=name, value=value, nearest=nearest(name))
            )
    _add_files(options, read)


def _read_command(text: str, read: Read, ending: str = "") -> None:
    script, words, notes = command_words(text, ending)
    read.notes += notes
    if script:
        read.sdxl = PureWindowsPath(script).name.startswith("sdxl")
    kind = next((model for start, model in _SCRIPTS.items() if PureWindowsPath(script).name.startswith(start)), "")
    if kind:
        read.notes.append(
            tr(
                "{script}: trains {kind}, and the base here is Stable Diffusion 1.x, 2.x or XL; give --base",
                script=script,
                kind=kind,
            )
        )
    elif script and "train_network" not in script:
        read.notes.append(
            tr("{script}: trains another thing than a LoRA; a LoRA by the same options is written", script=script)
        )
    _add_files(options_of(words), read)


def _add_files(options: Mapping[str, Any], read: Read) -> None:
    """Options, and under them those of the files that they name."""
    if not is_nothing(options.get("config_file")):
        _read_source(str(options["config_file"]), read, as_options=True)
    read.options |= {name: value for name, value in options.items() if name not in ("config_file", "dataset_config")}
    if not is_nothing(options.get("dataset_config")):
        _read_data_set(Path(str(options["dataset_config"])).expanduser(), read)


def _read_data_set(path: Path, read: Read) -> None:
    tree = read_tree(path)
    if not is_data_set(tree):
        raise InputError(
            tr("{path}: has no [[datasets]]; give a data set file of sd-scripts, or options by --config_file", path=path)
        )
    options, subsets, notes = data_set(tree, str(path))
    read.options |= options
    read.subsets = subsets
    read.notes += notes


def checked_equal(equal: Equal) -> Equal:
    """The same with every value as its setting has it. InputError, with every problem at once, when what is there is no experiment; what is
    not there yet may be added later."""
    missing = {
        path: value
        for path, value in (("model.base", "embedded"), ("data.train_data_dir", "embedded"))
        if path not in equal.settings
    }
    tree = load_experiment({**missing, **equal.settings}, {}, LoraExperiment).model_dump(mode="json")
    settings = {path: _at(tree, path) for path in equal.settings}
    if "data.subsets" in settings:
        own = ({name: value for name, value in subset.items() if value is not None} for subset in settings["data.subsets"])
        settings["data.subsets"] = list(own)
    return replace(equal, settings=settings)


def as_not_told(equal: Equal) -> str:
    """A sentence of what sd-scripts does when nothing is said, where this project does something else."""
    theirs = [
        f"{path} {value}" for path, value in DEFAULTS.items() if equal.settings.get(path, ...) == value and value is not False
    ]
    return tr("As in sd-scripts when it is not told, where this project has other defaults: {names}", names=", ".join(theirs))


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree


def as_yaml(equal: Equal, sources: Sequence[str]) -> str:
    """The experiment's YAML, headed by what it was made of and by what has no equal."""
    given = dict(equal.settings)
    tree: dict[str, Any] = {"name": given.pop("name")} if "name" in given else {}
    for one in settings_of(LoraExperiment):  # in the order of the documents
        if one.path in given:
            section, _, key = one.path.partition(".")
            tree.setdefault(section, {})[key] = given.pop(one.path)
    assert not given, given
    lines = [tr("# Made of {names} by `fashion-ml import`.", names=", ".join(shlex.quote(source) for source in sources))]
    missing = [path for path in _NEEDED if path not in equal.settings]
    if not {"data.train_data_dir", "data.subsets"} & equal.settings.keys():
        missing.append("data.train_data_dir")
    if missing:
        lines.append(tr("# Not in there, to be added here or given as options: {names}.", names=", ".join(missing)))
    lines.append(
        tr("# Nothing is measured in sd-scripts, so evaluation is off; turn it on with references and an encoder of your own.")
    )
    lines.append(f"# {as_not_told(equal)}{tr('.')}")
    if equal.kind:
        lines.append(f"# {equal.kind[0].upper()}{equal.kind[1:]}{tr('.')}")
    if equal.all_notes:
        lines += [tr("# Has no equal here, or one in part:"), *(f"# - {note}" for note in equal.all_notes)]
    if equal.not_needed:
        lines.append(tr("# Not needed here: {names}.", names=", ".join(sorted(equal.not_needed))))
    text = "".join(f"{' '.join(line.split())}\n" for line in lines)
    return text + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
