"""`fashion-ml train lora`, `train stargan` and `demo`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashion_ml.cli.kohya_options import KohyaOptions, kohya_experiment
from fashion_ml.cli.options import (
    KEYS,
    Config,
    DryRun,
    Json,
    New,
    NoEvaluate,
    Resume,
    Set,
    assignments,
    check_json,
    option,
    say,
    settings_given,
    write_json,
)
from fashion_ml.cli.results import report_lora, report_stargan_training
from fashion_ml.cli.setting_options import Offered, settings_command
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.config import Setting
    from fashion_ml.runs.dry_run import DryRun as DryRunResult

_DEMO_SAMPLES: Mapping[str, object] = {
    "training.sample_every": 600,
    "training.sample_prompts": ["a red striped dress, zarya style"],
}
"""Three sample images of the demo, the first before training: for some seconds in all MLflow shows how the look comes."""
train_app = typer.Typer(help="Train a model; evaluation follows.", **KEYS)


@contextmanager
def _said_where_it_had_ended(json: str) -> Iterator[None]:
    """Around a training: of one that had done everything before it was resumed its facts, and the command has done what it was to do."""
    from fashion_ml.runs.resume import RunEndedError
    from fashion_ml.runtime.problem_line import without_field

    try:
        yield
    except RunEndedError as done:
        write_json(json, done.facts)
        say(without_field(done.problems[0]))
        raise typer.Exit from None


def _of_lora() -> list[Offered]:
    from fashion_ml.config import LoraExperiment, settings_of

    return _by_section(settings_of(LoraExperiment))


def _of_stargan() -> list[Offered]:
    from fashion_ml.config import StarganExperiment, settings_of

    return _by_section(settings_of(StarganExperiment))


def _by_section(settings: "Sequence[Setting]") -> list[Offered]:
    offered = [Offered(one, one.section) for one in settings if one.section]
    return offered + [Offered(one, "tracking") for one in settings if not one.section]  # the run's name


def _kohya() -> KohyaOptions:
    return KohyaOptions()


@train_app.command("lora", cls=settings_command(_of_lora, _kohya))
def train_lora(
    context: typer.Context,
    config: Config = "",
    resume: Resume = "",
    new: New = False,
    no_evaluate: NoEvaluate = False,
    dry_run: DryRun = False,
    set_: Set = None,
    json: Json = "",
    dataset_config: Annotated[str, option("--dataset_config", help="kohya's data set file, TOML or JSON.")] = "",
    config_file: Annotated[
        str, option("--config_file", help="Options of kohya's train_network.py, TOML, or JSON of kohya_ss.")
    ] = "",
) -> None:
    """Train a LoRA, generate with it and without it, measure both; everything in one MLflow run.

    The experiment is a YAML file. Without one it is experiments/lora/embedded.yaml while nothing of your own is given, and
    experiments/lora/sd15_fashion.yaml for a base or images of your own, of which only what you name is fetched. Every setting in it has an
    option, in either spelling (--flip_aug, --flip-aug), whose default is what a file without it has. A switch alone means true. Files and
    options of kohya's sd-scripts are read as they are.
    """
    given = settings_given(context.obj, set_, no_evaluate=no_evaluate, resume=resume, new=new)
    _check_dry_run(dry_run, resume)
    if dataset_config or config_file:
        from fashion_ml.config import LoraExperiment, paths_given
        from fashion_ml.config.shipped_files import given_or_shipped
        from fashion_ml.errors import InputError

        path = given_or_shipped(config) if config else None
        settings = kohya_experiment(path, dataset_config, config_file, given)
        if not path and "model.base" not in {*settings, *paths_given(given, LoraExperiment)}:
            raise InputError(tr("model.base: the files of sd-scripts name no pretrained_model_name_or_path; give --base"))
        _train_lora(path or settings, {**settings, **given} if path else given, json, resume, new, dry_run=dry_run)
    else:
        _train_lora(config, given, json, resume, new, dry_run=dry_run)


def demo(
    seed: Annotated[str, option("--seed", help="Seed of the training.")] = "",
    name: Annotated[str, option("--name", help="Name of the run; by what it is when not given.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """See the whole thing work: train a LoRA on the embedded default, measure it, show the run tree."""
    from fashion_ml.config.shipped_files import default_experiment

    given = {**_DEMO_SAMPLES, "seed": seed, "name": name, **assignments(set_)}
    _train_lora(str(default_experiment("experiments/lora/embedded.yaml")), given, json)


def _check_dry_run(dry_run: bool, resume: str) -> None:
    from fashion_ml.errors import InputError

    if dry_run and resume:
        raise InputError(tr("--dry-run: contradicts --resume, whose run has begun; give one of them"))


def _report_dry_run(dry: "DryRunResult", json: str) -> None:
    write_json(json, dry.to_dict())
    for line in dry.lines:
        say(line)
    say(tr("Nothing was trained and nothing written (--dry-run)"))


def _train_lora(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any],
    json: str,
    resume: str = "",
    new: bool = False,
    *,
    dry_run: bool = False,
) -> None:
    """Of a YAML file, or of settings; of nothing the default experiment."""
    from fashion_ml.config import LoraExperiment, load_config, paths_given
    from fashion_ml.config.shipped_files import given_or_shipped
    from fashion_ml.runs.without_config import check_named, lora_experiment
    from fashion_ml.runtime.console import say as tell

    check_json(json)
    source = given_or_shipped(config) if isinstance(config, str) and config else config
    experiment = load_config(source or lora_experiment(overrides), overrides)
    if not source:
        check_named(experiment, overrides)
    tell(tr("Loading {base} …", base=experiment.model.base))
    if dry_run:
        from fashion_ml.runs.dry_run import dry_run_lora

        _report_dry_run(dry_run_lora(experiment, new=new, chosen=paths_given(overrides, LoraExperiment)), json)
        return
    from fashion_ml.runs.lora import run_lora

    with _said_where_it_had_ended(json):
        outcome = run_lora(experiment, resume=resume, new=new, chosen=paths_given(overrides, LoraExperiment))
    if outcome is None:  # a process beside the main one, under accelerate launch
        return
    write_json(json, outcome.to_dict())
    report_lora(outcome)


@train_app.command("stargan", cls=settings_command(_of_stargan))
def train_stargan(
    context: typer.Context,
    config: Config = "",
    resume: Resume = "",
    new: New = False,
    no_evaluate: NoEvaluate = False,
    dry_run: DryRun = False,
    set_: Set = None,
    json: Json = "",
) -> None:
    """Train a StarGAN v2 on VAE latents of several domains and measure it; everything in one MLflow run.

    The experiment is a YAML file. Without one it is experiments/stargan/embedded.yaml while nothing of your own is given, and
    experiments/stargan/sd15_latent.yaml for a VAE or latents of your own, of which only what you name is fetched. Every setting in it has an
    option, in either spelling (--w_r1, --w-r1), whose default is what a file without it has. A switch alone means true.
    """
    check_json(json)
    from fashion_ml.config import StarganExperiment, load_config, paths_given
    from fashion_ml.config.shipped_files import given_or_shipped
    from fashion_ml.runs.without_config import check_named, stargan_experiment

    given = settings_given(context.obj, set_, no_evaluate=no_evaluate, resume=resume, new=new)
    path = given_or_shipped(config) if config else stargan_experiment(given)
    _check_dry_run(dry_run, resume)
    experiment = load_config(path, given, kind="stargan")
    if not config:
        check_named(experiment, given)
    if dry_run:
        from fashion_ml.runs.dry_run import dry_run_stargan

        _report_dry_run(dry_run_stargan(experiment, new=new, chosen=paths_given(given, StarganExperiment)), json)
        return
    from fashion_ml.runs.stargan import run_stargan

    with _said_where_it_had_ended(json):
        outcome = run_stargan(experiment, resume=resume, new=new, chosen=paths_given(given, StarganExperiment))
    if outcome is None:  # a process beside the main one, under accelerate launch
        return
    write_json(json, outcome.to_dict())
    report_stargan_training(outcome)
