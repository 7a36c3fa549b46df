"""frames.json of a trace while it is written: opened by whoever may, filled by whoever has the backtraces."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from clew.errors import TraceError
from clew.trace.spool import FRAMES

_NEW = f"{FRAMES}.new"


class KeptFrames:
    """A new frames.json for the trace ``path``, which takes the old one's place in one step (``put``).

    Raises TraceError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(FileNotFoundError):
                os.unlink(_NEW, dir_fd=self._folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(_NEW, flags, 0o600, dir_fd=self._folder)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, text: str) -> None:
        """Its content, all of it."""
        data = memoryview(text.encode())
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self.drop()
            raise self._failed(error) from error

    def put(self) -> None:
        """Have it take effect."""
        try:
            os.rename(_NEW, FRAMES, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._close()

    def drop(self) -> None:
        """Remove it: a part of it would be taken for damage by whoever reads the trace next."""
        with suppress(OSError):
            os.unlink(_NEW, dir_fd=self._folder)
        self._close()

    def _close(self) -> None:
        for fd in (self._file, self._folder):
            if fd >= 0:
                os.close(fd)
        self._file = self._folder = -1

    def _failed(self, error: OSError) -> TraceError:
        return TraceError(
            f"Cannot write {self._path / FRAMES}: {error.strerror}.", "Backtraces are not kept."
        )
