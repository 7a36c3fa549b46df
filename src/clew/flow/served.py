"""The connections that servers accepted, and the requests that came by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clew.flow.connections import Connections
from clew.flow.sockets import SocketTable
from clew.model.event import EventFlag, EventKind
from clew.model.rules import Served


@dataclass(slots=True)
class Request:
    """What was taken in on a connection until something was sent there, by rows of the events table.

    ``answers`` are the sends between it and the next request.
    """

    taken: list[int]
    answers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Connection:
    """One accepted endpoint: where it is, who is at the other end, and which rows are of it.

    ``accept`` is the row of the call that gave it, -1 if that was before the recording.
    """

    chan: int
    address: str
    far: str
    pids: set[int]
    accept: int = -1
    requests: list[Request] = field(default_factory=list)

    @property
    def rows(self) -> list[int]:
        """Where something came in by it."""
        accepted = [self.accept] if self.accept >= 0 else []
        return accepted + [row for request in self.requests for row in request.taken]


def connections_to(
    server: Served, events: NDArray[np.void], connections: Connections, sockets: SocketTable
) -> list[Connection]:
    """Those that the server accepted, by when the recording first saw them."""
    return [
        one
        for one in accepted(events, connections, sockets)
        if any(server.matches(one.address, pid) for pid in (one.pids or {0}))
    ]


def requests_to(found: list[Connection]) -> list[tuple[Connection, Request]]:
    """All requests of some connections, by when they came."""
    pairs = [(connection, request) for connection in found for request in connection.requests]
    return sorted(pairs, key=lambda pair: pair[1].taken[0])


def accepted(events: NDArray[np.void], connections: Connections, sockets: SocketTable) -> list[Connection]:
    """Every connection that was accepted, by when the recording first saw it used on that side."""
    found: dict[int, Connection] = {}
    for row, kind, chan, pid in _used(events, connections):
        one = found.get(chan)
        if one is None:
            one = found[chan] = Connection(chan, sockets.address(chan), sockets.far_address(chan), set())
        one.pids.add(pid)
        if kind == EventKind.ACCEPT:
            one.accept = row
        elif kind == EventKind.SEND:
            if one.requests:
                one.requests[-1].answers.append(row)
        elif not one.requests or one.requests[-1].answers:
            one.requests.append(Request([row]))
        else:
            one.requests[-1].taken.append(row)
    return list(found.values())


def _used(events: NDArray[np.void], connections: Connections) -> Iterator[tuple[int, int, int, int]]:
    """Calls by which something came or went at accepted endpoints: row, kind, endpoint, process."""
    kind, ret = events["kind"], events["ret"]
    moved = (kind == EventKind.RECV) | (kind == EventKind.SEND)
    moved &= (ret > 0) & (events["flags"] & (EventFlag.PEEK | EventFlag.PENDING) == 0)
    rows = np.flatnonzero(moved | (kind == EventKind.ACCEPT) & (ret >= 0))
    rows = rows[connections.requests(events, rows)]
    columns = (events[name][rows].tolist() for name in ("kind", "chan", "pid"))
    return zip(rows.tolist(), *columns, strict=True)
