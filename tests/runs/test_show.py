"""`fashion-ml runs` and `fashion-ml show`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.runs.command import fashion_ml
from tests.runs.test_ui import NAME, log_training


@pytest.fixture
def store(workdir: Path) -> Path:
    """A training that is better than its base, called NAME, one that runs, and a StarGAN."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.create_experiment("dresses", artifact_location=(workdir / "artifacts").as_uri())
    log_training(client, experiment, workdir)
    gan = client.create_run(experiment, run_name="coat+dress w_ds1 lr1e-4 40ep", tags={"kind": "train_stargan"}).info.run_id
    for name, value in (("", 0.82), ("_low", 0.75), ("_high", 0.88)):
        client.log_metric(gan, f"eval/domain_accuracy{name}", value)
    client.set_terminated(gan, "FAILED")
    client.create_run(client.create_experiment("other"), run_name="a hat", tags={"kind": "train_lora"})
    return workdir


def listed(store: Path, *arguments: str, columns: str = "80") -> list[str]:
    result = fashion_ml("runs", *arguments, cwd=store, uri=os.environ["MLFLOW_TRACKING_URI"], COLUMNS=columns)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def refused(store: Path, *arguments: str) -> str:
    result = fashion_ml(*arguments, cwd=store, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert (result.returncode, result.stderr.count("error: "), "Traceback" in result.stderr) == (2, 1, False)
    return result.stderr


def test_runs_are_listed_newest_first_with_what_they_gained(store: Path):
    lines = listed(store, "--json", "runs.json", columns="200")
    assert lines[0].split() == ["run", "name", "gain", "(95", "%", "interval)", "verdict", "time", "status"]
    hat, gan, lora = lines[1:4]
    assert "a hat" in hat
    assert hat.endswith("running")
    assert "domain_accuracy 0.820 [0.750, 0.880]" in gan
    assert gan.endswith("failed")
    assert lora[10:].startswith(NAME)
    assert {"+0.050", "better"} <= set(lora.split())
    assert lora.endswith("finished")
    facts = json.loads((store / "runs.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in facts["runs"]] == ["a hat", "coat+dress w_ds1 lr1e-4 40ep", NAME]
    assert [one["measured"] and one["measured"]["mean"] for one in facts["runs"]] == [None, 0.82, 0.05]
    assert facts["more"] is False


def test_a_list_fits_80_columns_and_says_what_it_leaves_out(store: Path):
    assert max(map(len, listed(store))) <= 80
    lines = listed(store, "--count", "1")
    assert "The 1 newest; --count 2 lists more" in lines
    assert "a hat" in lines[1]
    assert not any("a hat" in line for line in listed(store, "--experiment", "dresses"))


def test_what_cannot_be_listed_is_said(store: Path):
    assert "--count: '0' is not accepted" in refused(store, "runs", "--count", "0")
    assert "--experiment: 'none' is not in " in refused(store, "runs", "--experiment", "none")


def test_show_says_where_the_grid_is_and_does_not_fail_without_a_desktop(store: Path):
    uri = os.environ["MLFLOW_TRACKING_URI"]
    for given in (NAME, "latest"):
        result = fashion_ml("show", given, "--json", "shown.json", cwd=store, uri=uri, DISPLAY="", WAYLAND_DISPLAY="")
        assert result.returncode == 0, result.stderr
        assert "Not opened: there is no desktop here" in result.stdout
        (grid,) = json.loads((store / "shown.json").read_text(encoding="utf-8"))["files"]
        assert (grid["what"], Path(grid["path"]).is_file()) == ("Grid", True)


def test_show_without_anything_to_look_at_is_one_line(store: Path):
    said = refused(store, "show", "coat+dress w_ds1 lr1e-4 40ep")
    assert "has no report, grid or curves; choose one that has ended, such as latest" in said
    assert "holds no report, grid or curves" in refused(store, "show", str(store / "artifacts"))
