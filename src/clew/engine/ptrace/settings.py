"""What the tracer is told at its start: ``struct settings`` of ``tracer/tracer.h``."""

from __future__ import annotations

import os
import struct

from clew.engine.calls import tracer_table
from clew.engine.engine import RecordRequest
from clew.engine.exclusions import parse_exclusions
from clew.model.rules.kernel import pack_glob

_VERSION = 3


def settings_file(request: RecordRequest, filtered: bool) -> int:
    """A descriptor of a memory file with the settings; the caller closes it."""
    globs = [pack_glob(glob) for glob in parse_exclusions(request.exclude)]
    head = struct.pack(
        "<6I", _VERSION, request.stacks, request.stack_limit, filtered, len(request.pids), len(globs)
    )
    pids = struct.pack(f"<{len(request.pids)}I", *request.pids)
    fd = os.memfd_create("clew-settings", os.MFD_CLOEXEC)
    os.write(fd, head + tracer_table() + pids + b"".join(globs))
    return fd
