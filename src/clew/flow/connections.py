"""Who asked for which connection, and which side of it each endpoint is.

The side is what tells a request from an answer: what arrives where the connection was accepted asks for
something, what arrives where it was opened answers, or was sent without being asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.moments import Rows, left_at
from clew.flow.sockets import SocketTable
from clew.model.event import ChannelType, EventFlag, EventKind

_EINPROGRESS = -115
_STREAMS = (ChannelType.UNIX, ChannelType.UNIX_SEQPACKET, ChannelType.TCP)


@dataclass(frozen=True, slots=True)
class Connections:
    """``connect[i]`` and ``accept[i]`` are rows of the events table: the two calls that made a connection.

    ``accepted`` and ``opened`` are the endpoints (inodes) of either side.
    """

    connect: Rows
    accept: Rows
    accepted: NDArray[np.uint64]
    opened: NDArray[np.uint64]

    def requests(self, events: NDArray[np.void], rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of ``rows`` (sends and receives) are at the accepting side."""
        return self._at(events, rows, self.accepted)

    def answers(self, events: NDArray[np.void], rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of ``rows`` are at the opening side."""
        return self._at(events, rows, self.opened)

    @staticmethod
    def _at(events: NDArray[np.void], rows: NDArray[Any], ends: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(ends):
            return np.zeros(len(rows), bool)
        found: NDArray[np.bool_] = np.isin(events["channel"][rows], _STREAMS)
        found[found] = np.isin(events["chan"][rows[found]], ends)
        return found


def connections_of(events: NDArray[np.void], sockets: SocketTable) -> Connections:
    """All that were opened or accepted in the recording."""
    both = np.flatnonzero(events["kind"] - np.uint8(EventKind.CONNECT) <= 1)  # ACCEPT comes after it
    both = both[np.isin(events["channel"][both], _STREAMS)]
    connecting, ret = events["kind"][both] == EventKind.CONNECT, events["ret"][both]
    accepts = both[~connecting & (ret >= 0)]
    connects = both[connecting & ((ret == 0) | (ret == _EINPROGRESS))]
    pairs = np.array(_pairs(events, accepts, connects, sockets), np.int64).reshape(-1, 2)
    accepted, opened = (np.unique(events["chan"][rows]) for rows in (accepts, connects))
    told = (np.array(sorted(ends), np.uint64) for ends in sockets.sides())
    also_accepted, also_opened = (np.setdiff1d(ends, np.union1d(accepted, opened)) for ends in told)
    return Connections(
        pairs[:, 0], pairs[:, 1], np.union1d(accepted, also_accepted), np.union1d(opened, also_opened)
    )


def _pairs(
    events: NDArray[np.void], accepts: Rows, connects: Rows, sockets: SocketTable
) -> list[tuple[int, int]]:
    """For each accept the last connect of the socket at the other end; numbers are used again."""
    made: dict[int, list[tuple[int, int]]] = {}
    chans = events["chan"][connects].tolist()
    for row, chan, left in zip(connects.tolist(), chans, left_at(events, connects).tolist(), strict=True):
        made.setdefault(chan, []).append((left, row))
    found = []
    for row in accepts.tolist():
        event = events[row]
        when, flags = int(event["t"]), int(event["flags"]) & ~EventFlag.BLOCKED
        end = sockets.opener(int(event["chan"]), int(event["channel"]), int(event["peer"]), flags, when)
        before = [connect for left, connect in made.get(end, ()) if left <= when]
        if before:
            found.append((before[-1], row))
    return found
