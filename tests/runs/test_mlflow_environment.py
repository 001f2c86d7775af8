"""MLflow's own variables: the user's names win, and every first contact with a store ends in one line, without credentials."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml, free_port

pytestmark = pytest.mark.slow

SECRET = "verysecret"
TINY = (
    *("--steps", "1", "--rank", "2", "--lr", "1e-3", "--resolution", "32"),
    *("--no-evaluate", "--set", "training.save_state=false"),
)
DESCRIBED = "zarya r2 lr1e-3 1st"
"""What such a training is called by what it is."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "train lora": ("train", "lora", *TINY),
    "evaluate run": ("evaluate", "run", "0" * 32),
    "evaluate images": ("evaluate", "images", "--generated", "a", "--reference", "a", "--without", "fashion_clip"),
    "compare": ("compare", "0" * 32, "1" * 32),
    "sync": ("sync", "run"),
    "register": ("register", "0" * 32, "--name", "x"),
    "export": ("export", "0" * 32, "out.safetensors"),
    "reproduce": ("reproduce", "0" * 32),
    "ui": ("ui", "--port", str(free_port())),
    "doctor": ("doctor", "--close-runs"),
    "sweep": ("sweep", "sweeps/lora_rank_lr.yaml", "--trials", "1", "--workers", "1"),
    "suite": ("suite", "suites/lora_rank.yaml", "--workers", "1"),
}


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A server that gives every question the same answer; its address."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body.encode())

    methods = {"do_GET": answer, "do_POST": answer, "log_message": lambda *_: None}
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), methods))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://user:{SECRET}@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def runs(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))


@pytest.fixture
def client(workdir: Path) -> MlflowClient:
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


@pytest.fixture
def contact(workdir: Path, collection: Path) -> Callable[..., str]:
    """Runs a command that asks a store, expects one line of error and exit code 2, and nothing left; returns the line."""
    from fashion_ml.runs.run_folder import RunFolder, write_run_folder

    shutil.copytree(collection / "references", workdir / "a")
    (workdir / "run").mkdir()

    def ask(*arguments: str, uri: str, **environment: str) -> str:
        write_run_folder(RunFolder(workdir / "run", "0" * 32, uri.replace(f"user:{SECRET}@", ""), "d", finished=True))
        before = {path.relative_to(workdir) for path in workdir.rglob("*")}
        result = fashion_ml(*arguments, cwd=workdir, uri=uri, **environment)
        assert "Traceback" not in result.stderr, result.stderr
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert (result.returncode, len(lines)) == (2, 1), result.stderr
        assert SECRET not in result.stderr + result.stdout
        made = {path.relative_to(workdir) for path in workdir.rglob("*") if path.suffix != ".lock"} - before
        assert made <= {Path("outputs")}
        return lines[0].removeprefix("error: ")

    return ask


