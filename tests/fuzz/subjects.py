"""What is fuzzed: whole files of each kind that a user or another program may give, and what reads them here."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fashion_ml import cli
from fashion_ml.errors import InputError
from tests.fuzz.files import (
    KOHYA,
    SCRIPT,
    evaluation_files,
    latent_files,
    lora_file,
    odd_latents,
    pictures_of_all_kinds,
    state_file,
)
from tests.fuzz.mutations import NAMES, RECORDS, as_json, as_lines, changed, damaged, lines_of
from tests.fuzz.requests import GOOD, MODEL, as_body

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Subject:
    """A kind of input."""

    name: str
    files: Mapping[str, bytes]
    """A folder of whole files; those among `damaged` are changed, one in each case."""
    act: Callable[[], object]
    """Reads them, in that folder."""
    damaged: tuple[str, ...]
    trees: Mapping[str, Callable[[Any], bytes]] = field(default_factory=dict)
    """By file: how a tree is written; such a file is changed as a tree in half of the cases."""
    share: int = 1
    """How many cases it gets for one of the others'."""
    others: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """By file: whole files of another kind, one of which takes its place in half of the cases."""
    junk: tuple[Callable[[], Any], ...] = ()
    """Values that its trees get too."""

    def case(self, number: int) -> dict[str, bytes]:
        """The files of one case, always the same for a number."""
        rng = random.Random(f"{self.name} {number}")
        name = self.damaged[number % len(self.damaged)]
        files = dict(self.files)
        if name in self.others and rng.random() < 0.5:
            files[name] = rng.choice(self.others[name])
        elif name in self.trees and rng.random() < 0.6:
            before = sys.getrecursionlimit()
            sys.setrecursionlimit(20_000)  # a tree may be damaged by one of 400 levels; what reads it has the usual limit
            try:
                write = self.trees[name]
                tree = lines_of(files[name]) if write is as_lines else yaml.safe_load(files[name])
                files[name] = write(changed(tree, rng, self.junk))
            finally:
                sys.setrecursionlimit(before)
        else:
            files[name] = damaged(files[name], rng)
        return files


def command(*words: str) -> Callable[[], None]:
    """The command line, in this process."""

    def run() -> None:
        sys.argv = ["fashion-ml", *words]
        cli.main()

    return run


def as_yaml(tree: Any) -> bytes:
    """A tree as YAML."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "replace")


def as_toml(tree: Any) -> bytes:
    """A tree as TOML, as far as it can be: what it cannot hold is as JSON, and so a fault of its own."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in tree.items()] if isinstance(tree, dict) else [json.dumps(tree)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _lora(path: str = "a.yaml") -> None:
    from fashion_ml.config import load_config

    load_config(path)


def _stargan() -> None:
    from fashion_ml.config import load_config

    load_config("a.yaml", kind="stargan")


def _sweep() -> None:
    from fashion_ml.config import load_sweep

    load_sweep("sweeps/a.yaml", {})


def _suite() -> None:
    from fashion_ml.sweep.suite_study import read_suite

    read_suite(Path("suites/a.yaml"))


def _prompts() -> None:
    from fashion_ml.evaluation.prompts import read_prompts

    read_prompts("a.yaml", embedded=False)


def _attributes() -> None:
    from fashion_ml.metrics.attributes import read_attributes

    read_attributes(Path("a.yaml"))


def _pictures() -> None:
    from fashion_ml.data.images import scan_training_folder
    from fashion_ml.data.masks import find_masks
    from fashion_ml.data.picture_prompts import prompt_of

    reading = scan_training_folder(Path("data"), skip=True)
    for item in reading.items:
        prompt_of(item.path)
    for kind, folder in (("alpha", None), ("folder", "data")):
        masks = find_masks(kind, folder, reading.items)
        for item in reading.items:
            if masks is not None:
                masks.read(item)


def _latents() -> None:
    """Reads them; what is taken is what a training can use."""
    from fashion_ml.config import load_config
    from fashion_ml.data.latent_domains import held_out
    from fashion_ml.runs.stargan_inputs import read_latent_set

    size = {"g_layers": 1, "d_layers": 1}
    latents = read_latent_set(load_config({}, {"latents_dir": ".", **size}, kind="stargan"), "cpu")
    latents.digest()
    assert not latents.manifest or 0 < latents.manifest["latent_scale"] < math.inf
    assert len(latents.domains) <= 1000
    for domain in latents.domains:
        held_out(domain, 0.5)
        found = domain.take(range(len(domain)))
        assert found.shape == (len(domain), *latents.shape)
        assert found.isfinite().all()
        assert len({name.encode() for name in domain.files}) == len(domain) > 0
        assert domain.name.encode()
        assert "/" not in domain.name


