"""Follow: from a recording to the flow of one root, and the path in it to a target."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clew.flow.activation import Splitter
from clew.flow.backtraces import Backtraces
from clew.flow.build import Builder, Found
from clew.flow.connections import connections_of
from clew.flow.locks import Words
from clew.flow.losses import Losses
from clew.flow.match import match
from clew.flow.reach import path_to, path_within, reach
from clew.flow.roots import roots_of
from clew.flow.sockets import SocketTable
from clew.flow.start import Starts, of_recording
from clew.flow.steps import line_up
from clew.flow.targets import Hit, execs_of, hits_of
from clew.model.event import EventKind
from clew.model.flow import Flow, Hop, Reached
from clew.model.rules import Function, Origin, Rule, SourceLine, signal_name
from clew.stack.interpreters import resource_words
from clew.trace.kept_frames import KeptFrames
from clew.trace.reader import Trace
from clew.trace.tasks import TaskTable

MAX_HOPS = 10_000
"""Hops made into objects beyond those of the path: more than anybody reads; the rest is counted in a note."""


@dataclass(frozen=True, slots=True)
class Target:
    """``--until``: the rule and its text."""

    text: str
    rule: Rule


def find(trace: Trace, strict: bool = False, origin: Origin | None = None) -> Found:
    """Match, split and reach; ``strict`` follows nothing that is ambiguous.

    ``origin``: what to follow instead of the recording's root.  Raises UsageError if it is not in it.
    """
    tasks = TaskTable(trace)
    events = trace.events
    for pid, tid in {(int(p), int(t)) for p, t in _pairs(events)}:
        tasks.know(tid, pid)
    sockets = SocketTable(trace.lives)
    found = match(events, sockets)
    words: Words = resource_words(trace.mappings, _waiters(events))
    made = connections_of(events, sockets)
    acts, edges = Splitter(events, *line_up(events, found, tasks, words, made, sockets), tasks).run()
    if origin is None:
        start = of_recording(roots_of(trace, tasks), acts, tasks, trace.meta.get("wait_status"))
    else:
        starts = Starts(events, tasks, sockets, made, acts, edges)
        start = starts.of(origin, int(trace.meta.get("began", 0)))
    flow = reach(acts, edges, start.own, strict, start.begun, start.entries)
    return Found(events, tasks, sockets, acts, edges, flow, start, Losses(trace, sockets), made, strict)


def _pairs(events: NDArray[np.void]) -> list[tuple[int, int]]:
    both = (events["pid"].astype(np.uint64) << np.uint64(32)) | events["tid"]
    return [(int(v) >> 32, int(v) & 0xFFFFFFFF) for v in np.unique(both)]


def _waiters(events: NDArray[np.void]) -> set[int]:
    """Processes that wait on futexes: those whose interpreter's lock may be among the words."""
    return {int(pid) for pid in np.unique(events["pid"][events["kind"] == EventKind.FUTEX_WAIT])}


class Following:
    """What was found in a trace, to be asked for flows.  Raises TraceError if it has no root.

    ``strict``: what may as well have been done for other work is left out.  ``origin``: another root.
    """

    def __init__(self, trace: Trace, strict: bool = False, origin: Origin | None = None) -> None:
        self._trace = trace
        self._found = find(trace, strict, origin)
        self._backtraces = Backtraces(trace, self._found.tasks)
        self._builder = Builder(self._found, self._backtraces)

    def flow(self, target: Target | None = None, whole: bool = True) -> Flow:
        """The flow of the trace's root, with the path to ``target``.

        ``whole`` False lists the hops of the path only, where there is one: it is there sooner.
        """
        found, builder = self._found, self._builder
        hits = hits_of(target.rule, found, builder, self._backtraces) if target else execs_of(found, builder)
        path = builder.path(_way(found, hits[-1])) if target and hits else []
        those = [hit.edge for hit in hits if hit.edge >= 0]
        listed = self._listed([*path, *those], whole or not path)
        self._backtraces.prepare(builder.stack_ids(listed))
        on_path = set(path)
        hops = [builder.hop(edge, edge in on_path) for edge in listed]
        flow = _flow(
            self._trace,
            found,
            builder,
            hops,
            [builder.number(e) for e in path],
            hits,
            target,
            self._backtraces,
        )
        return flow if len(hops) == len(builder.order) else replace(flow, total=builder.extent(path))

    def _listed(self, wanted: list[int], whole: bool) -> list[int]:
        some = self._builder.order[: MAX_HOPS if whole else 0].tolist()
        return sorted({*some, *wanted}, key=self._builder.number)

    def keep(self, into: KeptFrames) -> None:
        """Write the backtraces of the flow into the trace, to be shown where the programs are not."""
        self._backtraces.prepare(self._builder.stack_ids(self._listed([], whole=True)))
        self._backtraces.keep(into)


