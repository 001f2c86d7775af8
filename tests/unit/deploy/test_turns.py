"""Heavy requests do not keep a light one waiting."""

from __future__ import annotations

import threading
import time

import pytest

from fashion_ml.deploy import turns as module
from fashion_ml.deploy.turns import LIGHT, FullError, Share, Turns

HEAVY = LIGHT + 1


def nothing() -> None:
    """Nobody has left."""


def waiting(turns: Turns, shares: list[Share], order: list[int]) -> list[threading.Thread]:
    """Each waits for a turn, in this order, and gives it back."""

    def wait(share: Share) -> None:
        turns.take(share, nothing)
        order.append(share.cost)
        turns.give(share)

    threads = []
    for share in shares:
        threads.append(threading.Thread(target=wait, args=(share,)))
        threads[-1].start()
        until_waiting(turns, len(threads))
    return threads


def until_waiting(turns: Turns, count: int) -> None:
    while len(turns._waiting) < count:
        threading.Event().wait(0.01)


def test_of_those_that_wait_the_lightest_comes_first_and_of_the_same_who_came_first():
    turns, holds, order = Turns(1), Share(), list[int]()
    turns.take(holds, nothing)
    threads = waiting(turns, [Share(cost) for cost in (300, 100, 200)], order)
    turns.give(holds)
    for thread in threads:
        thread.join(10)
    assert order == [100, 200, 300]
    assert turns.free == 1
    assert Share(5).rank < Share(5).rank


def test_a_long_one_steps_aside_for_a_lighter_one_and_not_for_a_heavier_one():
    turns, holds, order = Turns(1), Share(150), list[int]()
    turns.take(holds, nothing)
    threads = waiting(turns, [Share(300), Share(100)], order)
    turns.step_aside(holds, nothing)
    assert order == [100]
    assert turns.free == 0
    turns.give(holds)
    for thread in threads:
        thread.join(10)
    assert turns.free == 1


def test_one_heavy_request_computes_and_light_ones_have_the_other_turns():
    turns, first, order = Turns(4), Share(2 * HEAVY), list[int]()
    turns.take(first, nothing)
    threads = waiting(turns, [Share(3 * HEAVY), Share(2 * HEAVY)], order)
    light = [Share(10) for _ in range(3)]
    for one in light:
        turns.take(one, nothing)  # at once
    assert turns.free == 0
    for one in light:
        turns.give(one)
    turns.step_aside(first, nothing)  # not for one that asks for the same, nor for more
    assert order == []
    turns.give(first)
    for thread in threads:
        thread.join(10)
    assert order == [2 * HEAVY, 3 * HEAVY]


def test_a_heavy_one_steps_aside_for_a_heavy_one_that_asks_for_less():
    turns, first, order = Turns(4), Share(3 * HEAVY), list[int]()
    turns.take(first, nothing)
    threads = waiting(turns, [Share(2 * HEAVY)], order)
    turns.step_aside(first, nothing)
    assert order == [2 * HEAVY]
    assert first.holds
    for thread in threads:
        thread.join(10)


def test_a_heavy_one_rests_while_a_light_one_computes_and_goes_on_in_the_end():
    turns, heavy, light = Turns(4), Share(HEAVY), Share(10)
    turns.take(heavy, nothing)
    turns.take(light, nothing)
    heavy.since = time.monotonic() - 0.1  # so long was its step: it rests for three times that
    began = time.monotonic()
    turns.step_aside(heavy, nothing)
    assert 0.28 < time.monotonic() - began < 3
    turns.give(light)
    heavy.since = time.monotonic() - 100
    began = time.monotonic()
    turns.step_aside(heavy, nothing)
    assert time.monotonic() - began < 0.3


def test_one_heavy_request_too_many_is_refused_at_once_and_one_that_has_begun_is_not():
    turns, holds, order = Turns(4), Share(HEAVY), list[int]()
    turns.take(holds, nothing)
    threads = waiting(turns, [Share(HEAVY) for _ in range(module._WAITING)], order)
    with pytest.raises(FullError):
        turns.take(Share(HEAVY), nothing)
    turns.take(Share(10), nothing)
    turns.give(holds)
    turns.take(holds, nothing)  # its next image
    turns.give(holds)
    for thread in threads:
        thread.join(10)
    assert len(order) == module._WAITING


def test_who_is_told_to_go_while_waiting_leaves_no_turn_taken():
    turns, holds = Turns(1), Share()
    turns.take(holds, nothing)

    def left() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        turns.take(Share(), left)
    turns.give(holds)
    turns.give(holds)  # it has none any more
    assert (turns.free, turns._waiting, turns._holding) == (1, [], [])
