"""Who was who at which time: tasks and the images of their processes, from the lifecycle records."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from clew.model.event import EventKind, LifeFlag
from clew.model.frame import Mapping
from clew.model.task import Image, Namespaces, Party, TaskId
from clew.trace.reader import Life, Trace

_UNKNOWN = Image(b"")
_DELETED = b" (deleted)"  # d_path() in the kernel says so of files without a name, a memfd's among them


@dataclass(slots=True)
class ImageSpan:
    """One image of one process.  ``filename`` is what exec was asked for; ``stack`` where it was called."""

    image: Image
    filename: bytes
    caller_tid: int
    stack: int
    parent: ImageSpan | None = None


@dataclass(slots=True)
class TaskSpan:
    """One life of one task id.  ``died`` is 0 while it lives; ``names`` are (time, comm)."""

    id: TaskId
    born: int
    parent_tid: int
    parent_pid: int
    is_thread: bool
    call: int
    stack: int
    sp: int
    image: ImageSpan
    names: list[tuple[int, bytes]]
    images: list[tuple[int, ImageSpan]] = field(default_factory=list)
    died: int = 0
    exit_code: int = 0

    @property
    def exit_status(self) -> int:
        """What wait(2) says of its end: the status, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(self.exit_code & 0xFFFF)


def _join_path(blob: bytes) -> bytes:
    return b"/" + b"/".join(reversed(blob.removesuffix(b"\0").split(b"\0"))) if blob else b""


def _whole_path(life: Life) -> bytes:
    """b"" if only its end is known: it would pass for another path."""
    return b"" if life.flags & LifeFlag.CUT else _join_path(life.blob)


