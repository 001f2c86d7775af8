"""The docs' pictures of the UI and of a report, from a folder in which trainings ran: `python -m tests.full.pictures FOLDER [TARGET [NAME]]`.

Such as one where `fashion-ml demo --seed 0`, 1 and 2 were run; a StarGAN training's curves are one of them where there is such a training. The
target is docs/images when it is not given; with a name it is that picture alone. Needs Chromium; two minutes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.full.browser import Page, browser
from tests.full.test_ui import CHROMIUM
from tests.runs.test_ui import begin

WIDE, NARROW = (1600, 1000), (420, 900)
_COMPARED, _SECONDS, _QUIET_SECONDS = 3, 40.0, 3.0
_LOADING = "document.querySelectorAll('[class*=spinner], [class*=skeleton], [class*=Skeleton]').length"


@dataclass(frozen=True)
class Shot:
    """A page and the size that it is photographed at."""

    name: str
    address: str
    size: tuple[int, int]


def shots(client: MlflowClient, server: str, report: Path) -> Iterator[Shot]:
    """Run page, compare page, report and our page at both widths; the ready views at the wide one. ValueError without evaluated trainings."""
    found = _trainings(client)
    if len(found) < 2:
        raise ValueError("fewer than two evaluated LoRA trainings are there; run fashion-ml demo with two seeds first")
    run, experiment = found[0].info.run_id, found[0].info.experiment_id
    ids = json.dumps([one.info.run_id for one in found], separators=(",", ":"))
    compared = f"{server}/?mlflow#/compare-runs?runs={ids}&experiments=[%22{experiment}%22]"
    run_page = f"{server}/?mlflow#/experiments/{experiment}/runs/{run}"
    for name, address in (
        ("run_page", run_page),
        ("ui_compare", compared),
        ("evaluation_report", report.as_uri()),
        ("ui_page", f"{server}/"),
    ):
        yield Shot(name, address, WIDE)
        yield Shot(f"{name}_narrow", address, NARROW)
    for name, view in (("ui_samples", "lora-pictures"), ("ui_loras", "lora"), ("ui_loras_compared", "lora-charts")):
        yield Shot(name, f"{server}/go/{experiment}/{view}", WIDE)
    yield Shot("run_tree", f"{server}/go/{experiment}", WIDE)
    if client.search_runs([experiment], "tags.kind = 'train_stargan'", max_results=1):
        yield Shot("ui_stargan", f"{server}/go/{experiment}/stargan-charts", WIDE)


def _trainings(client: MlflowClient) -> list[Run]:
    """The newest evaluated LoRA trainings of the experiment of the newest one, measured alike."""
    wanted = "tags.kind = 'train_lora' and attributes.status = 'FINISHED' and tags.`eval.fingerprint` LIKE '_%'"
    places = [one.experiment_id for one in client.search_experiments()]
    runs = [one for one in client.search_runs(places, wanted) if "mlflow.parentRunId" not in one.data.tags]
    alike = [
        one
        for one in runs
        if one.info.experiment_id == runs[0].info.experiment_id
        and one.data.tags["eval.fingerprint"] == runs[0].data.tags["eval.fingerprint"]
    ]
    return alike[:_COMPARED]


def photograph(shot: Shot, path: Path) -> None:
    """Keep what is seen of a page once nothing of it has moved for some seconds, or after most of a minute."""
    width, height = shot.size
    with browser(str(CHROMIUM), max(width, 500), height) as page:
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        page.open(shot.address)
        time.sleep(_QUIET_SECONDS)
        _make_room(page)
        if shot.name.startswith("ui_compare"):
            _compare_by(page, "eval/weighted_total_loss")
        if shot.name == "run_page_narrow":
            page.run("document.querySelector('[aria-label=\"Edit description\"]')?.scrollIntoView({block: 'start'})")
        end, before, since = time.monotonic() + _SECONDS, b"", time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < _QUIET_SECONDS:
            page.photograph(path)
            if (now := path.read_bytes()) != before or page.run(_LOADING):
                before, since = now, time.monotonic()
            time.sleep(0.5)


def _make_room(page: Page) -> None:
    """Close MLflow's pane at the right, where it is open, and on a phone the one at the left."""
    page.run(
        "(() => {const all = [...document.querySelectorAll('button')], label = e => (e.getAttribute('aria-label') || '');"
        "all.find(e => label(e).toLowerCase().includes('close') && e.getBoundingClientRect().x > innerWidth / 2)?.click();"
        "if (innerWidth < 600) all.find(e => label(e) === 'Toggle sidebar')?.click()})()"
    )
    time.sleep(1)


def _compare_by(page: Page, metric: str) -> None:
    """Choose what the lines of a compare page end at."""
    page.run("document.querySelectorAll('.du-bois-light-select-selection-item-remove')[1]?.click()")
    page.click("input[type=search]:not(#dubois-select-1)")
    time.sleep(0.5)
    page.choose(metric)
    page.run("document.activeElement.blur()")


def main(folder: Path, target: Path, only: str = "") -> None:
    """Make all of them, or the one of that name, and say each. ValueError as of `shots`; SystemExit without a store, which is not made."""
    if not (folder / "mlflow.db").is_file():
        raise SystemExit(f"FOLDER: {str(folder)!r} has no mlflow.db; run fashion-ml demo in it with two seeds first")
    target.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    server = begin(folder, "pictures")
    try:
        server.says("in MLflow")
        with tempfile.TemporaryDirectory() as place:
            evaluation = _trainings(client)[0].data.tags["eval.run_id"]
            report = Path(client.download_artifacts(evaluation, "", place)) / "report.html"
            for shot in shots(client, f"http://127.0.0.1:{server.port}", report):
                if only not in ("", shot.name):
                    continue
                photograph(shot, target / f"{shot.name}.png")
                print(target / f"{shot.name}.png", flush=True)  # noqa: T201
    finally:
        server.process.terminate()
        server.process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images").resolve(), *sys.argv[3:4])
