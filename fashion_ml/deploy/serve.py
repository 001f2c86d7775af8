"""A registered model behind HTTP on this machine: MLflow's protocol, with a guard before it and an end that comes at once."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fashion_ml.deploy import asked
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.listening import listening
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.store import open_tracking

if TYPE_CHECKING:
    import uvicorn

_OF_TEXT, _OF_PICTURES = 1_000_000, 64_000_000
"""The most bytes of a body."""
_END_SECONDS = 2.5
_MOST_IMAGES = 100_000
_EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Served:
    """Who may ask, and for how much."""

    seconds: float = 60.0
    """The most that a request takes."""
    most_images: float = asked.MOST_IMAGES
    """The most work of one request, in images of 512 x 512 pixels at 50 steps."""
    hosts: tuple[str, ...] = ()
    """Names that requests are addressed to, in lower case; any where there is none."""
    any_address: bool = False
    """Whether they may be addressed to any number beside these."""


def serve(
    model: str, host: str, port: int, say: Callable[[str], None], *, seconds: float, most_images: float, names: Sequence[str]
) -> None:
    """Answer `/invocations` as `mlflow models serve` does until Ctrl-C or SIGTERM; each request takes at most so many seconds, and asks for the
    work of `most_images` of 512 x 512 pixels at 50 steps. `names` are hosts that requests are addressed to, beside this machine's and `host`.

    `model` is what MLflow loads: `models:/NAME/1`, `models:/NAME@champion`, `runs:/…`, a folder; of this package's own
    models alone, for the code of any other would run. InputError when there is none, or it is no such.
    """
    import uvicorn

    from fashion_ml.deploy.connections import BACKLOG, bounded_protocol, most_connections
    from fashion_ml.deploy.request_checks import hosts_of

    if not 1 <= seconds <= 3600:
        raise InputError(tr("--seconds: {seconds:g} is not accepted; give 1 to 3600", seconds=seconds))
    if not 0 < most_images <= _MOST_IMAGES:
        most = tr(
            "--most-images: {value:g} is not accepted; give a number above 0, at most {most:,}",
            value=most_images,
            most=_MOST_IMAGES,
        )
        raise InputError(most)
    served = Served(seconds, most_images, hosts_of(host, names), host in _EVERYWHERE)
    with listening(host, port) as sock:
        app = application(model, served)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            ws="none",
            timeout_keep_alive=5,
            backlog=BACKLOG,
            http=bounded_protocol(most_connections()),
        )
        server = uvicorn.Server(config)
        threading.Thread(target=_end, args=(server,), daemon=True, name="end").start()
        say(tr("Answers at http://{host}:{port}/invocations. Stop with Ctrl-C.", host=host, port=port))
        with suppress(KeyboardInterrupt):  # uvicorn has ended, and passes on the signal that made it
            server.run(sockets=[sock])
    _leave()


def application(model: str, served: Served) -> Any:
    """The ASGI application of a model. InputError when its code is not this package's, MLflow cannot load it, or the store that it would be in
    is not there."""
    import mlflow
    from mlflow.pyfunc import scoring_server
    from mlflow.types import DataType

    from fashion_ml.deploy.guarded_app import Guarded
    from fashion_ml.deploy.lora_model import MODEL_FILE
    from fashion_ml.deploy.mlflow_answers import Discreet
    from fashion_ml.deploy.model_facts import check_signature
    from fashion_ml.deploy.own_model import own_folder
    from fashion_ml.deploy.request_checks import Known

    if model.startswith(("models:", "runs:")) and mlflow.get_registry_uri() == mlflow.get_tracking_uri():
        open_tracking(make=False)
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(int(served.seconds) + 5)  # ours comes first and says more
    try:
        folder = own_folder(model)
        loaded = mlflow.pyfunc.load_model(str(folder))
        schema = loaded.metadata.get_input_schema()
        columns = () if schema is None else tuple(schema.input_names())
        pictures = tuple(name for name in columns if schema.input_dict()[name].type == DataType.binary)
        asked_by = loaded.metadata.get_params_schema()
        params = () if asked_by is None else tuple(one.name for one in asked_by.params)
        if not columns or not params:
            raise ValueError(tr("it does not say what may be asked of it, its signature or params are gone"))
        own, file = loaded.get_raw_model(), folder / MODEL_FILE
        check_signature(loaded.metadata.signature, own.signature(), file)
        least = _prepared(own, file)
        app = scoring_server.init(Discreet(loaded))
    except InputError:
        raise
    except Exception as error:  # a model's folder holds what it likes, and so do the errors of those that read it
        raise InputError(
            tr(
                "MODEL: {model!r} cannot be loaded ({first_line}); give models:/NAME/VERSION, as register says it",
                model=model,
                first_line=first_line(error)[:300],
            )
        ) from None
    if asked.is_more(least, served.most_images):
        raise InputError(
            tr(
                "--most-images: {value:g} is not accepted, for one image as this model makes it is the work of {least}; give that "
                "or more",
                value=served.most_images,
                least=asked.shown_work(least),
            )
        )
    known = Known(params, columns, served.hosts, served.any_address, pictures)
    return Guarded(app, served.seconds, _OF_PICTURES if pictures else _OF_TEXT, known, served.most_images)


def _prepared(model: Any, file: Path) -> int:
    """`prepare` of a model; its InputError names the model's file."""
    try:
        return int(model.prepare())
    except InputError as error:
        raise InputError(
            [
                one if str(file.parent) in one else tr("MODEL: {file!r}: {told}", file=str(file), told=one)
                for one in error.problems
            ]
        ) from None


def _end(server: uvicorn.Server) -> None:
    """Stop what is being computed once the server is told to end, and the process where that takes long."""
    while not server.should_exit:
        time.sleep(0.1)
    asked.ending.set()
    time.sleep(_END_SECONDS)
    _leave()


def _leave() -> NoReturn:
    """End the process: taking torch and all that is loaded apart, of which nothing is to be kept, takes seconds, on a busy machine ten."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(0)
