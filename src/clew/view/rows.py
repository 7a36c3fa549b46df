"""What happens in a picture from top to bottom: a row for each moment at which something is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from clew.model.flow import Activation, Flow, Hop
from clew.view.fold import Run

_BEGIN, _LEAVE, _ARRIVE, _FOLD = range(4)


@dataclass(frozen=True, slots=True)
class Row:
    """One moment, ``t_ns`` after the root began.

    A hop that arrives before anything else happens has one row, in ``leaves`` and ``arrives``; any
    other has two.  ``opens`` is the activation that begins here, ``folded`` the run of alike hops that
    is told in a line.
    """

    t_ns: int
    leaves: Hop | None = None
    arrives: Hop | None = None
    opens: Activation | None = None
    folded: Run | None = None


def rows(flow: Flow, runs: Sequence[Run]) -> list[Row]:
    """The rows of a picture of these runs, in time.  A hop that never leaves its task has one row."""
    activations = {activation.id: activation for activation in flow.activations}
    merged = list(_merged(sorted(_points(flow, activations, runs), key=lambda point: point[0])))
    return list(_opened(merged, activations))


Point = tuple[tuple[int, int, int], Row]


def _points(flow: Flow, activations: Mapping[int, Activation], runs: Iterable[Run]) -> Iterator[Point]:
    """Moments in any order, each with what sorts it: time, hop number, kind."""
    begun: set[int] = set()
    for run in runs:
        for hop in run.shown:
            if hop.source_activation not in begun and (first := activations.get(hop.source_activation)):
                yield (first.start_ns, hop.n, _BEGIN), Row(first.start_ns, opens=first)
            begun |= {hop.source_activation, hop.target_activation}
            yield from _ends(hop)
        if run.more:
            begun |= {a for hop in run.more for a in (hop.source_activation, hop.target_activation)}
            yield (run.more[0].t_ns, run.more[0].n, _FOLD), Row(run.more[0].t_ns, folded=run)
    if not begun and flow.activations:
        yield (0, 0, _BEGIN), Row(0, opens=flow.activations[0])


def _ends(hop: Hop) -> Iterator[Point]:
    stays = hop.source.id == hop.target.id
    yield (hop.t_ns, hop.n, _LEAVE), Row(hop.t_ns, leaves=hop, arrives=hop if stays else None)
    if not stays:
        arrived = max(hop.arrived_ns, hop.t_ns)
        yield (arrived, hop.n, _ARRIVE), Row(arrived, arrives=hop)


def _merged(points: Iterable[Point]) -> Iterator[Row]:
    """Departure and arrival as one row where nothing comes between."""
    waiting: Row | None = None
    for _, row in points:
        if waiting and waiting.leaves is row.arrives:
            yield replace(waiting, arrives=row.arrives)
            waiting = None
            continue
        if waiting:
            yield waiting
        waiting = row if row.leaves and not row.arrives else None
        if not waiting:
            yield row
    if waiting:
        yield waiting


def _opened(merged: Iterable[Row], activations: Mapping[int, Activation]) -> Iterator[Row]:
    """Marks where each activation begins: at the first arrival that leads to it."""
    open_now: set[int] = set()
    for row in merged:
        if row.opens:
            open_now.add(row.opens.id)
        hop = row.arrives
        if hop and hop.target_activation not in open_now:
            open_now.add(hop.target_activation)
            row = replace(row, opens=activations.get(hop.target_activation))
        yield row