class TaskTable:
    """Looks tasks and images up by (tid, time).  Times are the trace's clock; 0 is before the recording."""

    def __init__(self, trace: Trace) -> None:
        self._spans: dict[int, list[TaskSpan]] = {}
        self._mappings = trace.mappings
        self.births: list[TaskSpan] = []
        self.execs: list[tuple[Life, TaskSpan, ImageSpan]] = []
        self.exits: list[tuple[Life, TaskSpan]] = []
        self.root: TaskSpan | None = None
        self.root_image: ImageSpan | None = None
        self.root_time = 0
        last_exec: dict[int, ImageSpan] = {}
        for life in trace.lives:
            self._take(life, last_exec)

    def _take(self, life: Life, last_exec: dict[int, ImageSpan]) -> None:
        if life.kind == EventKind.FORKED:
            self._born(life)
        elif life.kind == EventKind.EXECED:
            last_exec[life.pid] = self._execed(life)
        elif life.kind in (EventKind.ARGV, EventKind.EXE_PATH, EventKind.CWD_PATH):
            span = last_exec.get(life.pid)
            if span:
                _complete(span, life)
        elif life.kind == EventKind.EXITED:
            span_ = self.span(life.tid, life.t)
            span_.died, span_.exit_code = life.t, life.code
            self.exits.append((life, span_))
        elif life.kind == EventKind.RENAMED:
            self.span(life.tid, life.t).names.append((life.t, life.comm))

    def _born(self, life: Life) -> None:
        parent = self._spans.get(life.other_tid)
        image = self.image_span(life.other_tid, life.t) if parent else ImageSpan(_UNKNOWN, b"", 0, 0)
        span = TaskSpan(
            TaskId(life.pid, life.tid, life.start),
            life.t,
            life.other_tid,
            life.other_pid,
            bool(life.flags & LifeFlag.THREAD),
            life.code,
            life.stack,
            life.sp,
            image,
            [(life.t, life.comm)],
            [(life.t, image)],
        )
        self._spans.setdefault(life.tid, []).append(span)
        if life.t:
            self.births.append(span)

    def _execed(self, life: Life) -> ImageSpan:
        span = self.span(life.tid, life.t, life)
        image = Image(
            life.blob,
            uid=life.uid,
            gid=life.gid,
            since_ns=life.t,
            namespaces=Namespaces(*life.namespaces),
            argv_truncated=True,
        )
        new = ImageSpan(image, life.blob, life.other_tid, life.stack, span.images[-1][1] if life.t else None)
        span.names.append((life.t, life.comm))
        span.images.append((life.t, new))
        if life.t:
            self.execs.append((life, span, new))
        if life.flags & LifeFlag.ROOT and self.root is None:
            self.root, self.root_image, self.root_time = span, new, life.t
        return new

    def span(self, tid: int, t: int, seen: Life | None = None) -> TaskSpan:
        """The task that had ``tid`` at ``t``; one nothing is known of is made up on the spot."""
        spans = self._spans.get(tid)
        if spans is None:
            pid = seen.pid if seen else tid
            image = ImageSpan(_UNKNOWN, b"", 0, 0)
            start = seen.start if seen else 0
            made = TaskSpan(
                TaskId(pid, tid, start), 0, 0, 0, pid != tid, 0, 0, 0, image, [(0, b"?")], [(0, image)]
            )
            self._spans[tid] = [made]
            return made
        if len(spans) == 1:
            return spans[0]
        at = bisect_right(spans, t, key=lambda s: s.born)
        return spans[max(0, at - 1)]

    def all(self) -> Iterator[TaskSpan]:
        """Every life of every task id."""
        for spans in self._spans.values():
            yield from spans

    @property
    def reused(self) -> bool:
        """Whether any task id was used twice in the recording."""
        return any(len(spans) > 1 for spans in self._spans.values())

    def ever_of(self, tid: int, pids: set[int]) -> bool:
        """Whether a task called ``tid`` was ever of one of the processes ``pids``."""
        return any(span.id.pid in pids for span in self._spans.get(tid, ()))

    def know(self, tid: int, pid: int) -> None:
        """An event named this pair: remember it for a task whose birth was not seen."""
        if tid not in self._spans:
            image = self._spans[pid][0].image if pid in self._spans else ImageSpan(_UNKNOWN, b"", 0, 0)
            names = [(0, self._spans[pid][0].names[0][1] if pid in self._spans else b"?")]
            made = TaskSpan(TaskId(pid, tid, 0), 0, 0, 0, pid != tid, 0, 0, 0, image, names, [(0, image)])
            self._spans[tid] = [made]

    def image_span(self, tid: int, t: int) -> ImageSpan:
        """What the process of task ``tid`` ran at ``t``."""
        span = self.span(tid, t)
        if span.id.pid != span.id.tid:
            span = self.span(span.id.pid, t)
        at = bisect_right(span.images, t, key=lambda pair: pair[0])
        return span.images[max(0, at - 1)][1]

    def comm(self, tid: int, t: int) -> bytes:
        """The task's name at ``t``."""
        names = self.span(tid, t).names
        return names[max(0, bisect_right(names, t, key=lambda pair: pair[0]) - 1)][1]

    def party(self, tid: int, t: int) -> Party:
        """Task ``tid`` as it was at ``t``."""
        return Party(self.span(tid, t).id, self.comm(tid, t), self.image_span(tid, t).image.exe)

    def mappings(self, tid: int, t: int) -> list[Mapping]:
        """What is mapped executable in the task's process at ``t``, inherited mappings included."""
        span = self.span(tid, t)
        leader = self.span(span.id.pid, t)
        image = self.image_span(tid, t)
        own = [
            m
            for m in self._mappings.get(leader.id.pid, ())
            if m.since_ns <= t and m.since_ns >= min(image.image.since_ns, leader.born)
        ]
        # An exec maps its new image before it is reported: those mappings are a moment older than it.
        fresh = self._exec_began(leader.id.pid, image, t)
        if image.image.since_ns and image.image.since_ns > leader.born:
            return [m for m in self._mappings.get(leader.id.pid, ()) if fresh <= m.since_ns <= t]
        if leader.born and leader.parent_tid:
            return self.mappings(leader.parent_tid, leader.born) + own
        return own

    def _exec_began(self, pid: int, image: ImageSpan, t: int) -> int:
        """When the exec that made ``image`` began to map it: after the last mapping of the image before.

        The kernel reports the program's mapping just before the exec.  The ptrace engine reads mappings
        afterwards: what it knows from before is then of the image before, even if that ran the same program.
        """
        since = image.image.since_ns
        found = [m for m in self._mappings.get(pid, ()) if m.path.removesuffix(_DELETED) == image.image.exe]
        first = min((m.file_offset for m in found), default=0)
        of_program = [m.since_ns for m in found if m.file_offset == first]
        if any(since < mapped <= t for mapped in of_program):
            return since
        return max((m for m in of_program if since - 50_000_000 < m <= since), default=since)


def _complete(span: ImageSpan, life: Life) -> None:
    old = span.image
    argv, cut, exe, cwd = old.argv, old.argv_truncated, old.exe, old.cwd
    if life.kind == EventKind.ARGV:
        argv = tuple(life.blob.removesuffix(b"\0").split(b"\0")) if life.blob else ()
        cut = bool(life.flags & LifeFlag.CUT)
    elif life.kind == EventKind.EXE_PATH:
        exe = _whole_path(life) or exe
    else:
        cwd = _whole_path(life)
    span.image = Image(exe, argv, cut, cwd, old.uid, old.gid, old.since_ns, old.namespaces)
