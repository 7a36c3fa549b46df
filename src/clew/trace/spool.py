"""The raw side of a trace while it is being made: files that only grow.

Everything is appended as it comes and nothing is decoded, so that a recorder killed at any point leaves all
it had written.  A trace is a folder, private to its owner (paths and arguments of other people's programs are
in it):

    meta.json         what was recorded, by whom, how it ended (written anew as that becomes known)
    events.spool      EVENT records, framed
    lifecycle.spool   LIFE records with their blobs, framed
    stacks.spool      STACK records with the stack's bytes, framed
    maps.spool        MAPPING records with build id and path
    frames.json       backtraces by stack id, once they were made (clew.flow.backtraces)
"""

from __future__ import annotations

import errno
import json
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import TraceError
from clew.model.frame import Mapping
from clew.trace.folder import lock, open_folder

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
FRAMES = "frames.json"
SPOOLS = ("events", "lifecycle", "stacks", "maps")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEW_META = META + ".new"
SPOOL_FILES = tuple(f"{name}.spool" for name in SPOOLS)
_OURS = frozenset((META, _NEW_META, FRAMES, FRAMES + ".new", *SPOOL_FILES))


def write_failed(path: Path, error: OSError) -> TraceError:
    """The error to show when ``path`` cannot be written."""
    remedy = "Name another place with -o."
    if error.errno in FULL:
        remedy = f"`clew show {shlex.quote(str(path))}` shows what was recorded until then; free some room."
    return TraceError(f"Cannot write the trace {path}: {error.strerror}.", remedy)


def write_meta(folder: int, meta: dict[str, Any]) -> None:
    """Replace meta.json in the open folder ``folder`` in one step.  Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(_NEW_META, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(_NEW_META, flags, 0o600, dir_fd=folder), "w") as out:
        json.dump(meta, out, indent=1)
    os.rename(_NEW_META, META, src_dir_fd=folder, dst_dir_fd=folder)


def _make_folder(path: Path) -> int:
    """Make the folder, or empty it if it plainly is an earlier trace of ours; a descriptor of it.

    Whoever else may write to the folder could lead us to any file, and read what we record: another user's is
    refused, as is a symbolic link, and ours is closed to others before anything is done in it.
    """
    try:
        path.mkdir(mode=0o700)
        folder = open_folder(path)
        lock(folder, path)
        return folder
    except FileExistsError:
        pass
    try:
        folder = open_folder(path)
    except OSError as error:
        raise _not_a_trace(path) from error
    try:
        if not set(os.listdir(folder)) <= _OURS:  # noqa: PTH208 (a descriptor)
            raise _not_a_trace(path)
        if os.fstat(folder).st_uid != os.geteuid():
            raise TraceError(f"{path} belongs to another user.", "Name another place with -o.")
        lock(folder, path)
        os.fchmod(folder, 0o700)
        for name in os.listdir(folder):  # noqa: PTH208
            os.unlink(name, dir_fd=folder)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _not_a_trace(path: Path) -> TraceError:
    return TraceError(f"{path} exists and is not a trace.", "Name another place with -o, or remove it first.")


class SpoolWriter:
    """Appends to a trace folder.  Raises TraceError when it cannot (full disk, no permission, it exists)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta: dict[str, Any] = {"format": FORMAT_VERSION, "finished": False}
        self._fds: dict[str, int] = {}
        self.written = dict.fromkeys(SPOOLS, 0)
        try:
            self._fds[""] = folder = _make_folder(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            for name, file in zip(SPOOLS, SPOOL_FILES, strict=True):
                self._fds[name] = os.open(file, flags, 0o600, dir_fd=folder)
        except OSError as error:
            self._close_files()
            raise write_failed(path, error) from error

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
        try:
            write_meta(self._fds[""], self.meta)
        except OSError as error:
            raise write_failed(self.path, error) from error

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self._close_files()

    def discard(self) -> None:
        """Remove the folder, when there was nothing to record after all."""
        with suppress(OSError):
            for name in os.listdir(self._fds[""]):  # noqa: PTH208
                os.unlink(name, dir_fd=self._fds[""])
            self.path.rmdir()
        self._close_files()

    def _close_files(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
