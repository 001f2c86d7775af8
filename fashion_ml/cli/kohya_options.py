"""Options of kohya's sd-scripts on this command line, and `fashion-ml import`."""

import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_ml.cli.options import say
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr


class KohyaOptions:
    """What `train lora` was given of sd-scripts' options that are no settings of this project."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def takes(self, name: str, following: str) -> bool:
        """Whether it is one of them: no setting has its name, or what follows is no value of that setting: a file of prompts, or a rate for
        each of two text encoders."""
        from fashion_ml.config import SHORT_NAMES
        from fashion_ml.config.kohya.options import known_options

        if name == "sample_prompts":
            return following.lower().endswith(".txt")
        if name == "text_encoder_lr":
            return len(following.split()) > 1
        return name in known_options() and name not in SHORT_NAMES

    def take(self, name: str, values: list[str]) -> None:
        """As argparse would: a flag alone is true."""
        listed = name.endswith("_args") or name == "text_encoder_lr"
        self._given[name] = values if listed else " ".join(values) if values else True

    def names(self) -> Collection[str]:
        """All that sd-scripts has."""
        from fashion_ml.config.kohya.options import known_options

        return known_options()

    def settled(self, given: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The settings by path, and a line for each option without an equal; what is not needed is said, and so is for which kind of base
        numbers of blocks were read."""
        if not self._given:
            return {}, []
        from fashion_ml.config.kohya.convert import equal_of
        from fashion_ml.config.kohya.sdxl import kind_of
        from fashion_ml.runtime.console import say as tell

        try:
            kind = None
            if self._given.keys() & {"network_args", "text_encoder_lr"}:
                # the base that is trained, which counts by its name where it is not here
                named = {"pretrained_model_name_or_path": _base_given(given) or _base_in_options(own.get("config_file"))}
                kind = kind_of({**self._given, **named}, None, base_looked_into(given, own.get("config")))
            equal = equal_of({**self._given, "sdxl": kind is not None and kind.sdxl}, defaults=False)
            if kind is not None and "optimizer.block_lr" in equal.settings:
                tell(f"--network_args: {kind.line()}")
        except InputError as error:
            return {}, [f"--{problem}" for problem in error.problems]
        say_not_needed(equal.not_needed, dashes="--")
        for note in equal.nearly:
            tell(f"--{note}")
        return equal.settings, [tr("--{note}; leave it out", note=note) for note in equal.notes]


def base_looked_into(given: Mapping[str, Any], config: str | Path | None) -> Callable[[str], tuple[str, bool] | None]:
    """What looks into the base of a training, by its files, for whether sd-scripts' SDXL program trains it: that of settings that were `given`,
    else that which sd-scripts' options name, else that of the experiment `config`. None of one that is not on disk, or cannot be read."""

    def look(named: str) -> tuple[str, bool] | None:
        from fashion_ml.runs.warm_start import is_there

        base = _base_given(given) or named or _base_in(config)
        if base == "" or not (base == "embedded" or is_there(base)):
            return None
        from fashion_ml.models.stable_diffusion import family_on_disk

        try:
            return base, family_on_disk(base).kohya_script.startswith("sdxl")
        except InputError:  # which loading it says
            return None

    return look


def _base_given(given: Mapping[str, Any]) -> str:
    """Empty where no setting, by path or short name, is a base."""
    from fashion_ml.config import SHORT_NAMES

    names = {SHORT_NAMES.get(name.replace("-", "_"), name): value for name, value in given.items()}
    return str(names.get("model.base") or "")


def _base_in_options(config_file: str | None) -> str:
    """Empty where a file of sd-scripts' options names none."""
    from fashion_ml.config.kohya.experiment import imported

    try:
        return str(imported([], config_file=config_file, defaults=False).settings.get("model.base", "")) if config_file else ""
    except InputError:  # which reading it says
        return ""


def _base_in(config: str | Path | None) -> str:
    """Empty where an experiment's file names none."""
    from fashion_ml.config.shipped_files import shipped
    from fashion_ml.runtime.yaml_file import read_mapping

    try:
        path = Path(config).expanduser() if config else None
        model = read_mapping(path if path.exists() else shipped(path) or path, "config", "").get("model") if path else None
    except (InputError, OSError, RuntimeError):  # which loading it says
        return ""
    return str(model.get("base") or "") if isinstance(model, dict) else ""


