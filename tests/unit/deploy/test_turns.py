"""Slow requests do not keep a quick one waiting."""

from __future__ import annotations

import threading

import pytest

from fashion_ml.deploy.turns import Share, Turns


def nothing() -> None:
    """Nobody has left."""


def with_used(seconds: float) -> Share:
    share = Share()
    share.used = seconds
    return share


def waiting(turns: Turns, shares: list[Share], order: list[float]) -> list[threading.Thread]:
    def wait(share: Share) -> None:
        turns.take(share, nothing)
        order.append(share.used)
        turns.give(share)

    threads = [threading.Thread(target=wait, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    while len(turns._waiting) < len(shares):
        threading.Event().wait(0.01)
    return threads


def test_of_those_that_wait_the_one_that_had_least_comes_first():
    turns, holds, order = Turns(1), Share(), list[float]()
    turns.take(holds, nothing)
    threads = waiting(turns, [with_used(used) for used in (300.0, 100.0, 200.0)], order)
    turns.give(holds)
    for thread in threads:
        thread.join(10)
    assert [round(used, -1) for used in order] == [100, 200, 300]
    assert turns.free == 1


def test_a_long_one_steps_aside_for_one_that_had_less_and_not_for_one_that_had_more():
    turns, holds, order = Turns(1), with_used(150.0), list[float]()
    turns.take(holds, nothing)
    threads = waiting(turns, [with_used(300.0), with_used(100.0)], order)
    turns.step_aside(holds, nothing)
    assert [round(used, -1) for used in order] == [100]
    assert turns.free == 0
    turns.give(holds)
    for thread in threads:
        thread.join(10)
    assert turns.free == 1


def test_who_is_told_to_go_while_waiting_leaves_no_turn_taken():
    turns, holds = Turns(1), Share()
    turns.take(holds, nothing)

    def left() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        turns.take(Share(), left)
    turns.give(holds)
    turns.give(holds)  # it has none any more
    assert (turns.free, turns._waiting) == (1, [])


def test_what_a_turn_took_is_counted_with_what_came_before():
    turns, share = Turns(1), with_used(5.0)
    turns.take(share, nothing)
    threading.Event().wait(0.05)
    turns.give(share)
    assert 5.05 <= share.used < 6
