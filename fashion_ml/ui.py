"""The MLflow UI on loopback, with links that open where the runs are."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

from fashion_ml.errors import InputError
from fashion_ml.tracking import experiments, runs_link, store_uri


def serve(port: int, say: Callable[[str], None]) -> None:
    """Print the links and run the server until Ctrl-C. InputError when the port is taken."""
    uri = store_uri()
    base_url = f"http://127.0.0.1:{port}"
    if uri.startswith(("http://", "https://")):
        say(f"Runs are kept on a server: {uri}")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(f"--port: {port} is in use; give another one, such as --port {port + 1}") from None
    found = experiments()
    for experiment_id, name, runs in found:
        say(f"{name}, {runs} runs: {runs_link(experiment_id, base_url)}")
    if not found:
        say(f"No runs yet in {uri}. Make some: fashion-ml demo")
    say("Stop with Ctrl-C. The server takes some seconds to start.")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", uri]
    process = subprocess.Popen(command)
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(timeout=20)