def say_not_needed(options: Mapping[str, str], dashes: str = "") -> None:
    """A line for each reason why some options change nothing."""
    from fashion_ml.runtime.console import say as tell

    for reason in dict.fromkeys(options.values()):
        names = [f"{dashes}{name}" for name, why in options.items() if why == reason]
        tell(f"{', '.join(names)}: {reason}")


def kohya_experiment(config: Path | None, dataset_config: str, config_file: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of sd-scripts' files, by path: over a `config` what they say, alone the equal experiment. What has no equal is said.

    Options that were `given` decide: a training folder stands instead of the files' subsets, and evaluation is on when it is asked about.
    Subsets stand instead of the folders of a `config`, as in sd-scripts.
    """
    from fashion_ml.config import SHORT_NAMES
    from fashion_ml.config.kohya.experiment import as_not_told, imported
    from fashion_ml.runtime.console import say as tell
    from fashion_ml.runtime.console import warn

    look = base_looked_into(given, config)
    equal = imported([], dataset_config=dataset_config, config_file=config_file, defaults=config is None, of_base=look)
    settings = dict(equal.settings)
    if equal.kind and config_file:
        tell(f"{config_file}: {equal.kind}")
    for note in equal.notes:
        warn(tr("has no equal here: {note}", note=note))
    for note in equal.nearly:
        tell(tr("not quite the same here: {note}", note=note))
    say_not_needed(equal.not_needed)
    names = {SHORT_NAMES.get(name.replace("-", "_"), name) for name, value in given.items() if value != ""}
    if config is None:
        tell(as_not_told(equal))
    if any(name.startswith("evaluation.") for name in names):
        settings.pop("evaluation.enabled", None)
    if "data.train_data_dir" in names and settings.pop("data.subsets", None):
        tell(tr("--train_data_dir stands instead of the subsets of the data set file"))
    if config is not None and settings.get("data.subsets"):
        for path in sorted({"data.train_data_dir", "data.reg_data_dir"} - names):
            settings[path] = None
        tell(
            tr(
                "The subsets of {value} stand instead of the folders of {config}",
                value=dataset_config or config_file,
                config=config,
            )
        )
    return settings


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|COMMAND…",
            help="TOML or JSON of sd-scripts or kohya_ss, a shell script, or a command line in quotes; several are laid over each other.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Write the YAML there and not to stdout.")] = "",
    sdxl: Annotated[
        bool | None,
        typer.Option(
            "--sdxl/--no-sdxl", help="Whether it is of sdxl_train_network.py; by script, options and base when not given."
        ),
    ] = None,
) -> None:
    """Write the experiment YAML that is equal to a training of kohya's sd-scripts, and say what has no equal here and why.

    sd-scripts' own defaults are written where this project has others, so that the experiment is the same one.
    """
    from fashion_ml.config.kohya.experiment import as_yaml, checked_equal, imported
    from fashion_ml.runtime.atomic_files import write_text
    from fashion_ml.runtime.console import say as tell
    from fashion_ml.runtime.console import warn

    equal = checked_equal(imported(sources, sdxl=sdxl, of_base=base_looked_into({}, None)))
    text = as_yaml(equal, sources)
    if equal.kind:
        tell(equal.kind)
    for note in equal.notes:
        warn(tr("has no equal here: {note}", note=note))
    for note in equal.nearly:
        tell(tr("not quite the same here: {note}", note=note))
    say_not_needed(equal.not_needed)
    if not out:
        say(text.rstrip("\n"))
        return
    if Path(out).is_dir() or not Path(out).absolute().parent.is_dir():
        raise InputError(tr("--out: {out!r} cannot be written; give a file in an existing folder", out=out))
    if Path(out).exists():
        raise InputError(tr("--out: {out!r} is there already; give another name, or remove it", out=out))
    write_text(Path(out), text)
    say(f"{out}: fashion-ml train lora --config {shlex.quote(out)}")