def _encoding() -> None:
    from fashion_ml.data.encode_latents import _earlier

    _earlier(Path(), {"vae_sha256": "0", "size": 64, "device": "cpu"})


def _run_folder() -> None:
    from fashion_ml.config.lora import LoraExperiment
    from fashion_ml.runs.resume import config_of
    from fashion_ml.runs.run_folder import read_run_folder
    from fashion_ml.training.resume_point import state_step
    from fashion_ml.training.train_state import load_state

    read_run_folder(Path())
    config_of(Path(), LoraExperiment)
    state_step(Path("state.safetensors"))
    load_state(Path("state.safetensors"))


def _report() -> None:
    from fashion_ml.reports.training_report import Series, complete_report

    complete_report(Path("report.json"), {"visual_loss": Series([2], [0.5])}, "0")


def _evaluations() -> None:
    from fashion_ml.evaluation.compare import compare

    compare(Path("one"), Path("two"), resamples=50)


def _request() -> None:
    from tests.fuzz.served import answered

    if answered(Path("body").read_bytes()) >= 400:
        raise InputError("the request is refused")


def _model() -> None:
    from unittest import mock

    from fashion_ml.deploy.lora_model import LoraModel
    from fashion_ml.deploy.serve import Served, application

    with mock.patch.object(LoraModel, "prepare", return_value=1):  # its weights and base are subjects of their own
        application(".", Served())


def _weights() -> None:
    from fashion_ml.runtime.weight_files import read_header, what_it_is

    what_it_is(Path("a.safetensors"))
    read_header(Path("a.safetensors"), "file")


def _spool() -> None:
    from fashion_ml.tracking.sender import Sender
    from fashion_ml.tracking.spool import Spool, read_operations, read_position
    from tests.fuzz.taker import TakesAll

    read_position(Path())
    list(read_operations(Path("operations.jsonl")))
    sender, said = Sender(TakesAll(), Path().absolute(), "pending-" + "0" * 32), list[str]()
    spool = Spool(Path().absolute(), sender, said.append, "the store")
    done = spool.flush(5)
    sender.again(spool.names)
    spool.close(0)
    assert done, "what a record is holds up nothing"
    assert not any("does not answer" in line or "could not be sent" in line for line in said), said


def _pairs() -> None:
    from fashion_ml.evaluation.pairing import Names, paired

    files = {name: Path(name) for name in ("a.png", "b.png")}
    paired("csv", files, files, Path(), Path("pairs.csv"), Names("--generated", "--reference", "--pairs", "--pair-by"), [])


def subjects() -> list[Subject]:
    """All of them."""
    return [*_of_settings(), *_of_kohya(), *_of_files(), *_of_runs(), *_of_outbox()]


def _shipped(name: str) -> bytes:
    return (PROJECT / name).read_bytes()


def _of_settings() -> list[Subject]:
    def of_yaml(name: str, source: str, act: Callable[[], object], place: str = "a.yaml", **beside: bytes) -> Subject:
        return Subject(name, {place: _shipped(source), **beside}, act, (place,), {place: as_yaml}, 2)

    bases = {f"experiments/{kind}/embedded.yaml": _shipped(f"experiments/{kind}/embedded.yaml") for kind in ("lora", "stargan")}
    return [
        of_yaml("lora.yaml", "experiments/lora/sd15_fashion.yaml", _lora),
        of_yaml("stargan.yaml", "experiments/stargan/sd15_latent.yaml", _stargan),
        of_yaml("sweep.yaml", "sweeps/lora_rank_lr.yaml", _sweep, "sweeps/a.yaml", **bases),
        of_yaml("suite.yaml", "suites/lora_rank.yaml", _suite, "suites/a.yaml", **bases),
        of_yaml("prompts.yaml", "fashion_ml/evaluation/prompts/fashion.yaml", _prompts),
        of_yaml("attributes.yaml", "fashion_ml/metrics/attributes/fashion.yaml", _attributes),
    ]


def _of_kohya() -> list[Subject]:
    kohya_set = b'[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "x"\nnum_repeats = 3\n'
    return [
        Subject("kohya.toml", {"a.toml": as_toml(KOHYA)}, command("import", "a.toml"), ("a.toml",), {}, 2),
        Subject("kohya.json", {"a.json": as_json(KOHYA)}, command("import", "a.json"), ("a.json",), {"a.json": as_json}, 2),
        Subject("data_set.toml", {"a.toml": kohya_set}, command("import", "a.toml"), ("a.toml",)),
        Subject("script.sh", {"a.sh": SCRIPT}, command("import", "a.sh"), ("a.sh",)),
    ]


