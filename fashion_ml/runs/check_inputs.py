"""What trainings of some experiments will read and need, checked before the first of them: folders, base, VAE, encoder, options.

`python -m fashion_ml.runs.check_inputs FOLDER` does it, for every `<kind>_<number>.yaml` in a folder, in a process of its own, so that no
model stays in the memory of the one that waits for hours; what is wrong it writes there, into `problems.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fashion_ml.config import EXPERIMENTS, LoraExperiment, StarganExperiment, flat, load_experiment, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.evaluation.toy import EMBEDDED
from fashion_ml.runs.settled_precision import with_settled_precision
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.module_command import module_command
from fashion_ml.runtime.redact import first_line

CHECKED = "FASHION_ML_INPUTS_CHECKED"
"""Environment variable of a worker for which another process of its machine has done so."""
_PROBLEMS, _NOTHING_WRITTEN = "problems.json", "--nothing-written"
_MATTERS_NOT = (
    "output.",
    "tracking.",
    "optimizer.learning_rate",
    "training.seed",
    "training.max_train_steps",
    "training.epochs",
)
_OF_LORAS, _OF_STARGANS = ("network.rank", "network.alpha", "network.conv_rank", "network.conv_alpha"), ("loss.",)


def check_inputs(experiments: Mapping[str, Any], *, written: bool = True) -> None:
    """InputError with every problem of some experiments of one trainer, by recipe; without a name where they are one, or all have it.

    Those that differ in nothing that is read are looked at once. Without `written` what is embedded is drawn into a folder that goes away.
    """
    different: dict[str, str] = {}
    for name, one in experiments.items():
        different.setdefault(_read(one), name)
    say(
        tr("Looking at what is read: {count} different experiments", count=len(different))
        if len(different) > 1
        else tr("Looking at what is read: 1 different experiment")
    )
    found = _in_own_process({name: experiments[name] for name in different.values()}, written=written)
    said = {name: found[different[_read(one)]] for name, one in experiments.items()}
    everywhere = [problem for problem in next(iter(said.values())) if all(problem in each for each in said.values())]
    problems = everywhere + [f"recipes.{name}: {one}" for name, each in said.items() for one in each if one not in everywhere]
    if problems:
        raise InputError(problems)


def _read(experiment: Any) -> str:
    """What of an experiment decides whether it can be trained, as text."""
    own: tuple[str, ...] = _OF_STARGANS
    if isinstance(experiment, LoraExperiment):
        own = () if experiment.network.network_weights else _OF_LORAS
    without = (*_MATTERS_NOT, *own)
    return json.dumps({key: str(value) for key, value in flat(experiment).items() if not key.startswith(without)})


def _in_own_process(experiments: Mapping[str, Any], *, written: bool) -> dict[str, list[str]]:
    """The problems of each experiment, by name."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, names = Path(temporary), {}
        for number, (name, one) in enumerate(experiments.items()):
            kind = next(kind for kind, own in EXPERIMENTS.items() if isinstance(one, own))
            names[f"{kind}_{number}"] = name
            (folder / f"{kind}_{number}.yaml").write_text(to_yaml(one), encoding="utf-8")
        command = module_command("fashion_ml.runs.check_inputs", str(folder), *([] if written else [_NOTHING_WRITTEN]))
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        try:
            found = parsed(read_whole(folder / _PROBLEMS))
        except OSError:
            last = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
            warn(
                tr(
                    "What is read could not be looked at before: the check ended with {returncode} and said: {last}",
                    returncode=ended.returncode,
                    last=last,
                )
            )
            return {name: [] for name in experiments}
    for stem, why in found["untold"].items():
        warn(tr("{names}: not all of it could be looked at before ({why})", names=names[stem], why=why))
    return {names[stem]: problems for stem, problems in found["problems"].items()}


def _main(folder: Path, *, written: bool) -> None:
    problems: dict[str, list[str]] = {}
    untold: dict[str, str] = {}
    bases: dict[str, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        kind = path.stem.partition("_")[0]
        problems[path.stem] = []
        try:
            config: Any = load_experiment(path, {}, EXPERIMENTS[kind])
            check = _check_lora if isinstance(config, LoraExperiment) else _check_stargan
            problems[path.stem] = _problems_of(check, config, bases, written=written)
        except Exception as error:  # a GPU that is busy now, say: the trainings will tell
            untold[path.stem] = first_line(error)
    (folder / _PROBLEMS).write_text(json.dumps({"problems": problems, "untold": untold}), encoding="utf-8")


def _problems_of(check: Callable[..., None], config: Any, bases: dict[str, Any], *, written: bool) -> list[str]:
    try:
        check(config, bases, written=written)
    except InputError as error:
        return error.problems
    return []


def _check_lora(given: LoraExperiment, bases: dict[str, Any], *, written: bool) -> None:
    from fashion_ml.runs.dry_run import without_files
    from fashion_ml.runs.inputs import read_sources
    from fashion_ml.runs.lora import check_mixed_precision, check_on_base
    from fashion_ml.runs.offline_hub import check_hub
    from fashion_ml.training.lora_inputs import split_items, with_steps

    with nullcontext(given) if written else without_files(given) as config:
        check_hub(config)
        config = with_settled_precision(config, tell=False)
        check_mixed_precision(config)
        sources = read_sources(config, tell=False)
        pipeline = _base(config, bases)
        check_on_base(config, pipeline, _device(), processes=1)
        split_items(with_steps(config, pipeline, sources.items, 1, sources.looks), sources.items, sources.looks)


def _base(config: LoraExperiment, bases: dict[str, Any]) -> Any:
    """The base on the CPU, loaded once for experiments that share it, the last one alone kept."""
    from fashion_ml.models.stable_diffusion import load_pipeline

    key = f"{config.model.base}, {config.model.schedule()}"
    if key not in bases:
        bases.clear()
        bases[key] = load_pipeline(config.model.base, **config.model.schedule())
    return bases[key]


def _device() -> Any:
    import torch

    from fashion_ml.evaluation.instruments import device_of_evaluation

    return torch.device(device_of_evaluation())


def _check_stargan(config: StarganExperiment, bases: dict[str, Any], *, written: bool) -> None:
    import torch

    from fashion_ml.models.vae import load_vae
    from fashion_ml.runs.offline_hub import check_hub
    from fashion_ml.runs.stargan import check_measuring, checked_encoder
    from fashion_ml.runs.stargan_inputs import (
        checked_vae,
        embedded_latents_are_there,
        evaluation_vae,
        read_latent_set,
        stargan_inputs,
    )
    from fashion_ml.training.precision import check_precision

    cpu = torch.device("cpu")
    check_hub(config)
    config = with_settled_precision(config, tell=False)
    check_precision(config.training.mixed_precision, _device().type, tf32=config.training.tf32)
    if (
        config.data.latents_dir == EMBEDDED and not written and not embedded_latents_are_there()
    ):  # made in a minute, and known to be good
        evaluation_vae(config, load_vae(config.model.vae, cpu), "", cpu)
        if config.evaluation.enabled:
            checked_encoder(config)
        return
    latents = read_latent_set(config, str(cpu))
    inputs = stargan_inputs(config, latents, SimpleNamespace(device=cpu, process_index=0, num_processes=1))
    evaluation_vae(config, *checked_vae(config, latents, cpu), cpu)
    check_measuring(config, inputs)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), written=_NOTHING_WRITTEN not in sys.argv)
