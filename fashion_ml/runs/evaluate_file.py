"""`fashion-ml evaluate lora`: a LoRA file that nobody trained here, measured in a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, evaluation_settings, settings_of
from fashion_ml.config.base import Evaluation
from fashion_ml.data.images import data_digest
from fashion_ml.errors import InputError
from fashion_ml.runs.evaluation_note import EvaluationNote
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.console import say
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.config import Setting
    from fashion_ml.evaluation.lora import EvaluationResult


def settings_of_file() -> list[Setting]:
    """What a file can be measured with: the evaluation's settings, and those of a training that decide its images."""
    return [
        *(one for one in settings_of(LoraExperiment) if one.path in LoraExperiment.of_images),
        *evaluation_settings(Evaluation),
    ]


def evaluate_file(
    lora: Path, settings: Mapping[str, Any], *, training: str, folder: Path | None, experiment: str, name: str = ""
) -> EvaluationResult:
    """Measure a LoRA file against its base in a run of its own; killed and started again, it goes on where it stopped.

    `settings` by name or path, among them `model.base` (embedded when not given) and `evaluation.references`, which a base of one's own needs.
    """
    from fashion_ml.evaluation.log_evaluation import log_facts, log_lora
    from fashion_ml.evaluation.lora_file import called, plan_file
    from fashion_ml.runs.compare import report_experiment
    from fashion_ml.tracking.environment import experiment_to_use
    from fashion_ml.tracking.queries import delete_children
    from fashion_ml.tracking.run import attach, open_run
    from fashion_ml.tracking.store import find_run, open_tracking

    others, base, references = _checked(settings)
    reports = report_experiment(experiment, name)
    experiment_to_use(reports["experiment"], reports["chosen"])
    file = plan_file(lora, base=base, references=references, training=training or None, folder=folder, settings=others)
    plan, place = file.plan, file.place
    with folder_lock(place, "--output-dir"):
        remove_leftovers(place)
        digest = data_digest(plan.references)
        tags = {"kind": "evaluation", "algorithm": "lora", "source": "file", "base_model": base, "data_digest": digest}
        tags |= {"references_seen_in_training": plan.leakage.tag, **file.tags}
        note = EvaluationNote(place, plan.fingerprint, plan.key)
        earlier = note.to_go_on_with()
        if earlier:
            say(tr("Going on with evaluation {earlier}", earlier=earlier))
            client = open_tracking(make=False)
            delete_children(attach(client, find_run(client, earlier)))
        with open_run(
            name or f"evaluation of {called(lora) + lora.suffix}", tags, resume=earlier, adopt=True, **reports
        ) as run:
            note.write(run.run_id, finished=False)
            run.log_params({"lora.path": str(lora.absolute()), "model.base": base, "evaluation.references": references})
            run.log_dataset(plan.references[0].path.parent, digest, "evaluation", len(plan.references))
            log_facts(run, plan.facts)
            result = log_lora(run, file.measure(), place)
        note.write(run.run_id, finished=True)
        return result


def _checked(settings: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """The settings but base and references, and these two. InputError for settings that decide nothing here."""
    known = {name: one.path for one in settings_of_file() for name in (*one.names, one.path)}
    given = {name.replace("-", "_"): value for name, value in settings.items() if value != ""}
    others = [name for name in given if name not in known]
    if others:
        raise InputError(
            [tr("{name}: decides nothing where a file is measured (--help shows what does)", name=name) for name in others]
        )
    paths = {known[name]: value for name, value in given.items()}
    base = str(paths.pop("model.base", "embedded"))
    references = paths.pop("evaluation.references", "embedded" if base == "embedded" else None)
    if references is None:
        raise InputError(
            tr("evaluation.references: is not given; give a folder of pictures with captions (--references FOLDER)")
        )
    return paths, base, str(references)
