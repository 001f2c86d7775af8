"""docs/settings.md, made from the fields: `python -m fashion_ml.config.settings_table` writes it anew in a checkout."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fashion_ml.config.base import Evaluation, Section
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.settings import Setting, evaluation_settings, settings_of
from fashion_ml.config.stargan import GanEvaluation, StarganExperiment
from fashion_ml.config.subsets import Subset
from fashion_ml.config.suite import SuiteRecipe, SuiteSpec
from fashion_ml.config.sweep import Dimension, Objective, SweepSpec

PLACE = Path(__file__).parents[2] / "docs" / "settings.md"
_HEAD = """\
# Settings

<!-- Made from the fields in fashion_ml/config by `make docs`; change it there. -->

An experiment is a YAML file of these sections; `experiments/` has some. Every setting can be given

- in the file, in its section: `network: {rank: 8}`;
- as an option of `train lora` or `train stargan`, by any of its names, with `-` or `_`: `--rank 8`, `--network-dim 8`; a switch alone is true;
- by `--set` and its path, on every command that takes settings: `--set network.rank=8`. `null` takes a value away; lists are `a,b` or `[a, b]`;
- in Python: `load_config(path, {"rank": 8})`, also `{"network.rank": 8}` or `{"network": {"rank": 8}}`.

What the file says is overridden by options, and these by `--set`; an empty value is not given. A name without its section is only there
where it means one setting; the others have their path. "Default" is what a file without the setting has; none means that it is not given then.
A run may be resumed with another value of the settings marked ↻; the others decide what is learnt.
"""


def settings_table() -> str:
    """The text of docs/settings.md."""
    return "\n".join(
        [
            _HEAD,
            *_experiment("LoRA", LoraExperiment),
            *_experiment("StarGAN", StarganExperiment),
            *_again(),
            *_sweep(),
            *_suite(),
        ]
    )


def _experiment(title: str, kind: type[Section]) -> Iterator[str]:
    yield f"## {title}: `fashion-ml train {title.lower()}`\n"
    settings = settings_of(kind)
    yield from _table((one for one in settings if not one.section), names=True)
    for section, field in kind.model_fields.items():
        found = [one for one in settings if one.section == section]
        if found:
            yield f"### {section}\n\n{_about(field.annotation)}\n"
            yield from _table(found, names=True)
        if section == "data" and kind is LoraExperiment:
            yield f"### data.subsets, each\n\n{_about(Subset)}\n"
            yield from _table(settings_of(Subset))


def _again() -> Iterator[str]:
    yield "## Evaluating again\n"
    yield (
        "These commands take settings of `evaluation` by their own names, `--seed 3`, or by `--set evaluation.seed=3`. What is not given "
        "is, for `evaluate run`, as in the training run, and for `compare` as in the first evaluation. "
        "`evaluate run` and `evaluate lora` of a LoRA also take those of a training that decide its "
        "images, such as `--base`, `--resolution` and `--clip_skip`.\n"
    )
    rows = (
        ("evaluate run` of a LoRA", evaluation_settings(Evaluation)),
        ("evaluate run` of a StarGAN", evaluation_settings(GanEvaluation)),
        ("evaluate lora`", evaluation_settings(Evaluation)),
        ("evaluate images`", evaluation_settings(Evaluation, Evaluation.of_images)),
        ("compare`", evaluation_settings(Evaluation, Evaluation.of_comparison)),
    )
    yield "| command | settings |\n|---|---|"
    for command, settings in rows:
        yield f"| `{command} | {', '.join(f'`{one.key}`' for one in settings)} |"
    yield ""


def _sweep() -> Iterator[str]:
    yield f"## Sweep files: `fashion-ml sweep`\n\n{_about(SweepSpec)} See `sweeps/`.\n"
    settings = settings_of(SweepSpec)
    yield from _table(one for one in settings if not one.section)
    for section, field in SweepSpec.model_fields.items():
        found = [one for one in settings if one.section == section]
        if found:
            yield f"### {section}\n\n{_about(field.annotation)}\n"
            yield from _table(found)
    for heading, kind in (("search_space, for each setting", Dimension), ("objectives, each", Objective)):
        yield f"### {heading}\n\n{_about(kind)}\n"
        yield from _table(settings_of(kind))


def _suite() -> Iterator[str]:
    yield f"## Suite files: `fashion-ml suite`\n\n{_about(SuiteSpec)} See `suites/`.\n"
    yield from _table(settings_of(SuiteSpec))
    yield f"### recipes, each\n\n{_about(SuiteRecipe)}\n"
    yield from _table(settings_of(SuiteRecipe))


def _table(settings: Iterable[Setting], *, names: bool = False) -> Iterator[str]:
    yield f"| setting |{' option |' if names else ''} accepts | default | what it does |\n|---|{'---|' if names else ''}---|---|---|"
    for one in settings:
        option = f" {', '.join(f'`--{name}`' for name in one.names or (one.path,))} |" if names else ""
        default = "required" if one.required else one.default and f"`{one.default}`"
        yield f"| `{one.key}`{' ↻' if one.may_change else ''} |{option} {_cell(one.accepts)} | {default} | {_cell(one.help)} |"
    yield ""


def _about(kind: Any) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


if __name__ == "__main__":
    PLACE.write_text(settings_table(), encoding="utf-8")
