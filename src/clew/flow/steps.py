"""The events that following looks at, as one line of steps in order of time, and what each took in.

What cannot matter is left out here, on whole columns: calls by which a task talks to itself, what nobody
received, waits for a resource (a mutex, an interpreter's lock).  A send or a wake-up is no step: whoever
takes it in names it as its cause, with the moment it left (a send may be read before it returns).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.match import Matches
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind
from clew.trace.tasks import TaskTable

Rows = NDArray[np.int64]
Words = dict[int, list[tuple[int, int]]]
"""Futex words that guard a resource: per process id, address ranges [low, high)."""

PLACE_BITS = 9
_FUTEX_CMD = 0x7F
_WAIT_BITSET = 9
_FUTEX, _SIGTIMEDWAIT = numbers()["futex"], numbers()["rt_sigtimedwait"]
_THROUGH = [numbers()[name] for name in ("splice", "sendfile")]


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
    the other columns are 0.  ``place`` is where in the program a call was made: its depth in the stack (the
    address, without its lowest bits) above ``PLACE_BITS`` bits of the call's number.  ``loop_site`` marks
    calls at a place the task came back to, where that is asked.  ``low`` and ``high`` bound what it took in,
    among ``Causes``.
    """

    when: Rows
    code: NDArray[np.uint8]
    row: Rows
    tid: Rows
    place: Rows
    t0: Rows
    loop_site: NDArray[np.bool_]
    low: Rows
    high: Rows

    def __len__(self) -> int:
        return len(self.when)


@dataclass(frozen=True, slots=True)
class Causes:
    """What tasks took in, in order of ``effect``.

    ``effect`` and ``source`` are rows of the events table, of another task each; ``size`` is in bytes; it
    left task ``tid`` at ``when``.
    """

    effect: Rows
    source: Rows
    size: Rows
    tid: Rows
    when: Rows


def left_at(events: NDArray[np.void], rows: Rows) -> Rows:
    """When the calls in ``rows`` were entered (or, before the recording, when they returned)."""
    entered = events["t0"][rows].astype(np.int64)
    return np.where(entered == 0, events["t"][rows].astype(np.int64), entered)


def _in_ranges(events: NDArray[np.void], rows: Rows, words: Words) -> NDArray[np.bool_]:
    inside = np.zeros(len(rows), bool)
    if words:
        pid, chan = events["pid"][rows], events["chan"][rows]
        for process, ranges in words.items():
            for low, high in ranges:
                inside |= (pid == process) & (chan >= low) & (chan < high)
    return inside


def futex_waits(events: NDArray[np.void], kind: NDArray[np.uint8], resources: Words) -> Rows:
    """Rows of futex waits for work: condition variables and semaphores, not mutexes or ``resources``."""
    rows = np.flatnonzero(kind == EventKind.FUTEX_WAIT)
    operation = events["count"][rows] & _FUTEX_CMD
    rows = rows[(operation == _WAIT_BITSET) | (events["nr"][rows] != _FUTEX)]
    kept: Rows = rows[~_in_ranges(events, rows, resources)]
    return kept


def _wakes(events: NDArray[np.void], kind: NDArray[np.uint8], waits: Rows) -> tuple[Rows, Rows]:
    """Rows (wake, wait) of wake-ups that came while ``waits`` lasted, in order of the waits."""
    rows = np.flatnonzero(kind == EventKind.WAKE)
    rows = rows[events["flags"][rows] & EventFlag.SAME_FUTEX != 0]
    # One number for (task, moment); a moment is the number of events before it.
    stride = len(kind)
    woken = (events["chan"][rows] & np.uint64(0xFFFFFFFF)).astype(np.int64) * stride + rows
    order = np.argsort(woken, kind="stable")
    rows, woken = rows[order], woken[order]
    task = events["tid"][waits].astype(np.int64) * stride
    began = np.searchsorted(events["t"], events["t0"][waits])
    first, last = np.searchsorted(woken, task + began), np.searchsorted(woken, task + waits)
    effect, index = _spread(first, last)
    return rows[index], waits[effect]


def _spread(first: Rows, last: Rows) -> tuple[Rows, Rows]:
    """For ranges [first, last): of each number in them, which range, and the number."""
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]


def line_up(
    events: NDArray[np.void], matches: Matches, tasks: TaskTable, resources: Words
) -> tuple[Steps, Causes]:
    """All steps of a recording, and what they took in."""
    kind, ret, flags = (np.ascontiguousarray(events[name]) for name in ("kind", "ret", "flags"))
    code = np.zeros(len(kind), np.uint8)
    # A read of bytes nobody recorded sent (a terminal, a device) is a wait for work all the same.  The end of
    # a stream brings none.
    code[
        (kind == EventKind.WAIT) | ((kind == EventKind.RECV) & (ret > 0) & (flags & EventFlag.PEEK == 0))
    ] = Step.WAIT
    for step, wanted in ((Step.SIGNAL, EventKind.SIGNAL), (Step.SIGNALLED, EventKind.SIGNALLED)):
        code[kind == wanted] = step
    code[(kind == EventKind.WAIT_CHILD) & (ret > 0)] = Step.WAIT_CHILD
    waits = futex_waits(events, kind, resources)
    code[waits] = Step.WAIT
    foreign = events["tid"][matches.send] != events["tid"][matches.recv]
    code[matches.recv] = Step.NONE
    code[matches.recv[foreign]] = Step.RECV
    code[flags & EventFlag.PENDING != 0] = Step.NONE
    takes = (events["nr"] == _SIGTIMEDWAIT) | (events["channel"] == ChannelType.SIGNALFD)
    code[(code == Step.WAIT) & takes & (ret > 0)] = Step.TAKE_SIGNAL
    wake, woken = _wakes(events, kind, waits)
    causes = _causes(events, matches, foreign, wake, woken)
    return _merge(events, code, causes, tasks), causes