def follow(
    trace: Trace, target: Target | None = None, whole: bool = True, strict: bool = False,
    origin: Origin | None = None,
) -> Flow:  # fmt: skip
    """The flow of the trace's root, or of ``origin`` (``Following.flow``)."""
    return Following(trace, strict, origin).flow(target, whole)


def _way(found: Found, hit: Hit) -> list[int]:
    """The edges that lead from a root to what was named."""
    web = found.edges, found.flow, found.start.own, found.strict
    entries = found.start.entries
    if hit.edge >= 0:
        return path_to(hit.edge, *web, entries=entries)
    return path_within(hit.act, hit.t, *web, entries=entries)


def _flow(
    trace: Trace, found: Found, builder: Builder, hops: list[Hop], path: list[int], hits: list[Hit],
    target: Target | None, backtraces: Backtraces,
) -> Flow:  # fmt: skip
    start, tasks = found.start, found.tasks
    image = ((not start.text and tasks.root_image) or tasks.image_span(start.tid, start.seen)).image
    last = int(found.events["t"].max()) if len(found.events) else start.since
    return Flow(
        root=tasks.party(start.tid, start.seen),
        root_argv=image.argv,
        hops=tuple(hops),
        activations=tuple(builder.activations(hops)),
        path=tuple(path),
        reached=tuple(_reached(found, builder, hit) for hit in hits[-MAX_HOPS:]),
        until=target.text if target else "",
        origin=start.text,
        recorded=trace.recorded,
        lost=trace.lost,
        duration_ns=max(0, last - start.since),
        exit_status=start.exit_code,
        notes=tuple(_notes(trace, found, builder, hops, hits, target, backtraces)),
    )


def _reached(found: Found, builder: Builder, hit: Hit) -> Reached:
    facts, image = hit.facts, found.tasks.image_span(hit.facts.tid, hit.t).image
    return Reached(
        event=facts.kind.value,
        what=facts.syscall or (signal_name(facts.signal) if facts.signal else ""),
        task=found.tasks.party(facts.tid, hit.t),
        exe=image.exe,
        argv=image.argv,
        argv_truncated=image.argv_truncated,
        hop=builder.number(hit.edge) if hit.edge >= 0 else 0,
        t_ns=max(0, hit.t - found.start.since),
    )


def _notes(
    trace: Trace, found: Found, builder: Builder, hops: list[Hop], hits: list[Hit], target: Target | None,
    backtraces: Backtraces,
) -> list[str]:  # fmt: skip
    notes = [*found.start.notes, *(str(note) for note in trace.meta.get("notes", []))]
    if not trace.finished:
        notes.append("The recorder did not end in order: the last moments may be missing.")
    if len(builder.order) > MAX_HOPS and len(hops) < len(builder.order):
        notes.append(f"{len(builder.order) - len(hops)} of {len(builder.order)} hops are not listed.")
    notes += found.losses.notes([hop for hop in hops if hop.on_path])
    if target and not hits:
        notes.append(f"Nothing in the flow matched {target.text}.")
    if target and not hits and isinstance(target.rule.subject, Function | SourceLine):
        notes.append("A function is found where it stands on the backtrace of a recorded system call.")
    if len(hits) > MAX_HOPS:
        notes.append(
            f"Of {len(hits)} events that matched {target.text if target else ''} the last are listed."
        )
    notes += [f"{os.fsdecode(path)}: {why}" for path, why in sorted(backtraces.problems.items())]
    return notes
