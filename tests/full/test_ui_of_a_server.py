"""`fashion-ml ui` where the runs are on an MLflow server: the page is served here, and what it needs of the server comes by MLflow's client."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml, free_port
from tests.runs.test_ui import NAME, PASSWORD, Page, begin, log_training
from tests.runs.tracking_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """A server whose one training has an evaluation with a picture."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    one = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    one.start()
    try:
        client = MlflowClient(one.uri)
        experiment = client.create_experiment("dresses")
        log_training(client, experiment, folder)
        yield one
    finally:
        one.kill()


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    one = begin(tmp_path_factory.mktemp("page"), "served", server.uri)
    one.says("/lora\n")
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


def test_the_page_of_a_server_is_served_here_and_leads_into_its_own_mlflow(page: Page, server: Server):
    own = f"http://127.0.0.1:{server.port}/"
    assert f"The page answers: http://127.0.0.1:{page.port}/\n" in page.says("/lora\n")
    assert b"/page/page.js" in page.get("/")[2]
    told = json.loads(page.get("/page/data.json")[2])
    (run,) = told["experiments"][0]["groups"][0]["runs"]
    assert (run["name"], run["verdict"], told["mlflow"], told["reading"]) == (NAME, "better", own, False)
    status, _, content = page.get(f"/page/picture/{run['picture']}.jpg")
    assert (status, content[:2]) == (200, b"\xff\xd8")
    status, headers, _ = page.get("/go/1/lora")
    assert status == 302
    assert headers["location"].startswith(f"{own}#/experiments/1/runs?")
    assert page.get("/?mlflow")[1]["location"] == own
    assert page.get("/page/data.json", host="evil.example")[0] == 400
    assert (
        page.get("/api/2.0/mlflow/experiments/get?experiment_id=1")[0] == 404
    )  # nothing of the server's REST stands open here


def test_credentials_never_reach_the_page_or_the_terminal(page: Page):
    seen = [
        page.says("/lora\n"),
        *(str(page.get(path)) for path in ("/", "/page/data.json", "/go/1", "/go/1/lora", "/?mlflow")),
    ]
    assert not [text for text in seen if PASSWORD in text or "someone" in text]


def test_it_ends_with_a_signal_and_a_server_that_does_not_answer_is_one_line(page: Page, tmp_path: Path):
    page.process.send_signal(signal.SIGTERM)
    assert page.process.wait(60) == 0
    uri = f"http://someone:{PASSWORD}@127.0.0.1:{free_port()}"
    result = fashion_ml("ui", "--port", str(free_port()), cwd=tmp_path, uri=uri)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: MLFLOW_TRACKING_URI: 'http://127.0.0.1:")
    assert "does not answer" in line
    assert PASSWORD not in line
