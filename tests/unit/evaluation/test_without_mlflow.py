"""Measuring and comparing from Python, in a process in which importing mlflow raises and nothing of tracking is loaded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated, compare
from fashion_ml.evaluation.image_pairs import evaluate_images
from fashion_ml.evaluation.lora_file import evaluate_lora

pytestmark = pytest.mark.slow

NO_MLFLOW = """
import sys
from importlib.machinery import ModuleSpec

class Refuse:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.split(".")[0] == "mlflow" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise ImportError("mlflow is not there")

sys.meta_path.insert(0, Refuse())
"""
SCRIPT = """
import json
from pathlib import Path
from fashion_ml.evaluation.compare import compare
from fashion_ml.evaluation.image_pairs import evaluate_images
from fashion_ml.evaluation.lora_file import evaluate_lora
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline
import fashion_ml.evaluation.stargan
from tests.runs.blank_figures import draw_nothing

draw_nothing()
few = {"num_inference_steps": 1, "resamples": 20, "max_references": 2, "images_per_reference": 1, "extra_metrics": ["kid", "memorisation"]}
for name, seed in (("a", 1), ("b", 2)):
    base, spec = load_pipeline("embedded"), LoraSpec(rank=2, alpha=2)
    add_lora(base.unet, base.text_encoder, spec, seed=seed)
    save_lora(Path(f"{name}.safetensors"), lora_tensors(base.unet, base.text_encoder, spec), {"ss_resolution": "(64, 64)"})
