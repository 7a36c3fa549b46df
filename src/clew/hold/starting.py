"""Starting a holder: a child in a session of its own, with nothing of its owner's but its sockets.

A process with one thread is simply forked, which takes milliseconds.  One with several starts a new
interpreter: what another thread was about to do at the fork, holding a lock perhaps, would never be done in
the child.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import traceback
from collections.abc import Collection
from typing import NoReturn

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from clew.hold.holder import main; main(*map(int, sys.argv[2:]))"
)


def start_holder(sockets: tuple[int, int, int], owner: int) -> int:
    """Start a holder for process ``owner``, which talks through these descriptors; its process id."""
    alone = threading.active_count() == 1
    pid = os.fork()
    if pid == 0:
        _become_holder(sockets, owner, alone)
    return pid


def _become_holder(sockets: tuple[int, int, int], owner: int, alone: bool) -> NoReturn:
    try:
        os.setsid()
        _part_with_terminal()
        if alone:
            _serve(sockets, owner)
        for fd in sockets:
            os.set_inheritable(fd, True)
        numbers = map(str, (*sockets, owner))
        os.execv(sys.executable, [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), *numbers])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(125)


def _serve(sockets: tuple[int, int, int], owner: int) -> NoReturn:
    # Objects of the owner's must not close descriptors that are ours by then.
    gc.freeze()
    _close_all_but(sockets)
    from clew.hold.holder import main

    main(*sockets, owner)
    os._exit(0)


def _part_with_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if "CLEW_HOLDER_STDERR" in os.environ else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _close_all_but(kept: Collection[int]) -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue
