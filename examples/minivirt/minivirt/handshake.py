"""Parent and child agree, a byte each way, on when the child may go on to its exec.

libvirt: ``virCommandRequireHandshake`` makes the pipes, ``virCommandHandshakeWait`` and
``virCommandHandshakeNotify`` are the parent's side, ``virCommandHandshakeChild`` is the child's.

The *ready* pipe is close-on-exec in the child. That makes its end of file the news that exec worked;
if it did not, an error text comes instead.
"""

from __future__ import annotations

import os

from minivirt.errors import Refused

_BYTE = b"1"


class Handshake:
    """Two pipes. Made before the fork; each side then closes what belongs to the other."""

    def __init__(self) -> None:
        self._ready_reader, self._ready_writer = os.pipe()
        self._go_reader, self._go_writer = os.pipe()
        self._open = {self._ready_reader, self._ready_writer, self._go_reader, self._go_writer}

    def close(self) -> None:
        self._close(*self._open)

    def i_am_parent(self) -> None:
        self._close(self._ready_writer, self._go_reader)

    def i_am_child(self) -> None:
        self._close(self._ready_reader, self._go_writer)

    # the parent's side

    def wait(self) -> None:
        """Wait until the child is there. Raises ``Refused`` if it failed or was killed."""
        if (said := os.read(self._ready_reader, 1)) != _BYTE:
            raise Refused(self._failure(said))

    def notify(self) -> None:
        """Let the child go on. Raises ``Refused`` if it is gone."""
        try:
            os.write(self._go_writer, _BYTE)
        except BrokenPipeError:
            raise Refused(self._failure(b"")) from None

    def wait_exec(self) -> None:
        """Wait until the child runs its new program. Raises ``Refused`` if it could not."""
        if said := os.read(self._ready_reader, 1024):
            raise Refused(self._failure(said))

    # the child's side

    def say_ready(self) -> None:
        os.write(self._ready_writer, _BYTE)

    def wait_go(self) -> bool:
        """False: the parent is gone."""
        return os.read(self._go_reader, 1) == _BYTE

    def say_failed(self, text: bytes) -> None:
        os.write(self._ready_writer, text[:1024])

    def _failure(self, said: bytes) -> str:
        rest = os.read(self._ready_reader, 1024) if said else b""
        return (said + rest).decode(errors="replace") or "the guest's process ended while it was started"

    def _close(self, *fds: int) -> None:
        for fd in fds:
            if fd in self._open:
                self._open.discard(fd)
                os.close(fd)
