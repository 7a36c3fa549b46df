"""A trace read back: tables of events, and the facts about tasks, sockets, stacks and mapped files.

Reads the spool of a recorder that was killed as well as a finished trace: a record cut short at the end is
left out.  Nothing here needs privileges or the machine the trace was made on.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clew.errors import TraceError
from clew.model.event import EventKind
from clew.model.frame import Mapping, StackSample
from clew.trace.folder import open_plain
from clew.trace.layout import FRAMED_EVENT, LENGTH_MASK, LIFE, REGISTERS, RING_HEADER, STACK
from clew.trace.meta import read_meta
from clew.trace.order import put_in_order
from clew.trace.spool import FRAMES, MAPPING, SPOOL_FILES

Events = NDArray[np.void]

# A time is nanoseconds since the boot, a task id is positive as an int: past these, arithmetic goes wrong.
_LAST_TIME, _LAST_TASK = (1 << 62) - 1, (1 << 31) - 1
_LARGEST = {"t0": _LAST_TIME, "t": _LAST_TIME, "tid": _LAST_TASK, "pid": _LAST_TASK}


@dataclass(frozen=True, slots=True)
class Life:
    """One lifecycle record; fields as in ``struct clew_life``."""

    kind: int
    t: int
    tid: int
    pid: int
    start: int
    sp: int
    chan: int
    peer: int
    peer2: int
    local: int
    other_tid: int
    other_pid: int
    stack: int
    code: int
    uid: int
    gid: int
    namespaces: tuple[int, int, int]
    flags: int
    channel: int
    comm: bytes
    blob: bytes

    @property
    def possible(self) -> bool:
        """Whether a kernel can have said so: in a damaged trace, or one made up, anything may stand."""
        called = self.peer2 if self.kind == EventKind.EXECED else 0
        tasks = max(self.tid, self.pid, self.other_tid, self.other_pid)
        return tasks <= _LAST_TASK and max(self.t, self.start, called) <= _LAST_TIME


def _map_all(path: Path) -> dict[str, bytes | mmap.mmap]:
    """The bytes of the trace's files, by name, without copying them; b"" where one is empty or missing.

    They are opened here, all at once: afterwards nothing is needed but what was opened.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TraceError(f"Cannot read the trace {path}: {error.strerror}.") from error
    try:
        access = dict.fromkeys((*SPOOL_FILES, FRAMES), mmap.ACCESS_READ)
        access["events.spool"] = mmap.ACCESS_COPY  # they are put in order in place
        return {name: _map(folder, name, how) for name, how in access.items()}
    except OSError as error:
        raise TraceError(f"Cannot read the trace {path}: {error.strerror}.") from error
    finally:
        os.close(folder)


def _map(folder: int, name: str, access: int) -> bytes | mmap.mmap:
    try:
        fd = open_plain(folder, name)
    except FileNotFoundError:
        return b""
    try:
        return mmap.mmap(fd, 0, access=access) if os.fstat(fd).st_size else b""
    finally:
        os.close(fd)


def _records(data: bytes | mmap.mmap, smallest: int) -> Iterator[memoryview]:
    """The bodies of framed records, as far as they are whole."""
    view = memoryview(data)
    at = 0
    while at + RING_HEADER <= len(view):
        length = int.from_bytes(view[at : at + 4], "little") & LENGTH_MASK
        body = view[at + RING_HEADER : at + RING_HEADER + length]
        if len(body) < length or length < smallest:
            return
        yield body
        at += (RING_HEADER + length + 7) & ~7


