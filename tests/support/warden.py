"""Nothing that the suite started outlives it, however it ends.

Two processes stand above pytest: the one that was started, which only waits, and a second one below it.  Both
are subreapers (prctl(2)), so that whoever loses its parent, a daemon or the child of a killed worker, comes
to the second one, and is killed when pytest has ended.  If any one of the three is killed, another sees it
and does the same: the second is told of the first's end (PR_SET_PDEATHSIG), the first waits for the second.
"""

from __future__ import annotations

import ctypes as C
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.support.descendants import descendants, kill, told

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_GRACE_S, _PAUSE_S, _PATIENCE_S = 3.0, 0.02, 10.0
_SI_USER = 0


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Go on in a grandchild, unless this is a worker: its main process has gone on so before."""
    if not hasattr(config, "workerinput"):
        # SIG_IGN would take the children's statuses away (wait(2)).
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _below(lambda: False)
        first = os.getppid()
        C.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        _below(lambda: os.getppid() != first)


def _below(orphaned: Callable[[], bool]) -> None:
    """Return in a child; this process ends as the child does, or when ``orphaned``."""
    C.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        try:
            _stand_above(child, orphaned)
        finally:
            os._exit(3)


def _stand_above(child: int, orphaned: Callable[[], bool]) -> NoReturn:
    heard = {signal.SIGCHLD, *_PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    while (status := _reap(child)) is None and not orphaned():
        got = signal.sigwaitinfo(heard)
        # What a terminal sends (SI_KERNEL) the child has been sent too.
        if got.si_signo in _PASSED_ON and got.si_code <= _SI_USER and not orphaned():
            os.kill(child, got.si_signo)
    _end_all(_GRACE_S if status is not None and os.WIFEXITED(status) else 0)
    _end_as(signal.SIGKILL if status is None else status)


def _reap(child: int) -> int | None:
    """Take all who have ended; the status of ``child`` if it is among them."""
    found = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    except ChildProcessError:
        pass
    return found


def _end_all(grace_s: float) -> None:
    """Kill all below this process; those that do not end by themselves in time are named."""
    begun, named = time.monotonic(), False
    while left := descendants(os.getpid()):
        waited = time.monotonic() - begun
        if waited >= grace_s:
            if not named:
                _say(f"left behind, and killed: {', '.join(map(told, left))}")
                named = True
            kill(left)
        if waited >= grace_s + _PATIENCE_S:
            _say(f"could not be killed: {', '.join(map(told, left))}")
            break
        time.sleep(_PAUSE_S)
        _reap(0)


def _say(text: str) -> None:
    os.write(2, f"tests: {text}\n".encode())


def _end_as(status: int) -> NoReturn:
    """End with a wait status."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)
