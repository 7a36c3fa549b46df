"""Which answer each thing that came back belongs to, where several may lay claim to several of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

Group = tuple[int, ...]
"""Edges by which one task did what then came back to it by one way: they are of one piece of work."""

_ALTERNATIVES = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """Activation ``by`` answered, at ``when``, the request that ``request`` had taken in at ``taken``.

    ``looked``: when its task had last looked what there was to do, whether or not it had to wait for it.
    """

    by: int
    request: int
    taken: int
    when: int
    looked: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What may have led to an answer: ``at_once``, as it came back; all of it, in the order it was ``begun``.

    ``direct``: the request was taken in since its task last gave up the processor.
    """

    answer: Answer
    at_once: list[Group]
    begun: list[Group]
    direct: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What an answer got (None: others have all of it); the requests that may have it as well; how sure."""

    claim: Claim
    group: Group | None
    others: tuple[int, ...]
    sure: bool


class Shares:
    """Shares out ``claims``, which are in order of the answers.

    First where there is one way only.  Then, one after another, what there was no looking around before; last
    the rest, in the order of the requests.  After each of these there may be one way only for others.
    """

    def __init__(self, claims: list[Claim]) -> None:
        self._claims = claims
        self._claimants: dict[Group, list[int]] = defaultdict(list)
        self._with_edge: dict[int, set[Group]] = defaultdict(set)
        for i, claim in enumerate(claims):
            for group in claim.begun:
                self._claimants[group].append(i)
                for edge in group:
                    self._with_edge[edge].add(group)
        self._free = [len(claim.begun) for claim in claims]
        self._gone: set[Group] = set()
        self._doubted: set[Group] = set()
        self._done: set[int] = set()
        self._one_way: list[int] = []

    def out(self) -> Iterator[Share]:
        """Every claim once."""
        everyone = range(len(self._claims))
        self._one_way = [i for i in reversed(everyone) if self._free[i] == 1]
        yield from self._where_there_is_one_way()
        queued = [i for i in everyone if not self._claims[i].at_once]
        queued.sort(key=lambda i: self._claims[i].answer.taken)
        for i in [*(i for i in everyone if self._claims[i].at_once), *queued]:
            if i not in self._done:
                yield self._give(i)
                yield from self._where_there_is_one_way()

    def _where_there_is_one_way(self) -> Iterator[Share]:
        while self._one_way:
            i = self._one_way.pop()
            if i not in self._done:
                yield self._give(i)

    def _give(self, i: int) -> Share:
        claim = self._claims[i]
        self._done.add(i)
        free = [group for group in (*claim.at_once, *claim.begun) if group not in self._gone]
        if not free:
            return Share(claim, None, (), True)
        group, several = free[0], self._free[i] > 1
        sure = not several and group not in self._doubted and (group in claim.at_once or not claim.direct)
        others = [] if sure else self._others(i, group)
        if several:
            self._doubted.update(free)
        self._take(group)
        return Share(claim, group, tuple(dict.fromkeys(others)), sure)

    def _others(self, i: int, group: Group) -> list[int]:
        request = self._claims[i].answer.request
        several = (self._claims[j].answer.request for j in self._claimants[group][: _ALTERNATIVES + 1])
        return [other for other in several if other != request][:_ALTERNATIVES]

    def _take(self, taken: Group) -> None:
        for group in {group for edge in taken for group in self._with_edge[edge]} - self._gone:
            self._gone.add(group)
            for j in self._claimants[group]:
                self._free[j] -= 1
                if self._free[j] == 1:
                    self._one_way.append(j)
