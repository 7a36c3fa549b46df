"""Start a daemon that nobody waits for, yet learn whether it came up.

libvirt: ``virDaemonForkIntoBackground`` (``libvirtd -d``) and ``virCommandDaemonize`` (a session daemon).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from minivirt.errors import Refused

READY = b"ready\n"


def detached(run: Callable[[int], NoReturn]) -> None:
    """Run ``run(ready_fd)`` in a grandchild, in a session of its own; return when it has said READY there.

    Raises ``Refused`` with what it said instead. Forks, so: before any thread is started.
    """
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _in_grandchild(writer, run)
    os.close(writer)
    os.waitpid(middle, 0)
    said = b"".join(iter(lambda: os.read(reader, 4096), b""))
    os.close(reader)
    if said != READY:
        raise Refused(said.decode(errors="replace").strip() or "the daemon ended before it was ready")


def _in_grandchild(writer: int, run: Callable[[int], NoReturn]) -> NoReturn:
    """The second fork is what keeps the daemon from ever getting a terminal: it leads no session."""
    try:
        os.setsid()
        if os.fork() == 0:
            _close_all_but(writer)
            run(writer)
    finally:
        os._exit(0)


def _close_all_but(kept: int) -> None:
    """Streams aside. Otherwise a daemon would hold open, for its life, whatever pipe its starter had.
    libvirt: ``virCommandMassClose``."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
