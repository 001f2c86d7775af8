"""Images made elsewhere against a folder of references: which belongs to which, and how near they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from fashion_ml.config import Evaluation, of_evaluation, validate_evaluation
from fashion_ml.data.folder_listing import list_folder, other_endings
from fashion_ml.data.images import CaptionedImage, data_digest, look_at_files, read_training_folder
from fashion_ml.data.notices import Notice, by_kind, line_of
from fashion_ml.data.pictures import load_picture
from fashion_ml.embedded.collection import folder_of
from fashion_ml.errors import InputError, in_pythons_words
from fashion_ml.evaluation.aggregate import ends, shown, summarise, table_names
from fashion_ml.evaluation.artifacts import Pairs, ReportContent, write_evaluation
from fashion_ml.evaluation.findings import of_images
from fashion_ml.evaluation.fingerprint import fingerprint, suite_facts
from fashion_ml.evaluation.image_prompts import measure_prompts, read_prompts
from fashion_ml.evaluation.instruments import read_metric_suite
from fashion_ml.evaluation.leakage import Leakage, find_leakage, refuse_leakage
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.memorisation import Memorisation, embed_training, measure_memorisation
from fashion_ml.evaluation.obedience import held_to_dict
from fashion_ml.evaluation.pair_controls import MeasuredPairs, Sample, measure_pairs
from fashion_ml.evaluation.pairing import Names, PairBy, pair_by_of, paired
from fashion_ml.evaluation.ruler import Ruler, lay_ruler, stacked, with_sides
from fashion_ml.evaluation.sets import measure_sets
from fashion_ml.evaluation.three_lines import in_every_language
from fashion_ml.evaluation.toy import check_encoder, known_to_read, own_references, toy_facts
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import NEAREST, better
from fashion_ml.metrics.ssim import WINDOW
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.language import Language, language, tr
from fashion_ml.runtime.printable import composed, printable

MAIN = "generated"


@dataclass(frozen=True)
class FoundPairs:
    """Which generated file belongs to which reference, and what could not be used."""

    pairs: list[tuple[str, CaptionedImage, CaptionedImage]]
    """Name, generated, reference."""
    unpaired_generated: list[str] = field(default_factory=list)
    unpaired_references: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """A line for each file that cannot be read, naming it."""
    folders: list[str] = field(default_factory=list)
    """Folders inside the two, which are not looked into."""
    notices: list[Notice] = field(default_factory=list)
    """Other files of the two that are left out."""


@dataclass(frozen=True)
class ImagesResult:
    """Scores of images that were made elsewhere."""

    facts: Mapping[str, Any]
    """Everything that the scores depend on beside the images."""
    pairs: Pairs
    scores: dict[str, Interval]
    """Every metric's mean over references with its interval."""
    sets: dict[str, Interval]
    """Metrics of the whole sets of images: `kid`; empty when not measured."""
    ruler: Ruler
    """What other real pictures, a flat colour and noise get, and whether the encoder can read."""
    leakage: Leakage
    """Which references are training images."""
    memorisation: Memorisation | None
    """What nearness to training images is measured by; None where it was not measured."""
    found: FoundPairs
    lines: Mapping[Language, str]
    """What came out, in three lines, by language."""
    run_id: str = ""
    """The MLflow run that it was logged to; empty when it was not."""
    folder: Path | None = None
    """Where its files are; None before they are written."""
    held_against: Mapping[str, Interval] = field(default_factory=dict)
    """What real pictures and chance get, by name in MLflow: `reference_prompt_similarity`, `prompt_retrieval_chance`, …"""

    @property
    def sentence(self) -> str:
        """The lines in the language of this run."""
        return self.lines[language()]

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def table(self) -> pd.DataFrame:
        """One row a pair: names, what was nearest in the training folder where that was looked at, scores."""
        extra = {name: list(values) for name, values in self.pairs.extra.items()}
        files = {"generated": extra.pop("generated"), "reference": list(self.pairs.references)}
        scores = self.pairs.tables[MAIN].reset_index(drop=True)
        return pd.DataFrame({"name": list(self.pairs.captions), **files, **extra}).join(scores)

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow."""
        named = (*self.scores.items(), *self.sets.items(), *self.held_against.items())
        return {name: interval.mean for name, interval in named}

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow; empty below 6 references."""
        return ends([*self.scores.items(), *self.sets.items(), *self.held_against.items()])

    def beside(self) -> dict[str, float]:
        """Numbers of this evaluation alone by their names in MLflow: the ruler, the encoder's check, what memorisation is measured by."""
        return {**self.ruler.named(), **(self.memorisation.named() if self.memorisation else {})}

    def content(self) -> ReportContent:
        """What the reports say."""
        names = table_names(self.scores, self.pairs.tables[MAIN], self.pairs.references)
        rows = [(label, better(name), [shown(self.scores[name])]) for name, label in names.items()]
        rows += [(name, better(name), [shown(interval)]) for name, interval in self.sets.items()]
        report = self.to_dict() | {"pairs": len(self.pairs.references)}
        title = tr("Evaluation of images made elsewhere")
        return ReportContent(title, self.sentence, self.fingerprint, self.facts, rows, (MAIN,), report)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: pairs, aggregates, fingerprint, and what was left out; what was not measured is null; `run_id` where it was logged."""
        rows = json.loads(self.table.to_json(orient="records"))
        aggregates = {name: vars(interval) for name, interval in [*self.scores.items(), *self.sets.items()]}
        return {
            **({"run_id": self.run_id} if self.run_id else {}),
            "sentence": self.sentence,
            "lines": dict(self.lines),
            "pairs": rows,
            "aggregates": aggregates,
            "held_against": held_to_dict(self.held_against),
            "ruler": self.ruler.to_dict(),
            "leakage": self.leakage.to_dict(),
            "memorisation": self.memorisation.to_dict() if self.memorisation else None,
            "fingerprint": {"sha256": self.fingerprint, **self.facts},
            "unpaired": {"generated": self.found.unpaired_generated, "reference": self.found.unpaired_references},
            "unreadable": self.found.unreadable,
            "left_out": {kind.key: [str(one) for one in some] for kind, some in by_kind(self.found.notices).items()},
        }


@in_pythons_words({})
def evaluate_images(
    generated: str | Path,
    references: str | Path,
    *,
    pairs: str | Path | None = None,
    pair_by: str = "",
    training: str | Path | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> ImagesResult:
    """Measure images made elsewhere against references, without MLflow; the report is written to `folder` where one is given.

    Files are paired by their names without endings, or by the CSV file `pairs` with the columns generated,reference (comma, semicolon or tab;
    UTF-8 or UTF-16), or by `pair_by`: `order`, or `prompt`, which a WebUI wrote into its picture. `training` is the training folder (`N_class`
    folders), for the nearness to its images. `settings` are those of `evaluation` by their names (`encoder=…`, `extra_metrics=[…]`,
    `resamples=500`). What cannot be used is left out and told by the logger `fashion_ml`. InputError with every problem
    at once.
    """
    checked = validate_evaluation(of_evaluation(settings, Evaluation, "evaluate_images", Evaluation.of_images))
    place = Path(folder).expanduser() if folder else None
    if place and place.exists() and not place.is_dir():
        raise InputError(
            tr("folder: {place!r} is a file; give the folder that the report is to be written to", place=str(place))
        )
    csv_file = Path(pairs).expanduser() if pairs else None
    found = find_pairs(
        Path(generated).expanduser(), folder_of(references, "references"), csv_file, pair_by=pair_by, names=_ARGUMENTS
    )
    check_encoder(checked, own_references(str(references)), refuse=True)
    known = read_training_folder(folder_of(training, "train"), field="training") if training else []
    suite = read_metric_suite(checked)
    say_left_out(found)
    result = measure_images(found, checked, suite, known, look_for_leakage(found, checked, suite, known))
    if place:
        write_evaluation(result, place)
    return result


def say_left_out(found: FoundPairs) -> None:
    """Name the files that are not measured, and why."""
    if found.folders:
        say(tr("not looked into: {names}", names=", ".join(found.folders)))
    for kind, some in by_kind(found.notices).items():
        warn(line_of(kind, some))
    for line in found.unreadable:
        say(tr("left out: {line}", line=line))
    for side, names in (("generated", found.unpaired_generated), ("reference", found.unpaired_references)):
        if names:
            say(
                tr(
                    "no partner for {count} {side} images: {names}{part}",
                    count=len(names),
                    side=side,
                    names=", ".join(names[:20]),
                    part=" …" if len(names) > 20 else "",
                )
            )


_OPTIONS = Names("--generated", "--reference", "--pairs", "--pair-by")
_ARGUMENTS = Names("generated", "references", "pairs", "pair_by")


def find_pairs(
    generated: Path, reference: Path, pairs_csv: Path | None = None, *, pair_by: str = "", names: Names = _OPTIONS
) -> FoundPairs:
    """Pairs by file stem (`look_01.png` with `look_01.jpg`), or by a CSV with the columns generated,reference (names in these folders), where
    `pair_by` says so by order, or by the prompt that a WebUI wrote into its picture and the caption beside the reference.

    Files that cannot be read, and files without a partner, are left out and listed. InputError when a folder or the CSV cannot be used, when a
    stem stands for several references, or when no pair is left.
    """
    by, notices, bad = pair_by_of(pair_by, pairs_csv, names), list[Notice](), list[str]()
    sides = ((generated, names.generated), (reference, names.reference))
    left, right = (_images(folder, option, notices) for folder, option in sides)
    wanted = paired(by, left, right, reference, pairs_csv, names, bad)
    used = {path for pair in wanted for path in pair}
    looked: dict[Path, CaptionedImage] = {}
    for side, option in ((left, names.generated), (right, names.reference)):
        items = [CaptionedImage(path, "", printable(path.name)) for path in side.values() if path in used]
        looked |= {item.path: item for item in look_at_files(items, option, bad, least=WINDOW)}
    pairs = [(printable(a.stem), looked[a], looked[b]) for a, b in wanted if a in looked and b in looked]
    if not pairs:
        raise InputError(
            [
                tr(
                    "{generated}: no pair of {generated_2!r} and {reference!r} can be measured by {by}; files are paired "
                    "by equal names without endings, by a CSV file ({pairs}), or as {pair_by} says: {names}",
                    generated=names.generated,
                    generated_2=str(generated),
                    reference=str(reference),
                    by=by,
                    pairs=names.pairs,
                    pair_by=names.pair_by,
                    names=", ".join(get_args(PairBy)),
                ),
                *bad,
            ]
        )
    in_pairs = {item.path for _, made, wanted_ in pairs for item in (made, wanted_)}
    broken = used - set(looked)
    return FoundPairs(
        pairs,
        sorted(printable(path.name) for path in left.values() if path not in in_pairs | broken),
        sorted(printable(path.name) for path in right.values() if path not in in_pairs | broken),
        bad,
        [printable(str(place)) for folder in (generated, reference) for place in sorted(folder.iterdir()) if place.is_dir()],
        notices,
    )


def look_for_leakage(
    found: FoundPairs, settings: Evaluation, suite: MetricSuite, training: Sequence[CaptionedImage]
) -> Leakage:
    """Which references were trained on. InputError for any where the settings are strict."""
    references = _unique(found)
    leakage = find_leakage(references, training, suite.cache)
    if settings.strict:
        refuse_leakage(leakage, len(references))
    return leakage


def _unique(found: FoundPairs) -> list[CaptionedImage]:
    """The references, each once."""
    return list({item.name: item for _, _, item in found.pairs}.values())


def measure_images(
    found: FoundPairs,
    settings: Evaluation,
    suite: MetricSuite,
    training: Sequence[CaptionedImage],
    leakage: Leakage,
) -> ImagesResult:
    """Measure every pair as it is (sizes may differ); `leakage` is what was found of these references and `training`."""
    facts = {
        **suite_facts(settings, suite, ("torch", "open_clip")),
        "references_sha256": data_digest(sorted((item for _, _, item in found.pairs), key=lambda item: item.name)),
        "pairs": len(found.pairs),
        "rotations": settings.rotations,
        "source": tr("images made elsewhere"),
        **toy_facts(settings, own_references(str(found.pairs[0][2].path.parent))),
    }
    prompts = read_prompts(found.pairs, settings, suite, training)
    facts |= prompts.facts()
    names, items, made_of = [item.name for _, _, item in found.pairs], _unique(found), _numbers(found)
    unique = [item.name for item in items]
    measured = measure_pairs(found.pairs, suite)
    references = [measured.targets[names.index(name)] for name in unique]
    sample = Sample(items, references, training, leakage.groups)
    table = measured.table
    if settings.rotations:
        table = table.join(sample.measure(found.pairs, made_of, measured.made, table, settings.rotations, suite))
    embeddings = [picture.embedding for picture in measured.made if picture.embedding is not None]
    held = measure_prompts(table, embeddings, names, stacked(references), prompts, suite, settings.resamples)
    extra, memorisation = _memorisation(table, measured, references, training, leakage, suite)
    aggregates = summarise(table, names, resamples=settings.resamples)
    means = {MAIN: {name: interval.mean for name, interval in aggregates.items()}}
    ruler = with_sides(lay_ruler(sample.real(), suite, known=known_to_read(settings, facts)), means)
    pairs = Pairs(
        tables={MAIN: table},
        references=names,
        captions=[name for name, _, _ in found.pairs],
        reference_of=lambda index: load_picture(found.pairs[index][2].path),
        picture_of=lambda _, index: load_picture(found.pairs[index][1].path),
        extra={"generated": [made.name for _, made, _ in found.pairs], **extra},
    )
    captions = [caption or name for caption, name in zip(prompts.captions, unique, strict=True)]
    sets = measure_sets(suite, {MAIN: stacked(measured.made)}, stacked(references), made_of, captions, settings.resamples)
    told = of_images(aggregates, held, facts, pairs=len(found.pairs), ruler=ruler, leakage=leakage, references=len(items))
    lines = in_every_language(told)
    return ImagesResult(facts, pairs, aggregates, sets, ruler, leakage, memorisation, found, lines, held_against=held)


def _numbers(found: FoundPairs) -> list[int]:
    """Of each pair the number of its reference among the different ones."""
    places = {name: place for place, name in enumerate(dict.fromkeys(item.name for _, _, item in found.pairs))}
    return [places[item.name] for _, _, item in found.pairs]


def _images(folder: Path, option: str, notices: list[Notice]) -> dict[str, Path]:
    """The images of a folder by their names, accents in one spelling; what is no image, and is none of a picture's texts, is noticed."""
    if not folder.is_dir():
        raise InputError(
            tr("{option}: {folder!r} is no folder; give the folder of the images", option=option, folder=str(folder))
        )
    listing = list_folder(folder, f"{printable(folder.name)}/", read_below=True)  # folders inside are named as such
    left_out = [*listing.notices, *other_endings(listing.others, f"{printable(folder.name)}/")]
    if not listing.images:
        instead = tr("; ").join(line_of(kind, some) for kind, some in by_kind(left_out).items())
        raise InputError(
            tr(
                "{option}: {folder!r} holds no images{part}",
                option=option,
                folder=str(folder),
                part=f" ({instead})" if instead else "",
            )
        )
    notices += left_out
    found: dict[str, Path] = {}
    for path in listing.images:
        name = composed(path.name)
        found[path.name if name in found else name] = path  # a second spelling of one name is another file
    return found


def _memorisation(
    table: pd.DataFrame,
    measured: MeasuredPairs,
    references: Sequence[Picture],
    training: Sequence[CaptionedImage],
    leakage: Leakage,
    suite: MetricSuite,
) -> tuple[dict[str, list[str]], Memorisation | None]:
    made, targets = stacked(measured.made), stacked(references)
    if not training or not suite.measures(NEAREST) or made is None or targets is None:
        return {}, None
    known, held_out = embed_training(training, suite), leakage.held_out(len(references))
    found, places = measure_memorisation({MAIN: table}, {MAIN: made}, known, targets, held_out)
    return {"nearest_training_image": [training[place].name for place in places]}, found
