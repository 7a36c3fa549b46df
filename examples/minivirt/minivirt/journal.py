"""What every task says it did, a JSON line each, if MINIVIRT_JOURNAL names a file.

A reader can follow a request with it; a test can compare a tracer's story with the program's own.
``ns`` is CLOCK_MONOTONIC. A line is one write to a file opened with O_APPEND, so lines never mix.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

_path = os.environ.get("MINIVIRT_JOURNAL") and Path(os.environ["MINIVIRT_JOURNAL"]).absolute()


def note(did: str, **facts: object) -> None:
    """Say that the calling task has just done (or is about to do) ``did``."""
    if not _path:
        return
    line = {"ns": time.monotonic_ns(), "pid": os.getpid(), "tid": threading.get_native_id(), "did": did}
    with contextlib.suppress(OSError):  # a full disk is no reason to fail a request
        fd = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, json.dumps(line | facts).encode() + b"\n")
        os.close(fd)