HTML = "<html>\n<body>A login page</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, HTML, "wants another user, password or token (401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, HTML, "does not allow that to this user (403); ask whoever runs it"),
        (404, HTML, "answers, but as no MLflow server does; check its address and path"),
        (200, HTML, "answers, but as no MLflow server does; check its address and path"),
    ],
)
def test_a_server_that_refuses_or_is_none_is_one_line(contact: Callable[..., str], status: int, body: str, said: str):
    with answering(status, body) as uri:
        line = contact(*COMMANDS["train lora"], uri=uri)
    assert line.startswith("MLFLOW_TRACKING_URI: 'http://127.0.0.1:")
    assert said in line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_asks_a_store_says_it_in_one_line(contact: Callable[..., str], command: str):
    with answering(401, HTML) as uri:
        assert "wants another user, password or token (401)" in contact(*COMMANDS[command], uri=uri)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("./mlruns_files", "'./mlruns_files' is a folder of files, which MLflow no longer takes; give a database"),
        ("C:\\mlruns", "is a folder of files, which MLflow no longer takes"),
        ("databricks", "'databricks' has no working credentials here; run databricks auth login"),
        ("databricks://nobody", "'databricks://nobody' has no working credentials here"),
        ("nonsense://x", "'nonsense://x' cannot be used"),
        ("sqlite://", "is kept in memory and lost at the end; give a file"),
        ("sqlite:///a", "is a folder; give a file"),
        ("sqlite:///none/below/m.db", "is in a folder that does not exist; make "),
        ("sqlite:///text.db", "file is not a database"),
        (
            f"postgresql+psycopg2://u:{SECRET}@127.0.0.1:1/x",
            "needs the driver psycopg2, which is not installed; pip install 'fashion-ml[",
        ),
        (f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/x", "'postgresql+psycopg://127.0.0.1:1/x' does not let us in ("),
        (f"mysql+nodriver://u:{SECRET}@127.0.0.1:1/x", "'mysql+nodriver://127.0.0.1:1/x' is no URL of a database ("),
        (f"http://u:{SECRET}@127.0.0.1:9", "'http://127.0.0.1:9' does not answer"),
        ("http://", "'http://' does not answer"),
        ("http://127.0.0.1:notaport", "does not answer"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(contact: Callable[..., str], workdir: Path, uri: str, said: str):
    (workdir / "text.db").write_text("not a database, " * 100, encoding="utf-8")
    line = contact(*COMMANDS["train lora"], uri=uri)
    assert line.startswith("MLFLOW_TRACKING_URI: ")
    assert said in line


def test_a_store_in_a_folder_that_cannot_be_written_is_one_line(contact: Callable[..., str]):
    line = contact(*COMMANDS["evaluate run"], uri="sqlite:////proc/self/fdinfo/m.db")
    assert line.startswith("MLFLOW_TRACKING_URI: ")
    assert "/proc/self/fdinfo takes no files" in line


def test_an_empty_address_means_the_store_of_the_working_folder(workdir: Path, client: MlflowClient):
    result = fashion_ml("train", "lora", *TINY, cwd=workdir, uri="", MLFLOW_RUN_ID="", MLFLOW_EXPERIMENT_ID="")
    assert result.returncode == 0, result.stderr
    assert [run.info.status for run in runs(client)] == ["FINISHED"]


@pytest.mark.parametrize("trainer", ["lora", "stargan"])
def test_a_dry_run_tries_the_store_as_a_training_would(contact: Callable[..., str], trainer: str):
    command = ("train", trainer, "--dry-run")
    assert "does not answer" in contact(*command, uri="http://127.0.0.1:9")
    assert "has no working credentials here" in contact(*command, uri="databricks")
    assert "make " in contact(*command, uri="sqlite:///none/below/m.db")


@pytest.mark.parametrize(
    "command",
    [
        ("train", "lora", "--pretrained-model-name-or-path", "base", "--train-data-dir", "a", "--encoder", "embedded"),
        ("train", "stargan", "--vae", "base", "--latents-dir", "latents"),
        ("evaluate", "images", "--generated", "a", "--reference", "a", "--encoder", "base"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_bad_store_is_said_before_base_and_data_are_read(
    contact: Callable[..., str], workdir: Path, command: tuple[str, ...]
):
    """What is given as the base could not be read, which would be said where it was read first."""
    (workdir / "base").mkdir()
    assert "does not answer" in contact(*command, uri="http://127.0.0.1:9")


def named(client: MlflowClient) -> set[tuple[str, str]]:
    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    return {(run.info.run_name, experiments[run.info.experiment_id]) for run in runs(client)}


@pytest.mark.parametrize(
    ("arguments", "environment", "wanted"),
    [
        ((), {}, (DESCRIBED, "fashion_ml")),
        ((), {"MLFLOW_EXPERIMENT_NAME": "shell"}, (DESCRIBED, "shell")),
        ((), {"MLFLOW_EXPERIMENT_ID": "0"}, (DESCRIBED, "Default")),
        ((), {"MLFLOW_EXPERIMENT_ID": "0", "MLFLOW_EXPERIMENT_NAME": "Default"}, (DESCRIBED, "Default")),
        (("--run-name", "mine"), {"MLFLOW_EXPERIMENT_NAME": "shell"}, ("mine", "shell")),
        (("--tracking.experiment", "given"), {"MLFLOW_EXPERIMENT_NAME": "shell"}, (DESCRIBED, "given")),
        (("--set", "tracking.experiment=given"), {"MLFLOW_EXPERIMENT_ID": "0"}, (DESCRIBED, "given")),
    ],
)
def test_what_is_given_comes_before_the_environment_and_that_before_the_file(
    workdir: Path, client: MlflowClient, arguments: tuple[str, ...], environment: dict[str, str], wanted: tuple[str, str]
):
    result = fashion_ml("train", "lora", *TINY, *arguments, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"], **environment)
    assert result.returncode == 0, result.stderr
    assert named(client) == {wanted}
    (run,) = runs(client)
    assert run.data.params["tracking.experiment"] == wanted[1]


@pytest.mark.parametrize(
    ("arguments", "before", "after"),
    [((), "mine", "mine"), ((), "", DESCRIBED), (("--run-name", "other"), "mine", "other")],
    ids=["given to mlflow run", "made up by MLflow", "given to both"],
)
def test_the_name_that_mlflow_run_was_given_is_kept(
    workdir: Path, client: MlflowClient, arguments: tuple[str, ...], before: str, after: str
):
    made = client.create_run("0", run_name=before or None).info.run_id
    uri = os.environ["MLFLOW_TRACKING_URI"]
    result = fashion_ml("train", "lora", *TINY, *arguments, cwd=workdir, uri=uri, MLFLOW_RUN_ID=made, MLFLOW_EXPERIMENT_ID="0")
    assert result.returncode == 0, result.stderr
    (run,) = runs(client)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (made, after, "FINISHED")


def unusable(client: MlflowClient, how: str) -> dict[str, str]:
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id)
    other = client.create_experiment("other")
    client.delete_experiment(client.create_experiment("gone"))
    if how == "deleted run":
        client.delete_run(run_id)
    if how == "used run":
        client.log_param(run_id, "network.rank", "4")
        client.update_run(run_id, "RUNNING")
    return {
        "unknown run": {"MLFLOW_RUN_ID": "0123456789abcdef0123456789abcdef"},
        "nonsense run": {"MLFLOW_RUN_ID": "../x y"},
        "finished run": {"MLFLOW_RUN_ID": run_id},
        "deleted run": {"MLFLOW_RUN_ID": run_id},
        "used run": {"MLFLOW_RUN_ID": run_id},
        "unknown experiment": {"MLFLOW_EXPERIMENT_ID": "999"},
        "nonsense experiment": {"MLFLOW_EXPERIMENT_ID": "abc"},
        "deleted experiment": {"MLFLOW_EXPERIMENT_ID": str(int(other) + 1)},
        "deleted name": {"MLFLOW_EXPERIMENT_NAME": "gone"},
        "two experiments": {"MLFLOW_EXPERIMENT_ID": other, "MLFLOW_EXPERIMENT_NAME": "Default"},
    }[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("unknown run", "MLFLOW_RUN_ID: '0123456789abcdef0123456789abcdef' is not in sqlite:"),
        ("nonsense run", "MLFLOW_RUN_ID: '../x y' is not in sqlite:"),
        ("finished run", "has finished; unset MLFLOW_RUN_ID for a run of its own"),
        ("deleted run", "was deleted; unset MLFLOW_RUN_ID for a run of its own"),
        ("used run", "has the params of an earlier run already; unset MLFLOW_RUN_ID"),
        ("unknown experiment", "MLFLOW_EXPERIMENT_ID: '999' is not in sqlite:"),
        ("nonsense experiment", "MLFLOW_EXPERIMENT_ID: 'abc' is not in sqlite:"),
        ("deleted experiment", "(gone) was deleted in MLflow; restore it or choose another one"),
        ("deleted name", "MLFLOW_EXPERIMENT_NAME: 'gone' was deleted in MLflow; restore it or choose another name"),
        ("two experiments", "but MLFLOW_EXPERIMENT_NAME is 'Default'; unset one of them"),
    ],
)
@pytest.mark.parametrize("command", ["train lora", "sweep", "suite"])
def test_a_run_or_an_experiment_that_cannot_be_used_is_one_line(
    contact: Callable[..., str], client: MlflowClient, how: str, said: str, command: str
):
    environment = unusable(client, how)
    before = {run.info.run_id: run.info.status for run in runs(client)}
    assert said in contact(*COMMANDS[command], uri=os.environ["MLFLOW_TRACKING_URI"], **environment)
    assert {run.info.run_id: run.info.status for run in runs(client)} == before
