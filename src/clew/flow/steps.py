"""The events that following looks at, as one line of steps in order of time.

What cannot matter is left out here, on whole columns: calls by which a task talks to itself, waits for a
resource (a mutex, an interpreter's lock), or waits for nothing, because it was ready.  A send or a wake-up is
no step, unless it answers a request: whoever takes it in has it among its ``Causes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.causes import Causes, causes_of, pass_on
from clew.flow.connections import Connections
from clew.flow.kinds import EdgeKind
from clew.flow.locks import Words, waits_for_work
from clew.flow.match import Matches
from clew.flow.moments import Rows, left_at
from clew.flow.sockets import SocketTable
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind
from clew.trace.tasks import TaskTable

PLACE_BITS = 9
_SIGTIMEDWAIT = numbers()["rt_sigtimedwait"]


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
    ANSWER = 10  # a send where the connection was accepted


class Side(IntEnum):
    """Which side of a connection a step was made at."""

    NONE = 0
    ACCEPTED = 1
    OPENED = 2
    QUEUE = 3  # no connection: a job was taken


@dataclass(frozen=True, slots=True)
class Steps:
    """Columns, ordered by ``when``.

    ``row`` is a row of the events table, or of the task table's births, execs or exits; of the latter three
    the columns from ``place`` on are 0.  ``place`` is where in the program a call was made: its depth in the
    stack (the address, without its lowest bits) above ``PLACE_BITS`` bits of the call's number.
    ``loop_site`` marks calls at a place the task came back to.  ``low`` and ``high`` bound what it took in,
    among ``Causes``.  ``side`` is a ``Side``; ``blocked`` marks calls that gave up the processor.
    """

    when: NDArray[np.int64]
    code: NDArray[np.uint8]
    row: NDArray[np.int32]
    tid: NDArray[np.uint32]
    place: NDArray[np.int64]
    t0: NDArray[np.int64]
    loop_site: NDArray[np.bool_]
    side: NDArray[np.uint8]
    blocked: NDArray[np.bool_]
    low: NDArray[np.int32]
    high: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.when)


def line_up(
    events: NDArray[np.void],
    matches: Matches,
    tasks: TaskTable,
    resources: Words,
    connections: Connections,
    sockets: SocketTable,
) -> tuple[Steps, Causes]:
    """All steps of a recording, and what they took in."""
    kind, ret, flags = (np.ascontiguousarray(events[name]) for name in ("kind", "ret", "flags"))
    blocked = _blocked(events, kind, flags)
    waits = waits_for_work(events, kind, resources)
    waits = waits[blocked[waits]]
    causes = causes_of(events, kind, matches, waits, connections, sockets)
    code = np.zeros(len(kind), np.uint8)
    # A read of bytes nobody recorded sent (a terminal, a device) is a wait for work all the same, and so is a
    # connection that nobody recorded made.  The end of a stream brings none.
    read = (kind == EventKind.RECV) & (ret > 0) & (flags & EventFlag.PEEK == 0)
    read |= (kind == EventKind.ACCEPT) & (ret >= 0)
    takes = (events["nr"] == _SIGTIMEDWAIT) | (events["channel"] == ChannelType.SIGNALFD)
    wait = (kind == EventKind.WAIT) | (kind == EventKind.ACCEPT)
    code[wait & (blocked | takes) | read] = Step.WAIT
    code[(code == Step.WAIT) & takes & (ret > 0)] = Step.TAKE_SIGNAL
    code[waits] = Step.WAIT
    code[matches.recv] = Step.NONE
    woken = causes.effect[causes.kind == EdgeKind.WAKE]
    code[woken[code[woken] == Step.NONE]] = Step.WAIT
    code[causes.effect[causes.kind != EdgeKind.WAKE]] = Step.RECV
    code[kind == EventKind.SIGNAL] = Step.SIGNAL
    code[kind == EventKind.SIGNALLED] = Step.SIGNALLED
    code[(kind == EventKind.WAIT_CHILD) & (ret > 0)] = Step.WAIT_CHILD
    loop = _loop_sites(events, code, tasks)
    sends = np.flatnonzero((kind == EventKind.SEND) & (ret > 0))
    code[sends[connections.requests(events, sends)]] = Step.ANSWER
    code[flags & EventFlag.PENDING != 0] = Step.NONE
    side = _sides(events, np.flatnonzero(code), connections)
    return _merge(events, code, _Marks(loop, side, blocked), causes, tasks), causes


def _blocked(
    events: NDArray[np.void], kind: NDArray[np.uint8], flags: NDArray[np.uint16]
) -> NDArray[np.bool_]:
    """Which calls gave up the processor; where no call of a recording tells, every wait may have."""
    blocked: NDArray[np.bool_] = flags & EventFlag.BLOCKED != 0
    if not blocked.any():
        return np.ones(len(kind), bool)
    blocked |= (events["t0"] == 0) | (flags & EventFlag.PENDING != 0)
    return blocked


def _sides(events: NDArray[np.void], rows: Rows, connections: Connections) -> NDArray[np.uint8]:
    side = np.zeros(len(events), np.uint8)
    side[rows[connections.requests(events, rows)]] = Side.ACCEPTED
    side[rows[connections.answers(events, rows)]] = Side.OPENED
    side[rows[events["channel"][rows] == ChannelType.QUEUE]] = Side.QUEUE
    return side


def _loop_sites(events: NDArray[np.void], code: NDArray[np.uint8], tasks: TaskTable) -> NDArray[np.bool_]:
    """Which calls are at a (task, call, stack depth) that occurs at least twice.

    Receives are looked at only of tasks that began to run in the recording: only of them it is asked.
    """
    # Nothing is taken in at the end of a stream, nor by a call that did not return any more, but who comes
    # back to make it has a loop.
    flags = events["flags"] & (EventFlag.PEEK | EventFlag.PENDING)
    again = (flags == 0) & (events["ret"] == 0) | (flags == EventFlag.PENDING)
    again &= events["kind"] == EventKind.RECV
    waits = np.flatnonzero((code == Step.WAIT) | (code == Step.TAKE_SIGNAL))
    takes = np.flatnonzero(again | (code == Step.RECV))
    begun = {span.id.tid for span in tasks.births} | {span.id.tid for _, span, _ in tasks.execs}
    rows = np.concatenate([waits, takes[np.isin(events["tid"][takes], list(begun))]])
    loop = np.zeros(len(code), bool)
    where = _places(events, rows) * np.int64(0x9E3779B97F4A7C1) + events["tid"][rows]
    _, index, counts = np.unique(where, return_inverse=True, return_counts=True)
    loop[rows] = counts[index] > 1
    return loop


def _places(events: NDArray[np.void], rows: Rows) -> Rows:
    depth = (events["sp"][rows] >> np.uint64(3)).astype(np.int64)
    return depth << PLACE_BITS | events["nr"][rows] & ((1 << PLACE_BITS) - 1)


@dataclass(frozen=True, slots=True)
class _Marks:
    """``Steps``' columns of the same names, by row of the events table."""

    loop_site: NDArray[np.bool_]
    side: NDArray[np.uint8]
    blocked: NDArray[np.bool_]


