"""The only file that knows MLflow: runs as a tree, and everything that is logged to them."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time as clock
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.process_id import own_process
from fashion_ml.runtime.provenance import git_commit, git_diff
from fashion_ml.runtime.redact import without_credentials
from fashion_ml.runtime.signals import not_interrupted
from fashion_ml.tracking.mlflow_private import TABLES_TAG, key_and_step, tables_value
from fashion_ml.tracking.spooled_client import SpooledClient

if TYPE_CHECKING:
    import pandas as pd
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.environment import RUN, Chosen, experiment_id, name_for, run_to_adopt, wanted_experiment
from fashion_ml.tracking.known_runs import PARENT_TAG
from fashion_ml.tracking.offline_client import OfflineClient
from fashion_ml.tracking.store import find_run, open_tracking, run_to_resume, shown_uri, store_uri
from fashion_ml.tracking.store_checks import asked

PROCESS_TAG, FOLDER_TAG = "process", "folder"
"""Tags: the process that a run belongs to, and where a training's files are."""
_NOTE, _WHAT = "mlflow.note.content", "description"
_BATCH, AWAY_SECONDS = 500, 30.0


class TrackedRun:
    """One MLflow run. With `spool_to` what is logged goes to a file first; without, metrics are buffered until `flush`."""

    def __init__(self, client: Any, run_id: str, experiment_id: str, *, name: str = "", fresh: bool = False):
        self.client, self.run_id, self.experiment_id = client, run_id, experiment_id
        self.name = name
        """What it is called; empty where that is not known here."""
        self.adopted = False
        """Whether `mlflow run` has made it and it was taken over."""
        self._params: dict[str, str] | None = {} if fresh else None
        self._spool_folder: Path | None = None
        self._metrics: list[Any] = []
        self._last: dict[str, int] = {}
        self._there: set[tuple[str, int]] = set()
        self._images: set[tuple[str, int]] = set()
        self._what = ""

    def spool_to(self, folder: Path) -> None:
        """From now on log through a spool in this folder, and so do the runs that are opened below this one; `close_spool` ends it."""
        self.flush()
        self.client, self._spool_folder = (
            SpooledClient(
                self.client, folder, tr("The tracking store {shown_uri}", shown_uri=shown_uri(store_uri())), self.run_id
            ),
            folder,
        )

    def kept_in(self, folder: Path) -> None:
        """An offline run: its client keeps everything in this folder, until `close_spool`."""
        self._spool_folder = folder

    @property
    def spooled(self) -> bool:
        """Whether this run logs through a spool, its own or that of the run above it."""
        return isinstance(self.client, SpooledClient)

    @property
    def offline(self) -> bool:
        """Whether nothing is sent, so that everything is kept for `fashion-ml sync`."""
        return isinstance(self.client, OfflineClient)

    def close_spool(self) -> None:
        """Wait until everything has reached the store, or it has been away for half a minute; then say how to send the rest later."""
        if self._spool_folder is None:
            return
        spooled, folder, sent, when = self.client, self._spool_folder, False, tr("it answers")
        if self.offline:
            spooled.close(0)
            self._spool_folder = None
            return
        try:
            sent = spooled.close(AWAY_SECONDS)
        except (OSError, InputError) as error:  # a full disk, say: what was logged is in the spool all the same
            warn(first_line(error))
            when = tr("that is mended")
        finally:
            self.client, self._spool_folder = spooled.direct, None
            if not sent:
                said = tr(
                    "the tracking store {shown_uri} does not have all of it yet; nothing is lost. When {it_answers}: "
                    "fashion-ml sync {folder}",
                    shown_uri=shown_uri(store_uri()),
                    it_answers=when,
                    folder=folder,
                )
                warn(said)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters once; keys are dotted, so they never meet those that `mlflow run` logs itself.

        A value that differs from one logged before, as the number of steps of a resumed run may, becomes the tag `resumed.<key>`.
        """
        from mlflow.entities import Param

        if self._params is None:
            self._params = dict(self.client.get_run(self.run_id).data.params)
        before = self._params
        self.set_tags(
            {f"resumed.{key}": str(value) for key, value in params.items() if before.get(key, str(value)) != str(value)}
        )
        new = {key: str(value) for key, value in params.items() if key not in before}
        items = [Param(key, value) for key, value in new.items()]
        self._params |= new
        for first in range(0, len(items), 100):
            self.client.log_batch(self.run_id, params=items[first : first + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Buffer values measured at a `time` (seconds since 1970; now by default); what was not measured is not passed."""
        from mlflow.entities import Metric

        stamp = int((clock() if time is None else time) * 1000)
        self._metrics += [
            Metric(key, float(value), stamp, step) for key, value in metrics.items() if (key, step) not in self._there
        ]
        self._last |= {key: max(step, self._last.get(key, step)) for key in metrics}
        if self.spooled or len(self._metrics) >= _BATCH:
            self.flush()

    def latest_points(self, prefix: str) -> tuple[set[str], int | None]:
        """The metrics of a prefix and the last step of any of them; None without one."""
        if not self.spooled or self.offline:
            self._last |= {metric.key: metric.step for metric in self.client.get_run(self.run_id).data.to_proto().metrics}
        steps = {key: step for key, step in self._last.items() if key.startswith(prefix)}
        return set(steps), max(steps.values()) if steps else None

    def skip_what_is_there(self) -> None:
        """From now on leave out metric points that the store already has: a resumed training measures some steps again."""
        for key in self.client.get_run(self.run_id).data.metrics:
            points = [point.step for point in self.client.get_metric_history(self.run_id, key)]
            self._there |= {(key, step) for step in points}
            self._last[key] = max(points)
        names = [Path(item.path).name for item in self.client.list_artifacts(self.run_id, "images")]
        self._images = {found for name in names if (found := key_and_step(name))}

    def flush(self) -> None:
        """Send what is buffered."""
        while self._metrics:
            self.client.log_batch(self.run_id, metrics=self._metrics[:_BATCH])
            del self._metrics[:_BATCH]

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def forget_error(self) -> None:
        """Move the reason why an earlier part ended to the tag `resumed.error`."""
        before = self.client.get_run(self.run_id).data.tags.get("error")
        if before:
            self.set_tags({"resumed.error": before})
            self.client.delete_tag(self.run_id, "error")

    def has_image(self, key: str, step: int) -> bool:
        """Whether a resumed run has an image of this key and step already."""
        return (key, step) in self._images

    def log_image(self, picture: Any, key: str, step: int) -> None:
        """A PIL image under `key`, with a step slider in the UI."""
        self.client.log_image(self.run_id, picture, key=key, step=step)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def log_text(self, text: str, artifact: str) -> None:
        """Write a text artifact."""
        self.client.log_text(self.run_id, text, artifact)

    def log_table(self, table: pd.DataFrame, artifact: str) -> None:
        """Write a table that the MLflow UI shows, replacing an earlier one."""
        self.client.log_text(self.run_id, table.to_json(orient="split", index=False), artifact)
        self.client.set_tag(self.run_id, TABLES_TAG, tables_value(artifact))

    def log_dataset(self, folder: Path, digest: str, context: str, images: int) -> None:
        """Record a folder of images as a dataset input of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=folder.name,
            digest=digest[:12],
            source_type="local",
            source=json.dumps({"uri": str(folder)}),
            profile=json.dumps({"images": images, "sha256": digest}),
        )
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_source(self) -> None:
        """Record what the package's checkout has that its commit has not, as an artifact; nothing where there is no checkout."""
        changes = git_diff()
        if changes is not None:
            self.set_tags({"source.changed": str(bool(changes)).lower()})
        if changes:
            self.log_text(changes, "source/uncommitted.diff")

    def describe(self, what: str) -> None:
        """Say what this run is, in a sentence that the UI shows as its description."""
        self._what = what
        self.set_tags({_WHAT: what, _NOTE: what})

    def conclude(self, verdict: str) -> None:
        """Put what came out above what the run is: MLflow shows the beginning alone where there is little room."""
        what = self._what if self.spooled and not self.offline else self.client.get_run(self.run_id).data.tags.get(_WHAT, "")
        self.note(f"{verdict}\n\n{what}" if what else verdict)

    def note(self, text: str) -> None:
        """Let the UI show a text as the run's description, in place of what it showed; its lines as paragraphs, for Markdown joins lines."""
        self.set_tags({_NOTE: "\n\n".join(line for line in text.splitlines() if line)})

    def child(self, name: str, tags: Mapping[str, str]) -> TrackedRun:
        """A new run below this one, RUNNING until `finish`; use `open_run` where an error must end it."""
        run = self.client.create_run(
            self.experiment_id, run_name=name, tags={**_source_tags(), **tags, PARENT_TAG: self.run_id}
        )
        return TrackedRun(self.client, run.info.run_id, self.experiment_id, name=name, fresh=True)

    def begun(self, run_id: str) -> bool:
        """Whether a process has logged to a run below this one yet."""
        return bool(self.client.get_run(run_id).data.params)

    def close_child(self, run_id: str, status: str, why: str) -> None:
        """End a run below this one that another process was to end, and those below it, with the reason as a tag; ended ones stay."""
        for below in runs_below(self, run_id):
            self.close_child(below.info.run_id, "KILLED", why)
        if self.client.get_run(run_id).info.status in ("RUNNING", "SCHEDULED"):
            self.client.set_tag(run_id, "error", without_credentials(why)[:500])
            self.client.set_terminated(run_id, status)

    def finish(self, status: str = "FINISHED") -> None:
        """Send what is buffered and end the run: FINISHED, FAILED or KILLED."""
        self.flush()
        with not_interrupted():
            self.client.set_terminated(self.run_id, status)


