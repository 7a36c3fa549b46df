"""The folder of a trace, and opening what is in it: never through a link, never anything but a plain file.

Whoever can write to a folder can put a symbolic link, a FIFO or a device where a file of ours is expected.
Everything is therefore opened beneath one descriptor of the folder, and looked at before it is used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from clew.errors import TraceError


def open_folder(path: Path) -> int:
    """A descriptor of the trace folder ``path``, which is not followed if it is a symbolic link.  OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def lock(folder: int, path: Path) -> None:
    """Say that the folder is being written to, until the descriptor is closed.

    Raises TraceError if another process says so.  Where the file system knows no locks, nobody is kept out.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TraceError(f"{path} is being recorded to.", "Wait until that recording has ended.") from error
    except OSError:
        return


def open_plain(folder: int, name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the regular file ``name`` in the open folder.

    Raises FileNotFoundError if there is none, OSError (EINVAL) if it is anything but a regular file.
    """
    # O_NONBLOCK: opening a FIFO would wait for its other end.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_plain(name) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_plain(name)
    return fd


def open_own(folder: int, name: str) -> int:
    """As ``open_plain``, to write to: the file must be the caller's, and have no other name.

    A hard link would be a way to a file outside.  Raises PermissionError if it is not so.
    """
    fd = open_plain(folder, name, os.O_RDWR)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(fd)
        what = "has another name elsewhere" if found.st_uid == os.geteuid() else "belongs to another user"
        raise PermissionError(errno.EPERM, f"{name} in it {what}")
    return fd


def _not_plain(name: str) -> OSError:
    return OSError(errno.EINVAL, f"{name} in it is no regular file")
