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
from clew.kernel.syscalls import numbers
from clew.model.event import EventFlag, EventKind

_THROUGH = [numbers()[name] for name in ("splice", "sendfile")]


@dataclass(frozen=True, slots=True)
class Causes:
    """Columns, ordered by ``effect``.

    ``effect`` and ``source`` are rows of the events table, of another task each.  ``kind`` is an
    ``EdgeKind``: MESSAGE, a receive and a send of ``size`` bytes in common; WAKE, a futex wait and what
    ended it; CONNECT, an accept and the connect it answered.  It left task ``tid`` at ``when``.
    """

    effect: NDArray[np.int32]
    source: NDArray[np.int32]
    size: NDArray[np.int32]
    kind: NDArray[np.uint8]
    tid: NDArray[np.uint32]
    when: NDArray[np.int64]


def causes_of(events: NDArray[np.void], matches: Matches, waits: Rows, connections: Connections) -> Causes:
    """Everything that was taken in, by receives, by accepts and by the futex waits in rows ``waits``."""
    told = (
        (EdgeKind.MESSAGE, matches.send, matches.recv, matches.size),
        (EdgeKind.WAKE, *_wakes(events, waits), None),
        (EdgeKind.CONNECT, connections.connect, connections.accept, None),
    )
    columns = [_foreign(events, *part) for part in told]
    source, effect, size, kind = (np.concatenate(column) for column in zip(*columns, strict=True))
    if len(columns[1][0]) or len(columns[2][0]):
        order = np.argsort(effect, kind="stable")
        source, effect, size, kind = source[order], effect[order], size[order], kind[order]
    tid = events["tid"][source].astype(np.uint32)
    return Causes(effect, source, size, kind, tid, left_at(events, source))


def _foreign(
    events: NDArray[np.void], kind: EdgeKind, source: Rows, effect: Rows, size: Rows | None
) -> tuple[NDArray[Any], ...]:
    """Those that another task caused, as columns."""
    other = events["tid"][source] != events["tid"][effect]
    source, effect = source[other], effect[other]
    sizes = np.zeros(len(source), np.int32) if size is None else size[other].astype(np.int32)
    return source.astype(np.int32), effect.astype(np.int32), sizes, np.full(len(source), kind, np.uint8)


def spread(first: NDArray[Any], last: NDArray[Any]) -> tuple[Rows, Rows]:
    """For ranges [first, last): of each number in them, which range, and the number."""
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]


def _wakes(events: NDArray[np.void], waits: Rows) -> tuple[Rows, Rows]:
    """Rows (wake, wait) of wake-ups that came while ``waits`` lasted, in order of the waits."""
    rows = np.flatnonzero(events["kind"] == EventKind.WAKE)
    rows = rows[events["flags"][rows] & EventFlag.SAME_FUTEX != 0]
    if not len(rows) or not len(waits):
        return rows[:0], waits[:0]
    # One number for (task, moment); a moment is the number of events before it.
    stride = len(events)
    woken = (events["chan"][rows] & np.uint64(0xFFFFFFFF)).astype(np.int64) * stride + rows
    order = np.argsort(woken, kind="stable")
    rows, woken = rows[order], woken[order]
    task = events["tid"][waits].astype(np.int64) * stride
    began = np.searchsorted(events["t"], events["t0"][waits])
    which, index = spread(np.searchsorted(woken, task + began), np.searchsorted(woken, task + waits))
    return rows[index], waits[which]


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
