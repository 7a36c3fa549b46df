"""Learn that something in a folder was put in place anew: inotify(7), as far as clew needs it."""

from __future__ import annotations

import ctypes as C
import os
from pathlib import Path

_CREATE, _MOVED_TO, _CLOSE_WRITE, _ONLYDIR = 0x100, 0x80, 0x8, 0x01000000

_libc = C.CDLL(None, use_errno=True)


class FolderWatch:
    """Watches folders for files that come, are replaced or are written.  Its descriptor is then readable."""

    def __init__(self) -> None:
        self._fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._folders: set[Path] = set()

    def fileno(self) -> int:
        """For poll(2); -1 where the kernel gives no more of them."""
        return self._fd

    def add(self, folder: Path) -> None:
        """Watch one folder more; one that cannot be watched is left out."""
        if self._fd >= 0 and folder not in self._folders:
            self._folders.add(folder)
            mask = _CREATE | _MOVED_TO | _CLOSE_WRITE | _ONLYDIR
            _libc.inotify_add_watch(self._fd, os.fsencode(folder), mask)

    def changed(self) -> bool:
        """Whether anything came since the last call."""
        try:
            return bool(os.read(self._fd, 65536))
        except (BlockingIOError, OSError):
            return False

    def close(self) -> None:
        """Watch nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
