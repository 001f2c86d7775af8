"""A served LoRA over MLflow's application, without a socket: what is refused and how, who is answered meanwhile, and what ends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from fashion_ml.deploy import asked, guarded_app
from fashion_ml.deploy.asked import Asked
from fashion_ml.deploy.serve import Served, application
from fashion_ml.deploy.stargan_model import StarganModel
from fashion_ml.errors import InputError
from tests.fuzz.by_hand import ODD
from tests.fuzz.requests import GOOD, Asking, as_body, hostile
from tests.unit.deploy.small_model import small_model


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return application(str(small_model(tmp_path_factory.mktemp("served"))), Served(30))


class Answer:
    """What came back."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 0, b"", list[tuple[bytes, bytes]]()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message.get("body", b"")


async def ask(app: Any, asking: Asking, leave: asyncio.Event | None = None, *, stalls: bool = False) -> Answer:
    answer, messages = Answer(), [{"type": "http.request", "body": asking.body, "more_body": False}] * (not stalls)
    headers = [(name.lower().encode(), value.encode()) for name, value in asking.headers.items() if value]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asking.method, "path": asking.path[:2000],
        "raw_path": asking.path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "headers": [*headers, (b"content-length", str(len(asking.body)).encode())],
    }  # fmt: skip
    await app(scope, receive, answer.send)
    return answer


def run(act: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(act())


def picture(answer: Answer) -> np.ndarray[Any, Any]:
    assert answer.status == 200, answer.body
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(json.loads(answer.body)["predictions"][0]))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("num_inference_steps", 10**6),
        ("guidance_scale", 1e9),
        ("width", 10**6),
        ("height", 65),
        ("negative_prompt", "x" * 2001),
    ],
)
def test_what_is_out_of_bounds_is_400_with_the_field(app: Any, field: str, value: Any):
    answer = run(lambda: ask(app, Asking(as_body({**GOOD, "params": {**GOOD["params"], field: value}}))))
    assert answer.status == 400
    assert f"{field}: " in json.loads(answer.body)["message"]


