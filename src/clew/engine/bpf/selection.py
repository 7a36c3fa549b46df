"""Who is recorded: what the user named or left out, told to the probe before it is attached."""

from __future__ import annotations

import os
import struct
from collections import defaultdict

from clew.engine.bpf.libbpf import Map, Object
from clew.engine.engine import RecordRequest
from clew.engine.exclusions import parse_exclusions
from clew.kernel import procfs
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import pack_glob

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


def _leave_out(verdicts: Map, globs: list[Glob]) -> None:
    for pid in procfs.pids() if globs else ():
        names = procfs.program_names(pid)
        if any(glob.matches_path(name) for name in names for glob in globs):
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
