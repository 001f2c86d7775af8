"""The page of results on loopback, served by this process, which ends with its terminal; of a local store with the MLflow UI beside it.

A store on a server has MLflow's UI there: the page then reads it by MLflow's client, whose credentials never reach the page, and links to it.
"""

from __future__ import annotations

import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fashion_ml.runs.leaders import PARAMS, is_wanted
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.listening import listening
from fashion_ml.runtime.parent_process import is_orphaned, parent_to_live_with
from fashion_ml.tracking.mlflow_server import mlflow_app
from fashion_ml.tracking.queries import experiments, kept_views, short_name
from fashion_ml.tracking.run_reader import RunReader, row_of
from fashion_ml.tracking.store import open_tracking, shown_uri, store_uri

if TYPE_CHECKING:
    import uvicorn

_HOST = "127.0.0.1"
_WHOLE_SECONDS = 15.0
"""How long the page is kept back until every run is read; a store of more than about 2,000 trainings fills in before one's eyes."""
_ANSWER_SECONDS, _END_SECONDS = 60.0, 2.0


def serve(port: int, say: Callable[[str], None], *, browser: bool = False) -> None:
    """Serve until Ctrl-C, SIGTERM, SIGHUP or the end of the terminal; say where once it answers, and open a browser there where asked to.

    InputError when the port is taken, or the store is not there or cannot be used.
    """
    parent = parent_to_live_with()
    uri = store_uri()
    with listening(_HOST, port) as sock:
        client = open_tracking(make=False)
        reader = RunReader(client, lambda run: row_of(run, is_wanted, PARAMS))
        reader.start()
        say(tr("Starting the page of {shown_uri}: some seconds. Stop with Ctrl-C.", shown_uri=shown_uri(uri)))
        server = _server(reader, client, uri)
        told = threading.Thread(target=_say_where, args=(server, reader, port, say, browser), daemon=True, name="say_where")
        threading.Thread(target=_watch, args=(server, parent), daemon=True, name="watch").start()
        told.start()
        with _hangup_ends(server):
            try:
                server.run(sockets=[sock])
            except KeyboardInterrupt:  # uvicorn has ended, and passes on the signal that made it
                return


def _server(reader: RunReader, client: Any, uri: str) -> uvicorn.Server:
    import uvicorn

    from fashion_ml.runs.ui_routes import MLFLOW, page_app, routes, with_readable_hosts

    if uri.startswith(("http://", "https://")):
        app = page_app(reader, client, shown_uri(uri))
    else:
        app = mlflow_app(uri, routes(reader, client, MLFLOW, shown_uri(uri)))
    config = uvicorn.Config(
        with_readable_hosts(app), log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none"
    )
    return uvicorn.Server(config)


@contextmanager
def _hangup_ends(server: uvicorn.Server) -> Iterator[None]:
    """SIGHUP ends the server, as Ctrl-C does; ignored, as under nohup, it stays ignored."""
    before = signal.getsignal(signal.SIGHUP)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _watch(server: uvicorn.Server, parent: int | None) -> None:
    """End the server when its parent is gone, and the process when a request, or tidying up all that MLflow has imported, takes long."""
    while not server.should_exit:
        if is_orphaned(parent):
            server.should_exit = True
        time.sleep(0.2)
    time.sleep(_END_SECONDS)
    sys.stdout.flush()
    os._exit(0)


def _say_where(server: uvicorn.Server, reader: RunReader, port: int, say: Callable[[str], None], browser: bool) -> None:
    """Ask for the page and what it shows as a browser does, and only then say that it answers; then the ready views by short links."""
    reader.wait(_WHOLE_SECONDS)
    end, why = time.monotonic() + _ANSWER_SECONDS, ""
    while not server.should_exit and time.monotonic() < end:
        why = _refused(port, "/") or _refused(port, "/page/data.json")
        if not why:
            break
        time.sleep(0.2)
    if server.should_exit:
        return
    url = f"http://{_HOST}:{port}"
    if why:
        warn(
            tr(
                "the page does not answer after {answer_seconds:.0f} s: {why}; stop with Ctrl-C and try again",
                answer_seconds=_ANSWER_SECONDS,
                why=why,
            )
        )
        return
    say(tr("The page answers: {url}/", url=url))
    if browser:
        import webbrowser

        if not webbrowser.open(f"{url}/"):
            say(tr("--open: no browser was found; open the link yourself"))
    try:
        if not _say_links(url, say):
            say(tr("No runs yet in {shown_uri}. Make some: fashion-ml demo", shown_uri=shown_uri(store_uri())))
    except Exception as error:  # the page answers; a store that cannot be written has no ready views
        warn(tr("the ready views are not there: {splitlines}", splitlines=str(error).splitlines()[0][:200]))
    sys.stdout.flush()


def _refused(port: int, path: str) -> str:
    """Why a page is not answered; empty when it is."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else tr("{path} gives {status}", path=path, status=answer.status)


def _say_links(url: str, say: Callable[[str], None]) -> bool:
    """Our short links to the runs in MLflow of every experiment that has any, and to its ready views; whether there are any."""
    found = experiments()
    for experiment_id, name in found:
        say(tr("{name} in MLflow: {url}/go/{experiment_id}", name=name, url=url, experiment_id=experiment_id))
        for view in kept_views(experiment_id):
            say(f"  {view.said}: {url}/go/{experiment_id}/{short_name(view)}")
    return bool(found)
