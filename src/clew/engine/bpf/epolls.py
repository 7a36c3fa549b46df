"""What epolls watched before the recording began: /proc shows it, as later on ``epoll_ctl`` tells it."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from clew.engine.bpf.libbpf import Map

_EPOLL = "anon_inode:[eventpoll]"
_WATCHED = re.compile(rb"^tfd: +(\d+) events: +[0-9a-f]+ data: +([0-9a-f]+)", re.MULTILINE)
_MOST = 65536  # entries of armed_before in ready.bpf.h


def note_watched(armed: Map, pids: list[int]) -> None:
    """Fill ``armed`` ((pid, epoll's descriptor, data) → descriptor) for processes that run.

    A number that stands for two descriptors of one epoll says nothing, and is left out.
    """
    told = 0
    for pid in pids:
        for epoll, data, fd in watched(pid):
            if told < _MOST:
                armed.update(struct.pack("<IIQ", pid, epoll, data), struct.pack("<I", fd))
                told += 1


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
