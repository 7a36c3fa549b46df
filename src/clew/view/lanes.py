"""Which column each task is drawn in: threads of a process side by side, processes as they come up.

A flow of many short-lived processes uses a column again when the one before is done with it, so that
its picture is as wide as what goes on at once.  Time is O(n log n).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from clew.model.flow import HopKind
from clew.model.task import Party, TaskId
from clew.view.rows import Row

_ROOMY = 10  # so many tasks get a column each


@dataclass(slots=True)
class Lane:
    """A task's column, from row ``first`` to row ``last``; ``until`` is the row of the next task there."""

    party: Party
    first: int
    last: int
    column: int = 0
    until: int | None = None


@dataclass(slots=True)
class Process:
    """A frame around the lanes of one process; ``images`` are the programs it ran, in order."""

    pid: int
    first: int
    last: int
    lanes: list[Lane] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    column: int = 0
    columns: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes by order of appearance, their lanes by task, and how many columns there are."""

    processes: Sequence[Process]
    lanes: dict[TaskId, Lane]
    columns: int
    packed: bool


def plan(rows: Sequence[Row]) -> Plan:
    """Places every task that a row names."""
    lanes: dict[TaskId, Lane] = {}
    spawned: set[TaskId] = set()
    for number, row in enumerate(rows):
        for party in _parties(row):
            lane = lanes.setdefault(party.id, Lane(party, number, number))
            lane.last = number
        if row.leaves and row.leaves.kind is HopKind.SPAWN:
            spawned.add(row.leaves.target.id)
    processes = _processes(lanes, rows)
    packed = len(lanes) > _ROOMY
    if not packed:
        _from_top_to_bottom(processes, spawned, len(rows))
    return Plan(processes, lanes, _place(processes, packed), packed)


def _parties(row: Row) -> Iterator[Party]:
    """Both ends at a departure, so that a lane is there before the arrow points to it."""
    hops = [row.leaves, row.arrives, *(row.folded.shown if row.folded else ())]
    for hop in filter(None, hops):
        yield from (hop.source, hop.target)
    if row.opens:
        yield row.opens.task


def _processes(lanes: dict[TaskId, Lane], rows: Sequence[Row]) -> list[Process]:
    leaders: dict[int, list[int]] = {}
    for task in sorted(lanes, key=lambda task: task.start_ns):
        if task.pid == task.tid:
            leaders.setdefault(task.pid, []).append(task.start_ns)
    found: dict[tuple[int, int], Process] = {}
    for task, lane in lanes.items():
        key = task.pid, bisect_right(leaders.get(task.pid, []), task.start_ns)
        process = found.setdefault(key, Process(task.pid, lane.first, lane.last))
        process.first, process.last = min(process.first, lane.first), max(process.last, lane.last)
        process.lanes.append(lane)
    by_task = {lane.party.id: process for process in found.values() for lane in process.lanes}
    for party in (party for row in rows for party in _parties(row)):
        images = by_task[party.id].images
        if not images or images[-1] != party.exe:
            images.append(party.exe)
    return list(found.values())


def _from_top_to_bottom(processes: Iterable[Process], spawned: set[TaskId], rows: int) -> None:
    """With columns to spare, what was there before is there from the top, and everything to the end."""
    for process in processes:
        process.last = rows - 1
        if (
            process.lanes[0].party.id not in spawned
            or process.lanes[0].party.pid != process.lanes[0].party.tid
        ):
            process.first = 0
        for lane in process.lanes:
            lane.last = rows - 1
            if lane.party.id not in spawned:
                lane.first = process.first


def _place(processes: Sequence[Process], packed: bool) -> int:
    """Gives columns; returns how many.  A process of several lanes gets columns nobody had."""
    columns, free = 0, _Free()
    for process in processes:
        process.columns = _pack(process.lanes) if packed else _spread(process.lanes)
        again = free.take(process.first) if packed and process.columns == 1 else None
        process.column = columns if again is None else again
        columns += process.columns if again is None else 0
        if process.columns == 1:
            free.give(process.last, process.column)
        for lane in process.lanes:
            lane.column += process.column
    _note_successors(processes)
    return columns


def _spread(lanes: Sequence[Lane]) -> int:
    for column, lane in enumerate(lanes):
        lane.column = column
    return len(lanes)


def _pack(lanes: Sequence[Lane]) -> int:
    columns, free = 0, _Free()
    for lane in lanes:
        again = free.take(lane.first)
        lane.column = columns if again is None else again
        columns += again is None
        free.give(lane.last, lane.column)
    return columns


def _note_successors(processes: Iterable[Process]) -> None:
    latest: dict[int, Lane] = {}
    for lane in sorted((lane for p in processes for lane in p.lanes), key=lambda lane: lane.first):
        if before := latest.get(lane.column):
            before.until = lane.first
        latest[lane.column] = lane


class _Free:
    """Columns that will be free again after a row; the leftmost one that is free is taken first."""

    def __init__(self) -> None:
        self._busy: list[tuple[int, int]] = []
        self._free: list[int] = []

    def give(self, last: int, column: int) -> None:
        heappush(self._busy, (last, column))

    def take(self, first: int) -> int | None:
        while self._busy and self._busy[0][0] < first:
            heappush(self._free, heappop(self._busy)[1])
        return heappop(self._free) if self._free else None
