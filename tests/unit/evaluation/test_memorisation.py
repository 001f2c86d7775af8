"""How near pictures are to training images, beside how near real pictures are that were never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.memorisation import draw_nearest, measure_memorisation


def at(*cosines: float) -> torch.Tensor:
    """Pictures whose cosine with the first of two training images is this, and with the second 0 in a third direction."""
    return torch.tensor([[cosine, 0.0, (1 - cosine**2) ** 0.5] for cosine in cosines])


TRAINING = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_memorised_is_the_share_above_the_95th_percentile_of_the_held_out_references():
    """References at 0.1 … 0.8 and one copy, which is not held out: their 95th percentile is 0.765, and one of four images is nearer."""
    references = at(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    tables = {"LoRA": pd.DataFrame(index=range(4)), "base": pd.DataFrame(index=range(2))}
    embeddings = {"LoRA": at(0.76, 0.77, 0.1, 0.2), "base": at(0.3, 0.2)}
    found, places = measure_memorisation(tables, embeddings, TRAINING, references, [True] * 8 + [False])
    assert found.limit == pytest.approx(np.percentile([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 95), abs=1e-6)
    assert tables["LoRA"]["nearest_training_similarity"].tolist() == pytest.approx([0.76, 0.77, 0.1, 0.2], abs=1e-6)
    assert tables["LoRA"]["memorised"].tolist() == [0, 1, 0, 0]
    assert tables["base"]["memorised"].tolist() == [0, 0]
    assert places == [0, 0, 0, 0]
    assert found.named() == pytest.approx(
        {"reference_nearest_training_similarity": 0.45, "reference_nearest_training_similarity_p95": 0.765}, abs=1e-6
    )
    assert found.to_dict()["held_out"] == 8


def test_of_few_held_out_references_there_is_no_percentile_and_it_is_said():
    tables = {"LoRA": pd.DataFrame(index=range(1))}
    found, _ = measure_memorisation(tables, {"LoRA": at(0.9)}, TRAINING, at(0.1, 0.2), [True, True])
    assert (found.limit, "memorised" in tables["LoRA"]) == (None, False)
    assert found.to_dict()["absent"] == "2 references are held out, fewer than 6"
    assert measure_memorisation(tables, {"LoRA": at(0.9)}, TRAINING, at(1.0), [False])[0].named() == {}


def test_six_held_out_references_have_a_percentile():
    """Of 0.1 … 0.6: at 4.75 steps of 0.1 above the first, 0.575."""
    tables = {"LoRA": pd.DataFrame(index=range(2))}
    found, _ = measure_memorisation(
        tables, {"LoRA": at(0.57, 0.58)}, TRAINING, at(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9), [True] * 6 + [False]
    )
    assert found.limit == pytest.approx(0.575)
    assert tables["LoRA"]["memorised"].tolist() == [0, 1]


def test_the_figure_shows_the_four_pictures_that_are_nearest(tmp_path: Path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "t.png")
    shown: list[int] = []

    def made(index: int) -> Image.Image:
        shown.append(index)
        return Image.new("RGB", (8, 8), "blue")

    trained = [CaptionedImage(tmp_path / "t.png", "", "t.png")] * 6
    draw_nearest([0.2, 0.9, 0.1, 0.8, 0.7, 0.3], trained, made, "LoRA", tmp_path / "nearest.png")
    assert shown == [1, 3, 4, 5]
    assert (tmp_path / "nearest.png").is_file()
