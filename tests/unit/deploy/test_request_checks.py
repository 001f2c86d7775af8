"""What a served model refuses before it computes: names that it does not know, hosts that are not its own, pages, and too much work."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from fashion_ml.deploy import turns
from fashion_ml.deploy.asked import IMAGE, Asked
from fashion_ml.deploy.request_checks import Known, hosts_of
from fashion_ml.errors import InputError
from tests.fuzz.requests import GOOD, Asking, as_body
from tests.fuzz.served import grey_app
from tests.unit.deploy.test_serving import Answer, ask, run

PICTURES = Known(("seed",), ("image", "domain"), (), pictures=("image",))
SENT_AS_JSON = {"headers": [(b"content-type", b"application/json")]}
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


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"dataframe_records": [{"prompt": "a"}] * 17}, "dataframe_records: 17 rows is not accepted; ask for 1 to 16 at once"),
        ({"instances": [{"prompt": "a"}] * 17}, "instances: 17 rows"),
        ({"instances": ["a"] * 17}, "instances: 17 rows"),
        ({"inputs": {"prompt": ["a"] * 17}}, "inputs: 17 rows"),
        ({"inputs": [[]] * 10_000}, "inputs: 10000 rows"),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]] * 17}}, "dataframe_split: 17 rows"),
        ({"dataframe_split": {"columns": ["prompt"], "data": "a", "index": [0, 1]}}, "dataframe_split: str is not accepted"),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]], "index": [0] * 17}}, "index: 17 rows"),
        ({"dataframe_split": {"columns": ["prompt"] * 2, "data": [["a", "b"]]}}, "columns: a name that stands twice"),
        ({"dataframe_records": {"prompt": "a"}}, "dataframe_records: dict is not accepted; give a list of rows"),
        ({"dataframe_records": ["a"]}, "dataframe_records: a row that is a str is not accepted; give rows that name prompt"),
        ({"inputs": "a"}, "inputs: str is not accepted"),
        ({"inputs": {"prompt": {"a": "b"}}}, "prompt: a dict is not accepted; give one value"),
        ({"instances": [[["a"]]]}, "prompt: a list is not accepted"),
        ({"inputs": {"prompt": "x" * 2001}}, "prompt: 2,001 characters is not accepted; give at most 2,000"),
        ({**GOOD, "params": {"seed": [1]}}, "seed: a list is not accepted; give one value"),
        ({**GOOD, "params": {"width": {"a": 1}}}, "width: a dict is not accepted"),
        ({**GOOD, "params": {"seed": "9" * 2001}}, "seed: 2,001 characters is not accepted"),
        ({**GOOD, "params": [1]}, "params: list is not accepted; give a mapping of names to values"),
        (
            {**GOOD, "params": {"seed": [[]] * 40_000}},
            "body: it has more than 40,000 commas, colons and opening brackets; send fewer",
        ),
    ],
)
def test_rows_and_values_that_no_model_takes_are_refused_before_a_frame_is_made(tree: Any, said: str):
    answer = answered(Asking(as_body(tree)))
    assert answer.status == 400
    assert json.loads(answer.body)["message"].startswith(said)


@pytest.mark.parametrize(
    ("tree", "count"),
    [
        ({"dataframe_records": [{"prompt": ",:[{" * 500}] * 16}, 16),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]], "index": [5]}}, 1),
        ({"dataframe_split": {"columns": ["prompt"], "data": ["a", "b"]}}, 2),
        ({"instances": [{"prompt": "a"}, {"prompt": "b"}]}, 2),
        ({"instances": ["a", "b"]}, 2),
        ({"inputs": ["a", "b"]}, 2),
        ({"inputs": {"prompt": ["a", "b"]}}, 2),
        ({"inputs": {"prompt": "a"}, "params": None}, 1),
    ],
)
def test_every_form_that_mlflow_reads_is_answered(tree: Any, count: int):
    answer = answered(Asking(as_body(tree)))
    assert answer.status == 200, answer.body
    assert len(json.loads(answer.body)["predictions"]) == count


@pytest.mark.parametrize(
    ("start", "repeated", "count", "end"),
    [
        (b'{"params":{"seed":[', b"[],", 20_000_000, b'[]]},"dataframe_records":[]}'),
        (b'{"inputs":[', b"[],", 20_000_000, b"[]]}"),
        (b"", b'{"a":', 12_000_000, b""),
        (b"", b"[", 60_000_000, b""),
        (b"", b"9", 60_000_000, b""),
        (b'{"instances":[{"image":"","domain":"', b"A", 60_000_000, b'"},{},{},{},{},{},{},{}]}'),
        (b'{"dataframe_split":{"columns":["image"],"data":"', b"A", 60_000_000, b'","index":[1,2,3,4,5,6,7,8]}}'),
        (b'{"dataframe_records":[{"image":"","domain":"', b"\\n", 30_000_000, b'"}]}'),
    ],
    ids=["params", "inputs", "deep", "brackets", "digits", "instances", "index", "escapes"],
)
def test_a_large_body_that_is_no_request_is_refused_in_seconds_and_takes_no_more_than_its_size(
    start: bytes, repeated: bytes, count: int, end: bytes
):
    body = start + repeated * count + end
    tracemalloc.start()
    began = time.process_time()
    wrong = PICTURES.wrong_body(SENT_AS_JSON, body)
    seconds, most = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert wrong is not None
    assert (wrong[0], len(wrong[1]) < 400) == (400, True)
    assert seconds < 5
    assert most < 4 * len(body)


def test_pictures_come_in_the_forms_whose_base64_is_read():
    image = "A" * 5000
    row = {"image": image, "domain": "plain"}
    assert PICTURES.wrong_body(SENT_AS_JSON, as_body({"dataframe_records": [row]})) is None
    split = {"dataframe_split": {"columns": ["domain", "image"], "data": [["plain", image]]}}
    assert PICTURES.wrong_body(SENT_AS_JSON, as_body(split)) is None
    for form in ("instances", "inputs"):
        said = f"{form}: image in this form is not accepted; send dataframe_records"
        assert PICTURES.wrong_body(SENT_AS_JSON, as_body({form: [row]})) == (400, said)


@pytest.mark.parametrize(
    "tree",
    [
        {"dataframe_records": [{"image": "", "domain": "x" * 2001}]},
        {"dataframe_split": {"columns": ["domain"], "data": [["x" * 2001]]}},
    ],
)
def test_what_is_no_picture_is_as_short_as_a_text(tree: Any):
    said = "domain: 2,001 characters is not accepted; give at most 2,000"
    assert PICTURES.wrong_body(SENT_AS_JSON, as_body(tree)) == (400, said)


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
        ("10.0.0.1", False), ("[::2]:1", False), ("localhost:1:2", False), (":", False), ("", False), (" ", False), ("\xff", False),
    ],
)  # fmt: skip
def test_only_this_servers_hosts_are_answered(host: str, ours: bool):
    scope = {"headers": [(b"host", host.encode("latin-1"))], "path": "/ping"}
    wrong = HERE.wrong_place(scope)
    assert (wrong is None) is ours
    assert wrong is None or (wrong[0], wrong[1].startswith("Host: ")) == (400, True)


@pytest.mark.parametrize("at", ["127.0.0.1", "0.0.0.0", ""])
def test_an_empty_host_is_nobodys_and_none_is_answered(at: str):
    known = Known((), (), hosts_of(at, []), any_address=True)
    wrong = known.wrong_place({"headers": [(b"host", b"")], "path": "/ping"})
    assert wrong is not None
    assert (wrong[0], wrong[1].startswith("Host: nothing is not this server's; ask localhost, ")) == (400, True)
    assert known.wrong_place({"headers": [], "path": "/ping"}) is None


def test_of_two_hosts_and_of_two_kinds_both_count():
    two = [(b"host", b"evil.example"), (b"host", b"localhost")]
    assert all(HERE.wrong_place({"headers": one, "path": "/ping"}) is not None for one in (two, two[::-1]))
    kinds = [(b"content-type", b"text/csv"), (b"content-type", b"application/json")]
    assert all((HERE.wrong_body({"headers": one}, as_body(GOOD)) or (0,))[0] == 415 for one in (kinds, kinds[::-1]))


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"dataframe_records": [{"prompt": "a"}], "params": {"seed": 1, "width": 64, "seed": 2}}', "seed"),
        (b'{"dataframe_records": [{"prompt": "a", "prompt": "a"}]}', "prompt"),
        (b'{"inputs": ["a"], "inputs": ["b"]}', "inputs"),
        (b'{"inputs": ["a"], "params": {"seed": 1, "se\\u0065d": 1}}', "seed"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_its_name(body: bytes, key: str):
    answer = answered(Asking(body))
    assert answer.status == 400
    assert json.loads(answer.body)["message"] == f"body: '{key}' stands twice; give it once"


def test_a_server_at_every_address_answers_numbers_and_no_names():
    known = Known((), (), hosts_of("0.0.0.0", []), any_address=True)
    assert known.wrong_place({"headers": [(b"host", b"10.0.0.1:5001")], "path": "/ping"}) is None
    assert known.wrong_place({"headers": [(b"host", b"[fe80::1]:5001")], "path": "/ping"}) is None
    assert known.wrong_place({"headers": [(b"host", b"evil.example")], "path": "/ping"}) is not None


def test_work_is_bounded_over_all_rows_steps_and_pixels_and_reasonable_work_is_not():
    Asked(60).weigh(16, 512 * 512, 50)
    Asked(60).weigh(1, 2048 * 2048, 50)
    with pytest.raises(
        InputError, match=r"dataframe_records: 16 rows of 262,144 pixels at 200 steps, the work of 64\.0 images"
    ):
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
