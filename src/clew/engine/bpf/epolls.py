"""What epolls watched before the recording began: /proc shows it, as later on ``epoll_ctl`` tells it."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from clew.engine.bpf.libbpf import Map
from clew.kernel import procfs

_EPOLL = "anon_inode:[eventpoll]"
_WATCHED = re.compile(rb"^tfd: +(\d+) events: +[0-9a-f]+ data: +([0-9a-f]+)", re.MULTILINE)
_MOST = 65536  # entries of armed_before in ready.bpf.h


def note_watched(armed: Map, pids: list[int]) -> None:
    """Fill ``armed`` ((start, data, pid, epoll's descriptor) → descriptor) for processes that run.

    A number that stands for two descriptors of one epoll says nothing, and is left out.
    """
    told = 0
    for pid in pids:
        start, seen = _start(pid), list(watched(pid))
        if not start or start != _start(pid):
            continue  # it ended, and what was seen may be of the next one with its number
        for epoll, data, fd in seen[: _MOST - told]:
            armed.update(struct.pack("<QQII", start, data, pid, epoll), struct.pack("<I", fd))
            told += 1


def _start(pid: int) -> int:
    """When the process began, in clock ticks; 0 if it is gone."""
    found = procfs.stat(pid)
    return found.start_ns // procfs.TICK_NS if found else 0


def watched(pid: int) -> Iterator[tuple[int, int, int]]:
    """(epoll's descriptor, data, descriptor) of all that process ``pid`` watches by epoll."""
    folder = Path(f"/proc/{pid}")
    try:
        names = os.listdir(folder / "fd")  # noqa: PTH208 (names are all we want)
    except OSError:
        return
    for name in names:
        try:
            if os.readlink(folder / "fd" / name) != _EPOLL:  # noqa: PTH115
                continue
            text = (folder / "fdinfo" / name).read_bytes()
        except OSError:
            continue
        found: dict[int, list[int]] = {}
        for fd, data in _WATCHED.findall(text):
            found.setdefault(int(data, 16), []).append(int(fd))
        yield from ((int(name), data, fds[0]) for data, fds in found.items() if len(fds) == 1)
