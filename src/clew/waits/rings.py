"""Who waits in a circle, and whether anybody else could end it.

Each wait ends when one of several things comes (``Wait.on``), each of which one of several tasks can give.
So a task is stuck for certain only if everybody who could end its wait is stuck too: what is left when all
who are not are taken away, again and again, is the deadlock (the "knot" of a wait-for graph with
alternatives).  A circle outside of that is shown as one that somebody else could still break.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from clew.model.waits import Awaited, Ring, Wait, WaitKind

_MOST = 32
# What a server does all day is no part of a circle worth telling unless it is certain.
_NAMES_ITS_ENDER = frozenset(
    (WaitKind.LOCK, WaitKind.FILE_LOCK, WaitKind.CHILD, WaitKind.PROCESS, WaitKind.THREAD)
)


def rings(waits: list[Wait], runnable: frozenset[int] = frozenset()) -> list[Ring]:
    """The circles among ``waits``, certain ones first, each task in at most one.

    ``runnable`` are processes that have a thread which was not found waiting.
    """
    threads: dict[int, list[Wait]] = defaultdict(list)
    for wait in waits:
        threads[wait.task.pid].append(wait)
    stuck = _stuck(waits, threads, runnable)
    certain = [wait for wait in waits if wait.task.tid in stuck]
    found = list(_circles(certain, threads, stuck, certain=True))
    seen = {wait.task.tid for ring in found for wait in ring.waits} | stuck
    single = [wait for wait in waits if wait.task.tid not in seen and len(wait.on) == 1]
    maybe = {wait.task.tid for wait in single}
    found += list(_circles(single, threads, maybe, certain=False))
    return found[:_MOST]


def _stuck(waits: list[Wait], threads: dict[int, list[Wait]], runnable: frozenset[int]) -> set[int]:
    """Threads that nobody who is not stuck himself can set going."""
    stuck = {wait.task.tid for wait in waits if not any(one.outside for one in wait.on)}
    changed = True
    while changed:
        changed = False
        for wait in waits:
            if wait.task.tid in stuck and not all(
                _all_stuck(one, threads, runnable, stuck) for one in wait.on
            ):
                stuck.discard(wait.task.tid)
                changed = True
    return stuck


def _all_stuck(
    one: Awaited, threads: dict[int, list[Wait]], runnable: frozenset[int], stuck: set[int]
) -> bool:
    for ender in one.enders:
        if ender.tid:
            if ender.tid not in stuck:
                return False
        elif (
            ender.pid in runnable
            or ender.pid not in threads
            or any(wait.task.tid not in stuck for wait in threads[ender.pid])
        ):
            return False
    return bool(one.enders)


def _circles(
    waits: list[Wait], threads: dict[int, list[Wait]], among: set[int], certain: bool
) -> Iterator[Ring]:
    """The shortest circle through each task that is in none yet."""
    by_tid = {wait.task.tid: wait for wait in waits}
    told: set[int] = set()
    for wait in waits:
        if wait.task.tid in told:
            continue
        path = _shortest(wait, by_tid, threads, among)
        if path and (certain or _worth_telling(path)):
            told.update(step.task.tid for step, _ in path)
            yield Ring(tuple(step for step, _ in path), tuple(one for _, one in path), certain)


def _worth_telling(path: list[tuple[Wait, Awaited]]) -> bool:
    return len(path) > 1 and any(one.kind in _NAMES_ITS_ENDER for _, one in path)


def _next(
    wait: Wait, by_tid: dict[int, Wait], threads: dict[int, list[Wait]], among: set[int]
) -> Iterator[tuple[Awaited, Wait]]:
    for one in wait.on:
        for ender in one.enders:
            candidates = [ender.tid] if ender.tid else [w.task.tid for w in threads.get(ender.pid, ())]
            for tid in candidates:
                if tid in among and tid in by_tid:
                    yield one, by_tid[tid]


def _shortest(
    start: Wait, by_tid: dict[int, Wait], threads: dict[int, list[Wait]], among: set[int]
) -> list[tuple[Wait, Awaited]]:
    """Breadth first from ``start`` back to it, other processes first; [] if there is no way back."""
    came: dict[int, tuple[Wait, Awaited]] = {}
    queue = deque([start])
    while queue:
        wait = queue.popleft()
        steps = sorted(
            _next(wait, by_tid, threads, among), key=lambda step: step[1].task.pid == wait.task.pid
        )
        for one, following in steps:
            tid = following.task.tid
            if tid == start.task.tid and (tid != wait.task.tid or wait is start):
                return _back(wait, one, start, came)
            if tid not in came and tid != start.task.tid:
                came[tid] = (wait, one)
                queue.append(following)
    return []


def _back(
    last: Wait, through: Awaited, start: Wait, came: dict[int, tuple[Wait, Awaited]]
) -> list[tuple[Wait, Awaited]]:
    path = [(last, through)]
    while path[0][0].task.tid != start.task.tid:
        path.insert(0, came[path[0][0].task.tid])
    return path
