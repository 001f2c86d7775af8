"""A folder that a model hub takes as it is: weights for both kinds of readers, pictures, and a card made from the LoRA's own evaluation."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.models.ema import EMA
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.csv_cells import read_csv
from fashion_ml.runtime.json_file import of_its_shape, read_mapping
from fashion_ml.runtime.language import speaking, tr
from fashion_ml.runtime.problem_line import without_field

if TYPE_CHECKING:
    from fashion_ml.config import LoraExperiment

_PICTURES = 4
_LICENCES = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "runwayml/stable-diffusion-v1-5": "creativeml-openrail-m",
    "CompVis/stable-diffusion-v1-4": "creativeml-openrail-m",
    "stabilityai/stable-diffusion-2-1": "openrail++",
    "stabilityai/stable-diffusion-2-1-base": "openrail++",
}
"""Of bases whose licence binds what is made of them. Of others nothing is known here, and nothing is written."""
_MARKUP = re.compile(r"([\\`*\[\]|~]|^#)")


@dataclass(frozen=True)
class Measured:
    """What the store has of an evaluation of the file."""

    report: Mapping[str, Any]
    """`evaluation_report.json`."""
    facts: Mapping[str, Any]
    """`fingerprint.json`."""
    grid: Path | None
    pictures: Sequence[tuple[Path, str]] = field(default_factory=tuple)
    """Images of the LoRA and their prompts."""


def write_hub_folder(
    client: Any, run_id: str, config: LoraExperiment, lora: Path, output: Path, *, averaged: bool = False
) -> None:
    """Write the LoRA file of a run into the new folder `output`: the file itself, diffusers' form of it where there is one, up to four
    images, the evaluation's grid, and README.md. Nothing is sent anywhere. InputError where the folder cannot be written.

    The card has what was measured of this very file, by its step; of an average, or without an evaluation, it says that nothing was.
    """
    from fashion_ml.deploy.export import say_readers, with_base
    from fashion_ml.deploy.exported_words import write_words

    say_readers(lora)
    name = config.output.output_name
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        folder = Path(temporary) / "folder"
        folder.mkdir()
        shutil.copyfile(lora, folder / f"{name}.safetensors")
        words = write_words(lora, folder, "hub")
        try:
            with_base(lora, config.model.base, config.model.schedule(), "diffusers", folder)
            diffusers = True
        except InputError as error:
            say(tr("Without a file for diffusers: {why}", why=without_field(error.problems[0])))
            diffusers = False
        found = None if averaged else _measured(client, run_id, lora, Path(temporary))
        if found is None:
            say(tr("Not evaluated, so the card says so: fashion-ml evaluate run measures it"))
        for index, (picture, _) in enumerate(found.pictures if found else ()):
            (folder / "images").mkdir(exist_ok=True)
            shutil.copyfile(picture, folder / "images" / f"{index}.png")
        if found and found.grid:
            shutil.copyfile(found.grid, folder / "grid.png")
        write_text(folder / "README.md", card(config, found, lora, diffusers=diffusers, words=words))
        if output.is_dir():
            output.rmdir()  # empty, as export has seen
        folder.replace(output)
    say(tr("Nothing was uploaded. To do so: hf upload YOUR_NAME/{name} {output}", name=name, output=output))


def _measured(client: Any, run_id: str, lora: Path, folder: Path) -> Measured | None:
    """The newest finished evaluation below the run of the file's step; None without one."""
    from fashion_ml.evaluation.artifacts import FACTS, PER_IMAGE, REPORT
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run import TrackedRun, runs_below

    run = client.get_run(run_id)
    there = runs_below(TrackedRun(client, run_id, run.info.experiment_id))
    step = read_metadata(lora).get("ss_steps", "")
    below = next((one for one in there if one.info.status == "FINISHED" and _is_of(one.data.tags, lora, step)), None)
    if below is None:
        return None
    own = below.info.run_id
    report, facts = (
        read_mapping(download(client, own, file, folder), "run_id", tr("evaluate the run again")) for file in (REPORT, FACTS)
    )
    files = {item.path for item in client.list_artifacts(own)}
    grid = download(client, own, "grid.png", folder) if "grid.png" in files else None
    table = download(client, own, PER_IMAGE, folder)
    with of_its_shape("run_id", table, tr("evaluate the run again")):
        rows = [{"reference": str(row["reference"]), "caption": str(row["caption"])} for _, row in read_csv(table).iterrows()]
    return Measured(
        report, facts, grid, [(download(client, own, path, folder), said) for path, said in _shown(client, own, rows)]
    )


