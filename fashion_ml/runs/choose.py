"""`fashion-ml evaluate choose`: which kept file of a training, at which strength."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.config import LoraExperiment, evaluated_again
from fashion_ml.errors import InputError
from fashion_ml.runs.evaluate import BEST_MEASURED, checkpoints_of, evaluation_folder
from fashion_ml.runs.inputs import read_sources
from fashion_ml.runs.offline_hub import check_hub
from fashion_ml.runs.trained_run import TrainedRun, config_of, trained_run
from fashion_ml.runtime.atomic_files import atomic_path, write_text
from fashion_ml.runtime.console import bar, say
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.choose import Choice
    from fashion_ml.evaluation.choose_images import Losses
    from fashion_ml.evaluation.lora_plan import Plan
    from fashion_ml.metrics.bootstrap import Interval
    from fashion_ml.tracking.run import TrackedRun


@dataclass(frozen=True)
class Chosen:
    """A choice and where it is noted."""

    run_id: str
    training: str
    """The id of the training run."""
    choice: Choice
    metric: str
    gain: Interval
    """How much lower the winner's loss is than the base's, over the references of the final."""
    path: Path
    """best_measured.safetensors, a copy of the winner's file."""
    batch_size: int
    """Images that were generated at once."""
    unread: str = ""
    """Why nothing follows from the metric: an encoder that cannot read the references; empty where it can."""

    @property
    def sentence(self) -> str:
        """What was chosen and how sure it is."""
        ends = f" [{self.gain.ends[0]:+.4f}, {self.gain.ends[1]:+.4f}]" if self.gain.ends else ""
        text = tr(
            "{sentence} Against the base its gain there is {mean:+.4f}{ends}.",
            sentence=self.choice.sentence(self.metric),
            mean=self.gain.mean,
            ends=ends,
        )
        return (
            tr("{text} Nothing follows from {metric}: {unread}.", text=text, metric=self.metric, unread=self.unread)
            if self.unread
            else text
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {"run_id": self.run_id, "sentence": self.sentence, "metric": self.metric, "path": str(self.path)}
        told |= {"unread": self.unread} if self.unread else {}
        return {**told, "gain": vars(self.gain), "batch_size": self.batch_size, **self.choice.to_dict()}


def choose_setting(
    run_id: str,
    overrides: Mapping[str, Any],
    folder: Path | None,
    checkpoints: str = "all",
    strengths: Sequence[float] = (1.0,),
) -> Chosen:
    """Choose among kept files of a LoRA training and strengths, as a new child run; stopped and started again, it goes on with its images.

    `checkpoints` is `all`, or names of kept files with commas between; `overrides` change the training's evaluation settings. The training run
    is tagged with the winner, whose file is copied to best_measured.safetensors among its artifacts. InputError when there is nothing to
    choose from.
    """
    from fashion_ml.evaluation.choose import Candidate
    from fashion_ml.evaluation.choose_images import Losses, with_small_batches
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.evaluation.lora_plan import plan_evaluation
    from fashion_ml.tracking.run import open_run

    with tempfile.TemporaryDirectory() as temporary, trained_run(run_id) as training:
        place = Path(temporary)
        config = _config(training, run_id, overrides, place)
        check_hub(config)
        found = _files(training, config, checkpoints, place)
        inputs = read_sources(config, training_images=config.evaluation.references is None)
        config = with_small_batches(config, len(inputs.references))
        files = {path.name: path for _, path in found}
        values = sorted(set(strengths))
        candidates = [Candidate(path.name, step, value) for step, path in found for value in values]
        if len(candidates) < 2:
            raise InputError(
                tr("--checkpoints: one file at one strength is no choice; give --checkpoints all, or more --strengths")
            )
        assert inputs.suite is not None
        plan = plan_evaluation(config, found[0][1], inputs.references, inputs.items, inputs.suite, device_of_evaluation())
        root = evaluation_folder(training.run, folder)
        losses = Losses(plan, files, root, earlier=_earlier(config, training))
        tags = {"kind": "choice", "algorithm": "lora", "base_model": config.model.base, "eval_fingerprint": plan.fingerprint}
        with open_run("choice", tags, parent=training.run, adopt=True) as run:
            _note_facts(run, plan, root)
            run.log_params({"choice.files": ", ".join(files), "choice.strengths": ", ".join(f"{one:g}" for one in values)})
            choice, gain = _race(candidates, losses, config.evaluation.resamples)
            path = _kept(files[choice.winner.file], root)
            size = config.evaluation.batch_size
            trained = training.run.run_id
            result = Chosen(run.run_id, trained, choice, losses.metric, gain, path, size, losses.unread())
            _log(result, run, root)
        _tag(training, result)
    return result


def _config(training: TrainedRun, run_id: str, overrides: Mapping[str, Any], place: Path) -> LoraExperiment:
    if training.kind != "train_lora":
        raise InputError(
            tr(
                "run_id: run {run_id} is no LoRA training (its tag kind is {value}); give one",
                run_id=run_id,
                value=training.kind or tr("none"),
            )
        )
    lighter: dict[str, Any] = (
        {"extra_metrics": []} if not {"extra_metrics", "evaluation.extra_metrics"} & overrides.keys() else {}
    )
    config: LoraExperiment = evaluated_again(
        config_of(training, place), {**lighter, **overrides, "strengths": []}, LoraExperiment
    )
    return config


def _files(training: TrainedRun, config: LoraExperiment, wanted: str, place: Path) -> list[tuple[int, Path]]:
    """The files that are named, with their steps, earliest first."""
    names = [name.strip() for name in wanted.split(",") if name.strip()] or ["all"]
    if "all" in names and config.training.ema_decay:
        from fashion_ml.models.ema import EMA

        names.append(f"{config.output.output_name}{EMA}")
    return sorted(
        {path: (step, path) for name in names for step, path in checkpoints_of(training, config, name, place)}.values()
    )


def _earlier(config: LoraExperiment, training: TrainedRun) -> list[Path]:
    """Images that the evaluation after the training left on this machine."""
    given = config.output.output_dir
    folder = Path(given).expanduser() if given else Path("outputs") / config.output.output_name / training.run.run_id
    return [(folder / name).absolute() for name in ("evaluation/images/lora", "evaluation_base")]


def _note_facts(run: TrackedRun, plan: Plan, root: Path) -> None:
    """What is searched by, as an evaluation notes it: `register` takes these references and image seeds for no fresh ones."""
    from fashion_ml.evaluation.artifacts import FACTS
    from fashion_ml.evaluation.log_evaluation import log_facts

    log_facts(run, plan.facts)
    facts = {"fingerprint": plan.fingerprint, **plan.facts}
    write_text(root / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    run.log_file(root / FACTS)


def _race(candidates: Sequence[Any], losses: Losses, resamples: int) -> tuple[Choice, Interval]:
    from fashion_ml.evaluation.choose import choose, most_measured
    from fashion_ml.metrics.bootstrap import bootstrap_mean

    units, images = losses.units, losses.plan.config.evaluation.images_per_reference
    most, references = most_measured(candidates, units), sum(map(len, units))
    say(
        tr(
            "{count} settings on {references} references: at most {most} images, those of the base among them; "
            "the full grid has {count_2}",
            count=len(candidates),
            references=references,
            most=most * images,
            count_2=(len(candidates) + 1) * references * images,
        )
    )
    with bar(tr("generate images"), most * images) as losses.progress:
        choice = choose(candidates, units, losses.score, resamples=resamples)
        base = losses.score_base(choice.final_references)
        winner = losses.score(choice.winner, choice.final_references)
    gains = [base[index] - winner[index] for index in choice.final_references]
    for number, one in enumerate(choice.rounds, 1):
        say(
            tr(
                "Round {number}: {references} references each, dropped {names}",
                number=number,
                references=one.references,
                names=", ".join(one.dropped),
            )
        )
    say(tr("{made} images were made", made=losses.made))
    return choice, bootstrap_mean(gains, resamples=resamples)


def _kept(source: Path, root: Path) -> Path:
    path = root / f"{BEST_MEASURED}.safetensors"
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
    return path


def _log(result: Chosen, run: Any, root: Path) -> None:
    choice = result.choice
    rows = [
        {"round": str(number), "setting": name, "references": one.references, "mean": mean, "dropped": name in one.dropped}
        for number, one in enumerate(choice.rounds, 1)
        for name, mean in one.means.items()
    ]
    tied = {str(one) for one in choice.tied}
    count = len(choice.final_references)
    rows += [
        {"round": "final", "setting": name, "references": count, "mean": mean, "dropped": name not in tied}
        for name, mean in choice.finals.items()
    ]
    run.log_table(pd.DataFrame(rows), "choice_table.json")
    write_text(root / "choice.json", json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    run.log_file(root / "choice.json")
    lead = {} if choice.lead is None else {"lead": choice.lead.mean}
    run.log_metrics({**lead, "gain": result.gain.mean, "measured_share": choice.measured / choice.whole})
    run.set_tags(_tags(result))
    run.note(result.sentence)


def _tags(result: Chosen) -> dict[str, str]:
    winner = result.choice.winner
    return {
        "best_measured": winner.file,
        "best_measured_strength": f"{winner.strength:g}",
        "best_measured_step": str(winner.step),
        "best_measured_indistinguishable": str(len(result.choice.tied) > 1).lower(),
        "best_measured_run": result.run_id,
    }


def _tag(training: TrainedRun, result: Chosen) -> None:
    training.run.set_tags(_tags(result))
    training.run.log_file(result.path, "lora")
    training.run.flush()
