"""Waiting for something to become true, with an end to it: tests never sleep for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


def until(condition: Callable[[], Answer], timeout: float = 10.0, what: str = "") -> Answer:
    """Ask ``condition`` again and again until its answer is truthy, and return that answer.

    ``timeout`` is in seconds; ``what`` says in the failure what was waited for.  Raises TimeoutError
    with the last answer.  An exception of ``condition`` passes through at once.

        until(lambda: Path("/proc/1/stat").exists(), what="init")
    """
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise TimeoutError(f"not true within {timeout} s: {what or condition}; last answer: {answer!r}")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