def _is_of(tags: Mapping[str, str], lora: Path, step: str) -> bool:
    """Whether a run's tags are of an evaluation of this file: of its step, whose weights and averages (`NAME-ema`) are two files."""
    of_average = Path(tags.get("checkpoint", "")).stem.endswith(EMA)
    return tags.get("kind") == "evaluation" and tags.get("step") == step and of_average == lora.stem.endswith(EMA)


def _shown(client: Any, run_id: str, rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The first image of each of the first references among a run's artifacts, and its prompt."""
    from fashion_ml.runtime.printable import storable

    there = {item.path for item in client.list_artifacts(run_id, "images/lora")}
    first = {row["reference"]: row["caption"] for row in reversed(rows)}  # the first of each stays
    found = [
        (f"images/lora/{storable(str(Path(name).with_suffix('')))}_0.png", first[name])
        for name in dict.fromkeys(row["reference"] for row in rows)
    ]
    return [(path, said) for path, said in found if path in there][:_PICTURES]


def card(config: LoraExperiment, found: Measured | None, lora: Path, *, diffusers: bool, words: Sequence[str] = ()) -> str:
    """README.md: a head in YAML as hubs read it, the three lines, the table with intervals, pictures, how to use and how it was trained.

    What is not known is absent. Captions and names are plain text in it, whatever they hold.
    """
    from fashion_ml.models.new_words import how_to_call

    parts = [
        _head(config, found),
        f"# {_plain(config.output.output_name)}",
        _claims(found),
        _use(config, found, lora, words, diffusers=diffusers),
        *(how_to_call(_plain(word), f"{word}.safetensors") for word in words),
    ]
    return "\n\n".join([*parts, _training(config, lora)]) + "\n"


def _head(config: LoraExperiment, found: Measured | None) -> str:
    import yaml

    base = config.model.base
    head: dict[str, Any] = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    head["tags"] = ["text-to-image", "stable-diffusion", "stable-diffusion-diffusers", "diffusers", "lora", "fashion"]
    if _on_hub(base):
        head["base_model"] = base
    if base in _LICENCES:
        head["license"] = _LICENCES[base]
    if found and found.facts.get("trigger"):
        head["instance_prompt"] = found.facts["trigger"]
    if found and found.pictures:
        head["widget"] = [
            {"text": prompt, "output": {"url": f"images/{index}.png"}} for index, (_, prompt) in enumerate(found.pictures)
        ]
    return f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=1000)}---"


def _claims(found: Measured | None) -> str:
    """The three lines, the table and the grid, or that nothing was measured."""
    if found is None:
        return "No evaluation of this file is on record, so nothing is claimed of it."
    lines = [_plain(line) for line in str(found.report["sentence"]).splitlines() if line]
    table = ["| metric | base | this LoRA | gain | verdict |", "|---|---|---|---|---|"]
    for metric, sides in found.report["metrics"].items():
        cells = [_interval(sides.get("base")), _interval(sides.get("lora")), _interval(sides.get("gain"), "+")]
        table.append(f"| {metric} | {' | '.join(cells)} | {_plain(sides.get('verdict') or '')} |")
    encoder = found.facts.get("encoder")
    by = (
        f"encoder {_plain(Path(encoder).name if encoder and not _on_hub(encoder) else encoder)}"
        if encoder
        else "without an encoder"
    )
    seen = " The references were trained on." if found.report.get("references_seen_in_training") else ""
    about = (
        f"Measured by fashion-ml on {found.report['references']} references and {found.report['images']} images, {by}; gains are turned "
        f"so that more is better, with 95 % intervals over the references; N/A is what has no value.{seen} Fingerprint "
        f"`{found.report['fingerprint'][:12]}`."
    )
    grid = ["![references, base and this LoRA](grid.png)"] if found.grid else []
    return "\n\n".join([*lines, "## Measured", "\n".join(table), about, *grid])


