"""The daemon's main thread: wait for the next event, call what was registered for it.

libvirt: ``virEventRunDefaultImpl``, called for ever by ``virNetDaemonRun``. Nothing here may block but
the wait itself; whatever takes time is a job for a worker.
"""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable
from contextlib import suppress

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Call = Callable[[], None]


class EventLoop:
    """Readiness of file descriptors, and calls that other threads ask for, one after the other."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._asked: deque[Call] = deque()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_reader, READ, self._run_asked)

    @property
    def wake_fd(self) -> int:
        """A byte written here ends the wait. For ``signal.set_wakeup_fd``."""
        return self._wake_writer

    def watch(self, fd: int, events: int, call: Call) -> None:
        """Call ``call`` whenever ``fd`` is ready; replaces an earlier watch of ``fd``. Loop thread only."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, call)
        else:
            self._selector.register(fd, events, call)

    def unwatch(self, fd: int) -> None:
        """No more calls for ``fd``; fine if there was no watch. Loop thread only."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_soon(self, call: Call) -> None:
        """Have the loop's thread run ``call``. From any thread. This is how a worker gets its reply sent;
        in libvirt ``virNetServerClientSendMessage`` wakes the loop through its eventfd."""
        self._asked.append(call)
        with suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_writer, b"\0")

    def run_once(self, timeout: float | None) -> None:
        """Wait up to ``timeout`` seconds (None: for ever), then dispatch everything that is ready."""
        for key, _ in self._selector.select(timeout):
            # An earlier call of this round may have closed what a later one was to handle.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def _run_asked(self) -> None:
        os.read(self._wake_reader, 4096)
        while self._asked:
            self._asked.popleft()()
