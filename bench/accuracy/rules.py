"""What several rules say each edge was made for, and by which way it came: ours, and those of others.

Each is given the same recording and the same edges; they differ in whose work they hold an edge to be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.accuracy.truth import Key, Truth
from clew.flow.build import Found
from clew.flow.kinds import EdgeKind, Evidence
from clew.flow.reach import Spread, path_to, reach
from clew.model.event import EventFlag, EventKind

MEASURED = (EdgeKind.CONNECT, EdgeKind.MESSAGE, EdgeKind.SPAWN, EdgeKind.EXEC)
"""Edges that are somebody's work; a wake-up only says that there is some."""


@dataclass(frozen=True, slots=True)
class Way:
    """From whose request an edge came, over which others, and whether that is said to be in doubt.

    ``together``: other requests that are said to have been taken in by the same call: it may be any of them.
    """

    request: int
    edges: tuple[int, ...]
    ambiguous: bool = False
    together: frozenset[int] = frozenset()


class Judged:
    """One recording's edges with their calls: by number, as ``Found.edges`` has them."""

    def __init__(self, found: Found, truth: Truth) -> None:
        self.found, self.truth = found, truth
        edges = found.edges
        self.kind = edges.kind.tolist()
        self.left, self.arrived = edges.left.tolist(), edges.arrived.tolist()
        columns = (self.kind, edges.row_from.tolist(), edges.row_to.tolist())
        self.keys: list[Key] = list(zip(*columns, strict=True))
        self.target = found.acts.task[edges.target].tolist()
        self.source = [self._made_by(edge) for edge in range(len(self.kind))]
        self.of_key: dict[Key, list[int]] = defaultdict(list)
        for edge, key in enumerate(self.keys):
            self.of_key[key].append(edge)
        self._waits = self._slept()
        self.client = [truth.asked_by(*made) for made in zip(self.source, self.left, strict=True)]
        self._together = self._taken_together()

    def taken_with(self, edge: int) -> frozenset[int]:
        """The requests of all messages that one call took in, this one's among them."""
        return self._together.get((self.kind[edge], self.keys[edge][2]), frozenset())

    def _taken_together(self) -> dict[tuple[int, int], frozenset[int]]:
        found: dict[tuple[int, int], set[int]] = defaultdict(set)
        for edge, request in enumerate(self.client):
            if request and self.kind[edge] == EdgeKind.MESSAGE:
                found[EdgeKind.MESSAGE, self.keys[edge][2]].add(request)
        return {call: frozenset(requests) for call, requests in found.items()}

    def channel(self, edge: int) -> int:
        """The ``ChannelType`` of a message; 0 of anything else."""
        if self.kind[edge] != EdgeKind.MESSAGE:
            return 0
        return int(self.found.events["channel"][int(self.found.edges.row_from[edge])])

    def woke(self, edge: int) -> bool:
        """Whether it ended a sleep of whoever took it in: in that call, or in the wait before it."""
        events, row = self.found.events, int(self.found.edges.row_to[edge])
        if events["flags"][row] & EventFlag.BLOCKED:
            return True
        waits = self._waits.get(self.target[edge], [])
        at = bisect_left(waits, (int(events["t"][row]),)) - 1
        return at >= 0 and waits[at][1] <= self.left[edge] <= waits[at][0]

    def _slept(self) -> dict[int, list[tuple[int, int]]]:
        """Of each task the waits in which it slept: their ends and beginnings, in order."""
        events = self.found.events
        rows = (events["kind"] == EventKind.WAIT) & (events["flags"] & EventFlag.BLOCKED != 0)
        waits: dict[int, list[tuple[int, int]]] = defaultdict(list)
        columns = (events[name][rows].tolist() for name in ("tid", "t", "t0"))
        for tid, ended, began in zip(*columns, strict=True):
            waits[tid].append((ended, began))
        return waits

    def _made_by(self, edge: int) -> int:
        """The task whose call an edge was: of one that is given to other work, still the one that made it."""
        kind, row, found = self.kind[edge], int(self.found.edges.row_from[edge]), self.found
        if kind in (EdgeKind.MESSAGE, EdgeKind.CONNECT, EdgeKind.WAKE):
            return int(found.events["tid"][row])
        if kind == EdgeKind.SPAWN:
            return found.tasks.births[row].parent_tid
        if kind == EdgeKind.EXEC:
            return found.tasks.execs[row][0].other_tid
        return int(found.acts.task[found.edges.source[edge]])

    def starts(self) -> dict[int, list[int]]:
        """The edges by which clients made each request."""
        found: dict[int, list[int]] = defaultdict(list)
        for edge, request in enumerate(self.client):
            if request:
                found[request].append(edge)
        return found


