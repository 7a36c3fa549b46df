"""A flow, as ``clew follow --format json`` prints it, held against what the program testified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clew.view.escape import json_text
from tests.support.testimony import Task, TestifiedHop, Testimony

_EXACT = frozenset({"message", "spawn", "exec"})


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """What both sides must agree on, and nothing else.

    ``what`` is the channel's type of a message, the program of an exec, otherwise "".
    """

    kind: str
    source: Task
    target: Task
    what: str
    size: int

    def __str__(self) -> str:
        ends = f"{self.source.pid}/{self.source.tid} -> {self.target.pid}/{self.target.tid}"
        return f"{self.kind} {ends} {self.what} {self.size or ''}".rstrip()


def differences(flow: dict[str, Any], testimony: Testimony) -> list[str]:
    """What is wrong with the flow, a sentence each; empty if it is what the program did.

    Every testified hop must be in it exactly once; no message, spawn or exec may join two of the
    program's tasks that was not testified.  Signals only must not be missing: the kernel sends some
    itself (SIGCHLD) between the same two tasks.
    """
    members = testimony.tasks(flow["root"]["pid"])
    told = Counter(_of_testimony(hop) for hop in testimony.hops)
    seen = Counter(edge for edge in map(_of_flow, flow["hops"]) if {edge.source, edge.target} <= members)
    missing = [f"missing: {edge}" for edge in _ordered(told - seen)]
    surplus = [edge for edge in _ordered(seen - told) if edge.kind in _EXACT or _told_once(edge, told)]
    return missing + [f"never happened: {edge}" for edge in surplus]


def _told_once(edge: Edge, told: Counter[Edge]) -> bool:
    return edge.kind in ("wake", "exit") and edge in told


def _ordered(edges: Counter[Edge]) -> Iterable[Edge]:
    return sorted(edges.elements())


def _of_testimony(hop: TestifiedHop) -> Edge:
    what = hop.by if hop.kind == "message" else json_text(hop.exe)
    return Edge(hop.kind, hop.source, hop.target, what, hop.size)


def _of_flow(hop: dict[str, Any]) -> Edge:
    kind = hop["kind"]
    if kind == "message":
        return Edge(kind, _task(hop["from"]), _task(hop["to"]), hop["channel"]["type"], hop["bytes"])
    return Edge(kind, _task(hop["from"]), _task(hop["to"]), hop["exe"] if kind == "exec" else "", 0)


def _task(party: dict[str, Any]) -> Task:
    return Task(party["pid"], party["tid"])
