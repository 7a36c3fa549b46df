"""What the programs of the accuracy bench said, and which of a recording's edges that were.

An edge is known by what made it: (kind, row it left, row it arrived in), as ``flow.edges.Edges`` has it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clew.flow.build import Found
from clew.flow.kinds import EdgeKind
from clew.model.event import EventKind

Key = tuple[int, int, int]
Task = int

_EFFECT = 1
_HEAD = 64
STATEMENT = np.dtype([
    ("kind", "<u4"), ("request", "<u4"), ("source", "<u4"), ("target", "<u4"), ("left", "<u8"),
    ("before", "<u8"), ("after", "<u8"), ("flags", "<u4"), ("_unused", "<u4"), ("_unused_too", "<u8"),
])  # fmt: skip
"""``struct statement`` of programs/truth.h."""
SIZE = _HEAD + 200_000 * STATEMENT.itemsize


class Said(IntEnum):
    """``enum statement_kind``."""

    CLIENT = 1
    CONNECT = 2
    MESSAGE = 3
    SPAWN = 4
    EXEC = 5
    HANDOVER = 6


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing a program said it did for ``request``."""

    said: Said
    request: int
    source: Task
    target: Task
    left: int
    before: int
    after: int
    effect: bool


@dataclass(slots=True)
class Truth:
    """Which requests each edge was for.

    ``effects`` are the edges that requests were made for; ``clients``: when which task was the client of
    which request; ``handovers``: (request, from, to) of work that was passed in memory; ``children``: whom a
    task was begun for; ``unseen``: how many edges that were told of are not in the recording.
    """

    requests: set[int] = field(default_factory=set)
    edges: dict[Key, set[int]] = field(default_factory=lambda: defaultdict(set))
    effects: dict[Key, int] = field(default_factory=dict)
    clients: dict[Task, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    handovers: set[tuple[int, Task, Task]] = field(default_factory=set)
    children: dict[Task, set[int]] = field(default_factory=lambda: defaultdict(set))
    unseen: int = 0

    def asked_by(self, tid: Task, when: int) -> int:
        """The request that client ``tid`` was making at ``when``; 0 if it is no client, or made none."""
        for since, until, request in self.clients.get(tid, ()):
            if since <= when <= until:
                return request
        return 0


def read_statements(path: Path) -> list[Statement]:
    """All that was said."""
    data = path.read_bytes()
    count = int.from_bytes(data[:8], "little")
    table = np.frombuffer(data, STATEMENT, count, _HEAD)
    columns = (table[name].tolist() for name in STATEMENT.names or () if not name.startswith("_"))
    return [
        Statement(Said(kind), request, source, target, left, before, after, bool(flags & _EFFECT))
        for kind, request, source, target, left, before, after, flags in zip(*columns, strict=True)
    ]


def truth_of(said: list[Statement], found: Found) -> Truth:
    """What of it is which edge of the recording."""
    calls, truth = _Calls(found), Truth()
    for one in said:
        truth.requests.add(one.request)
        if one.said is Said.CLIENT:
            truth.clients[one.source].append((one.before, one.after, one.request))
        elif one.said is Said.HANDOVER:
            truth.handovers.add((one.request, one.source, one.target))
        else:
            if one.said is Said.SPAWN:
                truth.children[one.target].add(one.request)
            key = calls.edge(one)
            if key is None:
                truth.unseen += 1
                continue
            truth.edges[key].add(one.request)
            if one.effect:
                truth.effects[key] = one.request
    return truth


class _Calls:
    """Finds calls by task and time."""

    def __init__(self, found: Found) -> None:
        events = found.events
        self._tid, self._t0, self._t = (events[name].astype(np.int64) for name in ("tid", "t0", "t"))
        self._rows = {
            kind: np.flatnonzero(
                (events["kind"] == kind) & (events["ret"] >= 0) | (kind == EventKind.CONNECT)
            )
            for kind in (EventKind.SEND, EventKind.RECV, EventKind.ACCEPT, EventKind.CONNECT)
        }
        self._of: dict[tuple[EventKind, Task], NDArray[np.int64]] = {}
        for kind, rows in self._rows.items():
            rows = rows[events["kind"][rows] == kind]
            order = np.argsort(self._tid[rows], kind="stable")
            tids, first = np.unique(self._tid[rows][order], return_index=True)
            for tid, part in zip(tids.tolist(), np.split(rows[order], first[1:]), strict=True):
                self._of[kind, tid] = part
        self._births = {span.id.tid: i for i, span in enumerate(found.tasks.births)}
        self._execs = {span.id.tid: i for i, (_, span, _) in enumerate(found.tasks.execs)}

    def edge(self, one: Statement) -> Key | None:
        """The edge that is told of; None if the recording has not both of its calls."""
        if one.said is Said.SPAWN:
            birth = self._births.get(one.target)
            return None if birth is None else (EdgeKind.SPAWN, birth, birth)
        if one.said is Said.EXEC:
            executed = self._execs.get(one.target)
            return None if executed is None else (EdgeKind.EXEC, executed, executed)
        connect = one.said is Said.CONNECT
        left = self._entered(EventKind.CONNECT if connect else EventKind.SEND, one.source, one.left)
        arrived = self._returned(EventKind.ACCEPT if connect else EventKind.RECV, one)
        if left is None or arrived is None:
            return None
        return (EdgeKind.CONNECT if connect else EdgeKind.MESSAGE), left, arrived

    def _entered(self, kind: EventKind, tid: Task, when: int) -> int | None:
        """The first of the task's calls that was entered after ``when``."""
        rows = self._of.get((kind, tid), np.zeros(0, np.int64))
        rows = rows[self._t0[rows] >= when]
        return int(rows[np.argmin(self._t0[rows])]) if len(rows) else None

    def _returned(self, kind: EventKind, one: Statement) -> int | None:
        rows = self._of.get((kind, one.target), np.zeros(0, np.int64))
        rows = rows[(self._t[rows] >= one.before) & (self._t[rows] <= one.after)]
        return int(rows[-1]) if len(rows) else None
