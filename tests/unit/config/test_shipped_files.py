from pathlib import Path

import pytest

from fashion_ml.config import load_config, load_sweep, shipped_files
from fashion_ml.errors import InputError

SWEEP, EMBEDDED = "sweeps/lora_rank_lr.yaml", "experiments/lora/embedded.yaml"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A venv's layout; returns the folder of what came with the package. The working folder is empty."""
    package = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "fashion_ml"
    share = tmp_path / "venv" / "share" / "fashion-ml"
    for name in (SWEEP, EMBEDDED):
        (share / name).parent.mkdir(parents=True)
        (share / name).write_bytes((Path(shipped_files.__file__).parents[2] / name).read_bytes())
    monkeypatch.setattr(shipped_files, "__file__", str(package / "config" / "shipped_files.py"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return share


def test_the_checkouts_own_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_files.shipped(SWEEP) == Path(shipped_files.__file__).resolve().parents[2] / SWEEP


def test_an_installed_sweep_and_its_experiment_are_found_and_one_line_says_where(
    installed: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="fashion_ml")
    found = shipped_files.given_or_shipped(SWEEP)
    assert found == installed / SWEEP
    (said,) = caplog.messages
    assert str(found) in said
    spec, base = load_sweep(found, {})
    assert (spec.name, base.network) == ("lora_rank_lr", load_config(installed / EMBEDDED).network)


@pytest.mark.parametrize("place", ["share/fashion-ml", "lib/share/fashion-ml", "lib/python3.11/site-packages/share/fashion-ml"])
def test_files_are_found_in_every_layout_that_pip_makes(installed: Path, place: str):
    target = installed.parents[1] / place
    if target != installed:
        target.parent.mkdir(parents=True)
        installed.rename(target)
    assert shipped_files.shipped(SWEEP) == target / SWEEP


def test_a_file_of_the_working_folder_comes_first_and_nothing_is_said(installed: Path, capsys: pytest.CaptureFixture[str]):
    Path("sweeps").mkdir()
    Path(SWEEP).write_text("name: mine\n")
    assert shipped_files.given_or_shipped(SWEEP) == Path(SWEEP)
    assert capsys.readouterr().err == ""


def test_an_own_sweep_names_an_experiment_that_came_with_the_package(installed: Path):
    own = (installed / SWEEP).read_text().replace("../experiments/", "experiments/")
    Path("mine.yaml").write_text(own)
    _, base = load_sweep(Path("mine.yaml").absolute(), {})
    assert base.network == load_config(installed / EMBEDDED).network


@pytest.mark.parametrize("path", ["sweeps/none.yaml", "other/x.yaml", "", "../sweeps/lora_rank_lr.yaml", f"sweeps/{'x' * 300}"])
def test_what_did_not_come_with_the_package_stays_as_given(installed: Path, path: str):
    assert shipped_files.given_or_shipped(path) == Path(path)


def test_an_installation_without_experiments_says_what_to_give(installed: Path):
    (installed / EMBEDDED).unlink()
    with pytest.raises(
        InputError, match=r"--config: experiments/lora/embedded\.yaml did not come with this installation; give a YAML"
    ):
        shipped_files.default_experiment(EMBEDDED)