def _causes(
    events: NDArray[np.void], matches: Matches, foreign: NDArray[np.bool_], wake: Rows, woken: Rows
) -> Causes:
    effect = np.concatenate([matches.recv[foreign], woken])
    source = np.concatenate([matches.send[foreign], wake])
    size = np.concatenate([matches.size[foreign], np.zeros(len(wake), np.int64)])
    if len(wake):
        order = np.argsort(effect, kind="stable")
        effect, source, size = effect[order], source[order], size[order]
    when = left_at(events, source)
    return Causes(effect, source, size, events["tid"][source].astype(np.int64), when)


def _pass_on(events: NDArray[np.void], code: NDArray[np.uint8], causes: Causes) -> dict[int, int]:
    """When each call that takes in and puts out at once (splice) did so, by row of its receive.

    It had to be entered, and what it took had to be sent.  ``causes`` gets that moment for what it put out.
    """
    rows = np.flatnonzero((code != Step.NONE) & (events["kind"] == EventKind.RECV))
    rows = rows[np.isin(events["nr"][rows], _THROUGH)]
    moments: dict[int, int] = {}
    put_out: dict[int, int] = {}
    for row, moment in zip(rows.tolist(), left_at(events, rows).tolist(), strict=True):
        low, high = np.searchsorted(causes.effect, (row, row + 1))
        taken = zip(causes.source[low:high].tolist(), causes.when[low:high].tolist(), strict=True)
        moments[row] = max([moment, *(put_out.get(source, when) for source, when in taken)])
        put_out[_other_half(events, row)] = moments[row]
    for i in np.flatnonzero(np.isin(causes.source, list(put_out))).tolist() if put_out else ():
        causes.when[i] = put_out[int(causes.source[i])]
    return moments


def _other_half(events: NDArray[np.void], row: int) -> int:
    """The row of the send that one call made with the receive in ``row``; -1 if it has none."""
    end = int(np.searchsorted(events["t"], events["t"][row], side="right"))
    same = (events["tid"][row:end] == events["tid"][row]) & (events["kind"][row:end] == EventKind.SEND)
    return row + int(np.argmax(same)) if same.any() else -1


def _loop_sites(events: NDArray[np.void], code: NDArray[np.uint8], tasks: TaskTable) -> NDArray[np.bool_]:
    """Which calls are at a (task, call, stack depth) that occurs at least twice.

    Looked at only for tasks that began to run in the recording: only of them it is asked.
    """
    kind, flags, ret = events["kind"], events["flags"], events["ret"]
    pending = flags & EventFlag.PENDING != 0
    # Nothing is taken in at the end of a stream, but who comes back to find it has a loop.
    again = (kind == EventKind.RECV) & ((ret == 0) & (flags & EventFlag.PEEK == 0) | pending)
    site = (
        np.isin(code, [Step.RECV, Step.WAIT, Step.TAKE_SIGNAL]) | again | (kind == EventKind.WAIT) & pending
    )
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


def _merge(events: NDArray[np.void], code: NDArray[np.uint8], causes: Causes, tasks: TaskTable) -> Steps:
    """Steps of the events and of the task table's lists in one line."""
    rows = np.flatnonzero(code)
    when = events["t"][rows].astype(np.int64)
    for row, moment in _pass_on(events, code, causes).items():
        when[np.searchsorted(rows, row)] = moment
    tables = (
        (Step.BIRTH, [span.born for span in tasks.births]),
        (Step.EXEC, [life.t for life, _, _ in tasks.execs]),
        (Step.EXIT, [life.t for life, _ in tasks.exits]),
    )
    ahead = sum(len(times) for _, times in tables)
    whens = [*(np.array(times, np.int64) for _, times in tables), when]
    order = np.argsort(np.concatenate(whens), kind="stable")

    def line(values: NDArray[Any], first: NDArray[Any] | None = None) -> NDArray[Any]:
        head = np.zeros(ahead, values.dtype) if first is None else first.astype(values.dtype)
        return np.concatenate([head, values])[order]

    codes = np.repeat([step for step, _ in tables], [len(times) for _, times in tables])
    of_table = np.concatenate([np.arange(len(times)) for _, times in tables])
    return Steps(
        when=np.concatenate(whens)[order],
        code=line(code[rows], codes),
        row=line(rows, of_table),
        tid=line(events["tid"][rows].astype(np.int64)),
        place=line(_places(events, rows)),
        t0=line(events["t0"][rows].astype(np.int64)),
        loop_site=line(_loop_sites(events, code, tasks)[rows]),
        low=line(np.searchsorted(causes.effect, rows)),
        high=line(np.searchsorted(causes.effect, rows, side="right")),
    )
