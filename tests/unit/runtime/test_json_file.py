"""JSON and YAML that others may have written: one kind of error, and no path that leads out of a folder."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fashion_ml.data.encode_latents import _earlier
from fashion_ml.data.latents import read_latents
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.json_file import below, of_its_shape, parsed, read_mapping
from fashion_ml.runtime.yaml_file import parsed as parsed_yaml
from fashion_ml.runtime.yaml_file import read_mapping as read_yaml_mapping

BROKEN = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 6000,
    b"3",
    b"null",
    b"[1]",
    b'"text"',
    b"\x89PNG\r\n",
]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:8]))
def test_what_holds_no_mapping_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    for read in (read_mapping, read_yaml_mapping):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "a", "report", "evaluate again")
        (line,) = caught.value.problems
        assert line.startswith("report: ")
        assert len(line) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    "kind", [KeyError, AttributeError, TypeError, IndexError, OverflowError, RecursionError, OSError, ValueError]
)
def test_a_fault_in_its_shape_is_one_line_that_names_the_file(tmp_path: Path, kind: type[Exception]):
    wanted = r"^report: '.*a\.json' is damaged \(.+\); evaluate again$"
    with pytest.raises(InputError, match=wanted), of_its_shape("report", tmp_path / "a.json", "evaluate again"):
        raise kind("text")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a/..", "", "a\0b", None, 3, ["x"]])
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: object):
    with pytest.raises(ValueError, match="not below the folder"):
        below(tmp_path, name)
    assert below(tmp_path, "a/b.pt") == tmp_path / "a" / "b.pt"


def test_a_packed_index_reads_nothing_outside_its_folder(tmp_path: Path):
    folder = tmp_path / "latents"
    (folder / "packed").mkdir(parents=True)
    (tmp_path / "secret.safetensors").write_bytes(b"")
    entry = {"files": ["a"], "shards": [["../../secret.safetensors", 1]], "sha256": "0"}
    (folder / "packed" / "packed.json").write_text(json.dumps({"domains": {"dress": entry}}), encoding="utf-8")
    (folder / "packed.json").write_text(json.dumps({"domains": {"dress": entry}}), encoding="utf-8")
    with pytest.raises(InputError, match="is not below the folder"):
        read_latents(folder)


def test_an_encoding_removes_nothing_outside_its_folder(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    facts = {"vae_sha256": "0", "size": 64, "device": ""}
    (out / "manifest.json").write_text(json.dumps({**facts, "files": {"dress/../../victim": {}}}), encoding="utf-8")
    with pytest.raises(InputError, match="is not below the folder"):
        _earlier(out, dict(facts))


def test_deep_json_and_yaml_that_holds_itself_are_errors():
    with pytest.raises(ValueError, match="too deep"):
        parsed("[" * 100_000)
    for text in ("a: &a [*a]", "a: &a {b: *a}"):
        with pytest.raises(Exception, match="holds itself"):
            parsed_yaml(text)
    assert parsed_yaml("a: &a [1]\nb: *a\nc: {<<: {x: 1}, x: 2}") == {"a": [1], "b": [1], "c": {"x": 2}}


def test_a_file_is_its_owners_alone_until_it_is_whole(tmp_path: Path):
    (tmp_path / "plain").write_text("", encoding="utf-8")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x", encoding="utf-8")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
