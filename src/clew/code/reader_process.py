"""The reader: a process without rights, which has a child of its own read what it is asked about.

It never reads a file itself, so that no file can do anything to it; a child does, with limits, and is gone
afterwards.  Run as ``main(SOCKET, MODULES)``.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from itertools import islice
from typing import Any, NoReturn

from clew.code import opening
from clew.code.elf import ElfError, ElfFile
from clew.kernel import confine

_MEMORY, _FILES = 4 << 30, 64
_MOST_FDS = 250
_OURS = "clew.code."
Told = tuple[str, int, list[tuple[tuple[Any, ...], int, str]]]


def main(number: int, modules: str) -> None:
    """Answer until whoever asks is gone."""
    for ignored in (signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for default in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(default, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    asking = socket.socket(fileno=number)
    # Afterwards nothing can be imported where we are installed for one user alone.
    for module in modules.split(","):
        prepare = getattr(import_module(module), "prepare", None)
        if prepare is not None:
            prepare()
    opening.opener = opening.open_here
    os.environ.clear()
    confine.give_up_rights()
    while True:
        size, fds, _flags, _address = socket.recv_fds(asking, 4, _MOST_FDS)
        if len(size) < 4:
            return
        request = _receive(asking, int.from_bytes(size, "little"))
        child = os.fork()
        if child == 0:
            _answer(asking, request, fds)
        for fd in fds:
            os.close(fd)
        _wait(child, asking, pickle.loads(request))


def _receive(asking: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = asking.recv(size - len(found))
        if not data:
            os._exit(0)
        found += data
    return bytes(found)


def _wait(child: int, asking: socket.socket, told: Told) -> None:
    """Until the child has ended; it is ended if it takes too long, or nobody is there to hear it."""
    life = os.pidfd_open(child)
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(asking, 0)  # its end alone
    if not any(fd == life for fd, _ in poll.poll(3000 * told[1] * max(1, len(told[2])))):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(life)


def _answer(asking: socket.socket, request: bytes, fds: list[int]) -> NoReturn:
    """In the child: a line of JSON for each question, [value, why there is none, for a limit?]."""
    try:
        asking.close()
        confine.die_with_parent(signal.SIGKILL)
        confine.limit(_MEMORY, _FILES + len(fds))
        confine.refuse_system_calls()
        out, *files = fds
        what, seconds, questions = pickle.loads(request)
        function = _function(what)
        opened = iter(files)
        for arguments, count, name in questions:
            confine.allow_seconds(seconds)
            mine = list(islice(opened, count))
            line = json.dumps(_ask(function, mine, name, arguments)).encode() + b"\n"
            while line:
                line = line[os.write(out, line) :]
            for fd in mine:
                with suppress(OSError):
                    os.close(fd)
    finally:
        os._exit(0)


def _ask(
    function: Callable[..., Any], fds: list[int], name: str, arguments: tuple[Any, ...]
) -> tuple[Any, str, bool]:
    try:
        elves = [ElfFile.from_fd(fd, name) for fd in fds]
        return function(*elves, *arguments), "", False
    except (ElfError, OSError) as error:
        return None, str(error), False
    except MemoryError:
        return None, "reading its code takes too much memory", True
    except Exception as error:  # as many kinds as there are ways to contradict oneself (drgn: Exception)
        return None, f"its code cannot be read: {error!r}"[:200], True


def _function(what: str) -> Callable[..., Any]:
    module, _, name = what.partition(":")
    if not module.startswith(_OURS):
        raise ValueError(what)
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
