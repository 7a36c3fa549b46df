"""The end of a test that its time limit (pytest-timeout) could not end.

The limit is a signal whose handler raises.  It does nothing for a worker that is stopped, one that hangs in
a call that begins again, or a fixture that hangs after a failure, which takes the limit away.  So each worker
has a process beside it (``python -m tests.support.last_resort PID``), which is told when a test begins and
ends, and kills the worker: by SIGABRT, at which pytest writes the stacks of all threads, then by SIGKILL.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.descendants import descendants, kill

GRACE_S = float(os.environ.get("CLEW_TEST_GRACE_S", "30"))
_DUMP_S = 10.0
_watch: list[subprocess.Popen[bytes]] = []


@pytest.hookimpl
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the process beside this one, if tests run in it."""
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        command = [sys.executable, "-m", "tests.support.last_resort", str(os.getpid())]
        _watch.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, cwd=session.config.rootpath, bufsize=0)
        )


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """A test begins."""
    _tell(f"{settings.timeout} {item.nodeid}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A test has ended, its fixtures too."""
    result = yield
    _tell("")
    return result


@pytest.hookimpl
def pytest_unconfigure() -> None:
    """It ends at the end of its input."""
    for watch in _watch:
        watch.communicate()
    _watch.clear()


def _tell(line: str) -> None:
    for watch in _watch:
        assert watch.stdin is not None
        with suppress(BrokenPipeError):
            watch.stdin.write(line.encode("ascii", "backslashreplace") + b"\n")


# --- the process beside ------------------------------------------------------------------------------


def main() -> None:
    """Read what is told until nobody tells any more, or a test has gone on for too long."""
    watched = int(sys.argv[1])
    try:
        pidfd = os.pidfd_open(watched)
    except ProcessLookupError:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    running, deadline = "", float("inf")
    while True:
        left = deadline - time.monotonic()
        ready = {fd for fd, _ in poll.poll(None if left == float("inf") else max(0, left) * 1000)}
        if pidfd in ready:
            return
        if not ready:
            _end(watched, pidfd, running)
            return
        said = os.read(0, 1 << 16)
        if not said:
            return
        limit, _, running = said.decode().splitlines()[-1].partition(" ")
        deadline = time.monotonic() + float(limit) + GRACE_S if limit else float("inf")


def _end(pid: int, pidfd: int, running: str) -> None:
    os.write(2, f"\ntests: {running} goes on past its time limit; its process {pid} is ended\n".encode())
    below = descendants(pid)
    for number in (signal.SIGABRT, signal.SIGCONT):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    select.select([pidfd], [], [], _DUMP_S)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    # Who was below it now is below the warden, under the same number.
    kill([one for one in below if one != os.getpid()])


if __name__ == "__main__":
    main()
