"""What goes in is said before it is used: `train lora`, `data`, `split`, `encode` and `evaluate images` on folders as people have them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from tests.runs.command import Command, fashion_ml
from tests.unit.data.folders import CP950, picture

NAME = os.fsdecode(CP950)
EMBEDDED = ["--config", "experiments/lora/embedded.yaml", "--steps", "1", "--rank", "2", "--no-evaluate"]
CLEAN = "~ACv~B8~CB"
"""What the name is where only UTF-8 is taken."""


def captioned(path: Path, caption: str = "a dress") -> Path:
    picture(path, (64, 64)).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.fixture
def messy(workdir: Path) -> Path:
    """A training folder with one thing of every kind that people report."""
    folder = workdir / "train"
    captioned(folder / "2_x" / "a.png", "a red dress, " * 30)
    captioned(folder / "2_x" / f"{NAME}.png", "a white dress")
    captioned(folder / "2_x" / f"{unicodedata.normalize('NFC', 'é')}.png").with_suffix(".txt").rename(
        folder / "2_x" / f"{unicodedata.normalize('NFD', 'é')}.txt"
    )
    picture(folder / "2_x" / "b.jpg", (64, 64)).with_name("b.jpg.txt").write_text("a blue dress", encoding="utf-8")
    picture(folder / "2_x" / "summer" / "n.png")
    picture(folder / "skirts" / "s.png")
    picture(folder / "loose.png")
    (folder / "2_x" / "c.heiff").write_bytes(b"x")
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = fashion_ml(*arguments, cwd=folder, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


EVERYTHING = (
    "4 images (8 an epoch) in 1 folder, 3 with a caption file",
    "1 image in folders inside another one, not looked into: 2_x/summer/ (1 image)",
    "1 image in folders whose name is not N_class, left out: skirts/ (1 image)",
    "1 image in no N_class folder, left out: loose.png",
    "1 file of other endings, not read: 2_x/*.heiff",
    "1 image without a caption file, trained on the class: 2_x/b.jpg (b.jpg.txt beside it)",
)


def test_a_training_says_it_all_and_keeps_it_with_its_run(workdir: Path, messy: Path):
    code, said = run(workdir, "train", "lora", *EMBEDDED, "--train-data-dir", "train", "--output-dir", "out")
    assert code == 0, said
    assert [line for line in EVERYTHING if line not in said] == []
    assert "1 caption longer than the model reads, cut: 2_x/a.png (" in said
    assert all(said.count(line) == 1 for line in EVERYTHING)
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (done,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {item.path for item in client.list_artifacts(done.info.run_id, "data")} == {
        "data/summary.json",
        "data/contact_sheet.png",
    }
    facts = json.loads(Path(client.download_artifacts(done.info.run_id, "data/summary.json", str(workdir))).read_text("utf-8"))
    assert facts["training"]["noticed"]["captions_missing"]["files"] == [{"name": "2_x/b.jpg", "detail": "b.jpg.txt beside it"}]
    assert facts["training"]["images"] == 4


def test_data_says_it_alone_draws_a_contact_sheet_and_writes_json(workdir: Path, messy: Path, collection: Path):
    code, said = run(workdir, "data", "train", "--resolution", "64", "--json", "facts.json")
    assert code == 0, said
    assert [line for line in EVERYTHING if line not in said] == []
    assert "Contact sheet: contact_sheet_train.png" in said
    assert (workdir / "contact_sheet_train.png").stat().st_size > 1000
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    assert facts["training"]["noticed"]["unnumbered_folders"]["count"] == 1
    assert f"2_x/{CLEAN}.png" not in str(facts["training"]["noticed"])
    assert [path.name for path in (workdir / "outputs").iterdir()] == [collection.name]  # as it was before


def test_data_looks_at_references_and_at_what_an_experiment_reads(workdir: Path, messy: Path):
    captioned(workdir / "held" / "r.png")
    picture(workdir / "held" / "none.png")
    code, said = run(workdir, "data", "held", "--references", "--contact-sheet", "sheet.png")
    assert (code, (workdir / "sheet.png").is_file()) == (0, True), said
    assert "1 image without a caption, left out: none.png" in said
    text = "name: x\ndata: {train_data_dir: train, reg_data_dir: train}\nevaluation: {references: held}\n"
    (workdir / "own.yaml").write_text(text, encoding="utf-8")
    code, said = run(workdir, "data", "--config", "own.yaml")
    assert code == 0, said
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("Data, ")] == [
        "Data, training",
        "Data, prior",
        "Data, references",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "none"], "DIR: 'none' does not exist"),
        (["data"], "DIR: is not given"),
        (["data", "train/1_x"], "it is one itself, so give the folder that it lies in, '"),
        (["data", "train", "--contact-sheet", "flat"], "--contact-sheet: 'flat' cannot be written; give a file"),
        (["data", "train", "--contact-sheet", "none/a.png"], "--contact-sheet: 'none/a.png' cannot be written; give a file"),
        (["data", "flat/a.png"], "DIR: 'flat/a.png' is a file; give the path of a folder"),
        (["data", "train", "--caption_extension", "txt"], "data.caption_extension: 'txt' is not accepted"),
        (["data", "train", "--json", "none/x.json"], "--json: 'none/x.json' cannot be written"),
        (["split", "train", "--references", "0"], "--references: 0 is not accepted; give how many to take, at least 1"),
        (["split", "train", "--references", "1"], "--references: 1, but of 1 images at most 0 can be taken out"),
        (["split", "train", "--out", "flat"], "already holds something; give a new folder"),
        (["data", "flat"], "DIR: 'flat' holds no folder named N_class"),
        (["data", "none", "--references"], "DIR: 'none' does not exist"),
        (["data", "flat", "--resolution", "0"], "data.resolution: '0' is not accepted"),
        (["data", NAME], "'\\udcacv\\udcb8\\udccb' is not UTF-8; rename that file or folder"),
        (["split", "none"], "DIR: 'none' does not exist"),
        (["split", "flat"], "DIR: 'flat' holds no folder named N_class"),
        (["split", "flat", "--references", "many"], "--references: 'many' is not accepted; give a whole number"),
        (["encode", "flat", "out"], "1 file in no folder of a domain, left out: a.png"),
        (
            ["evaluate", "images", "--generated", "heic", "--reference", "flat"],
            "image that nothing installed reads, left out: heic/",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(refused: Command, workdir: Path, arguments: list[str], said: str):
    captioned(workdir / "flat" / "a.png")
    captioned(workdir / "train" / "1_x" / "a.png")
    (workdir / "heic").mkdir()
    (workdir / "heic" / "a.jxl").write_bytes(b"x")
    (line,) = refused(*arguments)
    assert said in line


def test_split_makes_folders_that_a_training_and_its_evaluation_take(workdir: Path):
    for index in range(12):
        captioned(workdir / "train" / "1_x" / f"{index}.png", f"a dress {index}")
    code, said = run(workdir, "split", "train", "--references", "3", "--dry-run")
    assert (code, (workdir / "train_split").exists()) == (0, False), said
    assert "Nothing was written" in said
    code, said = run(workdir, "split", "train", "--references", "3", "--json", "facts.json")
    assert code == 0, said
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    assert len(facts["chosen"]) == 3
    folders = ["--train-data-dir", facts["train_data_dir"], "--references", facts["references"]]
    code, said = run(workdir, "train", "lora", *EMBEDDED, *folders)
    assert code == 0, said
    assert "references that look like training images" not in said


def test_encode_names_what_it_leaves_out_and_takes_names_that_are_not_utf8(workdir: Path):
    for domain in ("plain", f"red{NAME}"):
        for index in range(2):
            picture(workdir / "images" / domain / f"{index}.png", (64, 64), seed=index)
        picture(workdir / "images" / domain / f"{NAME}.png", (64, 64), seed=len(domain))
    picture(workdir / "images" / "plain" / "more" / "n.png")
    picture(workdir / "images" / "loose.png")
    code, said = run(workdir, "encode", "images", "latents")
    assert code == 0, said
    assert "Data, domains: images: 6 images in 2 folders" in said
    assert "1 image in folders inside another one, not looked into: plain/more/ (1 image)" in said
    assert "1 file in no folder of a domain, left out: loose.png" in said
    assert (workdir / "latents" / f"red{CLEAN}" / f"{CLEAN}.pt").is_file()
    torch.save(torch.zeros(4, 16, 16), workdir / "latents" / "loose.pt")
    tiny = ["--base_dim", "4", "--n_res_blocks", "1", "--epochs", "1", "--epoch_size", "4", "--batch_size", "4"]
    code, said = run(workdir, "train", "stargan", "--latents-dir", "latents", *tiny, "--no-evaluate", "--output-dir", "out")
    assert code == 0, said
    assert f"6 latents of 4 x 16 x 16 in 2 domains: plain 3, red{CLEAN} 3" in said
    assert "1 file in no folder of a domain, left out: loose.pt" in said
    facts = json.loads((workdir / "out" / "data_summary" / "summary.json").read_text(encoding="utf-8"))
    assert facts["latents"] == {"plain": 3, f"red{CLEAN}": 3}


def test_evaluate_images_pairs_names_of_any_spelling_and_names_what_it_leaves_out(workdir: Path):
    for folder, form in (("made", "NFC"), ("held", "NFD")):
        for name in (unicodedata.normalize(form, "é"), NAME, "plain"):
            picture(workdir / folder / f"{name}.png", (64, 64), seed=len(name))
    (workdir / "made" / "x.psd").write_bytes(b"x")
    options = ["--generated", "made", "--reference", "held", "--encoder", "embedded", "--json", "facts.json"]
    code, said = run(workdir, "evaluate", "images", *options)
    assert code == 0, said
    assert "1 file of other endings, not read: made/*.psd" in said
    facts = json.loads((workdir / "facts.json").read_text(encoding="utf-8"))
    assert [pair["name"] for pair in facts["pairs"]][-1] in (CLEAN, "é", "é")
    assert len(facts["pairs"]) == 3
    assert facts["left_out"] == {"unknown_endings": ["made/*.psd (1)"]}
