"""What an experiment reads, checked before anything begins: training images, prior images, references, and the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import Evaluation, LoraExperiment
from fashion_ml.data.image_index import KnownImages
from fashion_ml.data.images import (
    CaptionedImage,
    Reading,
    count_images,
    read_training_folder,
    scan_references,
    scan_training_folder,
    spread,
)
from fashion_ml.data.masks import Masks, find_masks
from fashion_ml.data.notices import REFERENCES, drawn
from fashion_ml.data.reference_parts import part_of
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.embedded.collection import folder_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import read_metric_suite
from fashion_ml.evaluation.leakage import find_leakage, refuse_leakage
from fashion_ml.evaluation.prompts import check_prompts
from fashion_ml.evaluation.toy import EMBEDDED, check_encoder, own_of_lora
from fashion_ml.evaluation.trigger import classes_of_folders
from fashion_ml.metrics.registry import METRICS
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.language import tr
from fashion_ml.training.lora_inputs import small_cache
from fashion_ml.training.subset_images import as_meant, as_prompts, scan_subsets, subsets_folder, with_lines

if TYPE_CHECKING:
    from fashion_ml.data.look_ahead import LookAhead
    from fashion_ml.data.summary import FolderSummary
    from fashion_ml.evaluation.measure import MetricSuite


@dataclass(frozen=True)
class Sources:
    """The images, in the order they are used in."""

    items: list[CaptionedImage]
    prior: list[CaptionedImage]
    references: list[CaptionedImage]
    """Empty when nothing is to be evaluated."""
    make_metric_suite: Callable[[], MetricSuite] | None
    """None when nothing is to be evaluated."""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """What the folders hold that were read, by what they are for: training, prior, references."""
    masks: Masks | None = None
    """Of the training images; None where none are asked for."""
    looks: TensorCache = field(default_factory=TensorCache)
    """What images look like and which are near-duplicates, so that each is looked at once."""
    summary: tuple[FolderSummary, ...] = ()
    """What is known of each of these folders, for training."""

    def of(self, role: str) -> list[CaptionedImage]:
        """The images of one of the `readings`."""
        return self.references if role == REFERENCES else list(self.readings[role].items)

    @cached_property
    def suite(self) -> MetricSuite | None:
        """The instruments of the evaluation; what comes with this package is loaded when it is asked for, not before training."""
        return self.make_metric_suite() if self.make_metric_suite else None


def training_folder(config: LoraExperiment) -> Path:
    """Where the training images lie; for `embedded` the collection, which is written below `outputs/` when it is not there yet."""
    given = config.data.train_data_dir
    return folder_of(given, "train") if given else subsets_folder(config.data.subsets)


def references_folder(config: LoraExperiment) -> Path | None:
    """Where the references lie; None when the training images are to be the references."""
    given = config.evaluation.references
    return folder_of(given, "references") if given else None


def all_references(config: LoraExperiment) -> list[CaptionedImage]:
    """The references as an evaluation reads them, before halves are taken; without a folder of them the training images. InputError as then."""
    settings, data, skip = config.evaluation, config.data, config.data.on_bad_image == "skip"
    folder, train = references_folder(config), data.train_data_dir
    if folder is not None:
        return as_meant(scan_references(folder, data.caption_extension, settings.max_references, skip=skip), data).items
    known, items = known_images(config), list[CaptionedImage]()
    if train:
        place, extension = folder_of(train, "train"), data.caption_extension
        reading = scan_training_folder(place, caption_extension=extension, field="data.train_data_dir", skip=skip, known=known)
        items += as_meant(reading, data).items
    items += [one for reading in scan_subsets(data, prior=False, known=known).values() for one in reading.items]
    return spread(items, settings.max_references)


def read_sources(
    config: LoraExperiment, *, training_images: bool = True, tell: bool = True, ahead: LookAhead | None = None
) -> Sources:
    """Read and check every folder and the encoder. InputError with all problems at once.

    Without `training_images` the prior images are not read, and it is no error when the training images are not there. Without `tell`
    whoever calls says what is left out. What was looked at `ahead` is not looked at again.
    """
    from fashion_ml.models.kohya_format import read_lora
    from fashion_ml.models.stable_diffusion import find_base

    settings, data = config.evaluation, config.data
    extension, problems, looks = data.caption_extension, list[str](), small_cache(config)
    skip, known, readings = data.on_bad_image == "skip", known_images(config, ahead), dict[str, Reading]()

    def attempt(work: Callable[[], Any], default: Any) -> Any:
        try:
            return work()
        except InputError as error:
            problems.extend(error.problems)
            return default

    def read(role: str, scan: Callable[[], Reading]) -> list[CaptionedImage]:
        found = attempt(scan, None)
        readings.update({role: as_meant(found, data)} if found is not None else {})
        return list(readings[role].items) if found is not None else []

    def read_classes(role: str, folder: Path | None, field: str) -> list[CaptionedImage]:
        scan = partial(scan_training_folder, caption_extension=extension, field=field, skip=skip, known=known)
        found = read(role, partial(scan, folder)) if folder else []
        subsets = attempt(lambda: scan_subsets(data, prior=role == "prior", known=known), {})
        readings.update({f"{role} {name}": reading for name, reading in subsets.items()})
        return [*found, *(item for reading in subsets.values() for item in reading.items)]

    attempt(lambda: find_base(config.model.base), None)
    if training_images and config.network.network_weights:
        attempt(lambda: read_lora(Path(config.network.network_weights or "").expanduser(), "network.network_weights"), None)
    items, prior = _trained_on(config, read_classes) if training_images else (_if_there(config), [])
    masks = attempt(lambda: find_masks(data.masks, data.masks_dir, items, looks), None) if items and training_images else None
    references: list[CaptionedImage] = []
    measured = settings.enabled or config.training.performance_check_interval is not None
    if measured:
        folder, most = references_folder(config), settings.max_references
        references = (
            read(REFERENCES, lambda: scan_references(folder, extension, most, skip=skip)) if folder else spread(items, most)
        )
        _say_drawn(references, count_images(folder) if folder is not None and references else len(items), settings)
        references = as_prompts(attempt(partial(part_of, references, settings.references_part, looks), references), data)
        attempt(partial(_check_images, settings), None)
        attempt(partial(_look_for_leakage, config, references, items, looks, tell=tell and is_main()), None)
    # a hub is asked last: what is wrong here is said first, and at once
    waits = not measured or (problems and _asks_the_network(settings.encoder))
    suite_of = None if waits else attempt(lambda: _suite_of(config, references, items), None)
    if problems:
        raise InputError(problems)
    for reading in readings.values() if tell and is_main() else ():
        reading.say_left_out()
    if masks and is_main():
        masks.say_unused()
    return Sources(items, prior, references, suite_of, readings, masks, looks)


def _say_drawn(references: Sequence[CaptionedImage], there: int, settings: Evaluation) -> None:
    if references and there > settings.max_references:
        say(drawn(settings.max_references, there))


def _check_images(settings: Evaluation) -> None:
    """InputError when the VAE of the evaluation cannot be had, or this machine has not its precision."""
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.models.vae import load_vae
    from fashion_ml.training.precision import settled

    settled(settings.precision, device_of_evaluation())
    if settings.vae is not None:
        load_vae(settings.vae, field="evaluation.vae")


def _look_for_leakage(
    config: LoraExperiment,
    references: Sequence[CaptionedImage],
    items: Sequence[CaptionedImage],
    looks: TensorCache,
    *,
    tell: bool,
) -> None:
    """Say which references are trained on, or with evaluation.strict refuse them."""
    if not references or not (items or config.evaluation.strict):
        return
    leakage = find_leakage(references, items, looks, all_by_setting=config.evaluation.references is None)
    if config.evaluation.strict:
        refuse_leakage(leakage, len(references))
    if leakage.pairs and tell:
        warn(tr("{line}; with evaluation.strict such references are refused", line=leakage.line(len(references))))


def _trained_on(
    config: LoraExperiment, read_classes: Callable[[str, Path | None, str], list[CaptionedImage]]
) -> tuple[list[CaptionedImage], list[CaptionedImage]]:
    """The training and the prior images."""
    train, reg = config.data.train_data_dir, config.data.reg_data_dir
    return (
        read_classes("training", folder_of(train, "train") if train else None, "data.train_data_dir"),
        read_classes("prior", Path(reg).expanduser() if reg else None, "data.reg_data_dir"),
    )


def _suite_of(
    config: LoraExperiment, references: Sequence[CaptionedImage], items: Sequence[CaptionedImage]
) -> Callable[[], MetricSuite]:
    """Makes the instruments of the evaluation; what may not be there is loaded now, for that is to be said before a run begins."""
    settings, captions = config.evaluation, [one.caption for one in references]
    check_prompts(settings, captions, classes_of_folders(items), embedded=config.model.base == EMBEDDED)
    check_encoder(settings, own_of_lora(config), refuse=config.model.base != EMBEDDED, quiet=not is_main())
    make = partial(read_metric_suite, settings, config.data.cache_dir)
    ours = settings.encoder == EMBEDDED and settings.attributes == "default"
    if ours and not any(metric.load and metric.switch in settings.extra_metrics for metric in METRICS):
        return make
    suite = make()
    return lambda: suite


def _asks_the_network(encoder: str) -> bool:
    return encoder.startswith("hf-hub:") or (encoder.count("/") == 1 and not Path(encoder).expanduser().exists())


def known_images(config: LoraExperiment, ahead: LookAhead | None = None) -> KnownImages | None:
    """What is known of image files already, from data.cache_dir and what was looked at `ahead`; None without both."""
    folder = Path(config.data.cache_dir).expanduser() if config.data.cache_dir else None
    return KnownImages(folder, ahead.found if ahead else None) if folder or ahead else None


def _if_there(config: LoraExperiment) -> list[CaptionedImage]:
    """The training images, to hold references and what is generated against; none where they are not on this machine."""
    data, known, train = config.data, known_images(config), config.data.train_data_dir
    try:
        found = (
            read_training_folder(folder_of(train, "train"), data.caption_extension, skipped=[], known=known) if train else []
        )
        subsets = scan_subsets(data, prior=False, known=known)
        return [*with_lines(found, data), *(item for reading in subsets.values() for item in reading.items)]
    except InputError:
        say(
            tr(
                "The training images are not here: nothing says how near images are to them, and whether references "
                "were trained on"
            )
        )
        return []
