"""Processes by descriptor: a signal sent through one can never reach a later process of the same number."""

from __future__ import annotations

import os
import select
import signal

from clew.errors import PermissionMissing, TaskGone


class PidFd:
    """A process, until ``close``.  Its descriptor is readable once the process has ended (pidfd_open(2)).

    Raises TaskGone if there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except OSError as error:
            raise TaskGone(pid, f"Process {pid} has ended.") from error

    def fileno(self) -> int:
        """The descriptor, for poll(2)."""
        return self._fd

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended (it may still be a zombie), waiting at most ``timeout_s`` for that."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def send(self, number: int) -> None:
        """Send a signal to the process.  TaskGone if it has ended, PermissionMissing if that is forbidden."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError as error:
            raise TaskGone(self.pid, f"Process {self.pid} has ended.") from error
        except PermissionError as error:
            raise PermissionMissing(f"The kernel does not let clew signal process {self.pid}.") from error

    def close(self) -> None:
        """Give the descriptor up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
