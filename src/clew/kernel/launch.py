"""Start a command that waits at a gate until we are ready for it."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
from typing import NoReturn

from clew.errors import ClewError, CommandNotFound, PermissionMissing
from clew.kernel.ptrace import let_trace

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_NOT_FOUND = "Check its spelling and PATH; clew runs programs, not shell built-ins (try: sh -c '…')."
_REMEDIES = {
    errno.EACCES: "If it is a program: chmod +x",
    errno.ENOEXEC: "A script's first line names its interpreter: #!/bin/sh",
    errno.E2BIG: "`getconf ARG_MAX` says how long arguments and environment may be together.",
}


def cannot_run(program: bytes, error: int) -> ClewError:
    """The error for a command that exec refused with errno ``error``: exit code 127 if absent, else 126."""
    what = f"Cannot run {os.fsdecode(program)!r}: "
    if error in _ABSENT:
        there = os.path.exists(program)  # noqa: PTH110 (bytes)
        why = "the interpreter that it names is not there." if there else "there is no such program."
        return CommandNotFound(what + why, "" if there else _NOT_FOUND)
    return PermissionMissing(f"{what}{os.strerror(error)}.", _REMEDIES.get(error, ""))


def check_program(program: bytes) -> None:
    """Raise CommandNotFound or PermissionMissing if ``program`` is not there, or is not executable."""
    name = os.fsdecode(program)
    if shutil.which(name) is not None:
        return
    if b"/" in program and os.path.isdir(program):  # noqa: PTH112 (bytes)
        raise cannot_run(program, errno.EISDIR)
    raise cannot_run(program, errno.EACCES if shutil.which(name, mode=os.F_OK) else errno.ENOENT)


class GatedCommand:
    """A child that has been forked and will exec ``argv`` once ``open`` is called.

    Signal dispositions that Python or its caller here changed are put back, so the command starts as from a
    shell: what was ignored when clew was started (nohup) stays so.  Raises CommandNotFound and
    PermissionMissing.  ``tracer`` is a process that will trace it (0: none), as Yama wants to be told.
    """

    def __init__(self, argv: tuple[bytes, ...], tracer: int = 0) -> None:
        self.argv = argv
        check_program(argv[0])
        # With SIGCHLD ignored the kernel would reap the command and its status with it (wait(2)).
        self._deaf = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
        if self._deaf:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gate, self._opener = os.pipe2(os.O_CLOEXEC)
        self._failure, failure = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            self._child(gate, failure, tracer)
        os.close(gate)
        os.close(failure)
        if tracer:
            os.read(self._failure, 1)
        self._pidfd = os.pidfd_open(self.pid)
        self.wait_status: int | None = None

    def _child(self, gate: int, failure: int, tracer: int) -> NoReturn:
        try:
            os.close(self._opener)
            if tracer:
                let_trace(tracer)
                os.write(failure, b"!")
            self._restore_signals()
            if os.read(gate, 1) == b"x":
                os.execvp(self.argv[0], self.argv)
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)

    def _restore_signals(self) -> None:
        # Python ignores these two in every process of its own.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        if self._deaf:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    @property
    def started(self) -> bool:
        """Whether it was let go."""
        return self._opener < 0

    def open(self) -> None:
        """Let it exec.  Raises CommandNotFound or PermissionMissing if that fails."""
        os.write(self._opener, b"x")
        os.close(self._opener)
        self._opener = -1
        said = os.read(self._failure, 16)
        if said:
            self.wait()
            raise cannot_run(self.argv[0], int(said))

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
