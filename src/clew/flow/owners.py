"""Whose work it was, told by what it led to.

Where one process works on several requests at a time, program order does not tell for which of them it does
something: a loop reads two and then acts, a worker finds its next job awake.  The answer does.  What led to
the answer of a request, and was done by the task that had taken the request in, was done for that request;
and what a worker did between two answers was done for the second.

What led to an answer was begun after the request had been taken in, and came back in the turn of the answer,
and is no other answer's.  Where that leaves one thing, it is sure.  Where several are left, the edges are
ambiguous, and the alternatives stay: preferred is what came back since the task last looked what there was to
do, else (it had queued that, and queues keep their order) what was begun first, for the request that was
taken in first.  Ambiguous, too, are edges between the taking in of one request and the answer to another,
with nothing to tell to which of the two they belong.

A worker that answers what another task took in may have been woken, or made, for another job than it then
found: a wake-up says only that there are jobs.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clew.flow.doubts import of_another
from clew.flow.edges import Activations, Edges
from clew.flow.kinds import EdgeKind, Evidence
from clew.flow.shares import Answer, Claim, Group, Share, Shares

_UNSPECIFIC = (EdgeKind.WAKE, EdgeKind.SPAWN, EdgeKind.AFTER, EdgeKind.CONTINUED, EdgeKind.OWN)
_WITHIN = (EdgeKind.AFTER, EdgeKind.CONTINUED, EdgeKind.OWN)
_FAR = 512  # activations that are looked at for one answer


class _Ways:
    """The edges that lead to an activation, and those that leave it."""

    def __init__(self, acts: Activations, edges: Edges) -> None:
        self.acts, self.edges = acts, edges
        self._order = np.argsort(edges.target, kind="stable")
        self._targets = edges.target[self._order]
        self._leaving = np.argsort(edges.source, kind="stable")
        self._sources = edges.source[self._leaving]
        self._in_turn = np.argsort(acts.turn, kind="stable")
        self._turns = acts.turn[self._in_turn]

    def turn(self, act: int, until: int) -> list[int]:
        """The activations of ``act``'s turn that had begun by ``until``."""
        low, high = np.searchsorted(self._turns, (self.acts.turn[act], self.acts.turn[act] + 1))
        acts: list[int] = self._in_turn[low:high].tolist()
        return [a for a in acts if self.acts.start[a] <= until]

    def claims(self, answer: Answer) -> tuple[list[Group], list[Group]]:
        """What the task did since it had taken the request in, that came back in the turn of the answer.

        First, as it came back, what did so since the task looked last; then all, as it was begun.
        """
        acts = self.turn(answer.by, answer.when)
        found = sorted(group for act in acts for group in self._back_in(answer, act))
        since_then = [group for arrived, _, group in found if arrived >= answer.looked]
        begun = sorted({group for *_, group in found}, key=lambda g: (int(self.edges.left[list(g)].min()), g))
        return list(dict.fromkeys(since_then)), begun

    def _back_in(self, answer: Answer, act: int) -> list[tuple[int, int, Group]]:
        """What came back in ``act``: when it arrived, and when it had left."""
        task = int(self.acts.task[answer.request])
        groups: dict[Group, tuple[int, int]] = {}
        went_on: list[int] = []
        for edge in self._into(act, answer.taken, answer.when):
            kind = self.edges.kind[edge]
            if kind == EdgeKind.CONTINUED:
                went_on.append(edge)
            elif kind != EdgeKind.AFTER:
                done = tuple(sorted(self._done_by(task, edge, answer.taken)))
                # What the activation itself did, and waited for, is its own and no news.
                if any(self.edges.source[one] != act for one in done):
                    groups[done] = int(self.edges.arrived[edge]), int(self.edges.left[edge])
        found = sorted((*when, group) for group, when in groups.items())
        if went_on:  # the same thing, seen from the question that it answers
            none: tuple[int, int, Group] = (int(self.edges.arrived[went_on[0]]), 0, ())
            arrived, left, group = found[0] if found else none
            found[:1] = [(arrived, left, (*group, *went_on))]
        return found

    def comes_of(self, answer: Answer) -> bool:
        """Whether the taking in of the request led to the activation that answers it."""
        todo, seen = [(answer.by, answer.when)], {answer.by}
        while todo and len(seen) < _FAR:
            act, until = todo.pop()
            for edge in self._into(act, answer.taken, until):
                source = int(self.edges.source[edge])
                if source == answer.request:
                    return True
                if source not in seen and self.edges.kind[edge] != EdgeKind.AFTER:
                    seen.add(source)
                    todo.append((source, int(self.edges.left[edge])))
        return False

    def direct(self, answer: Answer) -> bool:
        """Whether the request was taken in since its task last gave up the processor."""
        return answer.request in self.turn(answer.by, answer.when)

    def after(self, answer: Answer) -> list[int]:
        """The edges from an earlier answer of the task."""
        return [edge for edge in self.began(answer.by) if self.edges.kind[edge] == EdgeKind.AFTER]

    def began(self, act: int) -> list[int]:
        """The edges that began ``act``."""
        low, high = np.searchsorted(self._targets, (act, act + 1))
        edges: list[int] = self._order[low:high].tolist()
        return [edge for edge in edges if self.edges.trigger[edge]]

    def _done_by(self, task: int, edge: int, since: int) -> Iterator[int]:
        """The edges by which ``task`` did what led to ``edge``, the nearest first."""
        todo, seen = deque([edge]), set()
        for _ in range(_FAR):
            if not todo:
                break
            edge = todo.popleft()
            source = int(self.edges.source[edge])
            if self.acts.task[source] == task:
                yield edge
            elif source not in seen:
                seen.add(source)
                todo += self._into(source, since, int(self.edges.left[edge]))

    def out_of(self, act: int, until: int) -> list[int]:
        """What activation ``act`` did to others before ``until``."""
        low, high = np.searchsorted(self._sources, (act, act + 1))
        edges: list[int] = self._leaving[low:high].tolist()
        return [e for e in edges if self.edges.left[e] < until and self.edges.kind[e] not in _WITHIN]

    def _into(self, act: int, since: int, until: int) -> list[int]:
        low, high = np.searchsorted(self._targets, (act, act + 1))
        edges: list[int] = self._order[low:high].tolist()
        return [
            e
            for e in edges
            if self.edges.arrived[e] <= until
            and (since <= self.edges.left[e] or self.edges.kind[e] == EdgeKind.AFTER)
        ]


