from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fashion_ml.runtime.garbage import while_importing, while_working


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_a_command_looks_seldom_while_it_imports_and_more_often_while_it_works():
    gc.set_threshold(700, 10, 10)
    while_importing()
    importing = gc.get_threshold()
    while_working()
    assert 700 < gc.get_threshold()[0] < importing[0]


def test_a_program_that_imports_this_package_keeps_what_it_has_chosen():
    gc.set_threshold(123, 4, 5)
    while_working()
    assert gc.get_threshold() == (123, 4, 5)
