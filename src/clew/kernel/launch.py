"""Start a command that waits at a gate until we are ready for it."""

from __future__ import annotations

import os
import select
import shutil
import signal
from typing import NoReturn

from clew.errors import CommandNotFound

_NOT_FOUND = "Check its spelling and PATH; clew runs programs, not shell built-ins (try: sh -c '…')."


class GatedCommand:
    """A child that has been forked and will exec ``argv`` once ``open`` is called.

    Signal dispositions that Python changed are put back, so the command starts as from a shell.
    Raises CommandNotFound.
    """

    def __init__(self, argv: tuple[bytes, ...]) -> None:
        self.argv = argv
        if shutil.which(os.fsdecode(argv[0])) is None:
            raise CommandNotFound(f"Cannot run {os.fsdecode(argv[0])!r}: there is no such program.", _NOT_FOUND)
        gate, self._opener = os.pipe2(os.O_CLOEXEC)
        self._failure, failure = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            self._child(gate, failure)
        os.close(gate)
        os.close(failure)
        self._pidfd = os.pidfd_open(self.pid)
        self.wait_status: int | None = None

    def _child(self, gate: int, failure: int) -> NoReturn:
        try:
            os.close(self._opener)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            if os.read(gate, 1) == b"x":
                os.execvp(self.argv[0], self.argv)
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)

    def open(self) -> None:
        """Let it exec.  Raises CommandNotFound if that fails."""
        os.write(self._opener, b"x")
        os.close(self._opener)
        self._opener = -1
        said = os.read(self._failure, 16)
        if said:
            self.wait()
            what = os.strerror(int(said))
            raise CommandNotFound(f"Cannot run {os.fsdecode(self.argv[0])!r}: {what}.", _NOT_FOUND)

    def ended(self, timeout_s: float) -> bool:
        """Whether it ended, waiting at most ``timeout_s``; then ``wait_status`` is set."""
        if self.wait_status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(timeout_s * 1000):
                self.wait()
        return self.wait_status is not None

    def wait(self) -> int:
        """Reap it; its status as waitpid(2) gives it."""
        if self.wait_status is None:
            self.wait_status = os.waitpid(self.pid, 0)[1]
        return self.wait_status

    def close(self) -> None:
        """Give up the gate (a command not yet let go ends) and the descriptors."""
        if self._opener >= 0:
            os.close(self._opener)
            self._opener = -1
            self.wait()
        for fd in (self._failure, self._pidfd):
            os.close(fd)
