from __future__ import annotations

import os
from pathlib import Path

import pytest

from fashion_ml.runtime.printable import composed, is_printable, printable, shown, storable


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"look_01.png", "look_01.png"),
        ("洋裝.png".encode(), "洋裝.png"),
        ("洋裝.png".encode("cp950"), "~ACv~B8~CB.png"),  # AC 76 B8 CB, and 76 is v
        ("robe\xe9.png".encode("latin-1"), "robe~E9.png"),
        (b"100%~.png", "100%~.png"),
    ],
)
def test_only_bytes_that_are_not_utf8_are_written_as_numbers(raw: bytes, text: str):
    name = os.fsdecode(raw)
    assert printable(name) == text
    assert is_printable(name) == (name == text)
    printable(name).encode()


def test_a_terminal_obeys_nothing_that_is_in_a_name():
    said = shown("2_a\x1b[31mb\x1b]0;title\x07\r\x9b2J\u202egnp.exe\x7f: 24 images\n\tclass 洋裝")
    assert said == "2_a\\x1b[31mb\\x1b]0;title\\x07\\r\\x9b2J\\u202egnp.exe\\x7f: 24 images\n\tclass 洋裝"


def test_names_come_back_from_mlflows_store(tmp_path: Path):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'store.db'}")
    run = client.create_run(client.create_experiment("names", artifact_location=str(tmp_path / "store"))).info.run_id
    for name in ("x/a.png", "50%_off/a%20b.png", "1_x/a#1.png", "why?/a?.png", " a/ b.png", "x/a 衣.png", "x/a\\b.png"):
        path = tmp_path / storable(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
        folder = f"images/{path.parent.relative_to(tmp_path).as_posix()}"
        client.log_artifact(run, str(path), folder)
        got = client.download_artifacts(run, f"{folder}/{path.name}", str(tmp_path))
        assert Path(got).read_text(encoding="utf-8") == name
    assert storable("10_dress/a b~.png") == "10_dress/a b~.png"


def test_an_accent_is_one_character_whichever_way_it_was_spelt():
    assert composed("e\u0301.png") == composed("\xe9.png") == "\xe9.png"
