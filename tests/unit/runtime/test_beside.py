"""Work beside the caller's: in order, on another thread, whole or left out, its errors said."""

from __future__ import annotations

import threading
import time

import pytest

from fashion_ml.runtime.beside import beside


def test_work_is_done_in_its_order_on_one_other_thread_while_the_caller_goes_on():
    """The first piece ends only when the caller has given the second: one that waits for each would never come there."""
    given, done = threading.Event(), list[tuple[int, int]]()

    def first() -> int:
        assert given.wait(20)
        return second(1)

    def second(number: int) -> int:
        done.append((number, threading.get_ident()))
        return number

    with beside("work", most=2) as work:
        results = [work(first), work(second, 2)]
        given.set()
    assert [one.result() for one in results] == [number for number, _ in done] == [1, 2]
    assert {thread for _, thread in done} - {threading.get_ident()} == {done[0][1]}


@pytest.mark.parametrize(("finishes", "expected"), [(True, [1, 2]), (False, [1])])
def test_ctrl_c_leaves_out_what_has_not_begun_but_where_it_is_to_finish(finishes: bool, expected: list[int]):
    began, done = threading.Event(), list[int]()

    def slow(number: int) -> None:
        began.set()
        time.sleep(0.1)
        done.append(number)

    def interrupted() -> None:
        with beside("work", most=9, finishes=finishes) as work:
            work(slow, 1)
            work(slow, 2)
            assert began.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == expected


def test_an_error_is_raised_when_more_is_given_and_at_the_end():
    def broken() -> None:
        raise ValueError("full")

    def given(*, more: bool) -> None:
        with beside("work", most=9) as work:
            work(broken)
            while more:
                work(time.sleep, 0.01)

    for more in (True, False):
        with pytest.raises(ValueError, match="full"):
            given(more=more)


def test_no_more_pieces_wait_than_asked_for():
    with beside("work", most=2) as work:
        first = work(time.sleep, 0.1)
        work(time.sleep, 0)
        assert not first.done()
        work(time.sleep, 0)
        assert first.done()
