"""Requests on connections: which activation took each in, and which sends answer it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import Web
from clew.flow.owners import Answer
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
        self._open: Counter[int] = Counter()
        self.answers: dict[int, int] = {}
        self.given: list[Answer] = []

    def taken(self, step: int, act: int) -> None:
        """Activation ``act`` received at an accepted endpoint."""
        event = self._events[int(self._steps.row[step])]
        if event["kind"] == EventKind.ACCEPT:
            return
        chan, pid = int(event["chan"]), int(event["pid"])
        last = self._last.get(chan)
        if last is None or last.answering >= 0:
            self._open[pid] += 1
        elif last.pid != pid:
            self._open[last.pid] -= 1
            self._open[pid] += 1
        self._last[chan] = _Request(pid, act, int(self._steps.when[step]))

    def answered(self, step: int, act: int) -> bool:
        """``act`` sends at an accepted endpoint; whether other requests to the process are left unanswered.

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
        self._open[request.pid] -= 1
        self.given.append(Answer(act, request.act, request.taken, int(self._steps.when[step])))
        return self._open[request.pid] > 0

    def went_on(self, step: int, act: int) -> None:
        """After that answer the task went on in ``act``: more of the answer may come from there."""
        self._last[int(self._events["chan"][int(self._steps.row[step])])].answering = act
