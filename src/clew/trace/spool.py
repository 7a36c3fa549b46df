"""The raw side of a trace while it is being made: files that only grow.

Everything is appended as it comes and nothing is decoded, so that a recorder killed at any point leaves all
it had written.  A trace is a folder, private to its owner (paths and arguments of other people's programs are
in it):

    meta.json         what was recorded, by whom, how it ended (written anew as that becomes known)
    events.spool      EVENT records, framed
    lifecycle.spool   LIFE records with their blobs, framed
    stacks.spool      STACK records with the stack's bytes, framed
    maps.spool        MAPPING records with build id and path
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import TraceError
from clew.model.frame import Mapping

FORMAT_VERSION = 1

MAPPING = np.dtype(
    [
        ("t", "<u8"),
        ("start", "<u8"),
        ("end", "<u8"),
        ("file_offset", "<u8"),
        ("pid", "<u4"),
        ("build_id_len", "<u2"),
        ("path_len", "<u2"),
    ]
)

META = "meta.json"
SPOOLS = ("events", "lifecycle", "stacks", "maps")


def write_failed(path: Path, error: OSError) -> TraceError:
    """The error to show when ``path`` cannot be written."""
    remedy = "Name another place with -o."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free some room; what was recorded until then is kept: `clew recover` reads it."
    return TraceError(f"Cannot write the trace {path}: {error.strerror}.", remedy)


class SpoolWriter:
    """Appends to a trace folder.  Raises TraceError when it cannot (full disk, no permission, it exists)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta: dict[str, Any] = {"format": FORMAT_VERSION, "finished": False}
        self._fds: dict[str, int] = {}
        self.written = dict.fromkeys(SPOOLS, 0)
        try:
            self._make_folder()
            for name in SPOOLS:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fds[name] = os.open(path / f"{name}.spool", flags, 0o600)
        except OSError as error:
            self._close_files()
            raise write_failed(path, error) from error

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            # Only what is plainly an earlier trace of ours is overwritten.
            if self.path.is_dir() and ((self.path / META).exists() or not any(self.path.iterdir())):
                for old in self.path.iterdir():
                    if old.name == META or old.suffix in (".spool", ".parquet"):
                        old.unlink()
                return
            raise TraceError(
                f"{self.path} exists and is not a trace.", "Name another place with -o, or remove it first."
            ) from None

    def append(self, spool: str, data: bytes | memoryview) -> None:
        """Append framed records to one of SPOOLS."""
        view = memoryview(data)
        try:
            while view:
                n = os.write(self._fds[spool], view)
                self.written[spool] += n
                view = view[n:]
        except OSError as error:
            raise write_failed(self.path, error) from error

    def mapping(self, pid: int, mapping: Mapping) -> None:
        """A file mapped executable into process ``pid``."""
        path = mapping.path[:65535]
        head = np.array(
            (
                mapping.since_ns,
                mapping.start,
                mapping.end,
                mapping.file_offset,
                pid,
                len(mapping.build_id),
                len(path),
            ),
            dtype=MAPPING,
        )
        self.append("maps", head.tobytes() + mapping.build_id + path)

    def write_meta(self, **facts: Any) -> None:
        """Add ``facts`` (JSON values) to meta.json, replacing it in one step."""
        self.meta.update(facts)
        new = self.path / (META + ".new")
        try:
            with os.fdopen(
                os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
            ) as out:
                json.dump(self.meta, out, indent=1)
            new.replace(self.path / META)
        except OSError as error:
            raise write_failed(self.path, error) from error

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self._close_files()

    def _close_files(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
