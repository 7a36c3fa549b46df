"""The events that following looks at, as one line of steps in order of time.

A send counts from when it was entered (its bytes may be read before it returns), everything else from when it
was reported.  What cannot matter is left out here, on whole columns: calls by which a task talks to itself,
sends nobody received, waits for a resource (a mutex, an interpreter's lock).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from clew.flow.match import Matches
from clew.kernel.syscalls import numbers
from clew.model.event import EventFlag, EventKind
from clew.trace.tasks import TaskTable

Words = dict[int, list[tuple[int, int]]]
"""Futex words that guard a resource: per process id, address ranges [low, high)."""

_FUTEX_CMD = 0x7F
_WAIT_BITSET = 9
_FUTEX = numbers()["futex"]


class Step(IntEnum):
    """What a step is; also the order of steps at the same nanosecond (causes before effects)."""

    BIRTH = 0
    EXEC = 1
    SEND = 2
    WAKE = 3
    SIGNAL = 4
    EXIT = 5
    SIGNALLED = 6
    RECV = 7
    WAIT = 8
    WAIT_CHILD = 9


@dataclass(frozen=True, slots=True)
class Steps:
    """Columns, ordered by ``when``.  ``row`` is a row of the events table, or of the task table's births,
    execs or exits.  ``loop_site`` marks waits at a place the task came back to."""

    when: NDArray[np.uint64]
    code: NDArray[np.uint8]
    row: NDArray[np.int64]
    loop_site: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.when)


def _in_ranges(events: NDArray[np.void], rows: NDArray[np.int64], words: Words) -> NDArray[np.bool_]:
    inside = np.zeros(len(rows), bool)
    pid, chan = events["pid"][rows], events["chan"][rows]
    for process, ranges in words.items():
        for low, high in ranges:
            inside |= (pid == process) & (chan >= low) & (chan < high)
    return inside


def futex_waits(events: NDArray[np.void], resources: Words) -> NDArray[np.int64]:
    """Rows of futex waits for work: condition variables and semaphores, not mutexes or ``resources``."""
    rows = np.flatnonzero(events["kind"] == EventKind.FUTEX_WAIT)
    operation = events["count"][rows] & _FUTEX_CMD
    rows = rows[(operation == _WAIT_BITSET) | (events["nr"][rows] != _FUTEX)]
    kept: NDArray[np.int64] = rows[~_in_ranges(events, rows, resources)]
    return kept


def _recurring(events: NDArray[np.void], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``rows`` are at a (task, call, stack depth) that occurs at least twice."""
    part = events[rows]
    site = part["sp"].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    site ^= part["tid"].astype(np.uint64) << np.uint64(16)
    site ^= part["nr"].astype(np.uint64)
    _, inverse, counts = np.unique(site, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] > 1)


def line_up(events: NDArray[np.void], matches: Matches, tasks: TaskTable, resources: Words) -> Steps:
    """All steps of a recording."""
    kind, tid = events["kind"], events["tid"]
    pending = events["flags"] & EventFlag.PENDING != 0
    foreign = tid[matches.send] != tid[matches.recv]
    sends, recvs = np.unique(matches.send[foreign]), np.unique(matches.recv[foreign])
    own = np.unique(matches.recv[~foreign])
    taking = (kind == EventKind.RECV) & (events["ret"] >= 0) & (events["flags"] & EventFlag.PEEK == 0)
    # A read of bytes nobody recorded sent (a terminal, a device) is a wait for work all the same.
    outside = np.flatnonzero(taking & (events["ret"] > 0))
    outside = np.setdiff1d(outside, np.union1d(recvs, own), assume_unique=True)
    waits = np.concatenate([np.flatnonzero(kind == EventKind.WAIT), futex_waits(events, resources), outside])
    # The end of a stream brings no work, but who comes back to find it has a loop.
    ended = np.flatnonzero(taking & (events["ret"] == 0))
    sites = np.concatenate([waits, recvs, ended, np.flatnonzero((kind == EventKind.RECV) & pending)])
    sites = np.unique(sites)
    loop = np.zeros(len(events), bool)
    loop[sites] = _recurring(events, sites)
    parts = [
        (Step.SEND, sends, np.where(events["t0"][sends] == 0, events["t"][sends], events["t0"][sends])),
        (Step.RECV, recvs, events["t"][recvs]),
        (Step.WAIT, waits, events["t"][waits]),
    ]
    for code, wanted in (
        (Step.WAKE, (kind == EventKind.WAKE) & (events["flags"] & EventFlag.SAME_FUTEX != 0)),
        (Step.SIGNAL, kind == EventKind.SIGNAL),
        (Step.SIGNALLED, kind == EventKind.SIGNALLED),
        (Step.WAIT_CHILD, (kind == EventKind.WAIT_CHILD) & (events["ret"] > 0)),
    ):
        rows = np.flatnonzero(wanted)
        parts.append((code, rows, events["t"][rows]))
    for code, times in (
        (Step.BIRTH, [span.born for span in tasks.births]),
        (Step.EXEC, [life.t for life, _, _ in tasks.execs]),
        (Step.EXIT, [life.t for life, _ in tasks.exits]),
    ):
        parts.append((code, np.arange(len(times)), np.array(times, np.uint64)))
    return _merge(parts, pending, loop)


def _merge(
    parts: list[tuple[Step, NDArray[np.int64], NDArray[np.uint64]]],
    pending: NDArray[np.bool_],
    loop: NDArray[np.bool_],
) -> Steps:
    tables = (Step.BIRTH, Step.EXEC, Step.EXIT)
    kept = [(c, r, w) if c in tables else (c, r[~pending[r]], w[~pending[r]]) for c, r, w in parts]
    when = np.concatenate([w.astype(np.uint64) for _, _, w in kept])
    code = np.concatenate([np.full(len(r), c, np.uint8) for c, r, _ in kept])
    row = np.concatenate([r for _, r, _ in kept]).astype(np.int64)
    site = np.concatenate([np.zeros(len(r), bool) if c in tables else loop[r] for c, r, _ in kept])
    order = np.lexsort((code, when))
    return Steps(when[order], code[order], row[order], site[order])