class Ours:
    """clew's own; ``strict`` follows nothing that is ambiguous."""

    def __init__(self, judged: Judged, strict: bool) -> None:
        self.name = "clew --strict" if strict else "clew"
        self._judged, self._strict = judged, strict
        acts, edges = judged.found.acts, judged.found.edges
        self._clients = np.isin(acts.task, list(judged.truth.clients))
        # What a client does once it has its answer (ask for more, end) is other work.
        onward = replace(edges, trigger=edges.trigger & ~self._clients[edges.target])
        self._spread = Spread(acts, onward, strict)
        self._flow = reach(acts, edges, self._clients, strict)

    def attributed(self) -> Iterator[tuple[Key, int]]:
        """Each measured edge with each request it is held to be for."""
        judged, edges = self._judged, self._judged.found.edges
        for request, starts in judged.starts().items():
            since: dict[int, int] = {}
            for edge in starts:
                yield judged.keys[edge], request
                if edges.trigger[edge]:
                    act = int(edges.target[edge])
                    since[act] = min(judged.arrived[edge], since.get(act, judged.arrived[edge]))
            _, belong = self._spread.of(since)
            for edge in belong:
                if judged.source[edge] not in judged.truth.clients:
                    yield judged.keys[edge], request

    def way(self, key: Key) -> Way | None:
        """How the edge came about; None if nobody is said to have caused it."""
        judged, edges = self._judged, self._judged.found.edges
        mine = [edge for edge in judged.of_key.get(key, ()) if self._flow.edges[edge]]
        if not mine:
            return None
        path = path_to(mine[0], edges, self._flow, self._clients, self._strict)
        ambiguous = any(edges.evidence[edge] >= Evidence.AMBIGUOUS for edge in path)
        asked = judged.client[path[0]]
        together = judged.taken_with(path[0]) - {asked}
        return Way(asked, tuple(path), bool(ambiguous or together), together)


class Thread:
    """What a task does belongs to what last came to it: by one of ``kinds``, only where it had ``slept``."""

    def __init__(self, judged: Judged, name: str, kinds: tuple[EdgeKind, ...], slept: bool = False) -> None:
        self.name, self._judged = name, judged
        self._kinds, self._slept = kinds, slept
        self._before: dict[int, int] = {}
        self._request: dict[int, int] = {}
        self._go_through()

    def _go_through(self) -> None:
        """In order of time: an edge has what its task had when it left, and gives it when it arrives."""
        judged = self._judged
        once = [numbers[0] for numbers in judged.of_key.values()]
        moments = [(judged.left[edge], 1, edge) for edge in once]
        moments += [(judged.arrived[edge], 0, edge) for edge in once if self._counts(edge)]
        moments.sort()
        last: dict[int, int] = {}
        for _, leaves, edge in moments:
            if not leaves:
                last[judged.target[edge]] = edge
                continue
            client = judged.client[edge]
            before = -1 if client else last.get(judged.source[edge], -1)
            self._before[edge] = before
            self._request[edge] = client or self._request.get(before, 0)

    def _counts(self, edge: int) -> bool:
        judged = self._judged
        if judged.kind[edge] not in self._kinds:
            return False
        if self._slept and judged.kind[edge] in (EdgeKind.MESSAGE, EdgeKind.CONNECT):
            return judged.woke(edge)
        return True

    def attributed(self) -> Iterator[tuple[Key, int]]:
        """Each measured edge with the request it is held to be for."""
        for edge, request in self._request.items():
            if request:
                yield self._judged.keys[edge], request

    def way(self, key: Key) -> Way | None:
        """How the edge came about; None if nobody is said to have caused it."""
        numbers = self._judged.of_key.get(key, ())
        if not numbers or not self._request[numbers[0]]:
            return None
        path = [numbers[0]]
        while self._before[path[-1]] >= 0:
            path.append(self._before[path[-1]])
        return Way(self._request[path[0]], tuple(reversed(path)))


def rules(judged: Judged) -> list[Ours | Thread]:
    """All that are compared."""
    message = (EdgeKind.MESSAGE,)
    clone = (EdgeKind.MESSAGE, EdgeKind.SPAWN, EdgeKind.EXEC)
    wake = (EdgeKind.WAKE, EdgeKind.SPAWN, EdgeKind.EXEC, EdgeKind.MESSAGE, EdgeKind.CONNECT, EdgeKind.EXIT)
    return [
        Ours(judged, strict=False),
        Ours(judged, strict=True),
        Thread(judged, "last message", message),
        Thread(judged, "and clone parents", clone),
        Thread(judged, "wake-ups", wake, slept=True),
    ]
