"""Finish a trace whose recorder was killed: drop what is cut short, count what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clew.errors import TraceError
from clew.trace.layout import FRAMED_EVENT, LENGTH_MASK, LIFE, RING_HEADER, STACK
from clew.trace.meta import read_meta
from clew.trace.reader import Trace
from clew.trace.spool import FORMAT_VERSION, MAPPING, SPOOLS, open_folder, write_failed, write_meta

_NOT_IN_ORDER = "Recovered: the recorder did not end in order, its last moments may be missing."
_FIXED = {"lifecycle": LIFE.itemsize, "stacks": STACK.itemsize}


def recover(path: Path) -> Trace:
    """Make ``path`` a finished trace, in place; a finished one stays as it is.

    Raises TraceError if nothing of a trace is there, if it is of a newer format, or cannot be written.
    """
    if not any((path / f"{name}.spool").exists() for name in SPOOLS):
        raise TraceError(f"{path} holds nothing of a recording.", "Name the folder that -o named.")
    meta = _meta(path)
    try:
        for name in SPOOLS:
            _cut(path / f"{name}.spool", name)
    except OSError as error:
        raise write_failed(path, error) from error
    if not meta.get("finished"):
        meta["notes"] = [*meta.get("notes", []), _NOT_IN_ORDER]
        meta.update(finished=True, recovered=True)
    _write_meta(path, meta)
    trace = Trace(path)
    _write_meta(path, {**meta, "lost": trace.lost})
    return trace


def _cut(file: Path, name: str) -> None:
    """Truncate ``file`` to its last whole record."""
    try:
        data = file.read_bytes() if name != "events" else b""
        size = file.stat().st_size
    except FileNotFoundError:
        file.touch(0o600)
        return
    if name == "events":
        whole = size - size % FRAMED_EVENT.itemsize
    elif name == "maps":
        whole = _whole_mappings(data)
    else:
        whole = _whole_records(data, _FIXED[name])
    if whole < size:
        os.truncate(file, whole)


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


def _write_meta(path: Path, meta: dict[str, Any]) -> None:
    try:
        folder = open_folder(path.resolve())
        try:
            write_meta(folder, meta)
        finally:
            os.close(folder)
    except OSError as error:
        raise write_failed(path, error) from error
