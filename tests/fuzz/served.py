"""A served LoRA without weights: MLflow's application, our guard and every check of a request, and a pipeline that draws grey at once."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

SAMPLER = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}


class Grey:
    """A pipeline of diffusers, as far as a served model asks it."""

    scheduler = None

    def __call__(self, *, width: int, height: int, **_: Any) -> Any:
        self.images = [Image.new("RGB", (width, height), "grey")]
        return self


@cache
def grey_app() -> Any:
    """The ASGI application."""
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel, scoring_server

    from fashion_ml.deploy.asked import LoadedOnce
    from fashion_ml.deploy.guarded_app import Guarded
    from fashion_ml.deploy.lora_model import LoraModel, _signature
    from fashion_ml.deploy.mlflow_answers import Discreet
    from fashion_ml.deploy.request_checks import Known

    model = LoraModel("embedded", Path("none"), {"base": "embedded", **SAMPLER})
    model._pipeline = LoadedOnce(Grey)
    model._read = lambda *_: {}  # type: ignore[method-assign]
    meta = Model(signature=_signature(SAMPLER), flavors={"python_function": {"loader_module": "x"}})
    known = Known(("seed", *SAMPLER, "negative_prompt"), ("prompt",), ())
    return Guarded(scoring_server.init(Discreet(PyFuncModel(model_meta=meta, model_impl=model))), 10, 1_000_000, known)


def answered(body: bytes) -> int:
    """The status of a request to it; AssertionError for one that says that we are at fault."""
    statuses, waiting = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers, "query_string": b"", "root_path": ""}
    scope |= {"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "raw_path": b"/invocations"}
    asyncio.run(grey_app()(scope, receive, send))
    assert statuses[0] is not None
    assert statuses[0] < 500, f"status {statuses[0]}"
    return int(statuses[0])
