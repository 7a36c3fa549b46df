"""Whose work it was, told by what it led to.

Where one process works on several requests at a time, program order does not tell for which of them it does
something: a loop reads two and then acts, a worker finds its next job awake.  The answer does.  What led to
the answer of a request, and was done by the task that had taken the request in, was done for that request;
and what a worker did between two answers was done for the second.

Where several answers come of the same thing, or several things of one turn lead to several answers, all stay:
the edges are ambiguous, and a path prefers the order of the requests.  So are those between the taking in of
one request and the answer to another, with nothing to tell to which of the two they belong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from clew.flow.edges import Activations, Edges
from clew.flow.kinds import EdgeKind, Evidence

_WITHIN = (EdgeKind.AFTER, EdgeKind.CONTINUED, EdgeKind.OWN)
_FAR = 512  # edges that are looked at for one answer


@dataclass(frozen=True, slots=True)
class Answer:
    """Activation ``by`` answered, at ``when``, the request that ``request`` had taken in at ``taken``."""

    by: int
    request: int
    taken: int
    when: int


class _Ways:
    """The edges that lead to an activation."""

    def __init__(self, acts: Activations, edges: Edges) -> None:
        self._acts, self._edges = acts, edges
        self._order = np.argsort(edges.target, kind="stable")
        self._targets = edges.target[self._order]
        self._leaving = np.argsort(edges.source, kind="stable")
        self._sources = edges.source[self._leaving]

    def claims(self, answer: Answer) -> tuple[bool, list[int]]:
        """Whether the answer comes of the activation that took its request in; the edges it claims."""
        task = int(self._acts.task[answer.request])
        own, claimed, seen = False, [], {answer.by}
        todo = [(answer.by, answer.when)]
        for _ in range(_FAR):
            if not todo:
                break
            act, until = todo.pop()
            if act == answer.request:
                own = True
                continue
            for edge in self._into(act, answer.taken, until):
                source, kind = int(self._edges.source[edge]), int(self._edges.kind[edge])
                if kind == EdgeKind.AFTER or int(self._acts.task[source]) == task:
                    claimed.append(edge)
                    own |= source == answer.request
                elif source not in seen:
                    seen.add(source)
                    todo.append((source, int(self._edges.left[edge])))
        return own, claimed

    def out_of(self, act: int, until: int) -> list[int]:
        """What activation ``act`` did to others before ``until``."""
        low, high = np.searchsorted(self._sources, (act, act + 1))
        edges: list[int] = self._leaving[low:high].tolist()
        return [e for e in edges if self._edges.left[e] < until and self._edges.kind[e] not in _WITHIN]

    def _into(self, act: int, since: int, until: int) -> Iterator[int]:
        low, high = np.searchsorted(self._targets, (act, act + 1))
        for edge in self._order[low:high].tolist():
            if since <= self._edges.left[edge] and self._edges.arrived[edge] <= until:
                yield edge


def settle(acts: Activations, edges: Edges, answers: list[Answer]) -> Edges:
    """``edges``, those among them that answers claim given to the activations that took the requests in."""
    if all(answer.by == answer.request for answer in answers):
        return edges
    ways = _Ways(acts, edges)
    claims: dict[int, list[Answer]] = defaultdict(list)
    alone: list[Answer] = []
    between: list[Answer] = []
    took_in = {answer.request for answer in answers}
    for answer in answers:
        own, claimed = (True, []) if answer.by == answer.request else ways.claims(answer)
        for edge in claimed:
            claims[edge].append(answer)
        if not own and not claimed:
            (between if answer.by in took_in else alone).append(answer)
    given = _Given(acts, edges)
    given.claimed(claims)
    for answer in between:
        given.doubted(answer, ways)
    return given.joined(alone)


class _Given:
    """The edges with what is changed of them."""

    def __init__(self, acts: Activations, edges: Edges) -> None:
        self._acts, self._edges = acts, edges
        self._source, self._trigger = edges.source.copy(), edges.trigger.copy()
        self._evidence = edges.evidence.copy()
        self._more: list[tuple[int, int, Evidence]] = []  # alike to an edge, from another activation

    def claimed(self, claims: dict[int, list[Answer]]) -> None:
        """Give each edge to the requests whose answers claim it."""
        turn = _turns(self._edges, claims)
        for edge, by in claims.items():
            requests = [request for _, request in sorted({(a.taken, a.request) for a in by})]
            source = int(self._source[edge])
            if self._edges.kind[edge] == EdgeKind.WAKE and source not in requests:
                # It woke a worker, but not for this: the worker took another job than that.
                self._trigger[edge] = False
                self._more += [(edge, request, Evidence.CONTINUED) for request in requests]
                continue
            first = requests[turn[edge] % len(requests)]
            self._give(edge, first, [request for request in requests if request != first])

    def doubted(self, answer: Answer, ways: _Ways) -> None:
        """What the answering activation did before the answer may be for it, or for what it had taken in.

        If what was taken in earlier has led to nothing before, it was only read, and is worked on now.
        """
        began = int(self._acts.start[answer.by])
        read_only = not ways.out_of(answer.request, began)
        for edge in ways.out_of(answer.by, answer.when):
            first, other = (answer.request, answer.by) if read_only else (answer.by, answer.request)
            self._give(edge, first, [other])

    def _give(self, edge: int, first: int, others: list[int]) -> None:
        if others:
            self._evidence[edge] = Evidence.AMBIGUOUS
        elif first != self._source[edge]:
            self._evidence[edge] = Evidence.CONTINUED
        self._source[edge] = first
        self._more += [(edge, other, Evidence.ALTERNATIVE) for other in others]

    def joined(self, alone: list[Answer]) -> Edges:
        """All edges; ``alone`` are answers that only tell that their activation went on with the request."""
        changed = replace(self._edges, source=self._source, trigger=self._trigger, evidence=self._evidence)
        return _in_order(changed, _alike(changed, self._more), _went_on(self._acts, changed, alone))


def _turns(edges: Edges, claims: dict[int, list[Answer]]) -> dict[int, int]:
    """Of edges that the same requests claim, which comes first, second…: of each kind, in order of time."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for edge, by in claims.items():
        alike[int(edges.kind[edge]), *sorted({a.request for a in by})].append(edge)
    return {
        edge: i
        for same in alike.values()
        for i, edge in enumerate(sorted(same, key=lambda e: (int(edges.left[e]), e)))
    }


