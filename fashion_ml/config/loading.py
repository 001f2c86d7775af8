"""How a YAML file and overrides become one frozen, checked experiment."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, overload

import yaml
from pydantic import ValidationError

from fashion_ml.config.base import OLD_PATHS, Evaluation, Section
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.messages import problems, shortened, too_large
from fashion_ml.config.settings import Setting, evaluation_settings, settings_of, short_names
from fashion_ml.config.shipped_files import given_or_shipped
from fashion_ml.config.stargan import GanEvaluation, StarganExperiment
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr, translated
from fashion_ml.runtime.yaml_file import parsed, read_bytes, what_is_wrong

_FOLDERS = (
    ("data", "train_data_dir"),
    ("data", "reg_data_dir"),
    ("data", "masks_dir"),
    ("data", "latents_dir"),
    ("evaluation", "references"),
)
Experiment = TypeVar("Experiment", bound=Section)


@overload
def load_config(
    source: str | Path | Mapping[str, Any] | LoraExperiment,
    overrides: Mapping[str, Any] | None = None,
    *,
    kind: Literal["lora"] = "lora",
) -> LoraExperiment: ...


@overload
def load_config(
    source: str | Path | Mapping[str, Any] | StarganExperiment,
    overrides: Mapping[str, Any] | None = None,
    *,
    kind: Literal["stargan"],
) -> StarganExperiment: ...


def load_config(
    source: str | Path | Mapping[str, Any] | LoraExperiment | StarganExperiment,
    overrides: Mapping[str, Any] | None = None,
    *,
    kind: str = "lora",
) -> LoraExperiment | StarganExperiment:
    """A checked experiment for `kind` of training: a YAML file, a mapping of settings, or a config, with `overrides` laid over it.

    Both mappings may be nested as in the file, `{"network": {"rank": 8}}`, or name settings by path, `{"network.rank": 8}`, or by short or
    kohya's name, `{"rank": 8}`. Values are Python's, or text as on the command line; empty text is not given, None is null.

    Raises InputError with the problems at once, the first 20 and how many more: `path.in.yaml: value; fix`.
    """
    if kind not in ("lora", "stargan"):
        raise InputError(tr("kind: {kind!r} is not known; give lora or stargan", kind=kind))
    experiment: type[LoraExperiment | StarganExperiment] = LoraExperiment if kind == "lora" else StarganExperiment
    return load_experiment(source, overrides or {}, experiment)


def load_experiment(
    source: str | Path | Mapping[str, Any] | Section, overrides: Mapping[str, Any], kind: type[Experiment]
) -> Experiment:
    """As load_config, for any class of experiment; what a config was not given goes on following what it follows."""
    if isinstance(source, kind):
        tree = source.model_dump(mode="json", exclude_unset=True)
    elif isinstance(source, Mapping):
        tree = laid_over({}, source, kind)
    elif isinstance(source, (str, Path)):
        tree = read_yaml(given_or_shipped(source))
    else:
        raise InputError(
            tr(
                "experiment: a {name} is none; give a {name_2}, the path of a YAML file, or a mapping of settings",
                name=type(source).__name__,
                name_2=kind.__name__,
            )
        )
    return checked(laid_over(tree, overrides, kind), kind)


def laid_over(tree: Mapping[str, Any], settings: Mapping[str, Any], kind: type[Section]) -> dict[str, Any]:
    """A new tree of the settings of a `kind` of config with others over it, as load_config takes them."""
    result, known, given = _with_new_names(tree), {one.path: one for one in settings_of(kind)}, set[str]()
    for name, value in _leaves(settings, "", short_names(kind)):
        if not (isinstance(value, str) and value == ""):
            _put(result, name, _read(value, known.get(name)))
            given.add(name)
    if "training.max_train_steps" in given and "training.max_train_epochs" not in given:
        _forget(result, "training", "max_train_epochs")  # steps that are asked for count, not the epochs of the file
    return result


def _forget(tree: dict[str, Any], section: str, key: str) -> None:
    below = tree.get(section)
    if isinstance(below, Mapping) and key in below:
        tree[section] = {name: value for name, value in below.items() if name != key}


def _with_new_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree in which settings have the names that they have today, so that what is laid over it replaces them."""
    result = dict(tree)
    for path, new in OLD_PATHS.items():
        section, _, key = path.partition(".")
        below = result.get(section)
        if isinstance(below, Mapping) and key in below and new.rpartition(".")[2] not in below:
            result[section] = {new.rpartition(".")[2] if name == key else name: value for name, value in below.items()}
    return result