def _merge(
    events: NDArray[np.void], code: NDArray[np.uint8], marks: _Marks, causes: Causes, tasks: TaskTable
) -> Steps:
    """Steps of the events and of the task table's lists in one line."""
    rows = np.flatnonzero(code)
    ahead = [(Step.BIRTH, i, span.id.tid, span.born) for i, span in enumerate(tasks.births)]
    ahead += [(Step.EXEC, i, span.id.tid, life.t) for i, (life, span, _) in enumerate(tasks.execs)]
    ahead += [(Step.EXIT, i, span.id.tid, life.t) for i, (life, span) in enumerate(tasks.exits)]
    codes, lines, tids, times = np.array(ahead, np.int64).reshape(-1, 4).T
    moments = pass_on(events, rows, causes)
    answers = np.flatnonzero(code[rows] == Step.ANSWER)
    moments[answers] = left_at(events, rows[answers])
    when = np.concatenate([times, moments])
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
        loop_site=line(none, marks.loop_site[rows]),
        side=line(none, marks.side[rows]),
        blocked=line(none, marks.blocked[rows]),
        low=line(none, np.searchsorted(causes.effect, rows).astype(np.int32)),
        high=line(none, np.searchsorted(causes.effect, rows, side="right").astype(np.int32)),
    )
