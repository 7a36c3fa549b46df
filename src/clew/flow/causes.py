"""What tasks took in from others: messages, connections and wake-ups, each with the moment it left.

A send counts from when it was entered, for its bytes may be read before it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.connections import Connections
from clew.flow.kinds import EdgeKind
from clew.flow.match import Matches
from clew.flow.moments import Rows, left_at
from clew.flow.sockets import SocketTable
from clew.flow.wakes import ends, timers, wakes
from clew.kernel.syscalls import numbers
from clew.model.event import EventKind

_THROUGH = [numbers()[name] for name in ("splice", "sendfile")]


@dataclass(frozen=True, slots=True)
class Causes:
    """Columns, ordered by ``effect``.

    ``effect`` and ``source`` are rows of the events table, of another task each.  ``kind`` is an
    ``EdgeKind``: MESSAGE, a receive and a send of ``size`` bytes in common; WAKE, a wait and
    what ended it; CONNECT, an accept and the connect it answered.  It left task ``tid`` at ``when``.
    """

    effect: NDArray[np.int32]
    source: NDArray[np.int32]
    size: NDArray[np.int32]
    kind: NDArray[np.uint8]
    tid: NDArray[np.uint32]
    when: NDArray[np.int64]


def causes_of(
    events: NDArray[np.void], kind: NDArray[np.uint8], matches: Matches, waits: Rows,
    connections: Connections, sockets: SocketTable,
) -> Causes:  # fmt: skip
    """Everything that was taken in, by receives, by accepts, by the futex waits in rows ``waits``."""
    told = (
        (EdgeKind.MESSAGE, matches.send, matches.recv, matches.size),
        (EdgeKind.WAKE, *wakes(events, waits, kind, matches.recv), None),
        (EdgeKind.WAKE, *timers(events, kind), None),
        (EdgeKind.WAKE, *ends(events, kind, sockets), None),
        (EdgeKind.CONNECT, connections.connect, connections.accept, None),
    )
    columns = [_foreign(events, *part) for part in told]
    source, effect, size, what = (np.concatenate(column) for column in zip(*columns, strict=True))
    if len(effect) > len(columns[0][0]):
        order = np.argsort(effect, kind="stable")
        source, effect, size, what = source[order], effect[order], size[order], what[order]
    tid = events["tid"][source].astype(np.uint32)
    return Causes(effect, source, size, what, tid, left_at(events, source))


def _foreign(
    events: NDArray[np.void], kind: EdgeKind, source: Rows, effect: Rows, size: Rows | None
) -> tuple[NDArray[Any], ...]:
    """Those that another task caused, as columns."""
    other = events["tid"][source] != events["tid"][effect]
    source, effect = source[other], effect[other]
    sizes = np.zeros(len(source), np.int32) if size is None else size[other].astype(np.int32)
    return source.astype(np.int32), effect.astype(np.int32), sizes, np.full(len(source), kind, np.uint8)


def pass_on(events: NDArray[np.void], rows: Rows, causes: Causes) -> Rows:
    """When the receives in ``rows`` took in what they did: when they returned, mostly.

    A call that takes in and puts out at once (splice) puts out before it returns: it did both once it was
    entered and what it took had been sent.  ``causes`` gets that moment for what it put out.
    """
    when = events["t"][rows].astype(np.int64)
    through = np.flatnonzero(np.isin(events["nr"][rows], _THROUGH) & (events["kind"][rows] == EventKind.RECV))
    put_out: dict[int, int] = {}
    for i, moment in zip(through.tolist(), left_at(events, rows[through]).tolist(), strict=True):
        low, high = np.searchsorted(causes.effect, (rows[i], rows[i] + 1))
        taken = zip(causes.source[low:high].tolist(), causes.when[low:high].tolist(), strict=True)
        when[i] = max([moment, *(put_out.get(source, left) for source, left in taken)])
        put_out[_other_half(events, int(rows[i]))] = int(when[i])
    if put_out:
        for i in np.flatnonzero(np.isin(causes.source, list(put_out))).tolist():
            causes.when[i] = put_out[int(causes.source[i])]
    return when


def _other_half(events: NDArray[np.void], row: int) -> int:
    """The row of the send that one call made with the receive in ``row``; -1 if it has none."""
    tid, t = events[row]["tid"], events[row]["t"]
    for other in range(row + 1, len(events)):
        event = events[other]
        if event["t"] != t:
            break
        if event["tid"] == tid and event["kind"] == EventKind.SEND:
            return other
    return -1
