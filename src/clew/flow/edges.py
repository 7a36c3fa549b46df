"""Activations and the edges between them: while the pass of ``activation`` makes them, and as columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.causes import Causes
from clew.flow.steps import Step, Steps
from clew.flow.wakes import spread

_RELATED_DEPTH = 64
FOREVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Activations:
    """All activations, by number: ``task`` (tid), ``start`` and ``end`` (trace clock; 0: open).

    ``under_way`` marks those that had begun before the task was seen.  ``turn`` is the first of those that
    the task went through without giving up the processor in between: which of them led to what, program
    order alone tells.
    """

    task: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    under_way: NDArray[np.bool_]
    turn: NDArray[np.int32]


class Timeline:
    """In which activation a task was just after a moment."""

    def __init__(self, acts: Activations) -> None:
        self._order = np.lexsort((acts.start, acts.task))
        self._task, self._start = acts.task[self._order], acts.start[self._order]

    def act(self, tid: int, when: int) -> int:
        """The activation; -1 if the task was in none yet."""
        low, high = np.searchsorted(self._task, (tid, tid + 1))
        at = low + int(np.searchsorted(self._start[low:high], when, side="right")) - 1
        return int(self._order[at]) if at >= low else -1


@dataclass(frozen=True, slots=True)
class Edges:
    """All edges in the order they arrived.

    ``source`` and ``target`` are activations, ``row_from`` and ``row_to`` rows of the events table; for
    births, execs and exits of the task table's lists.  ``left`` and ``arrived`` are times.  ``trigger``:
    whether it began its target; ``size`` is in bytes; ``evidence`` is an ``Evidence``.
    """

    kind: NDArray[np.uint8]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    row_from: NDArray[np.int32]
    row_to: NDArray[np.int32]
    left: NDArray[np.int64]
    arrived: NDArray[np.int64]
    trigger: NDArray[np.bool_]
    size: NDArray[np.int32]
    evidence: NDArray[np.uint8]


class Web:
    """Activations and edges in the making.

    Of an activation: ``origin``, the step that began it (of one that was under way when it was first seen:
    -1 - tid); ``parent``, the activation its first trigger came from (-1); ``alone``, until when nothing from
    outside had set it going (only where that matters).  Of each of ``Causes`` that was taken in: by which
    activation it was caused, in which it arrived, whether it began that.
    """

    def __init__(self, steps: Steps, causes: Causes) -> None:
        self._steps, self._causes = steps, causes
        self.origin, self.parent = array("q"), array("i")
        self.alone: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self._unseen: dict[int, int] = {}
        self.source = array("i", [-1]) * len(causes.source)
        self.target = array("i", [-1]) * len(causes.source)
        self.trigger = bytearray(len(causes.source))
        self._links = array("q")

    def begin(self, step: int) -> int:
        """The number of a new activation that ``step`` begins."""
        act = len(self.parent)
        self.origin.append(step)
        self.parent.append(-1)
        return act

    def begin_unseen(self, tid: int, when: int) -> int:
        """The number of one that task ``tid`` has been in since ``when`` or longer."""
        act = self.begin(-1 - tid)
        self._unseen[act] = when
        return act

    def link(
        self, kind: int, source: int, target: int, step: int, left: int,
        row_from: int = -1, row_to: int = -1, trigger: bool = True,
    ) -> None:  # fmt: skip
        """Any other edge, which arrived in ``step``."""
        self._links.extend((step, kind, source, target, row_from, row_to, left, trigger))
        if trigger and self.parent[target] < 0:
            self.parent[target] = source

    def descends(self, act: int, ancestor: int) -> bool:
        """Whether ``ancestor`` is among the causes of ``act`` (as far as a bounded walk goes)."""
        for _ in range(_RELATED_DEPTH):
            if act == ancestor:
                return True
            if act < 0:
                return False
            act = self.parent[act]
        return False

    def back_to(self, act: int, tid: int) -> int:
        """The nearest of ``act`` and its causes that is the task's; -1 if none is (as far as it looks)."""
        of_step = self._steps.tid
        for _ in range(_RELATED_DEPTH):
            if act < 0:
                break
            origin = self.origin[act]
            if tid == (-1 - origin if origin < 0 else of_step[origin]):
                return act
            act = self.parent[act]
        return -1

    def activations(self) -> Activations:
        """The activations as columns."""
        origin = np.frombuffer(self.origin, np.int64)
        known = origin >= 0
        task, start = -1 - origin, np.zeros(len(origin), np.int64)
        task[known], start[known] = self._steps.tid[origin[known]], self._steps.when[origin[known]]
        for act, when in self._unseen.items():
            start[act] = when
        waited = start.copy()
        # One ends where the wait began that the task's next one ends.
        entered = self._steps.t0[origin[known]]
        waited[known] = np.where(entered == 0, start[known], entered)
        order = np.argsort(task, kind="stable")
        follows = task[order][1:] == task[order][:-1]
        end = np.zeros(len(start), np.int64)
        end[order[:-1][follows]] = waited[order[1:][follows]]
        for act, when in self.closed.items():
            end[act] = when
        return Activations(task, start, end, ~known, self._turns(task, origin, order))

    def _turns(
        self, task: NDArray[np.int64], origin: NDArray[np.int64], order: NDArray[np.intp]
    ) -> NDArray[np.int32]:
        """For each activation the first of its turn; ``order`` is by task, then number."""
        steps, step = self._steps, np.maximum(origin, 0)
        code, blocked = steps.code[step], steps.blocked[step]
        goes_on = (code == Step.ANSWER) | (((code == Step.RECV) | (code == Step.WAIT)) & ~blocked)
        goes_on = (goes_on & (origin >= 0))[order]
        goes_on[:1] = False
        goes_on[1:] &= task[order][1:] == task[order][:-1]
        first = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(order))))
        turn = np.zeros(len(order), np.int32)
        turn[order] = order[first]
        return turn

    def edges(self) -> Edges:
        """The edges as columns."""
        causes = self._causes
        links = np.frombuffer(self._links, np.int64).reshape(-1, 8).T
        which, index = spread(self._steps.low, self._steps.high)
        step = np.zeros(len(causes.source), np.int64)
        step[index] = which
        taken = np.flatnonzero(np.frombuffer(self.source, np.int32) >= 0)
        steps = np.concatenate([links[0], step[taken]])
        order = np.argsort(steps, kind="stable")

        def column(of_links: NDArray[Any], of_causes: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([of_links.astype(of_causes.dtype), of_causes[taken]])[order]

        return Edges(
            kind=column(links[1], causes.kind),
            source=column(links[2], np.frombuffer(self.source, np.int32)),
            target=column(links[3], np.frombuffer(self.target, np.int32)),
            row_from=column(links[4], causes.source),
            row_to=column(links[5], causes.effect),
            left=column(links[6], causes.when),
            arrived=self._steps.when[steps[order]],
            trigger=column(links[7], np.frombuffer(self.trigger, np.uint8)).astype(bool),
            size=column(np.zeros(len(links[0])), causes.size),
            evidence=np.zeros(len(order), np.uint8),
        )
