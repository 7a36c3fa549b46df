"""How files with code are opened: never waiting, plain files only.

A process that gave up its rights puts another ``opener`` in its place, which asks one that has them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


def open_here(path: Path) -> int:
    """With the rights of this process."""
    # O_NONBLOCK: a FIFO put in the place of a library must not block us.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


opener: Callable[[Path], int] = open_here
"""Gives a descriptor of a file, or raises OSError."""


def open_code(path: Path) -> int:
    """A descriptor of the regular file ``path``; OSError if there is none."""
    fd = opener(path)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{path} is no regular file")
    return fd


def open_elf(path: Path) -> int:
    """As ``open_code``, for somebody without the right to: an ELF program, library or object, nothing else.

    What it is is found out before it is opened to be read: opening a device can have effects of its own.  A
    core dump holds what a process had in memory, so it is refused (PermissionError).
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise FileNotFoundError(f"{path} is no regular file")
        fd = open_here(Path(f"/proc/self/fd/{place}"))
    finally:
        os.close(place)
    head = os.pread(fd, 18, 0)
    if head[:4] == b"\x7fELF" and int.from_bytes(head[16:18], "little") in (1, 2, 3):
        return fd
    os.close(fd)
    raise PermissionError(f"{path} is no program")
