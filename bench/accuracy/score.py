"""How often a rule is right about one recording."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.accuracy.rules import MEASURED, Judged, Ours, Thread, Way
from bench.accuracy.truth import Key
from clew.flow.kinds import EdgeKind
from clew.model.event import ChannelType

_WITHIN = (EdgeKind.CONTINUED, EdgeKind.AFTER, EdgeKind.OWN)


@dataclass(slots=True)
class Score:
    """Counts of one rule, in a recording of so many ``requests``.

    Of what requests were made for (``effects``): whose whole path is ``exact``, that are said to come from
    another request (``wrong``), whose path is said to be in doubt (``ambiguous``), that nobody is said to
    have caused (``lost``).  Of measured edges: ``told`` with a request, ``right`` ones among them, of
    ``true`` ones.  ``faults``: one wrong effect each, in words.
    """

    rule: str
    requests: int = 0
    effects: int = 0
    exact: int = 0
    wrong: int = 0
    ambiguous: int = 0
    lost: int = 0
    told: int = 0
    right: int = 0
    true: int = 0
    faults: list[str] = field(default_factory=list)


def score(judged: Judged, rule: Ours | Thread) -> Score:
    """``rule`` against what the programs said."""
    found = Score(rule.name, len(set(judged.truth.effects.values())))
    for key, request in judged.truth.effects.items():
        way = rule.way(key)
        found.effects += 1
        if way is None or not way.request:
            found.lost += 1
            _note(found, f"lost: {_edge(judged, judged.of_key.get(key, [])[:1])} of request {request}")
            continue
        found.ambiguous += way.ambiguous
        if way.request != request and request in way.together:
            continue
        if way.request != request:
            found.wrong += 1
            _note(found, f"wrong: {_edge(judged, way.edges)} of request {request} goes to {way.request}")
        elif _exact(judged, way):
            found.exact += 1
        else:
            _note(found, f"not exact: {_edge(judged, way.edges)} of request {request}")
    _count_edges(judged, rule, found)
    return found


def _note(found: Score, fault: str) -> None:
    if len(found.faults) < 40:
        found.faults.append(fault)


def _edge(judged: Judged, edges: tuple[int, ...] | list[int]) -> str:
    return " ".join(
        f"{EdgeKind(judged.kind[e]).name.lower()} {judged.source[e]}>{judged.target[e]}" for e in edges
    )


def _exact(judged: Judged, way: Way) -> bool:
    """Whether every hop of it was made for the request, and each goes on where the one before arrived."""
    truth, at = judged.truth, 0
    for edge in way.edges:
        if judged.kind[edge] in _WITHIN:
            continue
        source, target = judged.source[edge], judged.target[edge]
        if at and source != at and (way.request, at, source) not in truth.handovers:
            return False
        if not _made_for(judged, edge, way.request, source, target):
            return False
        at = target
    return True


def _made_for(judged: Judged, edge: int, request: int, source: int, target: int) -> bool:
    truth = judged.truth
    if judged.kind[edge] == EdgeKind.WAKE or judged.channel(edge) == ChannelType.QUEUE:
        return (request, source, target) in truth.handovers
    if judged.kind[edge] == EdgeKind.EXIT:
        return request in truth.children.get(source, ())
    return request in truth.edges.get(judged.keys[edge], ())


def _wakes(judged: Judged, edge: int) -> bool:
    """Whether it is a message of an eventfd or a queue: like wake-ups, they are compared as hand-overs."""
    return judged.channel(edge) in (ChannelType.EVENTFD, ChannelType.QUEUE)


def _count_edges(judged: Judged, rule: Ours | Thread, found: Score) -> None:
    def theirs(pairs: set[tuple[Key, int]]) -> set[tuple[Key, int]]:
        """Of edges that clients did not make themselves."""
        return {
            (key, request)
            for key, request in pairs
            if key[0] in MEASURED
            and (numbers := judged.of_key.get(key))
            and not _wakes(judged, numbers[0])
            and judged.source[numbers[0]] not in judged.truth.clients
        }

    told = theirs(set(rule.attributed()))
    true = {(key, request) for key, requests in judged.truth.edges.items() for request in requests}
    missing = {pair for pair in true if pair[0] not in judged.of_key}
    true = theirs(true) | missing
    found.told, found.right, found.true = len(told), len(told & true), len(true)
    for key, request in sorted(told - true)[:3]:
        wanted = sorted(judged.truth.edges.get(key, ()))
        _note(
            found, f"surplus: {_edge(judged, judged.of_key[key][:1])} of {wanted} is held to be {request}'s"
        )