@contextmanager
def open_run(
    name: str,
    tags: Mapping[str, str],
    *,
    experiment: str = "",
    parent: TrackedRun | None = None,
    adopt: bool = False,
    resume: str = "",
    spool: Path | None = None,
    chosen: Chosen = (),
) -> Iterator[TrackedRun]:
    """The run for a block of work: FINISHED at its end, FAILED on an error, KILLED on Ctrl-C or SIGTERM.

    The run that `mlflow run` made (MLFLOW_RUN_ID) is taken over instead of making a second one: by a run without a parent,
    and with `adopt` by a child. `chosen` says whether `name` and `tracking.experiment` were given to the command itself: then they come
    before what MLflow's environment says. InputError when the store does not take the run.

    With `resume` the run of that id goes on; metric points that it has already are not logged again, nor those that wait in its `spool`, the
    folder of an earlier part, which are sent first. A spool is closed at the end.
    """
    if resume:
        run = _to_resume(resume, parent.client if parent else None)
        if spool is not None:
            run.spool_to(spool)
            run.client.spool.flush(AWAY_SECONDS)
    elif parent and not (adopt and os.environ.get(RUN) and not parent.offline):
        run = parent.child(name, tags)
    else:
        run = _own_run(experiment, name, {**tags, **({PARENT_TAG: parent.run_id} if parent else {})}, chosen)
    below = {PARENT_TAG: parent.run_id} if parent and not resume else {}
    with _until_its_end(run, {**tags, **below}, resume=bool(resume)):
        yield run


