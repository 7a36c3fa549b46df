"""What meta.json says of a recording, read with suspicion: a trace may come from anyone, and be damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clew.errors import TraceError
from clew.trace.folder import open_plain
from clew.trace.spool import FORMAT_VERSION, META

_LARGEST = (1 << 63) - 1


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _list_of(each: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(each, value))


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_count, value.values()))


_FACTS: Mapping[str, Callable[[object], bool]] = {
    "finished": _flag,
    "recovered": _flag,
    "command": _list_of(_text),
    "pids": _list_of(_count),
    "until": _text,
    "engine": _text,
    "boot_id": _text,
    "machine": _text,
    "release": _text,
    "began": _count,
    "wall": _number,
    "root_pid": _count,
    "wait_status": lambda value: isinstance(value, int) and 0 <= value < 1 << 16,
    "lost": _counts,
    "notes": _list_of(_text),
}


def read_meta(path: Path) -> dict[str, Any]:
    """The facts in the trace ``path``; one that is not what it should be counts as not told.

    Raises TraceError if there are none, if the file is damaged, or of a newer format.
    """
    try:
        meta = json.loads(_text_of(path))
        version = meta["format"]
        if not _count(version):
            raise ValueError(version)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TraceError(f"{path} is not a trace.", "`clew record -o TRACE -- COMMAND` makes one.") from error
    except OSError as error:
        raise TraceError(f"Cannot read the trace {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TraceError(
            f"{path}/{META} is damaged.", "`clew recover` rebuilds what it can from the rest."
        ) from error
    if version > FORMAT_VERSION:
        raise TraceError(
            f"{path} was made by a newer clew: its format is {version}, ours {FORMAT_VERSION}.",
            "Install the newer version to read it.",
        )
    return {name: value for name, value in meta.items() if name not in _FACTS or _FACTS[name](value)}


def _text_of(path: Path) -> bytes:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.fdopen(open_plain(folder, META), "rb") as file:
            return file.read()
    finally:
        os.close(folder)
