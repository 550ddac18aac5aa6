"""Signals go where they are sent, and afterwards where they went before."""

from __future__ import annotations

import signal
import threading

import pytest

from polytask.signals import SAVING, ignore_saving, on_signals, uninterrupted


def test_signals_reach_the_function_in_the_block_and_the_one_before_behind_it() -> None:
    inside: list[int] = []
    outside: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: outside.append(number))
    try:
        with on_signals(lambda number, _: inside.append(number)):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(ValueError, match="wrong"), on_signals(lambda number, _: inside.append(number)):
            raise ValueError("wrong")
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert inside == [signal.SIGTERM, signal.SIGINT]
    assert outside == [signal.SIGTERM]


def test_requests_to_save_are_ignored_until_something_listens() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    found: list[int] = []
    try:
        ignore_saving()
        signal.raise_signal(signal.SIGUSR1)
        with on_signals(lambda number, _: found.append(number), SAVING):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == [signal.SIGUSR1]


def test_another_thread_changes_nothing() -> None:
    found: list[object] = []

    def run() -> None:
        with on_signals(lambda number, _: found.append(number)):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_ctrl_c_waits_for_the_end_of_a_block_that_reads_by_native_code() -> None:
    done: list[str] = []

    def read() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("read")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            read()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with uninterrupted():
            done.append("without")
        with pytest.raises(ValueError, match="damaged"), uninterrupted():
            raise ValueError("damaged")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["read", "without"]
