"""^C while libbpf works: held back until its callback is over, and then not lost."""

from __future__ import annotations

import signal
import threading

import pytest

from clew.engine.bpf.libbpf import uninterrupted


def test_an_interrupt_comes_after_the_call() -> None:
    handler = signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    came_to_the_end = False
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        came_to_the_end = True
    assert came_to_the_end
    assert signal.signal(signal.SIGINT, before) is handler


def test_other_threads_have_nothing_to_hold_back() -> None:
    done: list[bool] = []

    def load() -> None:
        with uninterrupted():
            done.append(True)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert done == [True]
