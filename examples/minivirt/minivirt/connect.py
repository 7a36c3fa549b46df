"""From a shell to its daemon, which may have to be started first.

libvirt: ``virNetSocketNewConnectUNIX``; on demand a session daemon comes up by ``virNetSocketForkDaemon``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from minivirt import journal
from minivirt.detach import detached
from minivirt.errors import Refused
from minivirt.places import SYSTEM, Places, make

_MINIVIRTD = Path(__file__).resolve().parent.parent / "minivirtd"
_IDLE_S = "30"


def connect(where: Places) -> socket.socket:
    """A connection to the daemon of ``where``. Raises ``Refused`` if none runs or may be started."""
    if where.kind != SYSTEM:
        make(where)
    with _connecting(where):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _connected(where)
        if where.kind == SYSTEM:
            raise Refused("the system daemon is not running: start it as root with 'minivirtd -d'")
        journal.note("start daemon")
        detached(_exec_daemon)
        return _connected(where)


@contextlib.contextmanager
def _connecting(where: Places) -> Iterator[None]:
    """One shell at a time, so that two do not start a daemon each; and not while an idle daemon leaves."""
    try:
        lock = where.connect_lock.open("a")
    except FileNotFoundError:
        raise Refused("the system daemon is not running: start it as root with 'minivirtd -d'") from None
    except PermissionError:
        raise Refused("only root may talk to the system daemon; try --connect session") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _connected(where: Places) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(where.socket))
    except OSError:
        connection.close()
        raise
    return connection


def _exec_daemon(ready_fd: int) -> NoReturn:
    """In the grandchild: become the session daemon."""
    os.set_inheritable(ready_fd, True)
    timeout = os.environ.get("MINIVIRT_TIMEOUT", _IDLE_S)
    daemon = [sys.executable, str(_MINIVIRTD), "--session", "--timeout", timeout, "--ready-fd", str(ready_fd)]
    os.execv(sys.executable, daemon)
