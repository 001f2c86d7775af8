"""A registered model behind HTTP on this machine: MLflow's protocol, with a guard before it and an end that comes at once."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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


def serve(model: str, host: str, port: int, seconds: float, say: Callable[[str], None]) -> None:
    """Answer `/invocations` as `mlflow models serve` does until Ctrl-C or SIGTERM; each request takes at most so many seconds.

    `model` is what MLflow loads: `models:/NAME/1`, `models:/NAME@champion`, `runs:/…`, a folder; of this package's own
    models alone, for the code of any other would run. InputError when there is none, or it is no such.
    """
    import uvicorn

    if not 1 <= seconds <= 3600:
        raise InputError(tr("--seconds: {seconds:g} is not accepted; give 1 to 3600", seconds=seconds))
    with listening(host, port) as sock:
        app = application(model, seconds)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            ws="none",
            timeout_keep_alive=5,
            backlog=256,
        )
        server = uvicorn.Server(config)
        threading.Thread(target=_end, args=(server,), daemon=True, name="end").start()
        say(tr("Answers at http://{host}:{port}/invocations. Stop with Ctrl-C.", host=host, port=port))
        try:
            server.run(sockets=[sock])
        except KeyboardInterrupt:  # uvicorn has ended, and passes on the signal that made it
            return


def application(model: str, seconds: float) -> Any:
    """The ASGI application of a model. InputError when its code is not this package's, MLflow cannot load it, or the store that it would be in
    is not there."""
    import mlflow
    from mlflow.pyfunc import scoring_server
    from mlflow.types import DataType

    from fashion_ml.deploy.guarded_app import Guarded
    from fashion_ml.deploy.own_model import own_folder

    if model.startswith(("models:", "runs:")) and mlflow.get_registry_uri() == mlflow.get_tracking_uri():
        open_tracking(make=False)
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(int(seconds) + 5)  # ours comes first and says more
    try:
        loaded = mlflow.pyfunc.load_model(str(own_folder(model)))
        schema = loaded.metadata.get_input_schema()
        pictures = schema is not None and DataType.binary in schema.input_types()
        app = scoring_server.init(loaded)
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
    return Guarded(app, seconds, _OF_PICTURES if pictures else _OF_TEXT)


def _end(server: uvicorn.Server) -> None:
    """Stop what is being computed once the server is told to end, and the process where that takes long."""
    while not server.should_exit:
        time.sleep(0.1)
    asked.ending.set()
    time.sleep(_END_SECONDS)
    sys.stdout.flush()
    os._exit(0)