@contextmanager
def open_offline_run(
    name: str, tags: Mapping[str, str], folder: Path, run_id: str, *, experiment: str, chosen: Chosen, resume: bool
) -> Iterator[TrackedRun]:
    """As `open_run`, without any store: the run `run_id` is kept in the spool of its folder, from which `fashion-ml sync` sends it.

    With `resume` it goes on, whether it was sent in between or not.
    """
    client = OfflineClient(folder)
    if not resume:
        client.create_root(run_id, name, {**_source_tags(), **tags}, wanted_experiment(experiment, chosen))
    name = client.get_run(run_id).info.run_name if resume else name
    run = TrackedRun(client, run_id, "", name=name, fresh=not resume)
    run.kept_in(folder)
    with _until_its_end(run, tags, resume=resume):
        yield run


@contextmanager
def _until_its_end(run: TrackedRun, tags: Mapping[str, str], *, resume: bool) -> Iterator[None]:
    """Around the work of a run, which is new, adopted or goes on by `resume`."""
    try:
        if resume or run.adopted:  # else it was made with name and tags
            run.client.update_run(run.run_id, status="RUNNING", name=None if resume else run.name)
            run.set_tags({**tags, PROCESS_TAG: own_process()})
            run.forget_error()
        if resume:
            run.skip_what_is_there()
        yield
        run.finish()
    except (KeyboardInterrupt, SystemExit):
        with suppress(Exception):
            run.set_tags({"error": "stopped by Ctrl-C or a signal"})
        _end(run, "KILLED")
        raise
    except BaseException as error:
        with suppress(Exception):
            run.set_tags({"error": first_line(error)[:500]})
            if not isinstance(error, InputError):
                run.log_text(without_credentials("".join(traceback.format_exception(error))), "error/traceback.txt")
        _end(run, "FAILED")
        raise
    run.close_spool()  # whatever happens while it waits, the run came to its end


