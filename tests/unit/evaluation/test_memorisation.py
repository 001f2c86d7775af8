"""How near pictures are to training images, beside how near real pictures are that were never trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from fashion_ml.evaluation.memorisation import measure_memorisation


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
