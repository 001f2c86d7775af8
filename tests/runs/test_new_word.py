"""A word that trains along with a LoRA, from the command line: in the run, its evaluation, and every export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.config import validate
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.new_words import words_in
from fashion_ml.runs.evaluate import checkpoints_of
from fashion_ml.runs.trained_run import config_of, trained_run
from tests.runs.command import FEW, SHORT, Finished, fashion_ml

WORD = ["--set", "embedding.token=kosha", "--set", "embedding.init_text=dress", "--set", "optimizer.embedding_lr=0.05"]


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path) -> Finished:
    folder = tmp_path_factory.mktemp("worded")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    shutil.copytree(collection, folder / "outputs" / collection.name)
    given = [
        *SHORT,
        *FEW,
        *WORD,
        "--set",
        "data.caption_prefix=kosha",
        "--set",
        "training.sample_every=3",
        "--output-dir",
        "out",
    ]
    result = fashion_ml("train", "lora", *given, "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def export(run: Finished, form: str, target: str, *more: str) -> Any:
    return fashion_ml("export", run.facts["run_id"], target, "--format", form, *more, cwd=run.folder, uri=run.uri)


def test_it_is_said_kept_with_the_run_and_the_base_reads_what_it_began_as(worded: Finished):
    assert "Word      'kosha' of one token, begun as 'dress', learning rate 0.05" in worded.stderr
    assert "base and encoder read 'dress " in worded.stderr
    client = MlflowClient(worded.uri)
    files = {item.path for item in client.list_artifacts(worded.facts["run_id"], "lora")}
    assert {"lora/lora.safetensors", "lora/kosha.safetensors"} <= files
    run = client.get_run(worded.facts["run_id"])
    assert run.data.params["embedding.token"] == "kosha"
    (measured,) = client.search_runs([run.info.experiment_id], "tags.kind = 'evaluation'")
    facts = json.loads(Path(client.download_artifacts(measured.info.run_id, "fingerprint.json")).read_text(encoding="utf-8"))
    assert all(prompt.startswith("kosha") for prompt in facts["prompts"])
    assert facts["prompts_of_base"] == [prompt.replace("kosha", "dress") for prompt in facts["prompts"]]
    assert facts["trigger"] == "kosha"


@pytest.mark.parametrize(
    ("form", "target", "place"),
    [
        ("kohya", "kohya/lora.safetensors", "kohya"),
        ("diffusers", "folder", "folder"),
        ("merged", "whole", "whole"),
        ("hub", "hub", "hub"),
    ],
)
def test_every_export_brings_the_words_file_and_says_how_to_call_it(worded: Finished, form: str, target: str, place: str):
    result = export(worded, form, target)
    assert result.returncode == 0, result.stderr
    assert "load_textual_inversion(" in result.stderr
    (word,) = words_in(read_metadata(Path(worded.facts["lora"])), "lora")
    written = load_file(worded.folder / place / "kosha.safetensors")
    assert torch.equal(written["emb_params"], word.vectors)
    if form == "hub":
        assert "The word 'kosha' is in kosha.safetensors" in (worded.folder / "hub" / "README.md").read_text(encoding="utf-8")


def test_kept_files_are_exported_beside_each_other_and_its_file_is_no_checkpoint(
    worded: Finished, monkeypatch: pytest.MonkeyPatch
):
    assert export(worded, "kohya", "several/one.safetensors").returncode == 0
    assert export(worded, "kohya", "several/two.safetensors").returncode == 0
    named = export(worded, "kohya", "several/Kosha.safetensors")
    assert named.returncode == 2
    assert "is what the file of the LoRA's own word is called; give another name" in named.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", worded.uri)
    with trained_run(worded.facts["run_id"]) as training:
        place = worded.folder / "kept"
        place.mkdir()
        found = checkpoints_of(training, validate(config_of(training, place)), "all", place)
    assert [path.name for _, path in found] == ["lora.safetensors"]


def test_what_is_there_is_not_written_over(worded: Finished):
    (worded.folder / "there").mkdir()
    (worded.folder / "there" / "kosha.safetensors").write_bytes(b"mine")
    result = export(worded, "kohya", "there/lora.safetensors")
    assert result.returncode == 2
    assert "where there is another file; give a place in another folder" in result.stderr
    assert (worded.folder / "there" / "kosha.safetensors").read_bytes() == b"mine"
    assert not (worded.folder / "there" / "lora.safetensors").exists()


def test_its_file_alone_is_measured_the_same_and_inspected(worded: Finished):
    references = str(next((worded.folder / "outputs").glob("embedded*")) / "references")
    few = ["--set", "data.caption_prefix=kosha", "--set", "evaluation.guidance_scale=3", *FEW[2:], "--json", "file.json"]
    given = ("evaluate", "lora", worded.facts["lora"], "--references", references, *few)
    result = fashion_ml(*given, cwd=worded.folder, uri=worded.uri)
    assert result.returncode == 0, result.stderr
    alone = json.loads((worded.folder / "file.json").read_text(encoding="utf-8"))
    whole = worded.facts["evaluation"]
    assert alone["metrics"]["visual_loss"]["lora"]["mean"] == whole["metrics"]["visual_loss"]["lora"]["mean"]
    assert alone["metrics"]["visual_loss"]["base"]["mean"] == whole["metrics"]["visual_loss"]["base"]["mean"]
    told = fashion_ml("inspect", worded.facts["lora"], cwd=worded.folder, uri=worded.uri)
    assert "word      kosha, begun as 'dress'; norms of its vectors " in told.stdout
    assert "fashion_ml_words" not in told.stdout


def test_a_dry_run_and_captions_without_the_word(worded: Finished):
    dry = fashion_ml("train", "lora", *SHORT, *FEW, *WORD, "--dry-run", cwd=worded.folder, uri=worded.uri)
    assert dry.returncode == 2
    assert "embedding.token: 'kosha' is in no caption" in dry.stderr
    given = [*SHORT, *FEW, *WORD, "--set", "data.caption_prefix=kosha", "--dry-run"]
    dry = fashion_ml("train", "lora", *given, cwd=worded.folder, uri=worded.uri)
    assert dry.returncode == 0, dry.stderr
    assert "Word      'kosha'" in dry.stdout
