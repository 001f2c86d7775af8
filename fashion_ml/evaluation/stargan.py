"""Evaluation of a StarGAN: held-out contents in the style of every domain, by reference and by latent; is the shape kept, the style taken?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.data.reference_parts import part_of_held
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.evaluation.aggregate import ends, shown, summarise, table_names
from fashion_ml.evaluation.artifacts import Figure, Pairs, ReportContent
from fashion_ml.evaluation.findings import of_stargan
from fashion_ml.evaluation.fingerprint import fingerprint
from fashion_ml.evaluation.gan_controls import with_controls
from fashion_ml.evaluation.gan_facts import facts_of_stargan
from fashion_ml.evaluation.gan_grids import LATENT, REFERENCE, Row, every_target, grid_figures
from fashion_ml.evaluation.gan_instruments import GanInstruments
from fashion_ml.evaluation.gan_pairs import measure_by_pair
from fashion_ml.evaluation.gan_styles import noise_of, references_of
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.one_domain import Winner, winner
from fashion_ml.evaluation.ruler import RealPictures, Ruler, lay_ruler, with_sides
from fashion_ml.evaluation.three_lines import first_sentence, in_every_language
from fashion_ml.evaluation.toy import known_to_read, toy_facts
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.control_rows import OTHERS
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.metric import By, measure_pair
from fashion_ml.metrics.registry import TOTAL, better, metric_of
from fashion_ml.models.stargan import Networks
from fashion_ml.models.vae import decode_latents
from fashion_ml.runtime.console import bar, say
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import Language, language, tr

_METRIC_NAME = re.compile(r"[^\w.\- ]")
"""What a metric's name may not hold."""


