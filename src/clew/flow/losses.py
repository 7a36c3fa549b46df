"""Records that were lost: when, and what that says of a hop."""

from __future__ import annotations

import numpy as np

from clew.flow.match import astray
from clew.flow.sockets import SocketTable
from clew.model.event import EventKind
from clew.model.flow import Hop
from clew.trace.reader import Trace

_OF_BACKTRACES = ("stack", "mapping")
"""Kinds whose loss costs names of functions, and no hop."""


class Losses:
    """The gaps of a recording: stretches of time in which a CPU's records were lost."""

    def __init__(self, trace: Trace, sockets: SocketTable) -> None:
        gaps = trace.events[trace.events["kind"] == EventKind.GAP]
        self._began, self._ended = np.sort(gaps["t0"]), np.sort(gaps["t"])
        lost = {kind: n for kind, n in trace.lost.items() if n}
        self._backtraces = any(kind in lost for kind in _OF_BACKTRACES)
        self._events = sum(n for kind, n in lost.items() if kind not in _OF_BACKTRACES)
        self._somewhen = self._events - int(gaps["ret"].sum())

        self._astray: set[int] = set()
        if len(gaps):
            self._astray = set(astray(trace.events, sockets, int(self._began[0])).tolist())

    def doubtful(self, row: int) -> bool:
        """Whether the receive in ``row`` may answer to another send than it seems to."""
        return row in self._astray

    def between(self, began: int, ended: int) -> bool:
        """Whether any gap has a moment in common with [began, ended]."""
        gone = np.searchsorted(self._ended, np.uint64(began))
        begun = np.searchsorted(self._began, np.uint64(ended), side="right")
        return bool(begun > gone)

    def notes(self, path: list[Hop]) -> list[str]:
        """What every view must say."""
        notes = []
        if self._somewhen > 0:
            notes.append("Records were lost, it is not known when: hops may be missing anywhere.")
        elif any(hop.near_gap for hop in path):
            notes.append("Records were lost near the path: hops may be missing there.")
        elif self._events:
            notes.append("Records were lost, none of them near the path.")
        if self._backtraces:
            notes.append("Stacks were lost: some backtraces are missing.")
        return notes
