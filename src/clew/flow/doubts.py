"""Which job a worker that was woken found: a wake-up says only that there are jobs.

A worker that is slow to run may find that another has taken the job it was woken for, and take the next one.
So where the times from the wake-up to the return of the wait overlap, of several that waited for the same
condition, each may have the job of each.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import Edges
from clew.flow.kinds import EdgeKind, Evidence
from clew.model.event import ChannelType, EventKind


def of_another(events: NDArray[np.void], edges: Edges, some: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``some`` edges are wake-ups of another task than the one they lead to."""
    row = events[edges.row_from[some].clip(0)]
    futex = (row["kind"] == EventKind.WAKE) & (row["channel"] == ChannelType.FUTEX)
    futex &= edges.kind[some] == EdgeKind.WAKE
    woken = (row["chan"] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    other: NDArray[np.bool_] = futex & (woken != events["tid"][edges.row_to[some].clip(0)])
    return other


def doubted(events: NDArray[np.void], edges: Edges) -> Edges:
    """``edges``, those ambiguous that may as well have been for another job, and those gone that were not."""
    wakes = np.flatnonzero(edges.kind == EdgeKind.WAKE)
    other = wakes[of_another(events, edges, wakes)]
    if not len(other):
        return edges
    evidence, keep = edges.evidence.copy(), np.ones(len(edges.kind), bool)
    own = wakes[np.isin(edges.row_to[wakes], edges.row_to[other]) & ~np.isin(wakes, other)]
    by_wait: dict[int, list[int]] = defaultdict(list)
    for edge in own.tolist():
        by_wait[int(edges.row_to[edge])].append(edge)
    for edge in other.tolist():
        mine = by_wait[int(edges.row_to[edge])]
        keep[edge] = bool(mine) and edges.trigger[mine].all() and edges.trigger[edge]
        keep[edge] &= edges.source[edge] not in edges.source[mine]
        if keep[edge]:
            evidence[edge] = Evidence.ALTERNATIVE
            evidence[mine] = Evidence.AMBIGUOUS
    columns = {name: getattr(edges, name) for name in Edges.__slots__} | {"evidence": evidence}
    return Edges(**{name: column[keep] for name, column in columns.items()})
