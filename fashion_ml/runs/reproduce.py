"""Training a run again from what it logged, and comparing every number."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config import KINDS, LoraExperiment, StarganExperiment, checked
from fashion_ml.errors import InputError
from fashion_ml.runs.training_speed import OF_THE_MACHINE
from fashion_ml.runtime.json_file import of_its_shape
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_mapping


@dataclass(frozen=True)
class Reproduced:
    """A run and the one that repeated it."""

    before: str
    after: str
    points: int
    """Metric points that both have and that are equal to the last bit."""
    different: dict[str, tuple[float | None, float | None]]
    """By metric, the last value of both where any point differs or one of them has none."""
    versions: dict[str, tuple[str, str]]
    """Packages whose versions differ."""
    evaluated_again: bool = False
    """Whether the run was evaluated again since, in another way, so that its `eval/` values are not those of the training."""

    @property
    def identical(self) -> bool:
        """Whether every point of every metric is equal."""
        return not self.different


def reproduce(run_id: str, folder: Path | None) -> Reproduced:
    """Train again with a run's `config.yaml`, in a new run tagged `reproduces`, and compare all metric points.

    InputError when the run is no training of ours, did not finish, or when its data have changed.
    """
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run import attach
    from fashion_ml.tracking.run_ids import find_meant
    from fashion_ml.tracking.store import find_run, open_tracking

    client = open_tracking(make=False)
    run = find_meant(client, run_id)
    run_id = run.info.run_id
    kind, status = run.data.tags.get("kind", ""), run.info.status
    if kind not in KINDS:
        raise InputError(
            tr(
                "run_id: run {run_id} is no training ({value}); give a LoRA or StarGAN training",
                run_id=run_id,
                value=kind or tr("of unknown kind"),
            )
        )
    if status != "FINISHED":
        raise InputError(
            tr("run_id: run {run_id} is {status}; only a finished run has all its numbers", run_id=run_id, status=status)
        )
    with tempfile.TemporaryDirectory() as temporary:
        file = download(client, run_id, "config.yaml", Path(temporary))
        tree = read_mapping(file, "run_id", tr("a run whose config.yaml is whole"))
        with of_its_shape("run_id", file, tr("give a run whose config.yaml is whole")):
            tree["tracking"] = {**tree.get("tracking", {}), "offline": False}  # its numbers are compared in the store
            tree["output"] = {**tree.get("output", {}), "output_dir": str(folder) if folder else None}
    digest = run.data.tags.get("data_digest", "")
    after = _train(checked(tree, KINDS[kind]), digest)
    repeated = find_run(client, after)
    attach(client, repeated).set_tags({"reproduces": run_id})
    marks = [one.data.tags.get("eval.fingerprint") for one in (run, repeated)]
    again = None not in marks and marks[0] != marks[1]
    points, different = _compare(client, run_id, after, leave="eval/" if again else None)
    return Reproduced(run_id, after, points, different, _versions(run.data.params, repeated.data.params), again)


def _train(config: LoraExperiment | StarganExperiment, digest: str) -> str:
    """Train again on the data of that digest; returns the new run's id."""
    if isinstance(config, LoraExperiment):
        from fashion_ml.runs.lora import run_lora

        lora = run_lora(config, expected_digest=digest)
        assert lora is not None
        return lora.run_id
    from fashion_ml.runs.stargan import run_stargan

    stargan = run_stargan(config, expected_digest=digest)
    assert stargan is not None
    return stargan.run_id


def _compare(
    client: Any, before: str, after: str, leave: str | None
) -> tuple[int, dict[str, tuple[float | None, float | None]]]:
    names = sorted(set(client.get_run(before).data.metrics) | set(client.get_run(after).data.metrics))
    names = [name for name in names if name not in OF_THE_MACHINE and (leave is None or not name.startswith(leave))]
    equal, different = 0, dict[str, tuple[float | None, float | None]]()
    for name in names:
        one, other = ({(p.step, repr(p.value)) for p in client.get_metric_history(run, name)} for run in (before, after))
        equal += len(one & other)
        if one != other:
            different[name] = _last(one), _last(other)
    return equal, different


def _last(points: set[tuple[int, str]]) -> float | None:
    return float(max(points)[1]) if points else None


def _versions(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = [name for name in before if name.startswith("versions.") and name in after]
    return {name.removeprefix("versions."): (before[name], after[name]) for name in names if before[name] != after[name]}