def test_fifty_hostile_requests_are_refused_and_a_good_one_is_as_before(app: Any):
    before = picture(run(lambda: ask(app, Asking(as_body(GOOD)))))

    async def all_at_once() -> list[Answer]:
        app._threads = False  # the loop is a new one
        return list(await asyncio.gather(*(ask(app, one) for one in hostile(200)[::5]), ask(app, Asking(as_body(GOOD)))))

    *refused, good = run(all_at_once)
    assert np.array_equal(picture(good), before)
    assert {answer.status // 100 for answer in refused} <= {2, 4, 5}
    assert {answer.status for answer in refused if answer.status >= 500} <= {503}
    assert sum(answer.status >= 400 for answer in refused) > 30


def test_requests_at_the_same_time_draw_what_each_draws_alone(app: Any):
    askings = [
        Asking(as_body({**GOOD, "params": {**GOOD["params"], "seed": seed, "num_inference_steps": 3 + seed}}))
        for seed in range(3)
    ]
    alone = [picture(run(lambda one=one: ask(app, one))) for one in askings]

    async def together() -> list[Answer]:
        app._threads = False
        return list(await asyncio.gather(*(ask(app, one) for one in askings)))

    assert all(np.array_equal(picture(answer), one) for answer, one in zip(run(together), alone, strict=True))


def test_a_request_ends_where_its_client_leaves(app: Any):
    slow = {**GOOD, "params": {**GOOD["params"], "num_inference_steps": 200, "width": 256, "height": 256}}

    async def leave_soon() -> float:
        app._threads = False
        left = asyncio.Event()
        asyncio.get_running_loop().call_later(1, left.set)
        await ask(app, Asking(as_body(slow)), left)
        began = time.monotonic()
        while asked._turns.free < 4:  # its step ends
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    assert run(leave_soon) < 5


def test_a_good_request_is_answered_beside_more_slow_ones_than_there_are_turns(app: Any):
    slow = Asking(as_body({**GOOD, "params": {**GOOD["params"], "num_inference_steps": 200, "width": 256, "height": 256}}))

    async def beside() -> tuple[Answer, int]:
        app._threads = False
        left = asyncio.Event()
        others = [asyncio.create_task(ask(app, slow, left)) for _ in range(6)]
        await asyncio.sleep(1)
        good = await asyncio.wait_for(ask(app, Asking(as_body(GOOD))), 10)
        waiting = sum(not one.done() for one in others)
        left.set()
        await asyncio.gather(*others)
        return good, waiting

    good, waiting = run(beside)
    assert (good.status, waiting) == (200, 6)


def test_bodies_that_do_not_come_keep_nobody_waiting(app: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guarded_app, "_COMING", 60)

    async def beside() -> tuple[Answer, list[Answer]]:
        app._threads = False
        never = [asyncio.create_task(ask(app, Asking(b""), asyncio.Event(), stalls=True)) for _ in range(70)]
        await asyncio.sleep(0.2)
        good = await ask(app, Asking(as_body(GOOD)))
        over = [one.result() for one in never if one.done()]
        for one in never:
            one.cancel()
        return good, over

    good, over = run(beside)
    assert good.status == 200
    assert [one.status for one in over] == [408] * 11  # the good one, while it came, was the seventy-first


def test_bodies_that_hold_too_much_memory_together_are_sent_away_until_there_is_room(app: Any, monkeypatch: pytest.MonkeyPatch):
    """Two halves of bodies that never end leave no room for a third one, and all of it once their clients have left."""
    body = as_body(GOOD)
    monkeypatch.setattr(guarded_app, "_HELD", 3 * len(body))

    async def beside() -> tuple[Answer, Answer, int]:
        app._threads, leave = False, asyncio.Event()

        async def half(scope: dict[str, Any], messages: list[dict[str, Any]]) -> None:
            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                await leave.wait()
                return {"type": "http.disconnect"}

            await app(scope, receive, Answer().send)

        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [(b"content-length", b"9999")]}
        chunk = {"type": "http.request", "body": bytes(len(body) * 3 // 2), "more_body": True}
        halves = [asyncio.create_task(half(scope, [chunk])) for _ in range(2)]
        await asyncio.sleep(0.1)
        full = await ask(app, Asking(body))
        leave.set()
        await asyncio.gather(*halves)
        return full, await ask(app, Asking(body)), app._held

    full, after, held = run(beside)
    assert (full.status, dict(full.headers)[b"retry-after"]) == (503, b"5")
    assert (after.status, held) == (200, 0)


def test_a_request_that_takes_too_long_is_told_so(app: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "_seconds", 0.5)
    slow = {**GOOD, "params": {**GOOD["params"], "num_inference_steps": 200, "width": 256, "height": 256}}
    app._threads = False
    answer = run(lambda: ask(app, Asking(as_body(slow))))
    assert answer.status == 504
    assert b"timeout: this took more than 0.5 seconds" in answer.body


def test_whoever_waits_for_a_turn_learns_that_time_is_over():
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Asked(60).turn():
            holding.set()
            done.wait(20)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    holding.wait(5)
    with pytest.raises(MlflowException, match="timeout"), Asked(0.3).turn():
        pytest.fail("a fifth one computes")
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("odd", ["empty", "pipe", "zeros", "folder", "endless", "loop", "socket", "utf-16", "sparse"])
@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_a_model_whose_note_is_none_is_one_line(tmp_path: Path, odd: str, scheme: str):
    ODD[odd](tmp_path / "MLmodel")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        application(f"{scheme}{tmp_path}", Served(30))
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


def test_a_picture_that_is_none_is_refused_by_its_field(tmp_path: Path):
    model = StarganModel(tmp_path / "none.safetensors", "embedded", 64)
    for content in (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"", "text"):
        with pytest.raises(MlflowException, match=r"^image: ") as caught:
            model.predict(pd.DataFrame({"image": [content], "domain": ["x"]}))
        assert caught.value.get_http_status_code() == 400
