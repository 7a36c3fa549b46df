"""Signals as the tests need them, however the suite was started: with nohup, in the background, by CI.

What is ignored or blocked when a program is started is so in all that it starts (execve(2)).
"""

from __future__ import annotations

import signal
from types import FrameType

import pytest

_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN it is not inherited: programs have the default, and the suite lives on, as asked."""


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """In the main process and in each worker: nothing is blocked, and nothing ignored that is inherited."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in signal.valid_signals() - set(_PYTHONS_OWN):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
