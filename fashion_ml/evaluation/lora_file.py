"""Evaluation of a LoRA file that may come from anywhere: what is known of it, and what it is measured with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config import Evaluation, LoraExperiment, load_config
from fashion_ml.data.images import count_images, read_references, read_training_folder
from fashion_ml.data.notices import drawn
from fashion_ml.data.reference_parts import part_of
from fashion_ml.embedded.collection import folder_of
from fashion_ml.errors import InputError, in_pythons_words
from fashion_ml.evaluation.artifacts import write_evaluation
from fashion_ml.evaluation.instruments import device_of_evaluation, read_metric_suite
from fashion_ml.evaluation.lora import EvaluationResult, measure_lora
from fashion_ml.evaluation.lora_pipeline import trained_with
from fashion_ml.evaluation.lora_plan import Plan, plan_evaluation
from fashion_ml.evaluation.toy import EMBEDDED, check_encoder, own_of_lora
from fashion_ml.models.kohya_format import model_hash, read_metadata
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import storable
from fashion_ml.training.base_lines import base_lines
from fashion_ml.training.subset_images import as_prompts, with_lines

_SIDE_OF_EMBEDDED = 64
"""Pixels of what the embedded base draws."""
_SAME_NAMES = ("adapter_model", "pytorch_lora_weights")
"""PEFT's and diffusers'."""
_TOLD = {
    "ss_sd_model_name": "lora_base_name",
    "ss_sd_model_hash": "lora_base_hash",
    "ss_new_sd_model_hash": "lora_base_sha256",
    "ss_base_model_version": "lora_base_version",
    "ss_output_name": "lora_output_name",
    "ss_network_module": "lora_network_module",
    "modelspec.architecture": "lora_architecture",
    "modelspec.title": "lora_title",
}
"""What a file's own metadata say of where it comes from, and the tags that they become."""


@dataclass(frozen=True)
class FilePlan:
    """A LoRA file, ready to be measured."""

    plan: Plan
    place: Path
    """Where its images and reports go."""
    tags: Mapping[str, str]
    """Where the file comes from: its name, hashes and form, and what its metadata say."""

    def measure(self) -> EvaluationResult:
        """Generate and measure; images of the same weights, prompts and seeds that are there are used again."""
        return measure_lora(self.plan, self.place, self.place / "images" / "base")


def plan_file(
    lora: Path,
    *,
    base: str,
    references: str,
    training: str | None,
    folder: Path | None,
    settings: Mapping[str, Any],
) -> FilePlan:
    """Load the base, the LoRA file and what it is measured with; `settings` by their names or paths, as `evaluate_lora` takes them.

    InputError with every problem of the settings at once, and when the file is no LoRA, does not fit the base, or cannot be applied whole.
    """
    if not lora.is_file():
        raise InputError(tr("lora: {lora!r} is no file; give a LoRA's .safetensors file", lora=str(lora)))
    own = {f"evaluation.{name}" if name in Evaluation.model_fields else name: value for name, value in settings.items()}
    name = called(lora)
    place = (folder or Path("outputs") / "evaluations" / name).absolute()
    if place.exists() and not place.is_dir():
        raise InputError(
            tr("folder: {place!r} is a file; give the folder that images and report are to be written to", place=str(place))
        )
    told, hashes = read_metadata(lora), model_hash(lora.read_bytes())
    folders = {"data.train_data_dir": training or "embedded", "evaluation.references": references}
    known = trained_with(lora)
    sized = not {"data.resolution", "resolution"}.isdisjoint(known.keys() | own.keys())
    if base == EMBEDDED and not sized:
        known["data.resolution"] = _SIDE_OF_EMBEDDED
    config = load_config({"model.base": base, "output.output_name": storable(name)[:50], **folders, **known, **own})
    if not sized:
        say(
            tr(
                "{name} does not say at which square size it was trained; images are of {resolution} pixels (data.resolution)",
                name=lora.name,
                resolution=config.data.resolution,
            )
        )
    check_encoder(config.evaluation, own_of_lora(config), refuse=base != EMBEDDED)
    plan = _plan(config, lora, training)
    for line in base_lines(plan.config, plan.pipeline):
        say(line)
    applied = plan.applied
    methods = ", ".join(f"{count} {method}" for method, count in sorted(applied.methods.items()))
    say(tr("{name}: {methods} modules, in the names of {form}", name=lora.name, methods=methods, form=applied.form))
    if told.get("ss_sd_model_name") and Path(base).name not in (EMBEDDED, told["ss_sd_model_name"]):
        say(
            tr(
                "{name} says that it was trained on {ss_sd_model_name}; it is measured on {base}",
                name=lora.name,
                ss_sd_model_name=told["ss_sd_model_name"],
                base=base,
            )
        )
    if read := plan.text.unusual():
        say(tr("Prompts are read with {names}", names=", ".join((f"{name} {value}" for name, value in read.items()))))
    tags = {"lora_file": lora.name, "lora_sha256": hashes, "lora_form": applied.form, "lora_methods": methods}
    return FilePlan(plan, place, tags | {tag: told[key][:200] for key, tag in _TOLD.items() if told.get(key)})


def called(lora: Path) -> str:
    """What a file is called: its name without ending, its folder's where programs give every file the same name."""
    return lora.absolute().parent.name if lora.stem in _SAME_NAMES else lora.stem


def _plan(config: LoraExperiment, lora: Path, training: str | None) -> Plan:
    extension, references = config.data.caption_extension, config.evaluation.references
    assert references is not None
    folder, most = folder_of(references, "references"), config.evaluation.max_references
    found = read_references(folder, extension, most)
    if (there := count_images(folder)) > most:
        say(drawn(most, there))
    suite = read_metric_suite(config.evaluation, config.data.cache_dir)
    found = part_of(found, config.evaluation.references_part, suite.cache)
    found = as_prompts(with_lines(found, config.data), config.data)
    known = read_training_folder(folder_of(training, "train"), extension, field="training") if training else []
    return plan_evaluation(config, lora, found, known, suite, device_of_evaluation())


@in_pythons_words({"model.base": "base", "data.train_data_dir": "training", "evaluation.references": "references"})
def evaluate_lora(
    lora: str | Path,
    *,
    base: str = "embedded",
    references: str | Path = "embedded",
    training: str | Path | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> EvaluationResult:
    """Measure a LoRA file against its base on references with captions, without MLflow; the report is written to `folder` too.

    The file may be of kohya's trainers (LoRA, LoCon, LoHa, LoKr), diffusers, PEFT or LyCORIS; what cannot be applied whole is refused by name.
    `folder` is `outputs/evaluations/<name of the file>` when not given (of its folder where PEFT or diffusers named the file); images that an
    evaluation with the same weights, prompts and seeds left there are used again. `training` is the training folder (`N_class` folders), for
    the nearness to its images. `settings` are those of `evaluation` by their names (`seed=1`, `images_per_reference=4`, `encoder=…`,
    `extra_metrics=[…]`), and others of a LoRA experiment that count here (`prediction_type="v_prediction"`, `resolution=512`, `clip_skip=2`;
    the file's own where it says one). InputError with every problem at once.
    """
    file = plan_file(
        Path(lora).expanduser(),
        base=base,
        references=str(references),
        training=str(training) if training else None,
        folder=Path(folder).expanduser() if folder else None,
        settings=settings,
    )
    result = file.measure()
    write_evaluation(result, file.place)
    return result
