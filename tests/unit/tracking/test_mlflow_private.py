"""What the adapter knows of MLflow beyond its documentation is what the installed version does; a failure names that version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.tracking import mlflow_private as private
from fashion_ml.tracking.ui_views import VIEWS, tag_of

UI = Path(mlflow.__file__).parent / "server" / "js" / "build"
CHARTS = [private.line_chart(""), private.bar_chart(""), private.parallel_chart([], []), private.image_table([], 0)]
SECTION = private.section("", "", CHARTS)
STATE_NAMES = [*private.view_state("", "", True, []), *private.charts_page([SECTION]), *(set(SECTION) - {"charts"})]
CHART_NAMES = sorted({name for chart in SECTION["charts"] for name in (*chart, chart["type"])})
LINK_NAMES = ["viewStateShareKey", "compareRunsMode", "workflowType", "machine_learning"]


def moved(what: str) -> str:
    return f"mlflow {mlflow.__version__} no longer has {what}: see fashion_ml/tracking/mlflow_private.py"


@pytest.fixture(scope="module")
def ui() -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in UI.rglob("*.js"))


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_names_that_mlflow_makes_up_are_told_from_those_of_people(client: MlflowClient):
    made = [client.create_run("0").info.run_name for _ in range(20)]
    assert all(private.is_generated_name(str(name)) for name in made), moved("names of an adjective, a noun and a number")
    assert not any(
        private.is_generated_name(name) for name in ("", "zarya", "red-dress-12", "clean-gull", "clean-gull-x", "a-b-c")
    )


@pytest.mark.parametrize(
    "name", [private.view_tag(""), "deflate;", private.IMAGES_TAG, private.TABLES_TAG, *LINK_NAMES, *CHART_NAMES]
)
def test_the_ui_of_this_version_knows_the_tags_and_links_that_are_written_for_it(ui: str, name: str):
    assert name.removesuffix(".") in ui, moved(f"{name!r} in its UI")


@pytest.mark.parametrize("name", sorted(set(STATE_NAMES)))
def test_the_ui_of_this_version_knows_every_part_of_a_view(ui: str, name: str):
    assert name in ui, moved(f"{name!r} in the runs page's state")


@pytest.mark.parametrize("size", [(600, 300), (100, 160), (256, 256)])
def test_pictures_have_the_names_tag_and_sizes_that_this_version_gives_them(
    client: MlflowClient, tmp_path: Path, size: tuple[int, int]
):
    experiment = client.create_experiment("pictures", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    picture = Image.new("RGB", size, "teal")
    client.log_image(run_id, picture, key="grids/step", step=7, timestamp=1234, synchronous=True)
    theirs = {path.name: Image.open(path).size for path in (tmp_path / "artifacts" / run_id / "artifacts" / "images").iterdir()}
    ours = {name: image.size for name, image in private.image_files(picture, "grids/step", 7, 1234).items()}
    unique = re.compile(r"[0-9a-f-]{36}")
    assert {unique.sub("", name): size for name, size in theirs.items()} == {
        unique.sub("", name): size for name, size in ours.items()
    }, moved("these names or sizes of pictures")
    assert private.IMAGES_TAG in client.get_run(run_id).data.tags, moved(f"the tag {private.IMAGES_TAG}")


def test_the_file_name_of_a_picture_says_its_key_and_step():
    (name, _) = private.image_files(Image.new("RGB", (4, 4)), "grids/a", 70, 1234)
    assert private.key_and_step(name) == ("grids/a", 70)
    assert [private.key_and_step(other) for other in ("grid.png", "a+b+c.png")] == [None, None]


def test_sections_that_take_what_is_left_are_called_as_this_version_calls_them(ui: str):
    for name in private.LEFT_OVER[1:]:
        assert f'"{name}"' in ui, moved(f"a section of charts {name!r}")


def test_tables_have_the_tag_that_this_version_gives_them(client: MlflowClient, tmp_path: Path):
    experiment = client.create_experiment("tables", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_table(run_id, {"image": ["a"], "ssim": [0.5]}, "pairs.json")
    written = client.get_run(run_id).data.tags.get(private.TABLES_TAG)
    assert written is not None, moved(f"the tag {private.TABLES_TAG}")
    assert json.loads(written) == json.loads(private.tables_value("pairs.json")), moved("this form of a table's tag")


def test_a_runs_data_say_the_step_of_each_metrics_last_point(client: MlflowClient):
    run_id = client.create_run("0").info.run_id
    for step in (3, 9):
        client.log_metric(run_id, "eval/ssim", 0.5, step=step)
    assert {metric.key: metric.step for metric in client.get_run(run_id).data.to_proto().metrics} == {"eval/ssim": 9}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.key)
def test_a_view_fits_into_an_experiments_tag(client: MlflowClient, view):
    client.set_experiment_tag("0", private.view_tag(view.key), tag_of(view))
    assert client.get_experiment("0").tags[private.view_tag(view.key)] == tag_of(view)


def test_what_a_killed_process_had_begun_to_upload_goes_and_artifacts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow's own name of such a file, as its store of files says it."""
    from mlflow.store.artifact import local_artifact_repo

    store, kept = local_artifact_repo.LocalArtifactRepository(str(tmp_path)), tmp_path / "below" / "given.txt"
    (tmp_path / "given.txt").write_text("whole")
    monkeypatch.setattr(store, "_cleanup_staged_artifact", lambda path: None)  # a killed process does no such thing

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local_artifact_repo.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.log_artifact(str(tmp_path / "given.txt"), "below")
    monkeypatch.undo()
    store.log_artifact(str(tmp_path / "given.txt"), "below")
    assert len(list(kept.parent.iterdir())) == 2, moved("one name for what is being uploaded")
    for uri in ("s3://bucket/below", "mlflow-artifacts:/1/below", ""):
        private.remove_half_uploads(uri)
    private.remove_half_uploads(tmp_path.as_uri())
    assert list(kept.parent.iterdir()) == [kept]
    assert (tmp_path / "given.txt").exists()


