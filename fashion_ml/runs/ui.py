"""The MLflow UI on loopback, with links that open where the runs are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

from fashion_ml.errors import InputError
from fashion_ml.tracking.queries import experiments, kept_views, runs_link
from fashion_ml.tracking.store import shown_uri, store_uri


def serve(port: int, say: Callable[[str], None]) -> None:
    """Print the links and run the server until Ctrl-C. InputError when the port is taken."""
    uri = store_uri()
    if uri.startswith(("http://", "https://")):
        _say_links(shown_uri(uri).rstrip("/"), say)
        say(f"The runs are on a server: open {shown_uri(uri)}")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(f"--port: {port} is in use; give another one, such as --port {port + 1}") from None
    if not _say_links(f"http://127.0.0.1:{port}", say):
        say(f"No runs yet in {shown_uri(uri)}. Make some: fashion-ml demo")
    say("Stop with Ctrl-C. The server takes some seconds to start.")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": uri})  # on no process list
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(timeout=20)


def _say_links(base_url: str, say: Callable[[str], None]) -> bool:
    """The links to the runs of every experiment that has any, and to its ready views; whether there are any."""
    found = experiments()
    for experiment_id, name, runs in found:
        say(f"{name}, {runs} runs: {runs_link(experiment_id, base_url)}")
        for view in kept_views(experiment_id):
            say(f"  {view.title}: {runs_link(experiment_id, base_url, view)}")
    return bool(found)
