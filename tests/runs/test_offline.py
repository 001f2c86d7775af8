"""Training and evaluating without any server, and sending all of it later: once, as a tree, whatever is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from tests.runs.command import FEW, SHORT, Command, Finished, fashion_ml
from tests.runs.run_tree import leaves, tree
from tests.runs.test_sweep import SPEC

NOWHERE = "http://127.0.0.1:9"
"""A store that answers nobody: whoever asks it fails."""
TINY = [
    *("--steps", "4", "--rank", "2", "--lr", "1e-3", "--resolution", "32"),
    *("--set", "training.log_every=1", "--offline", "--output-dir", "out"),
]


def train(workdir: Path, *arguments: str, trainer: str = "lora") -> str:
    result = fashion_ml("train", trainer, *arguments, cwd=workdir, uri=NOWHERE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def sync(workdir: Path, *folders: str, code: int = 0) -> str:
    result = fashion_ml("sync", *folders, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


def note(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def runs(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))


def assert_each_point_once(client: MlflowClient) -> None:
    for run in runs(client):
        for key in run.data.metrics:
            steps = Counter(point.step for point in client.get_metric_history(run.info.run_id, key))
            again = key.startswith("eval/")  # a later evaluation of the same step
            assert again or set(steps.values()) == {1}, (run.info.run_name, key, steps)


def forget_that_it_was_sent(folder: Path, *, made: bool) -> None:
    """As a crash leaves it: after the run was made and before that was noted, or in the middle of the sending."""
    names = json.loads((folder / "spool" / "position.json").read_text(encoding="utf-8"))["names"]
    kept = {} if made else names
    (folder / "spool" / "position.json").write_text(json.dumps({"sent": 0, "names": kept}), encoding="utf-8")
    if made:
        pending = next(key for key, value in names.items() if value == note(folder)["run_id"])
        (folder / "run.json").write_text(json.dumps({**note(folder), "run_id": pending}), encoding="utf-8")


@pytest.fixture
def client(workdir: Path) -> MlflowClient:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def test_an_offline_training_that_is_sent_is_the_tree_that_a_store_has_of_it(
    finished: Finished, workdir: Path, client: MlflowClient
):
    said = train(workdir, *SHORT, *FEW, "--offline", "--json", "facts.json")
    folder = Path(json.loads((workdir / "facts.json").read_text(encoding="utf-8"))["output_dir"])
    assert f"fashion-ml sync {folder}" in said
    assert note(folder)["run_id"].startswith("pending-")
    assert runs(client) == []

    moved = workdir / "elsewhere"  # as after a copy from the cluster
    shutil.copytree(folder, moved)
    shutil.rmtree(folder)
    assert "everything is in the store" in sync(workdir, "elsewhere")
    known = note(moved)
    assert known["tracking_uri"] == os.environ["MLFLOW_TRACKING_URI"]
    sent, online = tree(client, known["run_id"]), tree(MlflowClient(finished.uri), str(finished.facts["run_id"]))
    for got, wanted in zip(leaves(sent), leaves(online), strict=True):
        assert got == wanted
    assert [one["name"] for one in sent["below"]] == [f"evaluation of {sent['name']}, step 6"]
    evaluation = client.get_run(client.get_run(known["run_id"]).data.tags["eval.run_id"])
    assert evaluation.data.tags["mlflow.parentRunId"] == known["run_id"]

    began = client.get_run(known["run_id"]).info
    written = [json.loads(line) for line in (moved / "spool" / "operations.jsonl").read_text(encoding="utf-8").splitlines()]
    times = {(key, step): time for one in written for key, _, time, step in one.get("metrics", ())}
    assert began.start_time == written[0]["start"]
    points = client.get_metric_history(known["run_id"], "total_loss")
    assert [point.timestamp for point in points] == [times["total_loss", point.step] for point in points]


@pytest.mark.parametrize("made", [True, False], ids=["run made, not noted", "some sent, not noted"])
def test_an_interrupted_sync_sends_no_point_and_makes_no_run_twice(workdir: Path, client: MlflowClient, made: bool):
    train(workdir, *TINY, "--no-evaluate")
    sync(workdir, "out")
    before = tree(client, note(workdir / "out")["run_id"])
    for _ in range(2):
        forget_that_it_was_sent(workdir / "out", made=made)
        sync(workdir, ".")  # a folder above it
        assert "everything is in the store" in sync(workdir, "out")
    assert len(runs(client)) == 1
    assert tree(client, note(workdir / "out")["run_id"]) == before
    assert_each_point_once(client)


def test_a_stargan_trains_and_is_measured_offline(workdir: Path, client: MlflowClient):
    draw = torch.Generator().manual_seed(0)
    for domain in ("a", "b"):
        (workdir / "latents" / domain).mkdir(parents=True)
        for index in range(8):
            torch.save(torch.randn(4, 8, 8, generator=draw), workdir / "latents" / domain / f"{index}.pt")
    (workdir / "stargan.yaml").write_text("model: {vae: embedded}\ndata: {validation_split: 0.25}\n", encoding="utf-8")
    sizes = (
        *("--config", "stargan.yaml"),
        "--base_dim",
        "8",
        "--n_res_blocks",
        "2",
        "--d_layers",
        "1",
        "--epochs",
        "1",
        "--epoch_size",
        "8",
        "--batch_size",
        "4",
    )
    train(workdir, "--latents_dir", "latents", *sizes, "--offline", "--output-dir", "out", trainer="stargan")
    result = fashion_ml("evaluate", "run", "out", cwd=workdir, uri=NOWHERE)
    assert result.returncode == 0, result.stderr
    assert "Nothing waits" in sync(workdir)  # of what is below outputs/
    assert "everything is in the store" in sync(workdir, "out")
    found = tree(client, note(workdir / "out")["run_id"])
    assert [one["name"] for one in found["below"]] == ["evaluation of a+b w_ds1 lr1e-4 1ep, epoch 1"] * 2
    assert {one["status"] for one in [found, *found["below"]]} == {"FINISHED"}
    assert "stargan/stargan.safetensors" in found["artifacts"]
    assert any("grid_" in name for name in found["artifacts"])
    assert_each_point_once(client)


def test_a_killed_offline_training_is_ended_when_it_is_sent(workdir: Path, client: MlflowClient):
    train(workdir, *TINY, "--no-evaluate")
    path = workdir / "out" / "spool" / "operations.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"do":"end"' not in line) + '{"do":"batch","ru', encoding="utf-8")
    (workdir / "out" / "run.json").write_text(json.dumps({**note(workdir / "out"), "finished": False}), encoding="utf-8")
    assert "its process had been killed: ended now" in sync(workdir, "out")
    assert client.get_run(note(workdir / "out")["run_id"]).info.status == "KILLED"


def test_the_experiment_is_what_the_training_was_given_else_what_the_sync_is(workdir: Path, client: MlflowClient):
    train(workdir, *TINY, "--no-evaluate", "--tracking.experiment", "given", "--run-name", "mine")
    train(workdir, *TINY, "--no-evaluate", "--output-dir", "other")
    result = fashion_ml(
        "sync", "out", "other", cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"], MLFLOW_EXPERIMENT_NAME="of_the_shell"
    )
    assert result.returncode == 0, result.stderr
    names = {one.experiment_id: one.name for one in client.search_experiments()}
    assert {(one.info.run_name, names[one.info.experiment_id]) for one in runs(client)} == {
        ("mine", "given"),
        ("zarya r2 lr1e-3 4st", "of_the_shell"),
    }


def test_an_offline_run_stays_with_the_store_it_was_first_sent_to(workdir: Path, refused: Command):
    train(workdir, *TINY, "--no-evaluate")
    sync(workdir, "out")
    result = fashion_ml("sync", "out", cwd=workdir, uri=f"sqlite:///{workdir / 'other.db'}")
    assert (result.returncode, result.stderr.count("error: ")) == (2, 1)
    assert "set MLFLOW_TRACKING_URI to that" in result.stderr


def test_a_run_that_was_not_sent_is_named_as_such(workdir: Path, refused: Command):
    train(workdir, *TINY, "--no-evaluate")
    for command in (("export", "lora.safetensors"), ("reproduce",), ("register", "--name", "x")):
        (line,) = refused(command[0], note(workdir / "out")["run_id"], *command[1:])
        assert "it was made offline: send it by fashion-ml sync" in line


def test_offline_contradicts_a_run_that_a_store_has_made_and_a_sweep(
    workdir: Path, refused: Command, monkeypatch: pytest.MonkeyPatch
):
    spec = {**SPEC, "settings": {"tracking.offline": True}}
    (workdir / "sweep.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    (line,) = refused("sweep", "sweep.yaml", "--trials", "1")
    assert line.startswith("error: tracking.offline: true, but a sweep needs its store")
    assert not (workdir / "outputs" / "sweeps").exists()
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    (line,) = refused("train", "lora", "--offline")
    assert line.startswith("error: tracking.offline: true, but MLFLOW_RUN_ID names a run")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ("lora", "--pretrained-model-name-or-path", "owner/base", "--encoder", "hf-hub:owner/clip"),
            ["model.base: 'owner/base' is", "evaluation.encoder: 'hf-hub:owner/clip' is"],
        ),
        (("lora", "--encoder", "owner/clip", "--dry-run"), ["evaluation.encoder: 'owner/clip' is"]),
        (("stargan", "--vae", "owner/vae", "--no-evaluate"), ["model.vae: 'owner/vae' is"]),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_offline_hub_ids_that_are_not_in_the_cache_are_refused_before_the_network_is_asked(
    arguments: tuple[str, ...], named: list[str], workdir: Path
):
    """A server of one's own stands for the hub: whoever asks it is noted."""
    asked = list[str]()
    with hub(asked) as endpoint:
        result = fashion_ml(
            *("train", *arguments, "--offline"), cwd=workdir, uri=NOWHERE, HF_ENDPOINT=endpoint, HF_HOME=str(workdir / "hf")
        )
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, len(lines)) == (2, len(named)), result.stderr
    for line, name in zip(lines, named, strict=True):
        assert line.startswith(f"error: {name}")
        assert "not in this machine's hub cache, and offline nothing is fetched" in line
    assert asked == []


@contextmanager
def hub(asked: list[str]) -> Iterator[str]:
    """The address of a hub that has nothing and notes what it is asked."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        request.send_error(404)

    methods = {"do_GET": answer, "do_HEAD": answer, "log_message": lambda *_: None}
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), methods))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
