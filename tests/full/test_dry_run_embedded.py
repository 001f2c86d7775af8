"""A dry run of the StarGAN experiment as it is shipped: its images are drawn and encoded in passing, so not in the ordinary suite."""

from __future__ import annotations

from pathlib import Path

from tests.runs.test_dry_run import dry


def test_the_embedded_latents_are_made_in_a_folder_that_goes_away(tmp_path: Path):
    code, said, facts = dry(tmp_path, "stargan", "--epochs", "4", "--grid-every-n-epochs", "2")
    assert code == 0, said
    assert facts["steps"] == 4 * facts["steps_per_epoch"]
    assert facts["measured"]["grids"] == 3
    assert facts["data"]["latents"] == {"dotted": 240, "plain": 240, "striped": 240}
    assert 0 < facts["memory"]["peak_gib"] < 2
