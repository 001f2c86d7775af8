"""`fashion-ml encode` and `train stargan` through the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file

from fashion_ml.embedded.garments import Garment, render
from fashion_ml.models.stable_diffusion import to_images
from fashion_ml.models.vae import load_vae
from fashion_ml.reports.stargan_log import read_epochs
from fashion_ml.runs import stargan
from fashion_ml.runs.training_speed import OF_THE_MACHINE
from tests.runs.chinese import english, shown
from tests.runs.command import Command, Finished, fashion_ml
from tests.runs.forked import ForkedPopen

TINY = [
    *("--base_dim", "8", "--n_res_blocks", "2", "--d_layers", "1", "--mapping_hidden_dim", "16", "--batch_size", "4"),
    *("--epochs", "3", "--r1_interval", "2", "--ds_decay_epochs", "2", "--grid_every_n_epochs", "2", "--seed", "5"),
    *("--w_ds", "0.5"),
    *("--set", "evaluation.contents_per_domain=2", "--set", "evaluation.resamples=50", "--set", "evaluation.styles=3"),
]


def draw(folder: Path, count: int = 8) -> None:
    for domain in ("plain", "striped"):
        (folder / domain).mkdir(parents=True)
        for index in range(count):
            render(Garment("dress", "red", domain, seed=index)).save(folder / domain / f"{domain}_{index}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A folder with images of two domains, encoded, and a store."""
    folder = tmp_path_factory.mktemp("stargan")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    encode(folder)
    return folder