class Trace:
    """One recording.  Raises TraceError if ``path`` is no trace, or one this version cannot read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path)
        self._files = _map_all(path)

    @property
    def finished(self) -> bool:
        """Whether the recorder ended in order."""
        return bool(self.meta.get("finished"))

    @property
    def kept_frames(self) -> bytes:
        """The text of frames.json; b"" if no backtraces were kept."""
        return bytes(self._files[FRAMES])

    @cached_property
    def events(self) -> Events:
        """All events, ordered by the time they were reported (``t``)."""
        data = self._files["events.spool"]
        count = len(data) // FRAMED_EVENT.itemsize
        table: Events = np.frombuffer(data, FRAMED_EVENT, count)
        if count and not all(int(table[name].max()) <= most for name, most in _LARGEST.items()):
            possible = np.logical_and.reduce([table[name] <= most for name, most in _LARGEST.items()])
            self._damaged(count - int(possible.sum()))
            table = table[possible]
        if len(table):
            put_in_order(table)
        return table

    @cached_property
    def lives(self) -> list[Life]:
        """Lifecycle records in the order they were reported."""
        told = [_life(body) for body in _records(self._files["lifecycle.spool"], LIFE.itemsize)]
        found = [life for life in told if life.possible]
        self._damaged(len(told) - len(found))
        found.sort(key=lambda life: life.t)
        return found

    def _damaged(self, count: int) -> None:
        """Let every view say that so many records were left out."""
        if count:
            note = f"The trace is damaged: {count} of its records cannot be true and were left out."
            self.meta["notes"] = [*self.meta.get("notes", []), note]

    @cached_property
    def _stack_offsets(self) -> dict[int, memoryview]:
        offsets: dict[int, memoryview] = {}
        for body in _records(self._files["stacks.spool"], STACK.itemsize):
            offsets.setdefault(int.from_bytes(body[8:12], "little"), body)
        return offsets

    def stack(self, stack_id: int) -> StackSample | None:
        """The saved stack with this id; None if it was lost or never taken."""
        body = self._stack_offsets.get(stack_id)
        if body is None:
            return None
        head = np.frombuffer(body, STACK, 1)[0]
        data = bytes(body[STACK.itemsize : STACK.itemsize + int(head["len"])])
        registers = bytes(body[STACK.itemsize - REGISTERS : STACK.itemsize])
        return StackSample(stack_id, int(head["pid"]), int(head["t"]), int(head["sp"]), registers, data)

    @cached_property
    def mappings(self) -> dict[int, list[Mapping]]:
        """Executable mappings told of each process, in order of time; exec and fork are not applied."""
        found: dict[int, list[Mapping]] = defaultdict(list)
        data = self._files["maps.spool"]
        at, size = 0, MAPPING.itemsize
        while at + size <= len(data):
            head = np.frombuffer(data, MAPPING, 1, at)[0]
            ids, names = int(head["build_id_len"]), int(head["path_len"])
            at += size
            if at + ids + names > len(data):
                break
            build_id, path = bytes(data[at : at + ids]), bytes(data[at + ids : at + ids + names])
            at += ids + names
            start, end, offset = int(head["start"]), int(head["end"]), int(head["file_offset"])
            found[int(head["pid"])].append(Mapping(start, end, offset, path, build_id, int(head["t"])))
        for mappings in found.values():
            mappings.sort(key=lambda mapping: mapping.since_ns)
        return dict(found)

    @cached_property
    def recorded(self) -> dict[str, int]:
        """How many events of each kind there are."""
        counts = np.bincount(self.events["kind"], minlength=1)
        names = {int(kind): kind.name.lower() for kind in EventKind}
        found = {names.get(kind, str(kind)): int(n) for kind, n in enumerate(counts) if n}
        for life in self.lives:
            if life.t:
                name = names.get(life.kind, str(life.kind))
                found[name] = found.get(name, 0) + 1
        found.pop("gap", None)
        return found

    @property
    def lost(self) -> dict[str, int]:
        """How many records of each kind were lost."""
        lost: dict[str, int] = dict(self.meta.get("lost", {}))
        if not lost and len(self.events):
            # A recorder that was killed could not count: its gap records still say how many.
            gaps = self.events[self.events["kind"] == EventKind.GAP]
            if len(gaps):
                lost["any"] = int(gaps["ret"].sum())
        return lost


def _life(body: memoryview) -> Life:
    r = np.frombuffer(body, LIFE, 1)[0]
    # The kernel does not clear what an earlier, longer name left behind the end of a shorter one.
    comm = bytes(r["comm"]).partition(b"\0")[0]
    blob = bytes(body[LIFE.itemsize : LIFE.itemsize + int(r["blob_len"])])
    return Life(
        int(r["kind"]), int(r["t"]), int(r["tid"]), int(r["pid"]), int(r["start"]), int(r["sp"]),
        int(r["chan"]), int(r["peer"]), int(r["peer2"]), int(r["local"]), int(r["other_tid"]),
        int(r["other_pid"]), int(r["stack"]), int(r["code"]), int(r["uid"]), int(r["gid"]),
        (int(r["ns_mnt"]), int(r["ns_pid"]), int(r["ns_net"])), int(r["flags"]), int(r["channel"]),
        comm, blob,
    )  # fmt: skip
