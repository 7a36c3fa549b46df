"""Activations and the edges between them, as flat arrays that the pass of ``activation`` fills."""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.flow.steps import Causes

_RELATED_DEPTH = 64
FOREVER = (1 << 63) - 1


class Begun(IntEnum):
    """How an activation came to be."""

    UNKNOWN = 0
    WAIT = 1
    INTAKE = 2
    FORK = 3
    THREAD = 4
    EXEC = 5


class EdgeKind(IntEnum):
    """What an edge is."""

    MESSAGE = 0
    WAKE = 1
    SPAWN = 2
    EXEC = 3
    EXIT = 4
    SIGNAL = 5
    OWN = 6  # no hop: what a task does by itself comes from what it was born for


class Activations:
    """All activations and edges.

    Of an activation: ``task`` (tid), ``start`` and ``end`` (trace clock; 0 while open), ``begun``, ``parent``
    (the activation its first trigger came from, -1), and ``alone``: until when nothing from outside had set
    it going, 0 where that does not matter.
    """

    def __init__(self, causes: Causes) -> None:
        self.task, self.parent = array("i"), array("i")
        self.start, self.end, self.alone = array("q"), array("q"), array("q")
        self.begun = array("b")
        self._causes = causes
        # Of an edge: kind and whether it began its target, both activations, its cause.
        self._edges = array("i")
        # Causes of the edges that are no intake: rows where they left and arrived.
        self._left, self._arrived = array("q"), array("q")
        self._intakes = len(causes.source)

    def __len__(self) -> int:
        return len(self.parent)

    def column(self, name: str) -> NDArray[Any]:
        """A fact of all activations."""
        values: array[int] = getattr(self, name)
        return np.frombuffer(values, values.typecode)

    def begin(self, tid: int, when: int, begun: int, alone: int = 0) -> int:
        """A new activation's number."""
        self.task.append(tid)
        self.start.append(when)
        self.begun.append(begun)
        self.alone.append(alone)
        self.end.append(0)
        self.parent.append(-1)
        return len(self.parent) - 1

    def take(self, kind: int, source: int, target: int, cause: int, trigger: bool) -> None:
        """An edge for one of ``causes``; the first trigger of an activation names its parent."""
        self._edges.extend((kind << 1 | trigger, source, target, cause))
        if trigger and self.parent[target] < 0:
            self.parent[target] = source

    def link(self, kind: int, source: int, target: int, left: int, arrived: int, trigger: bool) -> None:
        """Any other edge; ``left`` and ``arrived`` are rows of the table its kind is in."""
        self._left.append(left)
        self._arrived.append(arrived)
        self.take(kind, source, target, self._intakes + len(self._left) - 1, trigger)

    def descends(self, act: int, ancestor: int) -> bool:
        """Whether ``ancestor`` is among the causes of ``act`` (as far as a bounded walk goes)."""
        for _ in range(_RELATED_DEPTH):
            if act == ancestor:
                return True
            if act < 0:
                return False
            act = self.parent[act]
        return False

    def edges(self) -> dict[str, NDArray[Any]]:
        """All edges in the order they arrived, by column.

        ``kind``, ``source`` and ``target`` (activations), ``row_from`` and ``row_to`` (rows of the events
        table; for births, execs and exits of the task table's lists), ``trigger`` (whether it began its
        target), ``size`` (bytes).
        """
        what, source, target, cause = np.frombuffer(self._edges, np.int32).reshape(-1, 4).T
        none = np.zeros(len(self._left), np.int64)
        return {
            "kind": what >> 1,
            "source": source.copy(),
            "target": target.copy(),
            "row_from": np.append(self._causes.source, self._left)[cause],
            "row_to": np.append(self._causes.effect, self._arrived)[cause],
            "trigger": what & 1,
            "size": np.append(self._causes.size, none)[cause],
        }
