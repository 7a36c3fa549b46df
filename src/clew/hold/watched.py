"""Our end of the guardian: start it, tell it who is held, take leave of it."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from clew.errors import HoldError
from clew.model.task import TaskId

_TOLD = struct.Struct("=cIIQ")
_PROGRAM = Path(__file__).with_name("guardian.py")
_READY_S = 20.0


class Guardian:
    """A guardian that runs.  ``notes_fd`` and ``settings_fd`` are BPF maps it is given; -1: there is none."""

    def __init__(self, notes_fd: int = -1, settings_fd: int = -1) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [fd for fd in (theirs.fileno(), notes_fd, settings_fd) if fd >= 0]
        arguments = map(str, (os.getpid(), theirs.fileno(), notes_fd, settings_fd))
        with theirs:
            # -I: nothing in our environment or current folder can change what it runs.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM, *arguments],
                pass_fds=fds,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
        self._socket = ours

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._socket.fileno()

    def has_ended(self) -> bool:
        """Whether it has ended; it says nothing after its "ready" until then."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def wait_ready(self) -> None:
        """Return once it watches.  Raises HoldError if it does not come up."""
        self._socket.settimeout(_READY_S)
        try:
            ready = self._socket.recv(16) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self._process.kill()
            raise HoldError("The guardian process did not start.", "Without it nothing is held; try again.")
        self._socket.setblocking(False)

    def holds(self, task: TaskId) -> None:
        """Tell it of a hold."""
        self._tell(b"+", task)

    def let_go(self, task: TaskId) -> None:
        """Tell it that a hold ended."""
        self._tell(b"-", task)

    def _tell(self, sign: bytes, task: TaskId) -> None:
        # If it is gone or behind, the kernel's notes tell it, or its successor, the same.
        with suppress(OSError):
            self._socket.send(_TOLD.pack(sign, task.pid, task.tid, task.start_ns))

    def close(self, rest: bool = False) -> None:
        """End it: everything was let go; or (``rest``) leave those to it who do not run yet."""
        with suppress(OSError):
            self._socket.setblocking(True)
            self._socket.send(b"rest" if rest else b"bye")
        self._socket.close()
        if not rest:
            self._process.wait()
