"""What the tracer is told at its start: ``struct settings`` of ``tracer/tracer.h``."""

from __future__ import annotations

import os
import struct

from clew.engine.calls import tracer_table
from clew.engine.engine import RecordRequest

_VERSION = 2


def settings_file(request: RecordRequest, filtered: bool) -> int:
    """A descriptor of a memory file with the settings; the caller closes it."""
    globs = b"".join(glob + b"\0" for glob in request.exclude)
    head = struct.pack(
        "<6I", _VERSION, request.stacks, request.stack_limit, filtered, len(request.pids), len(globs)
    )
    pids = struct.pack(f"<{len(request.pids)}I", *request.pids)
    fd = os.memfd_create("clew-settings", os.MFD_CLOEXEC)
    os.write(fd, head + tracer_table() + pids + globs)
    return fd