def _end(run: TrackedRun, status: str) -> None:
    with not_interrupted():
        with suppress(Exception):  # the error that ended the run is the one to show
            run.flush()
        with suppress(Exception):
            run.client.set_terminated(run.run_id, status)
        run.close_spool()


def _to_resume(run_id: str, client: Any) -> TrackedRun:
    client = client or open_tracking()
    info = run_to_resume(client, run_id).info
    run = TrackedRun(client, info.run_id, info.experiment_id, name=info.run_name or "")
    made = os.environ.pop(RUN, None)
    if made and made != run_id:  # `mlflow run` has made a run for this process; it only points at the one that goes on
        note = {"kind": "resume", "resumed_run_id": run_id, _NOTE: f"Goes on with run {run_id}."}
        TrackedRun(client, made, "").set_tags(note)
    return run


def _own_run(experiment: str, name: str, tags: Mapping[str, str], chosen: Chosen) -> TrackedRun:
    """The run that `mlflow run` made, as it is, or a new one of that name with these tags."""
    client = open_tracking()
    made = run_to_adopt(client)
    if made is not None:
        run = TrackedRun(client, made.info.run_id, made.info.experiment_id, name=name_for(made, name, chosen))
        run.adopted = True
        return run
    place = experiment_id(client, experiment, chosen)
    with asked(store_uri()):
        info = client.create_run(place, run_name=name, tags={**_source_tags(), **tags}).info
    return TrackedRun(client, info.run_id, info.experiment_id, name=name, fresh=True)


def _source_tags() -> dict[str, str]:
    import getpass

    tags = {"mlflow.source.name": "fashion-ml", "mlflow.source.type": "LOCAL", PROCESS_TAG: own_process()}
    with suppress(Exception):
        tags["mlflow.user"] = getpass.getuser()
    commit = git_commit()
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def runs_below(run: TrackedRun, run_id: str = "") -> list[Any]:
    """The runs below a run, or below another one of its experiment, newest first; at most 1,000."""
    if run.offline:
        return list(run.client.below(run_id or run.run_id))
    query = f"tags.`{PARENT_TAG}` = '{run_id or run.run_id}'"
    return list(run.client.search_runs([run.experiment_id], query, max_results=1000))


def note_of(run: Any) -> str:
    """The description that the UI shows of an MLflow run; empty without one."""
    return str(run.data.tags.get(_NOTE, ""))


def attach(client: Any, run: Any) -> TrackedRun:
    """An existing run, to log more to it."""
    return TrackedRun(client, run.info.run_id, run.info.experiment_id, name=run.info.run_name or "")


def attach_id(run_id: str) -> TrackedRun:
    """The existing run of an id, to log more to it. InputError when the store has none."""
    client = open_tracking()
    return attach(client, find_run(client, run_id))
