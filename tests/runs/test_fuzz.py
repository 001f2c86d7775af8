"""Two hundred inputs that nobody checked: each is taken, or refused in a line; `make fuzz` tries thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.guard import Outcome, guarded
from tests.fuzz.subjects import Subject

FOUND = {"encoding 42", "spool 49", "spool 103", "outbox 46", "prompts.yaml 69", "prompts.yaml 95"}
"""What was a traceback, or a message of 100,000 letters, when it was tried first."""
CASES = [*run.plan(206, 0), *(case for case in run.plan(2400, 0) if f"{case[0].name} {case[1]}" in FOUND)]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    run.load_all()


@pytest.mark.parametrize(("subject", "number"), CASES, ids=[f"{subject.name} {number}" for subject, number in CASES])
def test_it_is_taken_or_refused_in_a_line(subject: Subject, number: int, tmp_path: Path):
    outcome = run.tried(subject, number, tmp_path)
    assert not outcome.is_fault, f"{outcome.kind}: {outcome.text}"


def test_whole_files_are_taken(tmp_path: Path):
    """Else every case would be refused for a reason of its own."""
    for subject in run.subjects():
        folder = tmp_path / subject.name
        for name, content in subject.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        outcome = guarded(subject.act, folder)
        assert outcome.kind == "taken", f"{subject.name}: {outcome.text}"


def test_the_guard_sees_every_kind_of_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import os
    import socket
    import subprocess
    import sys
    import time

    monkeypatch.setattr("tests.fuzz.guard.SECONDS", 1)
    home = tmp_path / "home"
    home.mkdir()
    outside = tmp_path / "outside"

    def kind(act) -> str:
        found: Outcome = guarded(act, home)
        return found.kind

    assert kind(lambda: None) == "taken"
    assert kind(lambda: {}["a"]) == "traceback"
    assert kind(lambda: sys.exit(3)) == "code"
    monkeypatch.setattr("sys.argv", ["fashion-ml", "inspect", "a"])
    assert kind(lambda: sys.exit(1)) == "code"
    monkeypatch.setattr("sys.argv", ["fashion-ml", "sync", "a"])
    assert kind(lambda: sys.exit(1)) == "taken"
    assert kind(lambda: time.sleep(5)) == "hang"
    assert kind(lambda: bytearray(5 << 30)) == "memory"
    assert kind(lambda: subprocess.run(["true"], check=False)) == "process"
    assert kind(lambda: outside.write_text("x", encoding="utf-8")) == "outside"
    assert not outside.exists()  # the guard keeps what lies outside
    assert kind(lambda: Path("/dev/null").write_text("x", encoding="utf-8")) == "taken"
    inside = home / "inside"
    assert kind(lambda: (inside.write_text("x", encoding="utf-8"), inside.replace("/dev/nothing"))) == "outside"
    assert inside.exists()
    assert not Path("/dev/nothing").exists()
    (home / "link").symlink_to("/dev/zero")
    assert kind(lambda: Path("link").replace("moved")) == "taken"
    assert kind(lambda: os.kill(os.getpid(), 11)) == "crash"
    assert kind(lambda: socket.create_connection(("127.0.0.1", 9), 1)) == "network"
    assert kind(lambda: Path("inside").write_text("x", encoding="utf-8")) == "taken"


def test_a_run_that_tried_too_few_inputs_has_failed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(run, "load_all", lambda: None)
    for minutes, code in (("0", 1), ("1", 0)):
        monkeypatch.setattr("sys.argv", ["run", "--only", "pairs.csv", "--cases", "2", "--minutes", minutes])
        assert run.main() == code
    said = capfd.readouterr().out
    assert said.count("TOO FEW: 0 of 2 inputs were tried, 2 are the least; give --minutes more") == 1