def test_an_artifact_is_brought_as_by_mlflow_and_the_run_is_looked_up_once(
    tmp_path: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    """`_get_artifact_repo`, which MLflow's own uploads take, holds what it has found in `_artifact_repos_cache`."""
    from mlflow.tracking._tracking_service import utils
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    experiment = client.create_experiment("x", artifact_location=(tmp_path / "store").as_uri())
    run_id, names = client.create_run(experiment).info.run_id, ("below/one 1.txt", "below/two.txt")
    (tmp_path / "below").mkdir()
    for name in names:
        (tmp_path / name).write_text(name)
        client.log_artifact(run_id, str(tmp_path / name), "below")
    places = [tmp_path / "theirs", tmp_path / "ours"]
    for place in places:
        place.mkdir()
    theirs = [Path(client.download_artifacts(run_id, name, str(places[0]))) for name in names]
    utils._artifact_repos_cache.clear()
    asked, get_run = list[str](), TrackingServiceClient.get_run

    def counted(self: TrackingServiceClient, run_id: str) -> object:
        asked.append(run_id)
        return get_run(self, run_id)

    monkeypatch.setattr(TrackingServiceClient, "get_run", counted)
    ours = [private.bring_artifact(client, run_id, name, places[1]) for name in names]
    assert asked == [run_id], moved("one look at a run for all that is brought")
    assert [str(path.relative_to(places[1])) for path in ours] == list(names)
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    with pytest.raises(Exception, match="three"):
        private.bring_artifact(client, run_id, "below/three.txt", places[1])
    other = SimpleNamespace(download_artifacts=lambda run_id, name, folder: f"{folder}/{name}")
    assert private.bring_artifact(other, run_id, "x", tmp_path) == tmp_path / "x"
