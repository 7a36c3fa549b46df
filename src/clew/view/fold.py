"""Finds where a flow repeats itself, so that a thousand alike hops take a line and not a thousand."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from clew.model.flow import Hop, HopKind

_LONGEST = 4  # hops in a round: ask, hand over, hand back, answer
_LEAST = 3  # occurrences before folding is worth a line


@dataclass(frozen=True, slots=True)
class Run:
    """``shown`` stands for itself and for ``more``: whole repeats of it that followed at once."""

    shown: tuple[Hop, ...]
    more: tuple[Hop, ...] = ()

    @property
    def repeats(self) -> int:
        """How many more times ``shown`` occurred."""
        return len(self.more) // len(self.shown)


def by_names(hop: Hop) -> Hashable:
    """Alike to a reader: the same programs by the same way, between the same two processes.

    Which process it was that began or ended, or changed its program, is not asked.
    """
    source = None if hop.kind in (HopKind.EXIT, HopKind.EXEC) else hop.source.id.pid
    target = None if hop.kind in (HopKind.SPAWN, HopKind.EXEC) else hop.target.id.pid
    return _way(hop), source, target, *(part for p in (hop.source, hop.target) for part in (p.exe, p.comm))


def by_tasks(hop: Hop) -> Hashable:
    """Alike in a picture: between the same two tasks by the same channel."""
    return _way(hop), hop.source.id, hop.target.id, hop.channel and hop.channel.id


def fold(hops: Sequence[Hop], key: Callable[[Hop], Hashable]) -> Iterator[Run]:
    """Splits ``hops`` into runs, in order, in linear time."""
    codes: dict[Hashable, int] = {}
    keys = [codes.setdefault(key(hop), len(codes)) for hop in hops]
    at = 0
    while at < len(hops):
        size, times = _best_round(keys, at)
        end = at + size * times
        yield Run(tuple(hops[at : at + size]), tuple(hops[at + size : end]))
        at = end


def _best_round(keys: Sequence[int], at: int) -> tuple[int, int]:
    """The length of the round that begins here and covers most, and how often it comes."""
    best = (1, 1)
    for size in range(1, _LONGEST + 1):
        times = _times(keys, at, size)
        if times >= _LEAST and size * times > best[0] * best[1]:
            best = (size, times)
    return best


def _times(keys: Sequence[int], at: int, size: int) -> int:
    end = at + size
    while end < len(keys) and keys[end] == keys[end - size]:
        end += 1
    return (end - at) // size


def _way(hop: Hop) -> Hashable:
    named = hop.channel and (hop.channel.type, hop.channel.name)
    marks = (hop.on_path, hop.reply, hop.near_gap, hop.passed_fds)
    return hop.kind, hop.tier, named, hop.exe, hop.reason, marks
