"""The events that following looks at, as one line of steps in order of time.

What cannot matter is left out here, on whole columns: calls by which a task talks to itself, waits for a
resource (a mutex, an interpreter's lock).  A send or a wake-up is no step: whoever takes it in has it among
its ``Causes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.causes import Causes, causes_of, pass_on
from clew.flow.match import Matches
from clew.flow.moments import Rows
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind
from clew.trace.tasks import TaskTable

Words = dict[int, list[tuple[int, int]]]
"""Futex words that guard a resource: per process id, address ranges [low, high)."""

PLACE_BITS = 9
_FUTEX_CMD = 0x7F
_WAIT_BITSET = 9
_FUTEX, _SIGTIMEDWAIT = numbers()["futex"], numbers()["rt_sigtimedwait"]


class Step(IntEnum):
    """What a step is."""

    NONE = 0
    RECV = 1
    WAIT = 2
    TAKE_SIGNAL = 3  # a wait that takes signals: sigtimedwait, a read of a signalfd
    SIGNAL = 4
    SIGNALLED = 5
    WAIT_CHILD = 6
    BIRTH = 7
    EXEC = 8
    EXIT = 9


@dataclass(frozen=True, slots=True)
class Steps:
    """Columns, ordered by ``when``.

    ``row`` is a row of the events table, or of the task table's births, execs or exits; of the latter three
    the columns from ``place`` on are 0.  ``place`` is where in the program a call was made: its depth in the
    stack (the address, without its lowest bits) above ``PLACE_BITS`` bits of the call's number.
    ``loop_site`` marks calls at a place the task came back to, where that is asked.  ``low`` and ``high``
    bound what it took in, among ``Causes``.
    """

    when: NDArray[np.int64]
    code: NDArray[np.uint8]
    row: NDArray[np.int32]
    tid: NDArray[np.uint32]
    place: NDArray[np.int64]
    t0: NDArray[np.int64]
    loop_site: NDArray[np.bool_]
    low: NDArray[np.int32]
    high: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.when)


def line_up(
    events: NDArray[np.void], matches: Matches, tasks: TaskTable, resources: Words
) -> tuple[Steps, Causes]:
    """All steps of a recording, and what they took in."""
    kind, ret, flags = (np.ascontiguousarray(events[name]) for name in ("kind", "ret", "flags"))
    waits = _futex_waits(events, kind, resources)
    causes = causes_of(events, matches, waits)
    code = np.zeros(len(kind), np.uint8)
    # A read of bytes nobody recorded sent (a terminal, a device) is a wait for work all the same.  The end of
    # a stream brings none.
    read = (kind == EventKind.RECV) & (ret > 0) & (flags & EventFlag.PEEK == 0)
    takes = (events["nr"] == _SIGTIMEDWAIT) | (events["channel"] == ChannelType.SIGNALFD)
    code[(kind == EventKind.WAIT) | read] = Step.WAIT
    code[(code == Step.WAIT) & takes & (ret > 0)] = Step.TAKE_SIGNAL
    code[waits] = Step.WAIT
    code[matches.recv] = Step.NONE
    code[causes.effect[~causes.wake]] = Step.RECV
    code[kind == EventKind.SIGNAL] = Step.SIGNAL
    code[kind == EventKind.SIGNALLED] = Step.SIGNALLED
    code[(kind == EventKind.WAIT_CHILD) & (ret > 0)] = Step.WAIT_CHILD
    loop = _loop_sites(events, code, tasks)
    code[flags & EventFlag.PENDING != 0] = Step.NONE
    return _merge(events, code, loop, causes, tasks), causes


def _futex_waits(events: NDArray[np.void], kind: NDArray[np.uint8], resources: Words) -> Rows:
    """Rows of futex waits for work: condition variables and semaphores, not mutexes or ``resources``."""
    rows = np.flatnonzero(kind == EventKind.FUTEX_WAIT)
    operation = events["count"][rows] & _FUTEX_CMD
    rows = rows[(operation == _WAIT_BITSET) | (events["nr"][rows] != _FUTEX)]
    pid, word = events["pid"][rows], events["chan"][rows]
    guards = np.zeros(len(rows), bool)
    for process, ranges in resources.items():
        for low, high in ranges:
            guards |= (pid == process) & (word >= low) & (word < high)
    free: Rows = rows[~guards]
    return free


def _loop_sites(events: NDArray[np.void], code: NDArray[np.uint8], tasks: TaskTable) -> NDArray[np.bool_]:
    """Which calls are at a (task, call, stack depth) that occurs at least twice.

    Looked at only for tasks that began to run in the recording: only of them it is asked.
    """
    # Nothing is taken in at the end of a stream, nor by a call that did not return any more, but who comes
    # back to make it has a loop.
    flags = events["flags"] & (EventFlag.PEEK | EventFlag.PENDING)
    again = (flags == 0) & (events["ret"] == 0) | (flags == EventFlag.PENDING)
    again &= events["kind"] == EventKind.RECV
    site = again | np.isin(code, [Step.RECV, Step.WAIT, Step.TAKE_SIGNAL])
    begun = {span.id.tid for span in tasks.births} | {span.id.tid for _, span, _ in tasks.execs}
    rows = np.flatnonzero(site)
    rows = rows[np.isin(events["tid"][rows], list(begun))]
    loop = np.zeros(len(code), bool)
    where = _places(events, rows) * np.int64(0x9E3779B97F4A7C1) + events["tid"][rows]
    _, index, counts = np.unique(where, return_inverse=True, return_counts=True)
    loop[rows] = counts[index] > 1
    return loop


def _places(events: NDArray[np.void], rows: Rows) -> Rows:
    depth = (events["sp"][rows] >> np.uint64(3)).astype(np.int64)
    return depth << PLACE_BITS | events["nr"][rows] & ((1 << PLACE_BITS) - 1)


def _merge(
    events: NDArray[np.void],
    code: NDArray[np.uint8],
    loop: NDArray[np.bool_],
    causes: Causes,
    tasks: TaskTable,
) -> Steps:
    """Steps of the events and of the task table's lists in one line."""
    rows = np.flatnonzero(code)
    ahead = [(Step.BIRTH, i, span.id.tid, span.born) for i, span in enumerate(tasks.births)]
    ahead += [(Step.EXEC, i, span.id.tid, life.t) for i, (life, span, _) in enumerate(tasks.execs)]
    ahead += [(Step.EXIT, i, span.id.tid, life.t) for i, (life, span) in enumerate(tasks.exits)]
    codes, lines, tids, times = np.array(ahead, np.int64).reshape(-1, 4).T
    when = np.concatenate([times, pass_on(events, rows, causes)])
    order = np.argsort(when, kind="stable")
    none = np.zeros(len(ahead), np.int64)

    def line(first: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([first.astype(values.dtype), values])[order]

    return Steps(
        when=when[order],
        code=line(codes, code[rows]),
        row=line(lines, rows.astype(np.int32)),
        tid=line(tids, events["tid"][rows].astype(np.uint32)),
        place=line(none, _places(events, rows)),
        t0=line(none, events["t0"][rows].astype(np.int64)),
        loop_site=line(none, loop[rows]),
        low=line(none, np.searchsorted(causes.effect, rows).astype(np.int32)),
        high=line(none, np.searchsorted(causes.effect, rows, side="right").astype(np.int32)),
    )
