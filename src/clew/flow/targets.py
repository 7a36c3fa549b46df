"""Where a flow comes to what ``--until`` names: an event of any kind that a rule can name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clew.flow.backtraces import Backtraces
from clew.flow.build import Builder, Found
from clew.flow.edges import Timeline
from clew.flow.facts import are_calls, call_facts, exec_facts, exit_facts, fork_facts, signal_facts
from clew.flow.kinds import EdgeKind
from clew.flow.moments import left_at
from clew.kernel.syscalls import name_of
from clew.model.rules import Facts, Rule, RuleKind, Syscalls, matches


@dataclass(frozen=True, slots=True)
class Hit:
    """One event that was named: what is known of it, and in which activation it was, and when.

    ``edge`` is the hop that it is (an exec, a birth, a signal), -1 if it is none.
    """

    facts: Facts
    act: int
    t: int
    edge: int = -1


def hits_of(rule: Rule, found: Found, builder: Builder, backtraces: Backtraces) -> list[Hit]:
    """Events of the flow that ``rule`` takes, in order of time."""
    match rule.kind:
        case RuleKind.EXEC | RuleKind.FORK | RuleKind.SIGNAL:
            candidates = _edges(rule.kind, found, builder)
        case RuleKind.EXIT:
            candidates = _exits(found)
        case _:
            candidates = _calls(rule, found, backtraces)
    hits = sorted((hit for hit in candidates if matches(rule, hit.facts)), key=lambda hit: hit.t)
    return hits[rule.first - 1 :][: rule.limit]


def execs_of(found: Found, builder: Builder) -> list[Hit]:
    """Every exec of the flow, in order of time."""
    return sorted(_edges(RuleKind.EXEC, found, builder), key=lambda hit: hit.t)


def _edges(kind: RuleKind, found: Found, builder: Builder) -> Iterator[Hit]:
    edges, tasks = found.edges, found.tasks
    wanted = {RuleKind.EXEC: EdgeKind.EXEC, RuleKind.FORK: EdgeKind.SPAWN}.get(kind, EdgeKind.SIGNAL)
    for edge in builder.order[edges.kind[builder.order] == wanted].tolist():
        row = int(edges.row_from[edge])
        if kind is RuleKind.EXEC:
            facts = exec_facts(tasks, row)
        elif kind is RuleKind.FORK:
            if tasks.births[row].is_thread:
                continue
            facts = fork_facts(tasks, row)
        else:
            facts = signal_facts(tasks, builder.target_of(edge), int(found.events["nr"][row]))
        yield Hit(facts, int(edges.target[edge]), int(edges.arrived[edge]), edge)


def _exits(found: Found) -> Iterator[Hit]:
    within = _within(found)
    for row, (life, span) in enumerate(found.tasks.exits):
        act = within(span.id.tid, life.t) if span.id.tid == span.id.pid else -1
        if act >= 0:
            yield Hit(exit_facts(found.tasks, row), act, life.t)


def _calls(rule: Rule, found: Found, backtraces: Backtraces) -> Iterator[Hit]:
    """Calls that were recorded; of functions those that stand on the backtrace of one."""
    events, within = found.events, _within(found)
    rows = np.flatnonzero(are_calls(events))
    if isinstance(rule.subject, Syscalls):
        named = [nr for nr in np.unique(events["nr"][rows]).tolist() if _names(rule.subject, nr)]
        rows = rows[np.isin(events["nr"][rows], named)]
    entered = left_at(events, rows)
    acts = np.array(list(map(within, events["tid"][rows].tolist(), entered.tolist())), np.int64)
    (mine,) = np.nonzero(acts >= 0)
    if not isinstance(rule.subject, Syscalls):
        backtraces.prepare(set(events["stack"][rows[mine]].tolist()))
    for row, act, t in zip(rows[mine].tolist(), acts[mine].tolist(), entered[mine].tolist(), strict=True):
        yield Hit(call_facts(found.tasks, events[row], backtraces[int(events["stack"][row])]), act, t)


def _names(subject: Syscalls, nr: int) -> bool:
    return subject.name.matches(name_of(nr).encode())


def _within(found: Found) -> Callable[[int, int], int]:
    """In which activation of the flow a task was at a moment; -1 if that one is not of the flow."""
    timeline, since = Timeline(found.acts), found.flow.since

    def within(tid: int, t: int) -> int:
        act = timeline.act(tid, t)
        return act if act >= 0 and since[act] <= t else -1

    return within
