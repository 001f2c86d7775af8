"""Wrong inputs over all commands: one line that names what is wrong and the fix, exit code 2, no traceback, no run, nothing left."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.embedded import domains
from tests.runs.command import Command
from tests.runs.test_suite import SPEC as SUITE
from tests.runs.test_sweep import SPEC

NO_RUN = "0" * 32
DRAWN = "outputs/embedded_"
"""What the package draws for any command that asks for it, and keeps."""
TABLE = dict(
    line.split(" | ") for line in Path(__file__).with_name("wrong_inputs.txt").read_text(encoding="utf-8").splitlines()
)
"""Command, and how its line of error begins."""


@pytest.fixture
def prepared(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with things that are not what they should be."""
    monkeypatch.setattr(domains, "PICTURES", 4)  # of 240: drawing and encoding those takes half a minute
    texts = {
        "broken.yaml": "a: [b\nc: d",
        "twice_key.yaml": "network:\n  rank: 2\n  rank: 4\n",
        "bomb.yaml": "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefgh")),
        "deep.yaml": "[" * 1000,
        "digits.yaml": f"network:\n  rank: {'9' * 5000}\n",
        "month.yaml": "name: 2024-13-45\n",
        "list.yaml": "- 1\n- 2\n",
        "text.txt": "some text\n",
        "text.safetensors": "some text\n",
        "good.yaml": yaml.safe_dump(SPEC),
        "self.toml": 'config_file = "self"\n',
        "inf.toml": "[train]\nsave_last_n_epochs = inf\n",
        "sets.toml": "[[datasets]]\nsubsets = 3\n",
        "data.toml": '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "set/1_x"\n',
        "broken.toml": "[train\n",
        "twofew.yaml": yaml.safe_dump({**SPEC, "confirm": {"best": 1, "seeds": [5]}}),
        "seconds.yaml": yaml.safe_dump({**SPEC, "objectives": [{"metric": "training_seconds"}]}),
        "metric.yaml": yaml.safe_dump({**SPEC, "objectives": [{"metric": "beauty"}], "confirm": {"best": 0}}),
    }
    first = {"rank 2": {"settings": {"rank": 2}}}
    suites = {
        "suite.yaml": {},
        "seeds.yaml": {"seeds": [0, 1]},
        "baseline.yaml": {"baseline": "none"},
        "kid.yaml": {"metric": "kid"},
        "twice.yaml": {"recipes": {**first, "fast": {"settings": {"network.rank": 2}}}},
        "seeded.yaml": {"recipes": {**first, "fast": {"settings": {"seed": 4}}}},
        "measured.yaml": {"recipes": {**first, "fast": {"settings": {"rank": 4, "evaluation.seed": 5}}}},
    }
    texts |= {name: yaml.safe_dump({**SUITE, **changes}, sort_keys=False) for name, changes in suites.items()}
    for name, text in texts.items():
        (workdir / name).write_text(text, encoding="utf-8")
    (workdir / "latin.yaml").write_bytes("name: caf\xe9\n".encode("latin-1"))
    (workdir / "empty").mkdir()
    for name, size in (("pictures/a/x", 64), ("pictures/b/y", 64), ("set/1_x/x", 64)):
        path = workdir / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (size, size), "red").save(path)
    (workdir / "dated" / "20240115_dress").mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(workdir / "dated" / "20240115_dress" / "x.png")
    (workdir / "postscript" / "1_look").mkdir(parents=True)
    (workdir / "postscript" / "1_look" / "look.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (workdir / "damaged").mkdir()
    (workdir / "damaged" / "run.json").write_text('{"run_id": ', encoding="utf-8")
    return workdir


@pytest.mark.parametrize("command", TABLE)
def test_a_wrong_input_is_one_line(refused: Command, prepared: Path, command: str):
    before = {path.relative_to(prepared) for path in prepared.rglob("*")}
    words = ["" if word == "''" else word.replace("NO_RUN", NO_RUN) for word in command.split()]
    lines = refused(*words)
    assert len(lines) == 1
    line = lines[0].removeprefix("error: ")
    assert line.startswith(TABLE[command].strip().replace("NO_RUN", NO_RUN))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    assert not client.search_runs([one.experiment_id for one in client.search_experiments()])
    made = {path.relative_to(prepared) for path in prepared.rglob("*")} - before
    assert not {path for path in made if path.suffix != ".lock" and not str(path).startswith(DRAWN)} - {Path("outputs")}
