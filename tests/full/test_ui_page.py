"""The page of `fashion-ml ui` in a headless Chromium: LoRA, StarGAN, sweep and suite runs, wide and narrow, with 1,000 runs at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from tests.full.browser import Page, browser
from tests.full.test_ui import CHROMIUM, keep, pytestmark  # noqa: F401
from tests.runs.test_ui import Page as Server
from tests.runs.test_ui import begin
from tests.unit.tracking.test_run_reader import filled

SCRIPT = "<img src=x onerror='window.harmed = 1'><script>window.harmed = 1</script>"
READY = "document.getElementById('main')?.dataset.ready === 'true'"
SECONDS = 2.0


def made(client: MlflowClient, folder: Path, name: str, tags: dict[str, str], metrics: dict[str, float], picture: str) -> str:
    """A run as an evaluated training, a sweep or a suite leaves it."""
    run = client.create_run("0", run_name=name, tags=tags).info.run_id
    client.log_batch(run, metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()])
    if picture:
        Image.new("RGB", (1040, 792), "teal").save(folder / Path(picture).name)
        client.log_artifact(run, str(folder / Path(picture).name), str(Path(picture).parent) if "/" in picture else None)
    client.set_terminated(run)
    return run


def fill(folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    gain = "eval/gain_weighted_total_loss"
    for name, mean, verdict in (("rank 4", 0.02, "not shown"), ("rank 8", 0.05, "better")):
        evaluation = made(client, folder, "evaluation", {"kind": "evaluation"}, {}, "grid.png")
        tags = {"kind": "train_lora", "eval.fingerprint": "a" * 64, "eval.verdict": verdict, "eval.run_id": evaluation}
        lines = "\n\n".join((f"LoRA of {name}", f"This LoRA lowers the loss: {verdict}", "Prompts are obeyed", "One training"))
        tags |= {"mlflow.note.content": lines, "description": f"LoRA of {name}"}
        made(client, folder, name, tags, {gain: mean, f"{gain}_low": mean - 0.03, f"{gain}_high": mean + 0.03}, "")
    tags = {"kind": "train_stargan", "eval.fingerprint": "b" * 64, "mlflow.note.content": SCRIPT}
    accuracy = {"": 0.6, "_low": 0.5, "_high": 0.7, "_unchanged": 0.01, "_real": 0.96}
    made(client, folder, SCRIPT, tags, {f"eval/domain_accuracy{end}": value for end, value in accuracy.items()}, "")
    said = {"mlflow.note.content": "trial 3: better in the search; gain of this recipe +0.0200", "sweep": "rates"}
    made(client, folder, "rates", {"kind": "sweep", **said}, {"confirmed_gain": 0.02}, "report/optimization_history.png")
    long = "Against rank 8: rank 32 is better. " + "Another training seed moves it by 0.01, the recipes lie 0.02 apart. " * 12
    said = {"mlflow.note.content": long, "verdict": "better", "suite": "ranks"}
    made(client, folder, "ranks", {"kind": "suite", **said}, {}, "report/recipes.png")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(empty_store, folder / "mlflow.db")
    fill(folder)
    one = begin(folder, "page")
    one.says("in MLflow")
    yield one
    one.process.terminate()
    one.process.wait()


def opened(page: Page, url: str) -> float:
    """Open a page; seconds until everything that it shows at first is there."""
    begun = time.monotonic()
    page.open(url)
    while not page.run(READY):
        assert time.monotonic() - begun < 60, page.text
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.mark.parametrize("width", [1600, 420])
def test_it_shows_what_worked_which_is_best_and_how_sure(server: Server, width: int):
    with browser(str(CHROMIUM), max(width, 500), 1400) as page:
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=1400, deviceScaleFactor=1, mobile=False)
        opened(page, f"http://127.0.0.1:{server.port}/")
        text = page.wait_for("Largest gain of 2 files: rank 8", "better than its base", "+0.050 [+0.020, +0.080]", "not shown")
        order = [
            text.index(words) for words in ("ranks", "rates", "Largest gain of 2 files", "This LoRA lowers the loss: not shown")
        ]
        assert order == sorted(order)
        assert SCRIPT in text
        assert page.run("window.harmed") is None
        assert page.run("document.documentElement.scrollWidth") <= width
        end = time.monotonic() + 20
        while page.run("[...document.images].filter(e => e.naturalWidth).length") < 3:
            assert time.monotonic() < end
            time.sleep(0.2)
        cut = "[...document.querySelectorAll('.row')].map(e => [...e.querySelectorAll('.line')].some(l => l.scrollHeight > l.clientHeight + 1))"
        assert page.run(f"{cut}.some(one => one)") is True
        assert page.run(cut) == page.run(
            "[...document.querySelectorAll('.row')].map(e => !!e.querySelector('.more:not([hidden])'))"
        )
        keep(page, f"ui_page_{width}.png")


def test_a_row_leads_to_its_run_and_its_report_in_mlflow(server: Server):
    with browser(str(CHROMIUM)) as page:
        opened(page, f"http://127.0.0.1:{server.port}/")
        links = page.run("[...document.querySelectorAll('.links a')].map(e => e.href)")
        page.open(next(link for link in links if link.endswith("/grid.png") or "/artifacts/report.html" in link))
        page.wait_for("Artifacts")
        page.open(f"http://127.0.0.1:{server.port}/#/experiments/0/runs")  # as old bookmarks have it
        page.wait_for("rank 8")


def test_a_thousand_runs_open_at_once(tmp_path: Path, empty_store: Path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    filled(tmp_path / "mlflow.db", 1000)
    server = begin(tmp_path, "page")
    try:
        server.says("/lora\n")
        with browser(str(CHROMIUM)) as page:
            seconds = min(opened(page, f"http://127.0.0.1:{server.port}/") for _ in range(3))
            assert page.run("document.querySelectorAll('.row').length") == 12
            assert "Show all 1000" in page.text
            page.click("button", "Show all 1000")
            end = time.monotonic() + 20
            while page.run("document.querySelectorAll('.row').length") < 1000:
                assert time.monotonic() < end
                time.sleep(0.2)
    finally:
        server.process.terminate()
        server.process.wait()
    assert seconds < SECONDS, f"{seconds:.1f} s"