def encode(folder: Path) -> None:
    """Draw images of two domains into a folder, and encode them."""
    draw(folder / "images")
    result = run(folder, "encode", "images", "latents", "--json", "encoded.json")
    assert result.returncode == 0, result.stderr
    assert "WARNING: --vae: embedded is a toy that knows drawings of 64 pixels" in result.stderr


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fashion_ml(*arguments, cwd=folder, uri=f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def trained(place: Path) -> Finished:
    result = run(place, "train", "stargan", *TINY, "--latents-dir", "latents", "--output-dir", "out", "--json", "facts.json")
    assert result.returncode == 0, result.stderr
    facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
    return Finished(place, facts, result.stdout, result.stderr, f"sqlite:///{place / 'mlflow.db'}")


def test_a_run_says_at_its_start_what_decides_it_and_that_its_encoder_is_a_toy(trained: Finished):
    said = trained.stderr.splitlines()
    assert said[0].startswith("No --config, so the experiment is experiments/stargan/embedded.yaml")  # its VAE made the latents
    begins = [line for line in said if line[:10].rstrip() in ("VAE", "StarGAN", "D", "Rates", "Latents", "Steps")]
    assert begins[0] == "VAE       embedded; encoder embedded"
    assert begins[1].startswith("StarGAN   base_dim ")
    assert begins[1].endswith("; domains plain, striped")
    assert begins[2] == "D         judges whole latents; R1 every 2 steps of the run"
    assert " of 4 x 16 x 16, drawn by domain; batch " in begins[4]
    assert " epochs of " in begins[5]
    assert [
        line for line in said if "embedded is a toy that knows drawings of 64 pixels, and data.latents_dir is 'latents'" in line
    ]


def test_encoding_gives_the_unscaled_posterior_mean_and_a_manifest(place: Path):
    facts = json.loads((place / "encoded.json").read_text(encoding="utf-8"))
    assert facts["domains"] == {"plain": 8, "striped": 8}
    latent = torch.load(place / "latents" / "striped" / "striped_3.pt", weights_only=True)
    vae = load_vae("embedded")
    with torch.no_grad():
        picture = Image.open(place / "images" / "striped" / "striped_3.png").convert("RGB")
        expected = vae.encode(to_images([picture])).latent_dist.mean[0]
    torch.testing.assert_close(latent, expected, atol=1e-5, rtol=0)
    manifest = json.loads((place / "latents" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["latent_shape"] == [4, 16, 16]
    assert manifest["latent_scale"] == vae.config.scaling_factor
    assert manifest["files"]["plain/plain_0"]["source"] == "plain/plain_0.png"


def test_encoding_goes_on_where_it_stopped_and_encodes_edited_images_again(tmp_path: Path, empty_store: Path):
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    draw(tmp_path / "images", count=3)
    assert run(tmp_path, "encode", "images", "latents", "--flips").returncode == 0
    latents = tmp_path / "latents"
    plain, mirrored = (torch.load(latents / "plain" / f"plain_1{end}.pt", weights_only=True) for end in ("", ".mirrored"))
    assert (plain.flip(2) - mirrored).abs().max() > 1e-3  # a mirrored image, not a mirrored latent
    (latents / "plain" / "plain_0.pt").unlink()
    picture = tmp_path / "images" / "striped" / "striped_2.png"
    render(Garment("hat", "blue", "striped", seed=9)).save(picture)
    times = {path: path.stat().st_mtime_ns for path in latents.glob("*/*.pt")}
    again = run(tmp_path, "encode", "images", "latents", "--flips", "--json", "again.json")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))["made"] == 3
    changed = {path.name for path, stamp in times.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"striped_2.pt", "striped_2.mirrored.pt"}
    (tmp_path / "images" / "plain" / "plain_0.png").unlink()
    fewer = run(tmp_path, "encode", "images", "latents", "--json", "fewer.json")
    assert fewer.returncode == 0, fewer.stderr
    facts = json.loads((tmp_path / "fewer.json").read_text(encoding="utf-8"))
    assert (facts["made"], facts["removed"], facts["domains"]) == (0, 7, {"plain": 2, "striped": 3})
    assert {path.name for path in latents.glob("plain/*")} == {"plain_1.pt", "plain_2.pt"}
    other = run(tmp_path, "encode", "images", "latents", "--size", "32")
    assert other.returncode == 2
    assert "was encoded with another size; give a new folder" in other.stderr


def test_the_run_tree_has_the_nine_metrics_by_epoch_and_an_evaluation_with_three_children(trained: Finished):
    client = MlflowClient(trained.uri)
    run_ = client.get_run(trained.facts["run_id"])
    assert run_.data.tags["kind"] == "train_stargan"
    for name in ("d_loss", "g_loss", "g_adv", "sty", "cyc", "id", "r1", "lambda_ds", "lr_g", "lr_d", "lr_mapping"):
        assert [p.step for p in client.get_metric_history(run_.info.run_id, name)] == [1, 2, 3], name
    assert [p.step for p in client.get_metric_history(run_.info.run_id, "ds")] == [1, 2, 3]  # measured where lambda_ds is 0 too
    assert [p.value for p in client.get_metric_history(run_.info.run_id, "lambda_ds")] == [0.5, 0.25, 0.0]
    assert run_.data.params["loss.w_ds"] == "0.5"
    assert int(run_.data.params["parameters.generator"]) > 1000

    def children(run_id: str) -> Any:
        return client.search_runs([run_.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")

    (evaluation,) = children(run_.info.run_id)
    assert sorted(child.info.run_name for child in children(evaluation.info.run_id)) == ["color", "fashion_clip", "ssim"]
    assert evaluation.info.run_name == f"evaluation of {run_.info.run_name}, epoch 3"
    assert run_.info.run_name == run_.data.tags["described_as"]
    metrics = evaluation.data.metrics
    expected = {"ssim", "visual_loss", "fashion_similarity", "fashion_clip_loss", "color_correlation", "color_loss"}
    expected |= {"weighted_total_loss", "domain_accuracy", "latent_domain_accuracy", "diversity", "cycle_l1", "latent_ssim"}
    assert expected <= set(metrics)
    assert "latent_fashion_similarity" not in metrics  # there is no reference to be similar to
    assert run_.data.metrics["eval/domain_accuracy"] == metrics["domain_accuracy"]
    assert {item.path for item in client.list_artifacts(evaluation.info.run_id)} >= {
        *("grid_reference.png", "grid_latent.png", "grid.png", "report.html", "per_image.csv", "fingerprint.json")
    }
    images = [item.path for item in client.list_artifacts(run_.info.run_id, "images")]
    assert any("grid_reference" in path for path in images)
    assert {item.path for item in client.list_artifacts(run_.info.run_id, "stargan")} == {"stargan/stargan.safetensors"}
    assert {Path(item.path).name for item in client.list_artifacts(run_.info.run_id, "training_logs")} == {
        *("training_log.jsonl", "loss_curves.png", "stargan_report.json")
    }


def test_only_translations_to_other_domains_are_measured(trained: Finished):
    import pandas as pd

    table = pd.read_csv(trained.folder / "out" / "evaluation" / "per_image.csv")
    assert len(table) == 2  # one held-out content of each domain
    assert (table["reference"].str.split("/").str[0] != table["target"]).all()
    metrics = trained.facts["evaluation"]["by_target"]
    assert set(metrics) == {
        *(f"{who}domain_accuracy/{domain}" for who in ("", "latent_") for domain in ("plain", "striped")),
        *("domain_accuracy_unchanged", "domain_accuracy_real"),
    }
    for domain in ("plain", "striped"):
        row = table[table["target"] == domain]
        assert row["domain_accuracy"].mean() == metrics[f"domain_accuracy/{domain}"]
        assert row["latent_domain_accuracy"].mean() == metrics[f"latent_domain_accuracy/{domain}"]
    run_ = MlflowClient(trained.uri).get_run(trained.facts["run_id"])
    assert run_.data.metrics["eval/domain_accuracy_real"] == metrics["domain_accuracy_real"]


def test_each_pair_of_domains_is_measured_and_what_is_missing_is_said_once(trained: Finished):
    """One held-out content of each domain: there is a mean of each pair, and no KID."""
    import pandas as pd

    table = pd.read_csv(trained.folder / "out" / "evaluation" / "by_pair.csv")
    assert table[["source", "target", "contents"]].to_numpy().tolist() == [["plain", "striped", 1], ["striped", "plain", 1]]
    whole = pd.read_csv(trained.folder / "out" / "evaluation" / "per_image.csv")
    for name in ("ssim", "latent_ssim", "domain_accuracy"):
        assert table[name].tolist() == pytest.approx(whole[name].tolist())
    said = [line for line in trained.stderr.splitlines() if "pair_" in line]
    assert [line.split(":")[0] for line in said] == [
        "Not measured by pair of domains",
        "pair_kid is not measured for 2 of 2 pairs of domains, which have one held-out content",
    ]
    assert "pair_fid (evaluation.inception FILE)" in said[0]
    assert trained.facts["evaluation"]["by_pair"] == {}


def test_evaluate_run_measures_a_stargan_again_with_the_same_numbers(trained: Finished):
    result = run(trained.folder, "evaluate", "run", trained.facts["run_id"], "--json", "again.json")
    assert result.returncode == 0, result.stderr
    again = json.loads((trained.folder / "again.json").read_text(encoding="utf-8"))
    before = trained.facts["evaluation"]
    assert (again["fingerprint"], again["metrics"]) == (before["fingerprint"], before["metrics"])
    fewer = ("--contents_per_domain", "2", "--set", "evaluation.styles=3", "--json", "fewer.json", "--name", "a look")
    result = run(trained.folder, "evaluate", "run", trained.facts["run_id"], *fewer)
    assert result.returncode == 0, result.stderr
    run_id = json.loads((trained.folder / "fewer.json").read_text(encoding="utf-8"))["run_id"]
    measured = MlflowClient(trained.uri).get_run(run_id)
    params = measured.data.params
    assert (params["evaluation.contents_per_domain"], params["evaluation.styles"]) == ("2", "3")
    assert measured.info.run_name == "a look"
    refused = run(trained.folder, "evaluate", "run", trained.facts["run_id"], "--strengths", "0,1")
    assert refused.returncode == 2
    assert (
        "evaluation.strengths: is not among these settings; a StarGAN's evaluation takes contents_per_domain, contents_part, vae, precision"
        in refused.stderr
    )


def test_evaluate_run_measures_kept_networks_of_earlier_epochs_too(place: Path):
    kept = (*TINY, "--latents-dir", "latents", "--epochs", "3", "--save_every_n_epochs", "1", "--no-evaluate")
    result = run(place, "train", "stargan", *kept, "--output-dir", "kept", "--json", "kept.json")
    assert result.returncode == 0, result.stderr
    run_id = json.loads((place / "kept.json").read_text(encoding="utf-8"))["run_id"]
    result = run(place, "evaluate", "run", run_id, "--checkpoints", "all", "--json", "all.json")
    assert result.returncode == 0, result.stderr
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    evaluations = json.loads((place / "all.json").read_text(encoding="utf-8"))["evaluations"]
    tags = [client.get_run(one["run_id"]).data.tags for one in evaluations]
    assert [(one["step"], one["checkpoint"]) for one in tags] == [
        ("1", "stargan-000001.safetensors"),
        ("2", "stargan-000002.safetensors"),
        ("3", "stargan.safetensors"),
    ]
    assert len({one["metrics"]["cycle_l1"]["mean"] for one in evaluations}) == 3
    points = client.get_metric_history(run_id, "eval/cycle_l1")
    assert [point.step for point in points] == [1, 2, 3]
    assert client.get_run(run_id).data.tags["eval.run_id"] == evaluations[-1]["run_id"]
    one = ["evaluate", "run", run_id, "--checkpoints", "stargan-000002", "--output-dir", "one", "--json", "one.json"]
    result = run(place, "--lang", "zh-TW", *one)
    assert result.returncode == 0, result.stderr
    assert english(result.stdout + result.stderr) == []
    (report,) = (place / "one").rglob("report.html")
    assert english(shown(report.read_text(encoding="utf-8")), client.get_run(run_id).info.run_name) == []
    again = json.loads((place / "one.json").read_text(encoding="utf-8"))
    assert again["metrics"] == evaluations[1]["metrics"]
    refused = run(place, "evaluate", "run", run_id, "--checkpoints", "stargan-000009")
    assert refused.returncode == 2
    assert "has no artifact stargan/stargan-000009.safetensors" in refused.stderr


def test_killed_between_two_networks_it_makes_no_second_evaluation_of_the_first(place: Path, monkeypatch: pytest.MonkeyPatch):
    kept = (*TINY, "--latents-dir", "latents", "--epochs", "2", "--save_every_n_epochs", "1", "--no-evaluate")
    result = run(place, "train", "stargan", *kept, "--output-dir", "two", "--json", "two.json")
    assert result.returncode == 0, result.stderr
    run_id = json.loads((place / "two.json").read_text(encoding="utf-8"))["run_id"]
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
    measure, begun = stargan._evaluate, list[str]()

    def killed_at_the_second(*given: Any, **more: Any) -> Any:
        begun.append(more["name"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return measure(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(stargan, "_evaluate", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            stargan.evaluate_stargan_again(run_id, {}, place / "networks", "all")
    stargan.evaluate_stargan_again(run_id, {}, place / "networks", "all")
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    there = client.get_run(run_id).info.experiment_id
    found = client.search_runs([there], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert sorted(one.data.tags["step"] for one in found) == ["1", "2"]


def test_killed_and_resumed_is_as_if_never_stopped(place: Path):
    check_killed_and_resumed(place, epochs=9, kills=[3])


def check_killed_and_resumed(folder: Path, epochs: int, kills: list[int]) -> None:
    """kill -9 after some epochs, with a state after each, against a training that was never stopped."""
    settings = [
        *(*TINY, "--latents-dir", "latents", "--epochs", str(epochs)),
        *("--save_every_n_epochs", "1", "--save_last_n", "1", "--no-evaluate"),
    ]
    whole = run(folder, "train", "stargan", *settings, "--output-dir", "whole", "--json", "whole.json")
    assert whole.returncode == 0, whole.stderr
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "fashion_ml", "train", "stargan", *settings, "--output-dir", "parts"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    for number, epoch in enumerate(kills):
        more = ["--resume"] if number else []
        process = ForkedPopen([*command, *more], cwd=folder, env=environment)
        log, deadline = folder / "parts" / "training_logs" / "training_log.jsonl", time.monotonic() + 200
        while not (log.exists() and len(read_epochs(log)) >= epoch):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = run(folder, "train", "stargan", *settings, "--output-dir", "parts", "--resume", "--json", "parts.json")
    assert result.returncode == 0, result.stderr
    first, second = (load_file(folder / part / "stargan.safetensors") for part in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [read_epochs(folder / part / "training_logs" / "training_log.jsonl") for part in ("whole", "parts")]
    assert logs[0] == logs[1]
    client = MlflowClient(uri)
    points = []
    for part in ("whole", "parts"):
        run_id = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))["run_id"]
        names = client.get_run(run_id).data.metrics.keys() - {*OF_THE_MACHINE}
        points.append({name: sorted((p.step, p.value) for p in client.get_metric_history(run_id, name)) for name in names})
    assert points[0] == points[1]
    assert [step for step, _ in points[0]["d_loss"]] == list(range(1, epochs + 1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--w_ds", "-1"], "loss.w_ds: '-1' is not accepted"),
        (["--latents-dir", "none"], "data.latents_dir: 'none' does not exist; make it: fashion-ml encode"),
        (["--set", "loss.w_cyk=1"], "loss.w_cyk: unknown key; did you mean w_cyc?"),
        (["--latent_scale", "0.18215"], "but these latents' VAE has"),
        (["--vae", "nonsense", "--no-evaluate"], "model.vae: 'nonsense' is not known"),
        (["--validation_split", "0"], "holds out nothing to evaluate on"),
        (["--mixed_precision", "fp16"], "fp16 needs a CUDA GPU"),
        (["--d_layers", "9"], "network.d_layers: 9 halvings do not fit latents of 16 x 16; use at most 4"),
        (["--g_layers", "4"], "network.g_layers: 4 halvings do not fit latents of 16 x 16; use at most 3"),
    ],
)
def test_bad_input_is_one_line(refused: Command, place: Path, arguments: list[str], said: str):
    given = arguments if "--latents-dir" in arguments else ["--latents-dir", str(place / "latents"), *arguments]
    (line,) = refused("train", "stargan", *TINY, *given)
    assert said in line


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "IMAGES_DIR: 'new' is no folder"),
        (lambda folder: folder.mkdir(), "holds no folders of images"),
        (lambda folder: (draw(folder, 1), (folder / "plain" / "x.png").write_bytes(b"no")), "x.png' cannot be read"),
    ],
)
def test_bad_image_folders_are_named(refused: Command, workdir: Path, make: Any, said: str):
    make(workdir / "new")
    (line,) = refused("encode", "new", "out")
    assert said in line
    assert not (workdir / "out").exists()


def test_the_registered_stargan_translates_a_picture(trained: Finished, monkeypatch: pytest.MonkeyPatch):
    import io

    import mlflow
    import pandas as pd

    result = run(trained.folder, "register", trained.facts["run_id"], "--name", "patterns")
    assert result.returncode == 0, result.stderr
    assert "patterns version 1: champion." in result.stdout
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.uri)
    model = mlflow.pyfunc.load_model("models:/patterns@champion")
    content = (trained.folder / "images" / "plain" / "plain_0.png").read_bytes()
    rows = pd.DataFrame({"image": [content, content], "domain": ["striped", "plain"]})
    first, other = model.predict(rows, params={"seed": 3})
    assert model.predict(rows, params={"seed": 3})[0] == first
    assert len({first, other, model.predict(rows, params={"seed": 4})[0]}) == 3
    assert Image.open(io.BytesIO(first)).size == (64, 64)
