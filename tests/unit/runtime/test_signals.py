from __future__ import annotations

import os
import signal

import pytest

from fashion_ml.runtime import signals
from fashion_ml.runtime.signals import StopNow, interrupt_on_signals, not_interrupted, stop_between_steps


@pytest.fixture(autouse=True)
def _handlers_come_back():  # type: ignore[no-untyped-def]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_only_asks_and_the_step_stops_where_its_state_is_whole(number: signal.Signals):
    with stop_between_steps() as stop:
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt) as caught:
            stop.check()
    assert not isinstance(caught.value, StopNow)


def test_one_request_may_arrive_as_two_signals_but_a_later_one_stops_at_once(monkeypatch: pytest.MonkeyPatch):
    clock = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    with stop_between_steps():
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] = 104.9
        os.kill(os.getpid(), signal.SIGTERM)
        clock[0] = 105.1
        with pytest.raises(StopNow):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before_after_the_block():
    before = signal.getsignal(signal.SIGINT)
    with stop_between_steps():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_end_of_a_run_is_not_cut_off():
    with not_interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_and_a_closed_terminal_act_as_ctrl_c_but_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt_on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interrupt_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGHUP)