def settle(events: NDArray[np.void], acts: Activations, edges: Edges, answers: list[Answer]) -> Edges:
    """``edges``, those among them that answers claim given to the activations that took the requests in."""
    if all(answer.by == answer.request for answer in answers):
        return edges
    ways, given = _Ways(acts, edges), _Given(events, acts, edges)
    took_in: dict[int, int] = {}
    for answer in answers:
        took_in[answer.request] = min(answer.taken, took_in.get(answer.request, answer.taken))
    claims, without = [], []
    for answer in answers:
        if answer.by == answer.request:
            continue
        began = ways.began(answer.by)
        if acts.task[answer.by] != acts.task[answer.request]:
            if ways.comes_of(answer):
                given.woken_for(answer, began)
                continue
            if all(edges.kind[edge] in _UNSPECIFIC for edge in began):
                given.freed(answer, began, ways)
                continue
        for edge in ways.after(answer):
            given.give(edge, answer.request)
        at_once, all_of_it = ways.claims(answer)
        if all_of_it:
            claims.append(Claim(answer, at_once, all_of_it, ways.direct(answer)))
        else:
            without.append(answer)
    for share in Shares(claims).out():
        if share.group is None:
            without.append(share.claim.answer)
        given.take(share)
    for answer in without:
        if ways.after(answer):
            continue
        if ways.direct(answer):
            given.doubted(answer, ways, took_in.get(answer.by, answer.when) < answer.when)
        elif not (began := ways.began(answer.by)):
            given.freed(answer, began, ways)
    return given.joined()


