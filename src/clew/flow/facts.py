"""A recording's events as rules see them: for ``--until``, and for trying rules on a trace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clew.flow.backtraces import Backtraces
from clew.kernel.syscalls import name_of
from clew.model.event import EventKind
from clew.model.rules import Ancestor, Facts, RuleKind
from clew.trace.reader import Trace
from clew.trace.tasks import TaskSpan, TaskTable

_SYSCALLS = (
    EventKind.SEND,
    EventKind.RECV,
    EventKind.WAIT,
    EventKind.FUTEX_WAIT,
    EventKind.FUTEX_WAKE,
    EventKind.WAIT_CHILD,
    EventKind.CRED,
    EventKind.EXEC_CALL,
    EventKind.CLONE,
    EventKind.CONNECT,
    EventKind.ACCEPT,
)


def exec_facts(tasks: TaskTable, row: int) -> Facts:
    """What a rule can ask of one exec."""
    life, span, image = tasks.execs[row]
    return _facts(tasks, RuleKind.EXEC, span.id.tid, life.t, filename=image.filename, comm=life.comm)


def recorded_facts(trace: Trace) -> Iterator[Facts]:
    """Every event of ``trace`` that a rule can name, in time order, with its backtrace if one was taken."""
    tasks = TaskTable(trace)
    backtraces = Backtraces(trace, tasks)
    backtraces.prepare(int(stack) for stack in np.unique(trace.events["stack"]))
    found = [exec_facts(tasks, row) for row in range(len(tasks.execs))]
    found += [
        _facts(tasks, RuleKind.FORK, span.id.tid, span.born) for span in tasks.births if not span.is_thread
    ]
    found += [
        _facts(tasks, RuleKind.EXIT, span.id.tid, life.t)
        for life, span in tasks.exits
        if span.id.tid == span.id.pid
    ]
    found += _calls(trace, tasks, backtraces)
    found.sort(key=lambda facts: facts.t_ns)
    yield from found


def _calls(trace: Trace, tasks: TaskTable, backtraces: Backtraces) -> list[Facts]:
    found = []
    names = ("kind", "tid", "t0", "t", "nr", "stack")
    for kind, tid, t0, t, nr, stack in zip(*(trace.events[name].tolist() for name in names), strict=True):
        if kind in _SYSCALLS:
            call = {"syscall": name_of(nr), "frames": backtraces[stack]}
            found.append(_facts(tasks, RuleKind.SYSCALL, tid, t0 or t, **call))
        elif kind == EventKind.SIGNALLED:
            found.append(_facts(tasks, RuleKind.SIGNAL, tid, t, signal=nr, frames=backtraces[stack]))
    return found


def _facts(tasks: TaskTable, kind: RuleKind, tid: int, t: int, **more: object) -> Facts:
    span = tasks.span(tid, t)
    image = tasks.image_span(tid, t).image
    given: dict[str, object] = {"comm": tasks.comm(tid, t), **more}
    return Facts(
        kind,
        span.id.pid,
        image.exe,
        tid=tid,
        argv=image.argv,
        uid=image.uid,
        ancestors=_ancestors(tasks, span, t),
        of_command=_of_command(tasks, span),
        t_ns=t - tasks.root_time,
        **given,  # type: ignore[arg-type]  # names and types are this module's own
    )


def _of_command(tasks: TaskTable, span: TaskSpan) -> bool:
    """Whether the task is the command or descends from it."""
    root = tasks.root
    seen: set[int] = set()
    while root is not None and span.id.pid != root.id.pid and span.born and id(span) not in seen:
        seen.add(id(span))
        span = tasks.span(span.parent_pid, span.born)
    return root is not None and span.id.pid == root.id.pid


def _ancestors(tasks: TaskTable, span: TaskSpan, t: int) -> tuple[Ancestor, ...]:
    """The processes above the task's own, nearest first, each as it was when its child was born."""
    found: list[Ancestor] = []
    span = tasks.span(span.id.pid, t)
    while len(found) < 64 and span.parent_pid and span.parent_pid != span.id.pid:
        pid, t = span.parent_pid, span.born
        span = tasks.span(pid, t)
        found.append(Ancestor(pid, tasks.image_span(pid, t).image.exe, tasks.comm(pid, t)))
    return tuple(found)
