"""The tracer's process, and the socket over which it speaks (``enum message`` of ``tracer/tracer.h``)."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from clew.engine.engine import RecordRequest
from clew.engine.ptrace.binary import executable
from clew.engine.ptrace.settings import settings_file

_MESSAGE = struct.Struct("<4q")
_MESSAGE_MAX = _MESSAGE.size + 4096
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


class Said(Enum):
    """What a message is about."""

    STARTED = "S"
    FAILED = "X"
    REFUSED = "R"
    SETID = "U"
    PTRACE = "P"
    ENDED = "E"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: three numbers and a text, whose meaning ``said`` decides."""

    said: Said
    values: tuple[int, int, int]
    text: bytes = b""


class TracerLink:
    """A running tracer.  Leaving the context tells it to stop, if it has not; it never harms the program."""

    def __init__(self, request: RecordRequest, rings_fd: int, filtered: bool) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        settings = settings_file(request, filtered)
        try:
            _start([settings, rings_fd, theirs.fileno()], request.command)
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
            os.close(settings)

    def __enter__(self) -> TracerLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def stop(self) -> None:
        """Ask it to end the recording; ENDED follows."""
        try:
            self.socket.send(b"s")
        except OSError:
            return  # it has ended, which says the same

    def messages(self) -> Iterator[Message]:
        """What it has said since the last call; NOTHING if it is gone."""
        while True:
            try:
                data = self.socket.recv(_MESSAGE_MAX)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                yield Message(Said.NOTHING, (0, 0, 0))
                return
            kind, a, b, c = _MESSAGE.unpack_from(data)
            message = Message(Said(chr(kind)), (a, b, c), data[_MESSAGE.size :])
            yield message
            if message.said in (Said.FAILED, Said.REFUSED, Said.ENDED):
                return


def _start(fds: list[int], command: tuple[bytes, ...]) -> None:
    """Run the tracer with ``fds`` (and what we were given ourselves) open; it detaches itself at once."""
    path = executable()
    argv = [os.fsencode(path), *(str(fd).encode() for fd in fds), *command]
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        # Signals Python changed are the command's to have as they were.
        pid = os.posix_spawn(path, argv, os.environ, setsigdef=_PYTHON_IGNORES)
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)
    with suppress(ChildProcessError):  # our caller may have SIGCHLD ignored
        os.waitpid(pid, 0)
