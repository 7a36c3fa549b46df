"""Finish a trace whose recorder was killed: drop what is cut short, count what is there."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from clew.errors import TraceError
from clew.trace.folder import lock, open_folder, open_own
from clew.trace.layout import FRAMED_EVENT, LENGTH_MASK, LIFE, RING_HEADER, STACK
from clew.trace.meta import read_meta
from clew.trace.reader import Trace
from clew.trace.spool import FORMAT_VERSION, FULL, MAPPING, SPOOLS, write_meta

_NOT_IN_ORDER = "Recovered: the recorder did not end in order, its last moments may be missing."
_FIXED = {"lifecycle": LIFE.itemsize, "stacks": STACK.itemsize}


def recover(path: Path) -> Trace:
    """Make ``path`` a finished trace, in place; a finished one stays as it is.

    Raises TraceError if nothing of a trace is there, if it is another user's, is still being recorded to,
    is of a newer format, or cannot be written.
    """
    try:
        folder = open_folder(path.resolve())
    except OSError as error:
        raise _nothing(path) from error
    try:
        _finish(path, folder)
    except OSError as error:
        remedy = "Free some room." if error.errno in FULL else "Look who put it there; nothing was changed."
        raise TraceError(f"Cannot recover {path}: {error.strerror}.", remedy) from error
    finally:
        os.close(folder)
    return Trace(path)


def _finish(path: Path, folder: int) -> None:
    if not any(f"{name}.spool" in os.listdir(folder) for name in SPOOLS):
        raise _nothing(path)
    if os.fstat(folder).st_uid != os.geteuid():
        raise TraceError(f"{path} belongs to another user.", "Recover it as that user (sudo -u).")
    lock(folder, path)
    meta = _meta(path)
    # All are opened before any is changed: where one is not what it should be, nothing is done.
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_own_spool(folder, name)) for name in SPOOLS}
        for name, file in opened.items():
            _cut(file, name)
    if not meta.get("finished"):
        meta["notes"] = [*meta.get("notes", []), _NOT_IN_ORDER]
        meta.update(finished=True, recovered=True)
    write_meta(folder, meta)
    write_meta(folder, {**meta, "lost": Trace(path).lost})


def _own_spool(folder: int, name: str) -> BinaryIO:
    """The spool, made if there is none."""
    file = f"{name}.spool"
    try:
        return os.fdopen(open_own(folder, file), "r+b")
    except FileNotFoundError:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.fdopen(os.open(file, flags, 0o600, dir_fd=folder), "r+b")


def _cut(file: BinaryIO, name: str) -> None:
    """Truncate ``file`` to its last whole record."""
    size = os.fstat(file.fileno()).st_size
    if name == "events":
        whole = size - size % FRAMED_EVENT.itemsize
    elif name == "maps":
        whole = _whole_mappings(file.read())
    else:
        whole = _whole_records(file.read(), _FIXED[name])
    if whole < size:
        file.truncate(whole)


def _whole_records(data: bytes, smallest: int) -> int:
    at = 0
    while at + RING_HEADER <= len(data):
        length = int.from_bytes(data[at : at + 4], "little") & LENGTH_MASK
        end = at + ((RING_HEADER + length + 7) & ~7)
        if length < smallest or end > len(data):
            break
        at = end
    return at


def _whole_mappings(data: bytes) -> int:
    at, size = 0, MAPPING.itemsize
    while at + size <= len(data):
        ids, names = (int.from_bytes(data[at + size - n : at + size - n + 2], "little") for n in (4, 2))
        if at + size + ids + names > len(data):
            break
        at += size + ids + names
    return at


def _meta(path: Path) -> dict[str, Any]:
    """What meta.json still says.  Raises TraceError if it is of a newer format."""
    try:
        return read_meta(path)
    except TraceError as error:
        if error.__cause__ is None:
            raise
        return {"format": FORMAT_VERSION, "notes": ["What was recorded is not known: meta.json was damaged."]}


def _nothing(path: Path) -> TraceError:
    return TraceError(f"{path} holds nothing of a recording.", "Name the folder that -o named.")