@dataclass(frozen=True)
class GanResult:
    """Scores of one evaluation of a StarGAN."""

    facts: Mapping[str, Any]
    """Everything but the networks that the scores depend on."""
    pairs: Pairs
    scores: dict[str, Interval]
    """Of reference-guided images, and as `latent_…` of latent-guided ones."""
    by_target: dict[str, float]
    """`domain_accuracy/<domain>` and `latent_domain_accuracy/<domain>`, and what they lie between: `domain_accuracy_unchanged`, the contents
    as they are taken for the targets, and `domain_accuracy_real`, held-out latents of the targets decoded."""
    by_pair: dict[str, float]
    """`pair_kid`, `latent_pair_kid` and so on, their means over pairs of domains."""
    pair_table: pd.DataFrame
    """A row for each pair of domains; empty without `evaluation.by_pair`."""
    ruler: Ruler
    """Under the losses against references, what other real pictures, a flat colour and noise get, and whether the encoder can read."""
    lines: Mapping[Language, str]
    """What came out, in three lines, by language."""
    contents: int
    images: int
    figures: Sequence[Figure] = ()
    title: str = ""
    """Of the report; empty before a run has a name."""
    run_id: str = ""
    """The MLflow run that it was logged to; empty when it was not."""
    folder: Path | None = None
    """Where its files are; None before they are written."""

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
        """One row for each content and target: scores of reference-guided images, of latent-guided ones as `latent_…`."""
        return self.pairs.columns()

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow."""
        return {**{name: interval.mean for name, interval in self.scores.items()}, **self.by_target, **self.by_pair}

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow; empty below 6 contents."""
        return ends(self.scores.items())

    def labels(self) -> dict[str, str]:
        """What tables show of the scores, and what they call it."""
        found: dict[str, str] = {}
        for prefix, who in (("", REFERENCE), ("latent_", LATENT)):
            own = [name for name in self.pairs.tables[who] if f"{prefix}{name}" in self.scores]
            names = table_names(own, self.pairs.tables[who], self.pairs.references)
            found |= {f"{prefix}{name}": f"{prefix}{label}" for name, label in names.items()}
        return found

    def beside(self) -> dict[str, float]:
        """Numbers of this evaluation alone by their names in MLflow: the ruler and the encoder's check."""
        return self.ruler.named()

    def content(self) -> ReportContent:
        """What the reports say."""
        rows = [
            (label, better(name.removeprefix("latent_")), [shown(self.scores[name])]) for name, label in self.labels().items()
        ]
        rows += [(name, "higher", [f"{value:.3f}"]) for name, value in self.by_target.items()]
        rows += [(name, better(name.removeprefix("latent_")), [f"{value:.4f}"]) for name, value in self.by_pair.items()]
        tables = {"by_pair.csv": self.pair_table} if len(self.pair_table) else {}
        title, heads = self.title or tr("Evaluation of a StarGAN"), ("mean",)
        found = first_sentence(self.sentence.splitlines()[1])
        report = self.to_dict()
        told = (title, self.sentence, self.fingerprint, self.facts, rows, heads, report)
        return ReportContent(*told, figures=self.figures, found=found, tables=tables)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `run_id` where it was logged."""
        return {
            **({"run_id": self.run_id} if self.run_id else {}),
            "fingerprint": self.fingerprint,
            "sentence": self.sentence,
            "lines": dict(self.lines),
            "contents": self.contents,
            "images": self.images,
            "metrics": {name: vars(interval) for name, interval in self.scores.items()},
            "by_target": self.by_target,
            "by_pair": self.by_pair,
            "ruler": self.ruler.to_dict(),
        }


@dataclass(frozen=True)
class _Made:
    """Latents of every content in every domain, scaled, in the order of the rows."""

    rows: list[Row]
    by_reference: torch.Tensor
    by_latent: torch.Tensor
    cycle_l1: list[float]
    diversity: list[float]

    @property
    def measured(self) -> list[int]:
        """The rows whose target is another domain: what a StarGAN is for, and what the paper evaluates (section 4)."""
        return [number for number, ((source, _), target, _) in enumerate(self.rows) if source != target]


@exact_float32()
def measure_stargan(
    networks: Networks,
    inputs: GanInputs,
    vae: Any,
    instruments: GanInstruments,
    settings: GanEvaluation,
    scale: float,
    *,
    vae_sha256: str,
    own: Mapping[str, str] | None = None,
) -> GanResult:
    """Translate, decode and measure. `networks` are the averaged ones, `scale` latent_scale, `own` what is not embedded (`own_of_stargan`).

    ssim and visual_loss are against the content, fashion_similarity and color_correlation against the reference; cycle_l1 and diversity are
    in scaled latents. Everything is over targets that are not the content's own domain; the grids show the own domain too.
    """
    domains = [domain.name for domain in inputs.latents.domains]
    held = part_of_held(inputs.latents, inputs.held, settings.contents_part)
    _say_half(held, inputs, settings)
    made = _translate(networks, inputs, held, settings)
    pictures = _decode(made, inputs, vae, scale)
    measured = made.measured
    tables, by_target, won = _tables(pictures, made, instruments, settings, domains)
    rows = [made.rows[i] for i in measured]
    found = measure_by_pair(networks, inputs, held, rows, vae, scale, instruments, settings)
    tables = {who: table.assign(**found.columns.get(who, {})) for who, table in tables.items()}
    contents = [row[0] for row in rows]
    names = [f"{domains[y]}/{inputs.latents.domains[y].files[index]}" for y, index in contents]
    targets = [domains[made.rows[i][1]] for i in measured]
    scores = summarise(tables[REFERENCE], names, resamples=settings.resamples)
    scores |= {f"latent_{k}": v for k, v in summarise(tables[LATENT], names, resamples=settings.resamples).items()}
    pairs = Pairs(
        tables=tables,
        references=names,
        captions=[tr("{name} as {target}", name=name, target=target) for name, target in zip(names, targets, strict=True)],
        reference_of=lambda index: pictures["content"][measured[index]],
        picture_of=lambda who, index: pictures[who][measured[index]],
        extra={"target": targets},
        left="content",
        heads={REFERENCE: tr("by reference"), LATENT: tr("by latent")},
        guide_of=lambda index: pictures["target"][measured[index]],
        shown=every_target(made.rows, measured, len(domains)),
    )
    facts = facts_of_stargan(settings, inputs, held, instruments, scale, vae_sha256) | toy_facts(settings, own or {})
    ruler = _ruler(pictures["target"], made, instruments, settings, scores, known=known_to_read(settings, facts))
    lines = in_every_language(of_stargan(scores, by_target, len(set(names)), len(domains), facts, ruler, won))
    return GanResult(
        facts=facts,
        pairs=pairs,
        scores=scores,
        by_target=by_target,
        by_pair=found.means(),
        pair_table=found.table(tables, rows, domains) if settings.by_pair else pd.DataFrame(),
        ruler=ruler,
        lines=lines,
        contents=len(set(names)),
        images=2 * len(names),
        figures=grid_figures(pictures, made.rows, domains, title=first_sentence(lines[language()].splitlines()[1])),
    )


def _say_half(held: Sequence[Sequence[int]], inputs: GanInputs, settings: GanEvaluation) -> None:
    if settings.contents_part != "all":
        count, there = sum(map(len, held)), sum(map(len, inputs.held))
        say(
            tr(
                "{count} of {there} held-out latents are used, the half called {contents_part} (evaluation.contents_part)",
                count=count,
                there=there,
                contents_part=settings.contents_part,
            )
        )


def _decode(made: _Made, inputs: GanInputs, vae: Any, scale: float) -> dict[str, list[Image.Image]]:
    """Pictures of the contents, of the references (`target`), and of what was made by either way of guiding, a row each."""
    sources = {
        "content": inputs.scaled([row[0] for row in made.rows]),
        "target": inputs.scaled([row[2] for row in made.rows]),
        REFERENCE: made.by_reference,
        LATENT: made.by_latent,
    }
    pictures = {}
    with bar(tr("decode and measure"), 4 * len(made.rows)) as progress:
        for name, latents in sources.items():
            pictures[name] = decode_latents(vae, latents / scale)
            progress.advance(len(made.rows))
    return pictures


@torch.no_grad()
def _translate(n: Networks, inputs: GanInputs, held: Sequence[Sequence[int]], settings: GanEvaluation) -> _Made:
    """Every held-out content in every domain, by a held-out reference and by a latent style."""
    device = next(n.g.parameters()).device
    count = len(inputs.latents.domains)
    contents = [(y, index) for y in range(count) for index in held[y][: settings.contents_per_domain]]
    rows, by_reference, by_latent, cycles, spreads = [], [], [], [], []
    with bar(tr("translate"), len(contents)) as progress:
        for number, (y_src, index) in enumerate(contents):
            x = inputs.scaled([(y_src, index)])
            y_own, content = torch.tensor([y_src], device=device), n.g.encode(x)
            s_src = n.e(x, y_own)
            for y in range(count):
                (reference,) = references_of((y_src, index), number, y, inputs, held, 1)
                y_trg = torch.tensor([y], device=device)
                fake_ref = n.g.decode(content, n.e(inputs.scaled([reference]), y_trg))
                z = noise_of(number, y, settings.seed, settings.styles, n.f.latent_dim)
                several = n.g.decode(content.repeat(len(z), 1, 1, 1), n.f(z.to(device), y_trg.repeat(len(z))))
                rows.append(((y_src, index), y, reference))
                by_reference.append(fake_ref)
                by_latent.append(several[:1])
                cycles.append(float((n.g(fake_ref, s_src) - x).abs().mean()))
                spreads.append(_mean_pairwise_l1(several))
            progress.advance()
    return _Made(rows, torch.cat(by_reference), torch.cat(by_latent), cycles, spreads)


def _mean_pairwise_l1(latents: torch.Tensor) -> float:
    """Mean over pairs of the mean absolute difference; (N, C, h, w), N at least 2."""
    flat = latents.flatten(1)
    distances = torch.pdist(flat, p=1) / flat.shape[1]
    return float(distances.mean())


def _tables(
    pictures: dict[str, list[Image.Image]],
    made: _Made,
    instruments: GanInstruments,
    settings: GanEvaluation,
    domains: Sequence[str],
) -> tuple[dict[str, pd.DataFrame], dict[str, float], list[Winner]]:
    """The scores of the measured rows by way of guiding, the accuracies by target with their floor and ceiling, and what domain wins all by
    each of these ways."""
    weights, measured, encoder = settings.weights.model_dump(), made.measured, instruments.encoder
    sides = ("content", "target", REFERENCE, LATENT)
    embedded = {who: encoder.embed_images([pictures[who][i] for i in measured]) for who in sides} if encoder else {}
    looked = {
        who: instruments.look_at([pictures[who][i] for i in measured], embedded[who] if encoder else None) for who in sides
    }
    targets = [made.rows[i][1] for i in measured]
    read = {who: _read_as(embedded[who], encoder, settings, domains) for who in sides} if encoder else {}
    right = {who: [float(one == target) for one, target in zip(found, targets, strict=True)] for who, found in read.items()}
    guided: tuple[tuple[str, By], ...] = ((REFERENCE, "stargan"), (LATENT, "latent"))
    metrics = {who: instruments.metrics(by) for who, by in guided}
    rows: dict[str, list[dict[str, float]]] = {REFERENCE: [], LATENT: []}
    for place, i in enumerate(measured):
        sources = {"content": looked["content"][place], "reference": looked["target"][place]}
        for who, found in rows.items():
            row = measure_pair(metrics[who], looked[who][place], sources, weights, {})
            if encoder:
                row["domain_accuracy"] = right[who][place]
            found.append(row)
        rows[REFERENCE][-1]["cycle_l1"] = made.cycle_l1[i]
        rows[LATENT][-1]["diversity"] = made.diversity[i]
    tables = {who: pd.DataFrame(found) for who, found in rows.items()}
    tables[REFERENCE]["diversity"] = tables[LATENT].pop("diversity")  # of the model, not of one way of guiding it
    tables[REFERENCE] = with_controls(
        tables[REFERENCE],
        looked[REFERENCE],
        looked["target"],
        [made.rows[i][2] for i in measured],
        metrics[REFERENCE],
        weights,
        settings.rotations,
    )
    won = [one for who in (REFERENCE, LATENT) if who in read and (one := winner(read[who], targets, domains, who))]
    return tables, _by_target(right, [domains[y] for y in targets]) if encoder else {}, won


def _ruler(
    pictures: Sequence[Image.Image],
    made: _Made,
    instruments: GanInstruments,
    settings: GanEvaluation,
    scores: Mapping[str, Interval],
    *,
    known: bool | None,
) -> Ruler:
    """Under the losses against references: the references are the real pictures."""
    weights = settings.weights.model_dump()
    suite = MetricSuite(instruments.encoder, weights, instruments.metrics("stargan"), instruments.reader)
    references = {made.rows[i][2]: pictures[i] for i in made.measured}
    ruler = lay_ruler(RealPictures(suite.look_at(list(references.values()))), suite, known=known)
    # the total is of contents too
    against = [loss for loss in ruler.marks if "reference" in metric_of(loss).needs and loss != TOTAL]
    ruler = replace(ruler, marks={loss: ruler.marks[loss] for loss in against})
    sides = ((REFERENCE, ""), (LATENT, "latent_"))
    means = {
        who: {
            name: scores[f"{prefix}{name}"].mean
            for loss in against
            for name in (loss, f"{OTHERS}{loss}")
            if f"{prefix}{name}" in scores
        }
        for who, prefix in sides
    }
    return with_sides(ruler, means)


def _by_target(right: Mapping[str, Sequence[float]], targets: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for prefix, who in (("", REFERENCE), ("latent_", LATENT)):
        means = pd.Series(right[who]).groupby(list(targets)).mean()
        found |= {f"{prefix}domain_accuracy/{_METRIC_NAME.sub('_', str(name))}": float(mean) for name, mean in means.items()}
    found["domain_accuracy_unchanged"] = float(pd.Series(right["content"]).mean())
    found["domain_accuracy_real"] = float(pd.Series(right["target"]).mean())
    return found


def _read_as(embeddings: torch.Tensor, encoder: FashionClip, settings: GanEvaluation, domains: Sequence[str]) -> list[int]:
    """The domain of each image whose text is nearest."""
    texts = encoder.embed_texts([settings.domain_prompt.replace("{}", name) for name in domains])
    return [int(one) for one in (embeddings @ texts.T).argmax(1).tolist()]
