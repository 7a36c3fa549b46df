"""What the tracer is told at its start: ``struct settings`` of ``tracer/tracer.h``."""

from __future__ import annotations

import os
import struct

from clew.engine.engine import RecordRequest
from clew.engine.syscall_class import TABLE_SIZE, SyscallClass, syscall_classes
from clew.kernel.syscalls import number_of

_VERSION = 1

# What only the kernel can tell (which open was woken), or this engine does not tell yet: a stop for nothing.
_NOT_TOLD = (SyscallClass.EPOLL_CTL, SyscallClass.TIMER_SET, SyscallClass.OPEN)

# Calls that are not recorded but change what we know: enum call_class, from CLASS_MMAP on.
_OWN = {64: "mmap", 65: "prctl", 66: "connect bind listen", 67: "ptrace"}


def class_table() -> bytes:
    """How each system call is treated, one byte a number."""
    table = bytearray(TABLE_SIZE)
    for nr, kind in syscall_classes().items():
        table[nr] = SyscallClass.NONE if kind in _NOT_TOLD else kind
    for own, names in _OWN.items():
        for number in map(number_of, names.split()):
            if number is not None:
                table[number] = own
    return bytes(table)


def settings_file(request: RecordRequest, filtered: bool) -> int:
    """A descriptor of a memory file with the settings; the caller closes it."""
    globs = b"".join(glob + b"\0" for glob in request.exclude)
    head = struct.pack(
        "<6I", _VERSION, request.stacks, request.stack_limit, filtered, len(request.pids), len(globs)
    )
    pids = struct.pack(f"<{len(request.pids)}I", *request.pids)
    fd = os.memfd_create("clew-settings", os.MFD_CLOEXEC)
    os.write(fd, head + class_table() + pids + globs)
    return fd
