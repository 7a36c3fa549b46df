"""What to tell people when the kernel, or a program's nature, sets a limit to tracing."""

from __future__ import annotations

import errno
import os

from clew.errors import ClewError, EngineError, PermissionMissing, TaskGone
from clew.kernel import procfs, yama

_FILTERED = "It was started under an earlier recording, whose filter it keeps for life: start it anew."


def refused(pid: int, error: int, tracer: int) -> ClewError:
    """Why process ``pid`` (0: the command) cannot be traced; ``tracer`` is who traces it already, or 0."""
    if error == errno.ESRCH:
        return TaskGone(pid, f"Process {pid} has ended.", "`ps -e` shows what runs.")
    if tracer:
        stat = procfs.stat(tracer)
        name = stat.comm.decode(errors="backslashreplace") if stat else "another program"
        return PermissionMissing(
            f"Process {pid} is traced already, by {name!r} ({tracer}); a process has one tracer.",
            _FILTERED if name == "clew-tracer" else "Detach that one first.",
        )
    if error == errno.EPERM:
        return PermissionMissing(
            f"The kernel does not let clew trace {f'process {pid}' if pid else 'the command'}.",
            yama.remedy(pid),
        )
    return EngineError(f"Cannot trace process {pid}: {os.strerror(error)}.")


def setid_note(program: bytes, owner: int, only_group: bool) -> str:
    """A program that wants privileges which an unprivileged tracer keeps it from getting."""
    name = program.decode(errors="backslashreplace")
    right = (
        "its group's rights"
        if only_group
        else "the rights of root"
        if owner == 0
        else f"user {owner}'s rights"
    )
    return f"{name} is meant to run with {right}, and runs without them: clew traces it without being root."


def unstoppable_note(file: bytes, offset: int) -> str:
    """A place of a rule at which no breakpoint can be put."""
    place = f"{file.decode(errors='backslashreplace')}+0x{offset:x}"
    return f"{place} is left out: other code is there than in the file, or one that cannot be run elsewhere."


def survivors_note(count: int) -> str:
    """Processes that go on after the recording, with the filter they were started with."""
    who = "1 process lives" if count == 1 else f"{count} processes live"
    return f"{who} on; clew-tracer stays with them until they end (see docs/engines.md, or record with -p)."
