"""What thinks does so without rights: as root, in a child that gave them up.

The child has what was opened before.  For a program's file that it may not open it asks its parent, which
hands out programs and libraries, and nothing else (``opening.open_elf``).
"""

from __future__ import annotations

import os
import select
import socket
import sys
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from clew.code import opening
from clew.errors import EngineError
from clew.kernel import confine

_LONGEST_PATH = 4096
_HERE = ("clew.code.naming", "clew.code.reader_process", "clew.view.escape", "clew.model.rules", "difflib")


def apart(act: Callable[[], None], modules: Collection[str] = ()) -> None:
    """Run ``act``: where this process is privileged, in a child that is not; its failures are told by it.

    ``modules`` are those that it may import: where we are installed for root alone, it could not.  A
    module's ``prepare``, if it has one, is called.  Raises SystemExit with the child's status if that is not
    0, EngineError if it did not come to an end.
    """
    if not confine.is_privileged():
        act()
        return
    for name in (*_HERE, *modules):
        prepare = getattr(import_module(name), "prepare", None)
        if prepare is not None:
            prepare()
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _become(theirs, act)
    theirs.close()
    with ours:
        _serve(ours, os.pidfd_open(child))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise EngineError(
            f"The process that reads the recording was ended by signal {-status}.",
            "If that happens again with this recording, report it (record with -o keeps it).",
        )
    if status:
        raise SystemExit(status)


def _become(asking: socket.socket, act: Callable[[], None]) -> None:
    from clew.cli.main import answer_for

    status = 125
    try:
        status = answer_for(lambda: _without_rights(asking, act))
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        traceback.print_exc()  # A fault of ours: nobody above would tell of it.
    finally:
        os._exit(status)


def _without_rights(asking: socket.socket, act: Callable[[], None]) -> int:
    confine.give_up_rights()
    opener = opening.opener

    def open_or_ask(path: Path) -> int:
        try:
            return opener(path)
        except PermissionError:
            return _ask(asking, path)

    opening.opener = open_or_ask
    act()
    return 0


def _ask(asking: socket.socket, path: Path) -> int:
    asking.send(os.fsencode(path.absolute()))
    error, fds, _flags, _address = socket.recv_fds(asking, 8, 1)
    if fds:
        return fds[0]
    number = int.from_bytes(error, "little")
    raise OSError(number, os.strerror(number), os.fspath(path))


def _serve(child: socket.socket, life: int) -> None:
    """Open files for the child until it has ended."""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(life, select.POLLIN)
    try:
        while not any(fd == life for fd, _ in poll.poll()):
            path = child.recv(_LONGEST_PATH)
            if not path:
                poll.unregister(child)
                continue
            _hand_over(child, path)
    finally:
        os.close(life)


def _hand_over(child: socket.socket, path: bytes) -> None:
    with suppress(BrokenPipeError):
        try:
            fd = opening.open_elf(Path(os.fsdecode(path)))
        except OSError as error:
            child.send((error.errno or 1).to_bytes(8, "little"))
            return
        try:
            socket.send_fds(child, [b"\0"], [fd])
        finally:
            os.close(fd)
