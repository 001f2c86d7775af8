"""`fashion-ml ui` as a process: when it answers, what it serves, and that it ends with whatever started it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.runs.command import fashion_ml, free_port
from tests.runs.hostile_pages import answer_of, hostile_pages

PASSWORD = "open-sesame"
NAME = "<img src=x onerror=alert(1)>"


@dataclass
class Page:
    """A server, and what it has printed."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def says(self, words: str) -> str:
        end = time.monotonic() + 120
        while words not in (text := self.log.read_text(encoding="utf-8")):
            assert time.monotonic() < end, text
            time.sleep(0.1)
        return text

    def is_free(self) -> bool:
        """Whether nobody listens on its port any more."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0


@pytest.fixture(scope="module", autouse=True)
def terminal() -> Iterator[None]:
    """These processes hear what a terminal sends, also where the tests themselves were begun by nohup or in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A training with an evaluation's picture, and a name that would be a script were it read as HTML."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(empty_store, folder / "mlflow.db")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("dresses", artifact_location=(folder / "artifacts").as_uri())
    log_training(client, experiment, folder)
    return folder


def log_training(client: MlflowClient, experiment: str, folder: Path) -> None:
    """A training named NAME that is better than its base, with an evaluation's picture."""
    evaluation = client.create_run(experiment, tags={"kind": "evaluation", "eval_fingerprint": "f" * 64}).info.run_id
    Image.new("RGB", (900, 900), "teal").save(folder / "grid.png")
    client.log_artifact(evaluation, str(folder / "grid.png"))
    tags = {"kind": "train_lora", "eval.fingerprint": "f" * 64, "eval.run_id": evaluation, "eval.verdict": "better"}
    run = client.create_run(experiment, run_name=NAME, tags=tags).info.run_id
    client.log_metric(run, "eval/gain_weighted_total_loss", 0.05)
    client.set_terminated(run)


def begin(store: Path, name: str, uri: str = "", **options: object) -> Page:
    port, log = free_port(), store / f"{name}.log"
    uri = uri or f"sqlite:///{store / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "fashion_ml", "ui", "--port", str(port)]
    if name == "parent":  # a process between, which is killed
        command = [sys.executable, "-c", f"import subprocess; subprocess.Popen({command!r}).wait()"]
    with log.open("wb") as out:
        given = {"stdout": out, "stderr": out, "cwd": store, "env": environment, **options}
        return Page(subprocess.Popen(command, **given), port, log)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def page(store: Path) -> Iterator[Page]:
    one = begin(store, "served")
    one.says("in MLflow")
    yield one
    one.process.kill()
    one.process.wait()


@pytest.fixture(scope="module")
def remote(store: Path, page: Page) -> Iterator[Page]:
    """The page of a store on a server, which is the MLflow that the other page has beside it."""
    one = begin(store, "remote", f"http://someone:{PASSWORD}@127.0.0.1:{page.port}")
    one.says("/lora\n")
    yield one
    one.process.kill()
    one.process.wait()


def test_it_says_where_only_when_the_page_answers_and_prints_short_links(page: Page):
    said = page.says("/lora\n")
    assert f"The page answers: http://127.0.0.1:{page.port}/\n" in said
    links = re.findall(r"http://\S+", said)
    assert len(links) >= 3
    assert max(map(len, links)) < 50
    status, headers, _ = page.get(re.sub(r"^http://[^/]+", "", next(link for link in links if link.endswith("/lora"))))
    assert status == 302
    assert headers["location"].startswith("/?mlflow#/experiments/1/runs?")
    assert "viewStateShareKey=fashion-ml-lora" in headers["location"]


def test_the_page_is_ours_and_mlflows_own_ui_and_rest_stand_beside_it(page: Page):
    assert b"/page/page.js" in page.get("/")[2]
    assert b"static-files" in page.get("/?mlflow")[2]
    assert page.get("/health")[0] == 200
    status, _, found = page.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=dresses")
    assert (status, json.loads(found)["experiment"]["name"]) == (200, "dresses")


def test_only_the_pages_own_script_runs_and_only_this_machine_is_answered(page: Page):
    _, headers, text = page.get("/")
    policy = headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce
    assert f'<script nonce="{nonce[1]}"' in text.decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert page.get("/")[1]["content-security-policy"] != policy
    assert page.get("/page/data.json", host="evil.example")[0] == 403
    assert all(page.get(path)[0] == 404 for path in ("/page/../ui.py", "/page/index.html", "/page/picture/..%2f..%2fx.jpg"))


