"""What a served model refuses before it computes: names that it does not know, hosts that are not its own, pages, and too much work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fashion_ml.deploy import turns
from fashion_ml.deploy.asked import IMAGE, Asked
from fashion_ml.deploy.request_checks import Known, hosts_of
from fashion_ml.errors import InputError
from tests.fuzz.requests import GOOD, Asking, as_body
from tests.fuzz.served import grey_app
from tests.unit.deploy.test_serving import Answer, ask, run

HERE = Known((), (), hosts_of("127.0.0.1", ["Gpu.Example"]))


def answered(asking: Asking) -> Answer:
    app = grey_app()
    app._threads = False  # the loop is a new one
    return run(lambda: ask(app, asking))


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({**GOOD, "params": {**GOOD["params"], "foo": 1}}, "params: 'foo' is not known; there are seed, num_inference_steps, "),
        ({**GOOD, "params": {"Seed": 1}}, "params: 'Seed' is not known"),
        ({**GOOD, "parms": {"seed": 1}}, "body: 'parms' is not known; there are dataframe_records, "),
        ({"dataframe_records": [{"prompt": "a", "seed": 3}]}, "columns: 'seed' is not known; there are prompt"),
        ({"dataframe_split": {"columns": ["prompt", "seed"], "data": [["a", 3]]}}, "columns: 'seed' is not known"),
        ({"inputs": {"prompt": ["a"], "seed": [3]}}, "columns: 'seed' is not known"),
        ({"instances": [{"prompt": "a", "x": 3}]}, "columns: 'x' is not known"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_those_that_there_are(tree: Any, said: str):
    answer = answered(Asking(as_body(tree)))
    assert answer.status == 400
    assert json.loads(answer.body)["message"].startswith(said)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/", "/invocations/"])
def test_there_are_no_pages(path: str):
    assert answered(Asking(b"", "GET", path)).status == 404


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_what_mlflows_protocol_has_is_there(path: str):
    assert answered(Asking(b"", "GET", path)).status == 200


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True), ("LocalHost:5001", True), ("127.0.0.1:80", True), ("[::1]:5001", True), ("[::1]", True),
        ("gpu.example:1", True), ("evil.example", False), ("evil.example:5001", False), ("127.0.0.1.evil.example", False),
        ("10.0.0.1", False), ("[::2]:1", False), ("localhost:1:2", False), (":", False), ("\xff", False),
    ],
)  # fmt: skip
def test_only_this_servers_hosts_are_answered(host: str, ours: bool):
    scope = {"headers": [(b"host", host.encode("latin-1"))], "path": "/ping"}
    wrong = HERE.wrong_place(scope)
    assert (wrong is None) is ours
    assert wrong is None or (wrong[0], wrong[1].startswith("Host: ")) == (400, True)


def test_a_server_at_every_address_answers_numbers_and_no_names():
    known = Known((), (), hosts_of("0.0.0.0", []), any_address=True)
    assert known.wrong_place({"headers": [(b"host", b"10.0.0.1:5001")], "path": "/ping"}) is None
    assert known.wrong_place({"headers": [(b"host", b"[fe80::1]:5001")], "path": "/ping"}) is None
    assert known.wrong_place({"headers": [(b"host", b"evil.example")], "path": "/ping"}) is not None


def test_work_is_bounded_over_all_rows_steps_and_pixels_and_reasonable_work_is_not():
    Asked(60).weigh(16, 512 * 512, 50)
    Asked(60).weigh(1, 2048 * 2048, 50)
    with pytest.raises(InputError, match=r"num_inference_steps: 200 for 16 images of 262,144 pixels, the work of 64\.0 images"):
        Asked(60).weigh(16, 512 * 512, 200)
    Asked(60, 64).weigh(16, 512 * 512, 200)
    with pytest.raises(InputError, match=r"the work of 0\.5 at most"):
        Asked(60, 0.5).weigh(1, IMAGE)


def test_too_much_work_is_400_over_http():
    tree = {"dataframe_records": [{"prompt": "a"}] * 16, "params": {"num_inference_steps": 200, "width": 512, "height": 512}}
    answer = answered(Asking(as_body(tree)))
    assert (answer.status, b"num_inference_steps: 200 for 16 images" in answer.body) == (400, True)


def test_one_large_request_too_many_is_503_and_told_when_to_ask_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_WAITING", 0)
    answer = answered(Asking(as_body({**GOOD, "params": {"width": 512, "height": 512}})))
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"] == b"5"
    assert answered(Asking(as_body(GOOD))).status == 200
