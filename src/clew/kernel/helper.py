"""A helper process of ours: in a session of its own, with nothing of its owner's but a few descriptors.

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
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from importlib import import_module; from clew.kernel import helper; "
    "getattr(import_module(sys.argv[2]), 'main')(*json.loads(sys.argv[3]))"
)


def start(module: str, fds: Collection[int], arguments: tuple[int | str, ...]) -> int:
    """Run ``main(*arguments)`` of ``module`` in a process that keeps ``fds`` only; its process id."""
    alone = threading.active_count() == 1
    pid = os.fork()
    if pid == 0:
        _become(module, fds, arguments, alone)
    return pid


def _become(module: str, fds: Collection[int], arguments: tuple[int | str, ...], alone: bool) -> NoReturn:
    try:
        os.setsid()
        _part_with_terminal()
        if not alone:
            _exec(module, fds, arguments)
        # Objects of the owner's must not close descriptors that are ours by then.
        gc.freeze()
        _close_all_but(fds)
        import_module(module).main(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(125)


def _exec(module: str, fds: Collection[int], arguments: tuple[int | str, ...]) -> None:
    """A new interpreter.  Returns if whoever we are now may not run it: then a fork has to do after all."""
    for fd in fds:
        os.set_inheritable(fd, True)
    words = (json.dumps(sys.path), module, json.dumps(arguments))
    with suppress(PermissionError):
        os.execv(sys.executable, [sys.executable, "-I", "-c", _PROGRAM, *words])


def _part_with_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if "CLEW_HELPER_STDERR" in os.environ else (0, 1, 2):
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
