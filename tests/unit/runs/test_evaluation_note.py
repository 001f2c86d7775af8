from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from safetensors.torch import save

from fashion_ml.runs.evaluation_note import key_of

SAID = {"format": "pt", "stargan": "{}", "step": "4"}


def written(path: Path, said: dict[str, str], value: float = 1.0, name: str = "a") -> Path:
    """A file of one tensor whose header has `said` in this order: safetensors has one of its own each time."""
    content = save({name: torch.full((2, 3), value)}, said)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + length]) | {"__metadata__": said}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    return path


def test_a_file_that_is_written_again_in_another_order_is_the_same(tmp_path: Path):
    first, again = written(tmp_path / "a", SAID), written(tmp_path / "b", dict(reversed(SAID.items())))
    assert first.read_bytes() != again.read_bytes()
    assert key_of(first, "seed 3") == key_of(again, "seed 3")


def test_other_weights_names_facts_and_settings_are_others(tmp_path: Path):
    files = [
        written(tmp_path / "a", SAID),
        written(tmp_path / "b", SAID, 2.0),
        written(tmp_path / "c", SAID, name="b"),
        written(tmp_path / "d", SAID | {"step": "5"}),
    ]
    assert len({key_of(file, "seed 3") for file in files} | {key_of(files[0], "seed 4")}) == 5
