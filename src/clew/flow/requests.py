"""Requests on connections: which activation took each in, and which sends answer it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import Web
from clew.flow.shares import Answer
from clew.flow.steps import Steps
from clew.model.event import EventKind


@dataclass(slots=True)
class _Request:
    """What was last taken in at one accepted endpoint, by activation ``act``.

    ``answering`` is the activation that sent the answer; -1 as long as none did.
    """

    pid: int
    act: int
    taken: int
    answering: int = -1


class Requests:
    """The requests of a recording, as the pass of ``activation`` comes to them.

    ``answers``: rows of sends that answer a request which is not what their task was doing → the activation
    that took the request in.  ``given``: every answer.
    """

    def __init__(self, events: NDArray[np.void], steps: Steps, web: Web) -> None:
        self._events, self._steps, self._web = events, steps, web
        self._last: dict[int, _Request] = {}
        self._waits: tuple[NDArray[np.uint32], NDArray[np.int64]] | None = None
        self.answers: dict[int, int] = {}
        self.given: list[Answer] = []

    def taken(self, step: int, act: int) -> None:
        """Activation ``act`` received at an accepted endpoint."""
        event = self._events[int(self._steps.row[step])]
        if event["kind"] == EventKind.ACCEPT:
            return
        chan, pid = int(event["chan"]), int(event["pid"])
        self._last[chan] = _Request(pid, act, int(self._steps.when[step]))

    def answered(self, step: int, act: int) -> bool:
        """``act`` sends at an accepted endpoint; whether that begins to answer a request.

        More of the same answer counts to it; what is sent later, unasked, is the sender's own.
        """
        row = int(self._steps.row[step])
        request = self._last.get(int(self._events["chan"][row]))
        if request is None or request.answering not in (-1, act):
            return False
        first = request.answering < 0
        request.answering = act
        if not self._web.descends(act, request.act):
            self.answers[row] = request.act
        if not first:
            return False
        tid, when = int(self._steps.tid[step]), int(self._steps.when[step])
        self.given.append(Answer(act, request.act, request.taken, when, self._looked(tid, when)))
        return True

    def _looked(self, tid: int, when: int) -> int:
        """When the task last returned from a wait, be it one that waited for nothing."""
        if self._waits is None:
            rows = np.flatnonzero(self._events["kind"] == EventKind.WAIT)
            order = np.argsort(self._events["tid"][rows], kind="stable")
            self._waits = self._events["tid"][rows[order]], self._events["t"][rows[order]].astype(np.int64)
        tids, times = self._waits
        low, high = np.searchsorted(tids, (tid, tid + 1))
        before = int(low + np.searchsorted(times[low:high], when))
        return int(times[before - 1]) if before > low else 0

    def went_on(self, step: int, act: int) -> None:
        """After that answer the task went on in ``act``: more of the answer may come from there."""
        self._last[int(self._events["chan"][int(self._steps.row[step])])].answering = act