def _interval(side: Mapping[str, Any] | None, sign: str = "") -> str:
    if not side or side.get("mean") is None:
        return "N/A"
    if side.get("low") is None:
        return f"{side['mean']:{sign}.4f}"
    return f"{side['mean']:{sign}.4f} [{side['low']:{sign}.4f}, {side['high']:{sign}.4f}]"


def _use(config: LoraExperiment, found: Measured | None, lora: Path, words: Sequence[str], *, diffusers: bool) -> str:
    """Code for diffusers, a line for WebUIs, and who reads it as it was measured."""
    from fashion_ml.deploy.export import family_of_file, readers_of_file

    family = family_of_file(lora)
    name, base = config.output.output_name, config.model.base
    prompt = found.pictures[0][1].replace("`", "'") if found and found.pictures else "..."
    lines = [f"`{name}.safetensors` is for WebUIs and kohya's scripts: `<lora:{name}:1>` in the prompt."]
    if diffusers:
        code = [
            f"from diffusers import {family.pipeline}",
            "",
            f"pipeline = {family.pipeline}.from_pretrained({base if _on_hub(base) else 'THE_BASE'!r})",
            'pipeline.load_lora_weights("THIS_FOLDER", weight_name="pytorch_lora_weights.safetensors")',
            *(
                f"pipeline.load_textual_inversion('THIS_FOLDER', weight_name={f'{word}.safetensors'!r}, token={word!r})"
                for word in words
            ),
            f"pipeline({prompt!r}).images[0]",
        ]
        lines.append("\n".join(["```python", *code, "```"]))
    with speaking("en"):  # as the rest of the card
        lines += [_plain(line.partition(". For all of them")[0]) + "." for line in readers_of_file(lora)]
    if told := ", ".join(f"{key} {value}" for key, value in family.reading(config.text_encoding()).unusual().items()):
        lines.append(f"Captions were read with {told}: set the same where you generate.")
    return "\n\n".join(["## Use", *lines])


def _training(config: LoraExperiment, lora: Path) -> str:
    """How this file was trained; a kept one has had fewer steps than its training."""
    from fashion_ml.models.kohya_format import read_metadata
    from fashion_ml.training.first_lines import network_words

    said, steps = read_metadata(lora), str(config.training.max_train_steps)
    if said.get("ss_steps", steps) != steps:
        steps = f"{said['ss_steps']} of {steps}"
    if names := said.get("fashion_ml_average_of"):
        steps = f"the average of {_plain(names)}, {steps}"
    network, training, base = config.network, config.training, config.model.base
    base = base if _on_hub(base) or base == "embedded" else Path(base).name
    return (
        f"## Training\n\n{_plain(network_words(network))}, on {_plain(base)}; {steps} steps of batch "
        f"{training.train_batch_size}, {_plain(config.optimizer.optimizer_type)} at {config.optimizer.learning_rate:g}, "
        f"{config.data.resolution} px, seed {training.seed}. The base's licence holds for what is made with it."
    )


def _on_hub(name: str) -> bool:
    """Whether a base or encoder is a hub's id, so that others can find it."""
    from fashion_ml.runtime.weight_files import is_path

    return "/" in name and not is_path(name) and not Path(name).expanduser().exists()


def _plain(text: str) -> str:
    """A text of one line without any markup in it."""
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
