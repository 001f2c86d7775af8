from __future__ import annotations

import json
from pathlib import Path

from fashion_ml.runs import doctor
from fashion_ml.runs.doctor import examine
from tests.runs.command import Finished, fashion_ml


def test_doctor_finds_a_sound_installation_and_writes_the_same_to_json(finished: Finished):
    result = fashion_ml("doctor", "--json", "doctor.json", cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stdout
    facts = json.loads((finished.folder / "doctor.json").read_text(encoding="utf-8"))
    assert facts["ok"] is True
    assert [finding["name"] for finding in facts["findings"]] == [line[6:22].strip() for line in result.stdout.splitlines()]
    assert "mlflow.db" in result.stdout


def test_missing_model_files_are_wrong_and_say_how_to_mend_it(workdir: Path, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(doctor, "EMBEDDED_DIR", workdir / "none")
    (finding,) = [finding for finding in examine() if finding.name == "model files"]
    assert finding.state == "wrong"
    assert "unet" in finding.found
    assert finding.fix == "check out the repository again"