first = evaluate_lora("a.safetensors", references="references", training="train", **few)
second = evaluate_lora("b.safetensors", references="references", training="train", folder="second", **few)
images = evaluate_images("generated", "references", folder="images", resamples=20, encoder="embedded")
found = compare(first, "second")
print(json.dumps({
    "sizes": first.facts["sizes"],
    "lora": first.to_dict(),
    "rows": len(first.table),
    "columns": list(first.table.columns),
    "images": images.to_dict(),
    "pairs": images.table["name"].tolist(),
    "differences": [entry.metric for entry in found.differences],
    "sentence": found.sentence,
    "noted": found.noted,
    "same": compare(first, "outputs/evaluations/a").sentence,
    "loaded": sorted(name for name in sys.modules if name.startswith("fashion_ml.tracking")),
}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """References with captions, a training folder, and images "made elsewhere" of another size."""
    folder = tmp_path_factory.mktemp("measured")
    for name, seed in (("references", 1), ("train/1_x", 2), ("generated", 1)):
        (folder / name).mkdir(parents=True)
        for number, garment in enumerate(sample_garments(3, seed=seed)):
            picture = render(garment, 64)
            picture = picture.resize((48, 48)) if name == "generated" else picture
            picture.save(folder / name / f"look_{number}.png")
            (folder / name / f"look_{number}.txt").write_text(garment.caption(), encoding="utf-8")
    return folder


def test_a_notebook_measures_and_compares_where_importing_mlflow_raises(place: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    refused = subprocess.run([sys.executable, "-c", f"{NO_MLFLOW}\nimport mlflow"], capture_output=True, text=True, check=False)
    assert "mlflow is not there" in refused.stderr
    done = subprocess.run(
        [sys.executable, "-c", NO_MLFLOW + SCRIPT], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["loaded"] == []
    assert told["sizes"] == ["64x64"]  # from the file's metadata
    assert told["rows"] == 2
    assert {"seed", "ssim", "base_ssim", "nearest_training_image", "weighted_total_loss"} <= set(told["columns"])
    assert told["lora"]["references_seen_in_training"] is False
    assert "run_id" not in told["lora"]
    assert set(told["lora"]["kid"]) == {"kid", "base_kid", "gain_kid"}
    assert all("it is the embedded one, made for the drawings" in told[one]["sentence"] for one in ("lora", "images"))
    assert told["noted"][0].startswith("first: the embedded encoder is a toy that knows drawings of 64 pixels; data.train")
    assert told["pairs"] == ["look_0", "look_1", "look_2"]
    assert told["images"]["aggregates"]["ssim"]["mean"] > 0.5
    assert {"ssim", "weighted_total_loss"} <= set(told["differences"])
    assert told["sentence"].startswith("This file has weighted_total_loss ")
    assert (
        "gain +0.0000 [N/A]: no verdict: the encoder cannot read these pictures: it is the embedded one" in told["same"]
    )  # the folder holds what the result holds
    written = {path.name for path in (place / "images").iterdir()}
    assert {"report.html", "grid.png", "best_worst.png", "per_image.csv", "fingerprint.json", "histogram_ssim.png"} <= written
    assert (place / "outputs" / "evaluations" / "a" / "memorisation.png").is_file()


def test_results_that_were_measured_differently_are_refused_by_what_differs(place: Path, tmp_path: Path):
    settings = {"without": ["fashion_clip"], "extra_metrics": [], "resamples": 20}
    one = evaluate_images(place / "generated", place / "references", folder=tmp_path / "one", **settings)
    other = evaluate_images(place / "generated", place / "references", **{**settings, "resamples": 30})
    with pytest.raises(InputError, match="first and second were measured differently; resamples: 20, 30"):
        compare(one, other)
    same = compare(tmp_path / "one", one)
    assert isinstance(same.table, pd.DataFrame)
    assert same.table["verdict"].unique().tolist() == [""]  # fewer than 6 references
    assert same.to_dict()["compared"]["second"]["ssim"]["gain"]["mean"] == 0
    with pytest.raises(InputError, match="is no evaluation's folder"):
        compare(one, tmp_path)


def test_the_toy_encoder_measures_own_images_only_for_those_who_name_it(place: Path, caplog: pytest.LogCaptureFixture):
    refused = (
        r"^evaluation\.encoder: embedded is a toy that knows drawings of 64 pixels, and the references are .*; give encoder="
    )
    with pytest.raises(InputError, match=refused) as caught:
        evaluate_images(place / "generated", place / "references")
    assert "--" not in str(caught.value)
    assert 'without=["fashion_clip"]' in str(caught.value)
    made = evaluate_images(place / "generated", place / "references", encoder="embedded", extra_metrics=[], resamples=20)
    assert len([line for line in caplog.messages if "say nothing of photos" in line]) == 1
    assert "toy_encoder" in made.facts
    without = evaluate_images(place / "generated", place / "references", without="fashion_clip", extra_metrics=[], resamples=20)
    assert "toy_encoder" not in without.facts


def test_a_setting_that_there_is_not_and_a_file_that_there_is_not_are_one_line_each(place: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"evaluation\.extra_metrics\.0: 'nonsense' is not accepted"):
        evaluate_images(place / "generated", place / "references", extra_metrics=["nonsense"])
    with pytest.raises(InputError, match=r"evaluation\.seed: is not among these settings; evaluate_images takes encoder, "):
        evaluate_images(place / "generated", place / "references", seed=1)
    with pytest.raises(InputError, match=r"^generated: .*nowhere' is no folder"):
        evaluate_images(tmp_path / "nowhere", place / "references")
    with pytest.raises(InputError, match="first is the outcome of a training without evaluation"):
        compare(None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="first is a int"):
        compare(5, tmp_path)  # type: ignore[arg-type]
    (tmp_path / "bad.safetensors").write_bytes(b"no LoRA at all")
    with pytest.raises(InputError, match=r"lora: .*bad\.safetensors' cannot be read"):
        evaluate_lora(tmp_path / "bad.safetensors")
    taken = tmp_path / "bad.safetensors"
    with pytest.raises(InputError, match=r"^folder: .*bad\.safetensors' is a file"):
        evaluate_images(place / "generated", place / "references", folder=taken)
    with pytest.raises(InputError, match=r"^folder: .*bad\.safetensors' is a file"):
        evaluate_lora(taken, folder=taken)


MODULE = "lora_unet_down_blocks_0_resnets_0_conv1"


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({f"{MODULE}.lora_down.weight": torch.zeros(2, 4)}, "holds only down of the module of .*no whole LoRA"),
        ({"unet.conv_in.weight": torch.zeros(2, 4)}, "is no LoRA but a base model"),
        ({f"{MODULE}.dora_scale": torch.zeros(4)}, "holds only dora_scale of the module of "),
        ({"lora_unet_foo.lora_down.weight": torch.zeros(2, 4)}, "has names of which this base has none"),
    ],
    ids=["half a LoRA", "something else", "half a DoRA", "names of no base"],
)
def test_a_file_that_holds_no_whole_lora_is_one_line(tensors: dict[str, torch.Tensor], why: str, tmp_path: Path):
    path = tmp_path / "some.safetensors"
    save_file(tensors, path, {"ss_enable_bucket": "True", "ss_min_bucket_reso": "None", "ss_max_bucket_reso": "None"})
    with pytest.raises(InputError, match=rf"^lora: .*some\.safetensors' {why}"):
        evaluate_lora(path)


def test_files_that_are_not_those_of_an_evaluation_are_one_line(tmp_path: Path):
    table, facts = "reference,seed,ssim\na,0,0.5\n", '{"fingerprint": "x"}'
    wrong = [
        (table, "[]", "it holds a list, not a mapping"),
        (table, "{", "is no evaluation's folder"),
        ("image,ssim\na,0.5\n", facts, "has no column reference"),
        ("reference,ssim\na,good\n", facts, "has text among the numbers of ssim"),
    ]
    for number, (scores, fingerprint, why) in enumerate(wrong):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "per_image.csv").write_text(scores)
        (folder / "fingerprint.json").write_text(fingerprint)
        with pytest.raises(InputError, match=f"second .*{why}"):
            compare(_evaluated(table), folder)
    for resamples in (-1, 0, "5"):
        with pytest.raises(InputError, match=f"resamples: {resamples!r} is not accepted"):
            compare(_evaluated(table), _evaluated(table), resamples=resamples)  # type: ignore[arg-type]


def _evaluated(table: str) -> Evaluated:
    return Evaluated("one", "one", {"fingerprint": "x", "resamples": None}, pd.read_csv(io.StringIO(table)))


def test_a_lora_that_is_no_file_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"lora: .*none\.safetensors' is no file"):
        evaluate_lora(tmp_path / "none.safetensors")
