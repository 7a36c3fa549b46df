"""What wakes the thread that traces: a SIGCHLD, or work that came up outside its turn.

SIGCHLD is blocked and read from a descriptor (signalfd(2)): delivered, each one would stop the holder for its
heir, who traces it.
"""

from __future__ import annotations

import ctypes as C
import os
import select
import signal
import struct
from contextlib import suppress

from clew.errors import EngineError

_NONBLOCK = os.O_NONBLOCK | os.O_CLOEXEC
_libc = C.CDLL(None, use_errno=True)


class Wakes:
    """Readable when there is something to do.  To be made before the first thread: they inherit the mask."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        mask = struct.pack("<Q", 1 << (signal.SIGCHLD - 1)).ljust(128, b"\0")
        self._signals = int(_libc.signalfd(-1, mask, _NONBLOCK))
        if self._signals < 0:
            raise EngineError(f"Cannot wait for signals: {os.strerror(C.get_errno())}.")
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._both = select.epoll()
        for fd in (self._signals, self._bell):
            self._both.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """For poll(2)."""
        return self._both.fileno()

    def clear(self) -> None:
        """Forget what came so far: to be called before looking for what there is to do."""
        for fd in (self._signals, self._bell):
            with suppress(BlockingIOError):
                os.read(fd, 128)

    def ring(self) -> None:
        """Be readable."""
        os.eventfd_write(self._bell, 1)
