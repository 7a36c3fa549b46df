"""A recording's events as rules see them: for ``--until``, and for trying rules on a trace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clew.flow.backtraces import Backtraces
from clew.kernel.syscalls import name_of
from clew.model.event import ChannelType, EventKind
from clew.model.frame import Backtrace
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


def are_calls(events: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which rows are system calls that a rule can name; a job that changed hands is none."""
    calls: NDArray[np.bool_] = np.isin(events["kind"], _SYSCALLS)
    calls &= events["channel"] != ChannelType.QUEUE
    return calls


def exec_facts(tasks: TaskTable, row: int) -> Facts:
    """What a rule can ask of one exec."""
    life, span, image = tasks.execs[row]
    return _facts(tasks, RuleKind.EXEC, span.id.tid, life.t, filename=image.filename, comm=life.comm)


def fork_facts(tasks: TaskTable, row: int) -> Facts:
    """Of the birth of a process; the task is the child."""
    span = tasks.births[row]
    return _facts(tasks, RuleKind.FORK, span.id.tid, span.born)


def exit_facts(tasks: TaskTable, row: int) -> Facts:
    """Of one end of a task."""
    life, span = tasks.exits[row]
    return _facts(tasks, RuleKind.EXIT, span.id.tid, life.t)


def signal_facts(tasks: TaskTable, at: tuple[int, int], number: int, frames: Backtrace = ()) -> Facts:
    """Of a signal that came to a task; ``at`` is its tid, and when."""
    return _facts(tasks, RuleKind.SIGNAL, *at, signal=number, frames=frames)


def call_facts(tasks: TaskTable, event: np.void, frames: Backtrace) -> Facts:
    """Of one system call."""
    t = int(event["t0"]) or int(event["t"])
    call = {"syscall": name_of(int(event["nr"])), "frames": frames}
    return _facts(tasks, RuleKind.SYSCALL, int(event["tid"]), t, **call)


def recorded_facts(trace: Trace) -> Iterator[Facts]:
    """Every event of ``trace`` that a rule can name, in time order, with its backtrace if one was taken."""
    tasks = TaskTable(trace)
    backtraces = Backtraces(trace, tasks)
    backtraces.prepare(int(stack) for stack in np.unique(trace.events["stack"]))
    found = [exec_facts(tasks, row) for row in range(len(tasks.execs))]
    found += [fork_facts(tasks, row) for row, span in enumerate(tasks.births) if not span.is_thread]
    found += [
        exit_facts(tasks, row) for row, (_, span) in enumerate(tasks.exits) if span.id.tid == span.id.pid
    ]
    found += _calls(trace, tasks, backtraces)
    found.sort(key=lambda facts: facts.t_ns)
    yield from found


def _calls(trace: Trace, tasks: TaskTable, backtraces: Backtraces) -> list[Facts]:
    found = []
    events = trace.events
    for event in events[are_calls(events) | (events["kind"] == EventKind.SIGNALLED)]:
        frames = backtraces[int(event["stack"])]
        if event["kind"] == EventKind.SIGNALLED:
            at = int(event["tid"]), int(event["t"])
            found.append(signal_facts(tasks, at, int(event["nr"]), frames))
        else:
            found.append(call_facts(tasks, event, frames))
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
