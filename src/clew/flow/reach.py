"""What a root caused, and the path from it to a target: walks over the edges that activations gave."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import FOREVER, Activations, Edges
from clew.flow.kinds import EdgeKind, Evidence

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Reach:
    """Which activations and edges belong to the flow.

    ``since``: from when on an activation does.  ``edges`` is a mask: an edge belongs if its source did when
    it left, and it leads to another task (or is an exec); so a reply or a dead end belongs too.  Only edges
    that began their target carry the flow on.
    """

    since: NDArray[np.int64]
    edges: NDArray[np.bool_]

    @property
    def acts(self) -> NDArray[np.bool_]:
        """Which activations belong."""
        belong: NDArray[np.bool_] = self.since < FOREVER
        return belong

    def carries(self, edges: Edges) -> NDArray[np.bool_]:
        """Which edges left an activation when that belonged to the flow."""
        belonged: NDArray[np.bool_] = self.since[edges.source] <= edges.left
        return belonged


def reach(
    acts: Activations, edges: Edges, roots: NDArray[np.bool_], strict: bool = False,
    begun: Mapping[int, int] = MappingProxyType({}), entries: Sequence[int] = (),
) -> Reach:  # fmt: skip
    """What ``roots`` (a mask of activations) caused; ``strict`` leaves out what is ambiguous.

    Or what was caused by activations that worked for it from some moment on (``begun``); ``entries``, the
    edges by which it came to them, belong, too.

    Edges are in order of their arrival and a cause arrives before what it causes, so one pass is enough.
    """
    since = array("q", np.where(roots, -1, FOREVER).astype(np.int64).tobytes())
    for act, when in begun.items():
        since[act] = min(when, since[act])
    followed = _followed(edges, strict)
    carrying = np.flatnonzero(edges.trigger & followed)
    for low in range(0, len(carrying), _CHUNK):
        part = carrying[low : low + _CHUNK]
        columns = (edges.source, edges.target, edges.left, edges.arrived)
        for source, target, left, arrived in zip(*(c[part].tolist() for c in columns), strict=True):
            if since[source] <= left and arrived < since[target]:
                since[target] = arrived
    reached = np.frombuffer(since, np.int64)
    # The end of a child belongs to the flow of whoever waited for it, whatever the child did last.
    waited = (edges.kind == EdgeKind.EXIT) & (reached[edges.target] <= edges.arrived)
    belong = followed & _leaving(acts, edges) & (waited | (reached[edges.source] <= edges.left))
    belong[list(entries)] = True
    drop_doubles(edges, belong)
    return Reach(reached, belong)


def _followed(edges: Edges, strict: bool) -> NDArray[np.bool_]:
    """Which edges are followed at all: ``strict`` leaves out what is ambiguous."""
    most = Evidence.CONTINUED if strict else Evidence.ALTERNATIVE
    followed: NDArray[np.bool_] = edges.evidence <= most
    return followed


class Spread:
    """What single activations caused, asked for many of them: it costs what is found, and no pass each."""

    def __init__(self, acts: Activations, edges: Edges, strict: bool = False) -> None:
        self._edges = edges
        self._order = np.flatnonzero(_followed(edges, strict))
        self._order = self._order[np.argsort(edges.source[self._order], kind="stable")]
        self._sources = edges.source[self._order]
        self._carries = edges.trigger
        self._leaves = _leaving(acts, edges)
        self._ends = self._order[edges.kind[self._order] == EdgeKind.EXIT]
        self._ends = self._ends[np.argsort(edges.target[self._ends], kind="stable")]
        self._ended_for = edges.target[self._ends]

    def of(self, since: dict[int, int]) -> tuple[dict[int, int], list[int]]:
        """From activations, each from a moment on: what they caused, likewise, and the edges that belong."""
        found: dict[int, int] = {}
        belong: list[int] = []
        todo = [(when, act) for act, when in since.items()]
        todo.sort()
        while todo:
            when, act = heappop(todo)
            if act in found:
                continue
            found[act] = when
            for edge, target, left, arrived, carries, leaves in self._out_of(act):
                if left < when:
                    continue
                if leaves:
                    belong.append(edge)
                if carries and target not in found:
                    heappush(todo, (arrived, target))
            belong += self._ends_waited_for(act, when)
        return found, belong

    def _ends_waited_for(self, act: int, when: int) -> list[int]:
        """As in ``reach``: the ends of children, whatever those did last."""
        low, high = np.searchsorted(self._ended_for, (act, act + 1))
        some = self._ends[low:high]
        ends: list[int] = some[self._leaves[some] & (self._edges.arrived[some] >= when)].tolist()
        return ends

    def _out_of(self, act: int) -> Iterator[tuple[int, int, int, int, bool, bool]]:
        """Edges that leave ``act``: number, target, moments, whether it carries, whether it leaves a task."""
        low, high = np.searchsorted(self._sources, (act, act + 1))
        some, edges = self._order[low:high], self._edges
        columns = (edges.target, edges.left, edges.arrived, self._carries, self._leaves)
        return zip(some.tolist(), *(column[some].tolist() for column in columns), strict=True)


def _leaving(acts: Activations, edges: Edges) -> NDArray[np.bool_]:
    """Which edges lead to another task, or are an exec."""
    leaves: NDArray[np.bool_] = acts.task[edges.source] != acts.task[edges.target]
    leaves |= edges.kind == EdgeKind.EXEC
    leaves &= (edges.kind != EdgeKind.CONTINUED) & (edges.kind != EdgeKind.AFTER)
    return leaves


def drop_doubles(edges: Edges, belong: NDArray[np.bool_]) -> None:
    """Of an ambiguous edge keep one, the likeliest of those that belong."""
    some = np.flatnonzero(belong & (edges.evidence >= Evidence.AMBIGUOUS))
    same = np.lexsort((edges.evidence[some], edges.row_to[some], edges.row_from[some], edges.kind[some]))
    some = some[same]
    what = np.stack([edges.kind[some], edges.row_from[some], edges.row_to[some]])
    belong[some[1:][np.all(what[:, 1:] == what[:, :-1], axis=0)]] = False


def path_to(
    edge: int, edges: Edges, flow: Reach, roots: NDArray[np.bool_], strict: bool = False,
    entries: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """Edges from a root to ``edge``, in order, those within a task too; [edge] alone if a root made it."""
    if edge in entries:
        return [edge]
    source, left = int(edges.source[edge]), int(edges.left[edge])
    return [*path_within(source, left, edges, flow, roots, strict, edge, entries), edge]


def path_within(
    act: int, when: int, edges: Edges, flow: Reach, roots: NDArray[np.bool_], strict: bool = False,
    below: int | None = None, entries: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """Edges from a root to what activation ``act`` did at ``when``, in order; none if it is a root's.

    Only edges ``below`` this number count.  One of ``entries`` comes from outside: there a path begins.  Of
    several causes of one activation the last to arrive before the step in question is taken: with the others
    there, it is the one that set the work going.
    """
    at, path = len(edges.kind) if below is None else below, []
    came = np.zeros(len(edges.kind), bool)
    came[list(entries)] = True
    triggers = np.flatnonzero(edges.trigger & _followed(edges, strict) & (came | flow.carries(edges)))
    triggers = triggers[np.argsort(edges.target[triggers], kind="stable")]
    began = edges.target[triggers]
    while not roots[act]:
        low, high = np.searchsorted(began, (act, act + 1))
        before = triggers[low:high]
        before = before[(before < at) & (edges.arrived[before] <= when)]
        if not len(before):
            break
        at = _preferred(before, edges)
        path.append(at)
        if came[at]:
            break
        act, when = int(edges.source[at]), int(edges.left[at])
    path.reverse()
    return path


def _preferred(before: NDArray[np.int64], edges: Edges) -> int:
    """The last of some edges to arrive; of several in one step, what continued their task's work."""
    last = before[edges.arrived[before] == edges.arrived[before[-1]]]
    through = edges.kind[last] != EdgeKind.CONTINUED
    doubt = np.maximum(edges.evidence[last], Evidence.CONTINUED)
    return int(last[np.lexsort((-last, through, doubt))[0]])
