"""Networks, optimisers and losses that tests/unit/training/test_killed.py leaves to this: killed, gone on with bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.training.setup import write_images
from tests.unit.training.test_killed import KINDS, USUAL_KINDS, check_killed


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in USUAL_KINDS])
def test_what_is_killed_goes_on_bit_for_bit_and_its_file_is_what_was_trained(tmp_path: Path, kind: str):
    write_images(tmp_path / "images", count=3, repeats=1)
    check_killed(tmp_path / "images", tmp_path, kind)