def _of_files() -> list[Subject]:
    pictures, lora = pictures_of_all_kinds(), {"a.safetensors": lora_file(), "b.safetensors": lora_file()}
    return [
        Subject("inspect.safetensors", lora, command("inspect", "a.safetensors"), ("a.safetensors",), {}, 2),
        Subject(
            "merge.safetensors",
            lora,
            command("merge", "a.safetensors", "b.safetensors", "--output", "m.safetensors"),
            ("a.safetensors",),
        ),
        Subject(
            "resize.safetensors",
            lora,
            command("resize", "a.safetensors", "--rank", "1", "--output", "m.safetensors"),
            ("a.safetensors",),
        ),
        Subject("header.safetensors", lora, _weights, ("a.safetensors",)),
        Subject("pictures", pictures, _pictures, tuple(name for name in pictures if not name.endswith(".txt")), {}, 4),
        Subject("captions", pictures, command("data", "data"), ("data/1_look/a.txt", "data/1_look/b.txt")),
    ]


def _of_runs() -> list[Subject]:
    run = {
        "run.json": as_json({"run_id": "0" * 32, "tracking_uri": "sqlite:///mlflow.db", "data_digest": "0", "finished": False}),
        "config.yaml": _shipped("experiments/lora/embedded.yaml"),
        "state.safetensors": state_file(),
    }
    series = {"steps": [1, 2], "values": [0.5, 0.4], "base": 0.6}
    report = {
        "report.json": as_json(
            {
                "evaluation_fingerprint": "0",
                "training_info": {"timestamp": "2026-01-01T00:00:00", "total_steps": 2, "description": "x"},
                "loss_data": dict.fromkeys(("total_loss", "visual_loss", "fashion_clip_loss", "color_loss"), series),
            }
        )
    }
    latents, evaluations = latent_files(), evaluation_files()
    single = {name: content for name, content in latents.items() if not name.startswith("packed")}
    return [
        Subject(
            "latents",
            latents,
            _latents,
            tuple(latents),
            {"manifest.json": as_json, "packed.json": as_json},
            2,
            odd_latents(),
            NAMES,
        ),
        Subject("single latents", single, _latents, tuple(single), {"manifest.json": as_json}, 2, odd_latents(), NAMES),
        Subject("encoding", latents, _encoding, ("manifest.json",), {"manifest.json": as_json}),
        Subject("run folder", run, _run_folder, tuple(run), {"run.json": as_json, "config.yaml": as_yaml}, 2),
        Subject("report.json", report, _report, ("report.json",), {"report.json": as_json}, 2),
        Subject(
            "evaluations",
            evaluations,
            _evaluations,
            tuple(name for name in evaluations if name.startswith("one/")),
            {"one/fingerprint.json": as_json, "one/evaluation_report.json": as_json},
            3,
        ),
        Subject("request", {"body": as_body(GOOD)}, _request, ("body",), {"body": as_json}, 4),
        Subject("model", {"MLmodel": as_yaml(MODEL)}, _model, ("MLmodel",), {"MLmodel": as_yaml}),
        Subject("pairs.csv", {"pairs.csv": b"generated,reference\na.png,b.png\nb.png,a.png\n"}, _pairs, ("pairs.csv",)),
    ]


def _of_outbox() -> list[Subject]:
    operations = [
        {"do": "create", "run": "pending-" + "0" * 32, "experiment": "", "name": "x", "start": 1, "tags": {}},
        {"do": "batch", "run": "pending-" + "0" * 32, "metrics": [["loss", 0.5, 1, 1]], "params": [["a", "b"]], "tags": []},
        {"do": "text", "run": "pending-" + "0" * 32, "text": "x", "artifact": "a/b.txt"},
        {"do": "end", "run": "pending-" + "0" * 32, "status": "FINISHED", "end": 2},
    ]
    spool = {
        "operations.jsonl": as_lines(operations),
        "position.json": as_json({"sent": 0, "names": {}}),
    }
    refused = {"refused.jsonl": as_lines([{"operation": one, "why": "no"} for one in operations])}
    return [
        Subject("spool", spool, _spool, tuple(spool), {"position.json": as_json}, 2),
        Subject(
            "outbox",
            {**spool, **refused},
            _spool,
            ("operations.jsonl", *refused),
            dict.fromkeys((*spool, *refused), as_lines),
            2,
            junk=RECORDS,
        ),
    ]