def _alike(edges: Edges, more: list[tuple[int, int, Evidence]]) -> Edges:
    like = np.array([edge for edge, _, _ in more], np.int64)
    columns = {name: getattr(edges, name)[like] for name in Edges.__slots__}
    columns["source"] = np.array([source for _, source, _ in more], np.int32)
    columns["evidence"] = np.array([evidence for _, _, evidence in more], np.uint8)
    columns["trigger"] = np.ones(len(more), bool)
    no_hop = (columns["kind"] == EdgeKind.WAKE) & (columns["evidence"] == Evidence.CONTINUED)
    columns["kind"] = np.where(no_hop, EdgeKind.CONTINUED, columns["kind"]).astype(np.uint8)
    return Edges(**columns)


def _went_on(acts: Activations, edges: Edges, alone: list[Answer]) -> Edges:
    source, by, taken = np.array([(a.request, a.by, a.taken) for a in alone], np.int64).reshape(-1, 3).T
    when = np.maximum(acts.start[by], taken)
    columns = {"kind": EdgeKind.CONTINUED, "source": source, "target": by, "row_from": -1, "row_to": -1,
               "left": when, "arrived": when, "trigger": True, "size": 0,
               "evidence": Evidence.CONTINUED}  # fmt: skip
    return Edges(**{
        name: np.broadcast_to(np.asarray(value), len(alone)).astype(getattr(edges, name).dtype)
        for name, value in columns.items()
    })  # fmt: skip


def _in_order(*parts: Edges) -> Edges:
    """Several as one, in order of their arrival."""
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Edges.__slots__}
    order = np.argsort(columns["arrived"], kind="stable")
    return Edges(**{name: column[order] for name, column in columns.items()})
