"""Some lines of source around a frame, where they are on disk.

The debug information of a traced program says which file a frame is in: it may name any file of the machine.
So only plain files with the name of a source file are read, and little of them.
"""

from __future__ import annotations

import os
import stat
from functools import cache

_SUFFIXES = (
    ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".s", ".S", ".rs", ".go", ".py", ".js", ".java",
    ".d",    ".zig", ".nim", ".ml", ".hs", ".f90", ".ads", ".adb", ".pas", ".swift", ".m", ".inc",
)  # fmt: skip
_LARGEST, _LONGEST_LINE, _AROUND = 4 << 20, 240, 3


def source_lines(file: str, line: int) -> tuple[int, list[str]] | None:
    """The number of the first line, and the lines around ``line`` of ``file``; None if they cannot be had."""
    if not file.startswith("/") or not file.endswith(_SUFFIXES):
        return None
    text = _lines(file)
    if not 0 < line <= len(text):
        return None
    first = max(1, line - _AROUND)
    return first, [one[:_LONGEST_LINE] for one in text[first - 1 : line + _AROUND]]


@cache
def _lines(file: str) -> tuple[str, ...]:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ()
    with os.fdopen(fd, "rb") as opened:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return ()
        return tuple(opened.read(_LARGEST).decode("utf-8", "replace").splitlines())
