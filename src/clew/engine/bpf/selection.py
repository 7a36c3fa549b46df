"""Who is recorded: what the user named or left out, told to the probe before it is attached."""

from __future__ import annotations

import os
import struct
from collections import defaultdict

from clew.engine.bpf.libbpf import Map, Object
from clew.engine.engine import RecordRequest
from clew.errors import UsageError
from clew.kernel import procfs
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import GLOB_LENGTH, pack_glob

MAX_EXCLUSIONS = 16  # EXCLUSIONS of exclude.bpf.h
_NOT_TRACED, _TRACED = 1, 2  # TRACED_NO and TRACED_YES of state.bpf.h


def select(probe: Object, request: RecordRequest) -> None:
    """Fill the loaded probe's tables: programs left out whenever they are run, verdicts on what runs now.

    A process without a verdict is recorded unless ``request.scope`` is "tree"; children inherit.  Raises
    UsageError.
    """
    exclusions = probe.map("exclusions")
    globs = parse_exclusions(request.exclude)
    for at, glob in enumerate(globs):
        exclusions.update(_u32(at), pack_glob(glob))
    verdicts = probe.map("verdicts")
    _leave_out(verdicts, globs)
    _take_in(verdicts, request.pids)
    _judge(verdicts, os.getpid(), _NOT_TRACED)


def parse_exclusions(texts: tuple[bytes, ...]) -> list[Glob]:
    """The patterns of --exclude.  Raises RuleError or UsageError for what the kernel cannot compare."""
    if len(texts) > MAX_EXCLUSIONS:
        raise UsageError(
            f"More than {MAX_EXCLUSIONS} programs are to be left out.", "Put a glob in place of several."
        )
    globs = [Glob.parse(os.fsdecode(text)) for text in texts]
    for glob in globs:
        if glob.whole_path:
            raise UsageError(
                f"--exclude {glob.source!r} is a path.", "Give the name of a program, without folders."
            )
        if len(glob.elements) > GLOB_LENGTH:
            raise UsageError(
                f"--exclude {glob.source!r} is too long.", f"A pattern has up to {GLOB_LENGTH} characters."
            )
    return globs


def _leave_out(verdicts: Map, globs: list[Glob]) -> None:
    for pid in procfs.pids() if globs else ():
        stat = procfs.stat(pid)
        names = {procfs.link(f"/proc/{pid}/exe").rpartition(b"/")[2], stat.comm if stat else b""}
        if any(glob.matches(name) for name in names for glob in globs):
            _judge(verdicts, pid, _NOT_TRACED)


def _take_in(verdicts: Map, named: tuple[int, ...]) -> None:
    """Processes that were named, with all they have started."""
    children = defaultdict(list)
    for pid in procfs.pids() if named else ():
        stat = procfs.stat(pid)
        if stat is not None:
            children[stat.parent].append(pid)
    waiting = list(named)
    while waiting:
        pid = waiting.pop()
        _judge(verdicts, pid, _TRACED)
        waiting += children.pop(pid, [])


def _judge(verdicts: Map, pid: int, verdict: int) -> None:
    """Whether the process that has this number now is recorded."""
    found = procfs.stat(pid)
    if found is not None:
        verdicts.update(_u32(pid), struct.pack("=QQ", found.start_ns // procfs.TICK_NS, verdict))


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)