def test_what_is_shown_is_data_with_the_names_as_they_are(page: Page):
    status, headers, text = page.get("/page/data.json")
    told = json.loads(text)
    (run,) = told["experiments"][0]["groups"][0]["runs"]
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (run["name"], run["verdict"], told["reading"]) == (NAME, "better", False)


def test_a_picture_is_made_small_and_one_that_is_not_there_is_not_found(page: Page):
    (run,) = json.loads(page.get("/page/data.json")[2])["experiments"][0]["groups"][0]["runs"]
    status, headers, content = page.get(f"/page/picture/{run['picture']}.jpg")
    assert (status, headers["content-type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert page.get(f"/page/picture/{run['id']}.jpg")[0] == 404


def test_the_page_of_a_server_is_served_here_and_leads_there_without_credentials(remote: Page, page: Page):
    own = f"http://127.0.0.1:{page.port}/"
    told = json.loads(remote.get("/page/data.json")[2])
    (run,) = told["experiments"][0]["groups"][0]["runs"]
    assert (run["name"], told["mlflow"]) == (NAME, own)
    assert remote.get(f"/page/picture/{run['picture']}.jpg")[0] == 200
    assert remote.get("/go/1/lora")[1]["location"].startswith(f"{own}#/experiments/1/runs?")
    assert remote.get("/?mlflow")[1]["location"] == own
    assert remote.get("/page/data.json", host="evil.example")[0] == 400
    seen = [remote.says("/lora\n"), *(str(remote.get(path)) for path in ("/", "/page/data.json", "/go/1", "/go/1/lora"))]
    assert not [text for text in seen if PASSWORD in text or "someone" in text]


@pytest.mark.parametrize("of", ["page", "remote"])
def test_hostile_requests_are_refused_and_good_ones_answered_meanwhile(request: pytest.FixtureRequest, of: str):
    one: Page = request.getfixturevalue(of)
    waiting = socket.create_connection(("127.0.0.1", one.port))  # says half a request, and no more
    waiting.sendall(b"GET / HTTP/1.1\r\nHost: 127")
    wrong = []
    for number, asked in enumerate(hostile_pages(200)):
        answer = answer_of(one.port, asked)
        head = answer.partition(b"\r\n\r\n")[0].lower()
        foreign = (
            b"evil.example" in asked and b"\r\nlocation: " in head and b"evil.example" in head.partition(b"\r\nlocation: ")[2]
        )
        said = b"access-control-allow-origin" in head or b"set-cookie" in head or b"traceback" in answer.lower()
        if head.startswith(b"http/1.1 5") or foreign or said:
            wrong.append((number, asked[:200], answer[:300]))
        if number % 50 == 0:
            assert one.get("/page/data.json")[0] == 200
    waiting.close()
    assert wrong == []
    assert "Traceback" not in one.log.read_text(encoding="utf-8")


def test_a_server_that_does_not_answer_is_one_line(store: Path):
    result = fashion_ml("ui", "--port", str(free_port()), cwd=store, uri=f"http://someone:{PASSWORD}@127.0.0.1:{free_port()}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: MLFLOW_TRACKING_URI: 'http://")
    assert "does not answer" in line
    assert PASSWORD not in line


def test_a_port_that_is_taken_is_one_line(page: Page, store: Path):
    result = fashion_ml("ui", "--port", str(page.port), cwd=store, uri=f"sqlite:///{store / 'mlflow.db'}")
    assert result.returncode == 2
    assert result.stderr == f"error: --port: {page.port} is in use; give another one, such as --port {page.port + 1}\n"


def test_it_ends_with_its_parent_and_by_signals_and_frees_the_port(store: Path, page: Page, remote: Page):
    """tests/full ends it with its terminal and by Ctrl-C."""
    parent = begin(store, "parent", f"http://127.0.0.1:{page.port}")
    parent.says("The page answers")
    check_ends({"parent": parent, "SIGHUP": remote, "SIGTERM": page}, lambda: None)


def check_ends(pages: dict[str, Page], close_terminal: Callable[[], None]) -> None:
    """Each ends by what it is called, at once, with its port free and without a traceback."""
    begun = time.monotonic()
    for name, one in pages.items():
        if name == "terminal":
            close_terminal()
        else:
            one.process.send_signal(signal.SIGKILL if name == "parent" else getattr(signal, name))
    codes = {name: one.process.wait(60) for name, one in pages.items()}
    while not all(one.is_free() for one in pages.values()):
        assert time.monotonic() - begun < 30, {name: one.is_free() for name, one in pages.items()}
        time.sleep(0.1)
    assert codes == {name: -signal.SIGKILL if name == "parent" else 0 for name in pages}
    assert not any("Traceback" in one.log.read_text(encoding="utf-8") for one in pages.values())