def _leaves(settings: Mapping[str, Any], prefix: str, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        path = f"{prefix}{name}" if prefix else names.get(str(name).replace("-", "_"), str(name))
        path = OLD_PATHS.get(path, path)
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.", names)
        else:
            yield path, value


def paths_given(settings: Mapping[str, Any], kind: type[Section]) -> frozenset[str]:
    """The paths of the settings that are given, by any of their names; empty text is not given."""
    return frozenset(path for path, value in _leaves(settings, "", short_names(kind)) if value != "")


def validate(tree: Mapping[str, Any]) -> LoraExperiment:
    """The checked LoRA experiment of a plain nested mapping; InputError with every problem at once."""
    return checked(tree, LoraExperiment)


def checked(tree: Mapping[str, Any], kind: type[Experiment]) -> Experiment:
    """The checked experiment of a plain nested mapping; InputError with every problem at once, folders that are missing among them."""
    if large := too_large(tree):
        raise InputError(shortened(large, len(large)))
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise InputError([*problems(error.errors(), kind), *_missing_folders(tree)]) from None


def _missing_folders(tree: Mapping[str, Any]) -> list[str]:
    """What reading the folders of an experiment would say, for one that is wrong elsewhere and so never gets to read them."""
    problems = []
    for section, key in _FOLDERS:
        below = tree.get(section)
        given = below.get(key) if isinstance(below, Mapping) else None
        if (
            section == "evaluation"
            and isinstance(below, Mapping)
            and str(below.get("enabled", True)).lower() in ("false", "0", "no")
        ):
            continue  # then nobody reads it
        with suppress(OSError):  # too long a name: reading it says so
            if isinstance(given, str) and given not in ("", "embedded") and not Path(given).expanduser().exists():
                problems.append(
                    tr(
                        "{section}.{key}: {given!r} does not exist; give the path of a folder",
                        section=section,
                        key=key,
                        given=given,
                    )
                )
    return problems


def evaluated_again(
    tree: Mapping[str, Any], settings: Mapping[str, Any], kind: type[LoraExperiment | StarganExperiment]
) -> Any:
    """The checked experiment of a training, to be evaluated with other evaluation settings, by their names or paths; its own else.

    For a LoRA also with other settings that decide its images, `of_images` of its class: what `compare` names can be given. An encoder that
    is asked for is used, also where the training was without. InputError for settings that are none of the evaluation.
    """
    evaluation = kind.model_fields["evaluation"].annotation
    assert evaluation in (Evaluation, GanEvaluation)
    settings, beside = _beside_evaluation(settings, kind)
    tree = laid_over(tree, beside, kind)
    given = of_evaluation(settings, evaluation, translated(evaluation.whose))
    earlier = checked(tree, kind).evaluation
    own = earlier.model_dump(mode="json")
    if "encoder" in given and "without" not in given:
        own.pop("without", None)
    if not earlier.enabled and own["encoder"] == evaluation.model_fields["encoder"].default:
        own.pop("encoder")  # nobody asked for it: the training measured nothing
    return checked({**tree, "evaluation": {**laid_over(own, given, evaluation), "enabled": True}}, kind)


def _beside_evaluation(
    settings: Mapping[str, Any], kind: type[LoraExperiment | StarganExperiment]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of an evaluation, and those beside it that decide its images, by their paths."""
    there = getattr(kind, "of_images", ())
    known = {name: one.path for one in settings_of(kind) if one.path in there for name in (*one.names, one.path)}
    paths = {name: known.get(str(name).replace("-", "_")) for name in settings}
    beside = {path: settings[name] for name, path in paths.items() if path is not None}
    return {name: settings[name] for name, path in paths.items() if path is None}, beside


def of_evaluation(
    settings: Mapping[str, Any], kind: type[Section], what: str, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Settings of an evaluation as in its section of the file, from names or paths; what is not given is left out.

    InputError for others and for those that are not among `only`: a line that says of `what` they are no settings, such as `compare`.
    """
    there = evaluation_settings(kind, only)
    known = {name: one.key for one in there for name in (*one.names, one.path)}
    given = {name.replace("-", "_"): value for name, value in _leaves(settings, "", known) if value != ""}
    others = [name.removeprefix("evaluation.") for name in given if name not in known]
    if others:
        takes = ", ".join(one.key for one in there)
        raise InputError(
            [
                tr("evaluation.{name}: is not among these settings; {what} takes {takes}", name=name, what=what, takes=takes)
                for name in others
            ]
        )
    return laid_over({}, {known[name]: value for name, value in given.items()}, kind)


def validate_evaluation(tree: Mapping[str, Any]) -> Evaluation:
    """Checked evaluation settings alone; InputError with every problem at once."""
    try:
        return Evaluation.model_validate(tree)
    except ValidationError as error:
        raise InputError(problems(error.errors(), Evaluation, "evaluation.")) from None


def to_yaml(config: Section) -> str:
    """The resolved experiment; loading it again gives an equal object, also in what follows another setting: such an alpha is left out."""
    tree = config.model_dump(mode="json")
    if isinstance(config, LoraExperiment) and not config.network.alpha_is_given:
        del tree["network"]["alpha"]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def flat(config: Section) -> dict[str, Any]:
    """Dotted keys to values, such as `network.rank` or `data.subsets.0.image_dir`; values that were not given are left out."""
    return dict(_walk(config.model_dump(mode="json"), ""))


def _walk(tree: Mapping[str, Any], prefix: str) -> Any:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield from _walk({str(index): one for index, one in enumerate(value)}, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def read_yaml(path: Path, what: str = "experiment") -> dict[str, Any]:
    """The mapping in the YAML file of an experiment, or `what` else; InputError when it cannot be read or holds none."""
    try:
        tree = parsed(read_bytes(path))
    except FileNotFoundError:
        raise InputError(
            tr(
                "config: {path!r} does not exist; give the path of {what} YAML",
                path=str(path),
                what={"sweep": tr("a sweep"), "suite": tr("a suite")}.get(what, tr("an experiment")),
            )
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            tr("config: {path!r} cannot be read ({error}); give a YAML file in UTF-8", path=str(path), error=error)
        ) from None
    except yaml.YAMLError as error:
        raise InputError(
            tr(
                "config: {path!r} is not YAML ({what_is_wrong}); mend that line",
                path=str(path),
                what_is_wrong=what_is_wrong(error),
            )
        ) from None
    if not isinstance(tree, dict):
        examples = {"sweep": "sweeps/lora_rank_lr.yaml", "suite": "suites/lora_rank.yaml"}
        example = examples.get(what, "experiments/lora/embedded.yaml")
        raise InputError(tr("config: {path!r} holds no settings; see {example} for the form", path=str(path), example=example))
    return tree


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        below = tree.get(section)
        tree[section] = dict(below) if isinstance(below, dict) else {}
        tree = tree[section]
    tree[key] = value


def _read(value: Any, setting: Setting | None) -> Any:
    """A value as the file would have it. Text means what its setting takes: `null` and brackets are words where words are meant."""
    if isinstance(value, PurePath):
        return str(value)
    if not isinstance(value, str):
        return value
    if value == "null" and (setting is None or setting.is_optional):
        return None
    if value.startswith("[") and (setting is None or setting.is_list):
        with suppress(yaml.YAMLError):  # then it is a text that begins with a bracket
            found = yaml.load(value, Loader=yaml.BaseLoader)  # builds text alone, so that a prompt "no" or "1.0" stays itself
            return found if isinstance(found, list) else value
    return value
