"""The routes of our page beside MLflow's, or alone: the page, what it shows, pictures, short links into MLflow."""

from __future__ import annotations

import io
import json
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.data.pictures import load_picture
from fashion_ml.runs.leaders import overview
from fashion_ml.runtime.language import html_language, language
from fashion_ml.tracking.queries import ready_view, runs_link

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from fashion_ml.tracking.run_reader import RunReader

HERE = Path(__file__).parent / "page"
MLFLOW = "/?mlflow"
"""MLflow's own UI; plain `/` is our page, which sends links such as /#/experiments/1 on to it."""
_WIDTH, _HEIGHT = 640, 480
_AT_FIRST = 40
"""So many runs of each list the page gets before a person asks for all: more would keep it from opening at once."""
_PICTURES = ("grid.png", "report/recipes.png", "report/grid.png", "report/optimization_history.png")
"""What stands for a run, the first that it has; else the first picture of its report."""
_WHOSE = (b"host", b"origin", b"referer")
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def routes(reader: RunReader, client: Any, mlflow: str, store: str) -> list[Any]:
    """Starlette's routes. `mlflow` is where MLflow's UI is, `store` how the store is called."""
    from starlette.responses import RedirectResponse
    from starlette.routing import Match, Route

    class Plain(Route):
        """Matches only without a query: with one, `/` is MLflow's."""

        def matches(self, scope: Any) -> Any:
            return (Match.NONE, {}) if scope.get("query_string") else super().matches(scope)

    def data(request: Request) -> Response:
        return _json(_shown(reader, mlflow, store, whole="whole" in request.query_params))

    def picture(request: Request) -> Response:
        return _picture(client, request.path_params["run_id"])

    def go(request: Request) -> Response:
        found = request.path_params
        view = ready_view(found["experiment_id"], found["view"]) if "view" in found else None
        link = runs_link(found["experiment_id"], "", view)
        return RedirectResponse(mlflow + link.removeprefix("/"), 302)

    return [
        Plain("/", _page, methods=["GET"]),
        Route("/page/data.json", data, methods=["GET"]),
        Route("/page/picture/{run_id}.jpg", picture, methods=["GET"]),
        Route("/page/{name}", _file, methods=["GET"]),
        Route("/go/{experiment_id:int}", _as_text(go), methods=["GET"]),
        Route("/go/{experiment_id:int}/{view}", _as_text(go), methods=["GET"]),
    ]


def page_app(reader: RunReader, client: Any, server: str) -> Any:
    """The page alone, as an ASGI application that answers this machine's names only; MLflow's own UI is at the address of a `server`."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import RedirectResponse
    from starlette.routing import Route

    mlflow = server.rstrip("/") + "/"

    def elsewhere(request: Request) -> Response:
        return RedirectResponse(mlflow, 302)

    ours = [
        *routes(reader, client, mlflow, server),
        Route("/", elsewhere, methods=["GET"]),
    ]  # the last one: `/` with a query is MLflow's
    return Starlette(routes=ours, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])])


def with_readable_hosts(app: Any) -> Any:
    """An ASGI application that answers 400 where the headers that say whose a request is are no text: MLflow fails at them."""
    from starlette.responses import PlainTextResponse

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        odd = any(name in _WHOSE and not value.isascii() for name, value in scope.get("headers", ()))
        await (PlainTextResponse("Bad request", 400, headers=_SAFE) if odd else app)(scope, receive, send)

    return answer


def _as_text(go: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Experiments' ids are text to MLflow; only whole numbers reach it."""

    def answer(request: Request) -> Response:
        request.path_params["experiment_id"] = str(request.path_params["experiment_id"])
        return go(request)

    return answer


def _page(request: Request) -> Response:
    """The page itself; what it shows comes as data, so no name of a run is ever read as HTML, and only its own script runs."""
    from starlette.responses import HTMLResponse

    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    lang = html_language()
    text = (HERE / "index.html").read_text(encoding="utf-8").replace("NONCE", nonce).replace("LANGUAGE", lang)
    return HTMLResponse(text, headers={**_SAFE, "Content-Security-Policy": policy})


def _file(request: Request) -> Response:
    from starlette.responses import PlainTextResponse, Response

    kind = {"page.css": "text/css", "page.js": "text/javascript"}.get(request.path_params["name"])
    if kind is None:
        return PlainTextResponse("Not found", 404)
    return Response((HERE / request.path_params["name"]).read_bytes(), media_type=kind, headers=_SAFE)


def _shown(reader: RunReader, mlflow: str, store: str, *, whole: bool) -> dict[str, Any]:
    rows, read = reader.rows()
    told = overview(rows, reader.names, language(), None if whole else _AT_FIRST)
    return told | {"mlflow": mlflow, "store": store, "runs": len(rows), "reading": not read, "problem": reader.problem}


def _json(told: Mapping[str, Any]) -> Response:
    from starlette.responses import Response

    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json", headers=_SAFE)


def _picture(client: Any, run_id: str) -> Response:
    """The picture of a run, made small and drawn anew, so that nothing of its file is served; 404 where it has none."""
    from starlette.responses import PlainTextResponse, Response

    try:
        content = _small(client, run_id)
    except Exception:  # no such run, a file that is no picture: the page shows none
        content = None
    if content is None:
        return PlainTextResponse("Not found", 404, headers=_SAFE)
    return Response(content, media_type="image/jpeg", headers={**_SAFE, "Cache-Control": "private, max-age=60"})


def _small(client: Any, run_id: str) -> bytes | None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = _found(client, run_id, folder)
        if path is None:
            return None
        image = load_picture(Path(path))
    width = min(_WIDTH, image.width)
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image = image.crop((0, 0, width, min(image.height, _HEIGHT)))
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=85)  # WebP takes a tenth of a second
    return kept.getvalue()


def _found(client: Any, run_id: str, folder: str) -> str | None:
    """The file of the picture, brought to a folder. Most runs are evaluations and have the first name: they are not listed before."""
    with suppress(Exception):
        return str(client.download_artifacts(run_id, _PICTURES[0], folder))
    there = [item.path for item in client.list_artifacts(run_id, "report")]
    plots = sorted(name for name in there if name.endswith(".png"))
    name = next((one for one in (*_PICTURES, *plots) if one in there), None)
    return None if name is None else str(client.download_artifacts(run_id, name, folder))