class _Given:
    """The edges with what is changed of them."""

    def __init__(self, events: NDArray[np.void], acts: Activations, edges: Edges) -> None:
        self._acts, self._edges = acts, edges
        self._source, self._trigger = edges.source.copy(), edges.trigger.copy()
        self._evidence = edges.evidence.copy()
        wakes = np.flatnonzero((edges.kind == EdgeKind.WAKE) & (edges.evidence >= Evidence.AMBIGUOUS))
        self._not_woken = set(wakes[of_another(events, edges, wakes)].tolist())
        self._woken: dict[int, list[int]] = defaultdict(list)
        for edge in wakes.tolist():
            self._woken[int(edges.row_to[edge])].append(edge)
        self._keep = np.ones(len(edges.kind), bool)
        self._alone: list[Answer] = []
        self._more: list[tuple[int, int, Evidence]] = []  # alike to an edge, from another activation

    def freed(self, answer: Answer, began: list[int], ways: _Ways) -> None:
        """The answering activation goes on with the request, whatever had begun it.

        Had it done something before the request was there, it may have gone on with the other work.
        """
        if not ways.out_of(answer.by, answer.taken):
            self._alone.append(answer)
            self._trigger[began] = False
            return
        for edge in ways.out_of(answer.by, answer.when):
            if self._edges.left[edge] >= answer.taken:
                self.give(edge, answer.request, [answer.by])

    def woken_for(self, answer: Answer, began: list[int]) -> None:
        """The answering activation was woken for the request that it answers, and for no other."""
        for edge in began:
            if self._source[edge] == answer.request:
                self._decide(edge)

    def _decide(self, edge: int) -> None:
        """Of several jobs that a worker may have been woken for it was this one."""
        alike = self._woken.pop(int(self._edges.row_to[edge]), [])
        if edge not in alike:
            return
        self._evidence[alike] = Evidence.OBSERVED
        self._evidence[edge] = Evidence.CONTINUED
        others = [other for other in alike if other != edge]
        self._trigger[others] = False
        self._keep[[other for other in others if other in self._not_woken]] = False

    def take(self, share: Share) -> None:
        """Give a request what came back for its answer."""
        for edge in share.group or ():
            self.give(edge, share.claim.answer.request, list(share.others), not share.sure)

    def doubted(self, answer: Answer, ways: _Ways, asked: bool) -> None:
        """What the answering activation did before the answer may be for it, or for what it had taken in.

        If what was taken in earlier has led to nothing before, it was only read, and is worked on now.  If
        nobody had asked anything of the activation (it had only accepted a connection), it is for the answer.
        """
        began = int(self._acts.start[answer.by])
        read_only = not ways.out_of(answer.request, began)
        for edge in ways.out_of(answer.by, answer.when):
            if not asked:
                self.give(edge, answer.request)
                continue
            first, other = (answer.request, answer.by) if read_only else (answer.by, answer.request)
            self.give(edge, first, [other])

    def give(self, edge: int, first: int, others: list[int] | None = None, unsure: bool = False) -> None:
        """Have the activation ``first`` have made an edge; ``others`` may have made it."""
        if others or unsure:
            self._evidence[edge] = Evidence.AMBIGUOUS
        elif first != self._source[edge]:
            self._evidence[edge] = Evidence.CONTINUED
        self._source[edge] = first
        if self._edges.kind[edge] == EdgeKind.WAKE and not others and not unsure:
            self._decide(edge)
        self._more += [(edge, other, Evidence.ALTERNATIVE) for other in others or ()]

    def joined(self) -> Edges:
        """All edges."""
        changed = replace(self._edges, source=self._source, trigger=self._trigger, evidence=self._evidence)
        kept = Edges(**{name: getattr(changed, name)[self._keep] for name in Edges.__slots__})
        return _in_order(kept, _alike(changed, self._more), _went_on(self._acts, changed, self._alone))


def _alike(edges: Edges, more: list[tuple[int, int, Evidence]]) -> Edges:
    like = np.array([edge for edge, _, _ in more], np.int64)
    columns = {name: getattr(edges, name)[like] for name in Edges.__slots__}
    columns["source"] = np.array([source for _, source, _ in more], np.int32)
    columns["evidence"] = np.array([evidence for _, _, evidence in more], np.uint8)
    columns["trigger"] = np.ones(len(more), bool)
    return Edges(**columns)


def _went_on(acts: Activations, edges: Edges, alone: list[Answer]) -> Edges:
    rows = [(a.request, a.by, a.taken) for a in alone]
    source, by, taken = np.array(rows, np.int64).reshape(-1, 3).T
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
