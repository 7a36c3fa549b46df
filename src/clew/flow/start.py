"""Where a flow begins: with the recording's own root, or with what ``--from`` names in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clew.errors import UsageError
from clew.flow.connections import Connections
from clew.flow.edges import Activations, Edges, Timeline
from clew.flow.facts import exec_facts
from clew.flow.kinds import EdgeKind
from clew.flow.roots import Roots
from clew.flow.served import accepted, connections_to, requests_to
from clew.flow.sockets import SocketTable
from clew.model.rules import Origin, OriginKind, Rule, Served, matches
from clew.trace.tasks import TaskSpan, TaskTable

_T = TypeVar("_T")
_NAMED = 8  # so many are named where what was asked for is not there


@dataclass(frozen=True, slots=True)
class Start:
    """The beginning of a flow.

    The root is task ``tid`` as it was at ``seen``; ``since`` counts as zero.  ``own`` marks its activations.
    Where it is a connection or a request, ``begun`` are the activations that took it in, each with the moment
    from which on it worked for that, and ``entries`` the edges by which it came.
    """

    tid: int
    seen: int
    since: int
    own: NDArray[np.bool_]
    begun: dict[int, int]
    entries: Sequence[int] = ()
    text: str = ""
    exit_code: int | None = None
    notes: tuple[str, ...] = ()


def of_recording(roots: Roots, acts: Activations, tasks: TaskTable, wait_status: int | None) -> Start:
    """The command, or the processes that were named."""
    pid, since = roots.leaders[0].id.pid, roots.since
    own = roots.own(acts, tasks)
    code = None if wait_status is None else os.waitstatus_to_exitcode(wait_status)
    return Start(pid, since, since, own, {}, exit_code=code)


class Starts:
    """Finds what an ``Origin`` names in one recording."""

    def __init__(
        self, events: NDArray[np.void], tasks: TaskTable, sockets: SocketTable, connections: Connections,
        acts: Activations, edges: Edges,
    ) -> None:  # fmt: skip
        self._events, self._tasks, self._sockets = events, tasks, sockets
        self._connections, self._acts, self._edges = connections, acts, edges
        self._timeline = Timeline(acts)

    def of(self, origin: Origin, began: int) -> Start:
        """Where ``origin`` begins, of a recording that ``began`` then.  Raises UsageError if nowhere."""
        match origin.what:
            case Rule():
                return self._execution(origin, origin.what)
            case int():
                return self._process(origin, origin.what, began)
            case Served():
                return self._served(origin, origin.what)

    # --- processes ---

    def _execution(self, origin: Origin, rule: Rule) -> Start:
        tasks = self._tasks
        rows = [i for i in range(len(tasks.execs)) if matches(rule, exec_facts(tasks, i))]
        row = _pick(origin, rows, "executions", self._programs)
        life, span, _ = tasks.execs[row]
        mine = self._acts_of(span.id.tid, life.t)
        return self._root(origin, span, life.t, mine, _several(origin, len(rows), "executions"))

    def _process(self, origin: Origin, pid: int, began: int) -> Start:
        """What a process did; of one that was there before, what all its threads did."""
        lives = [span for span in self._tasks.all() if span.id.tid == pid == span.id.pid]
        lives.sort(key=lambda span: span.born)
        span = _pick(origin, lives, "processes of this number", self._programs)
        since = max(span.born, began)
        mine = self._acts_of(pid, since)
        for thread in self._tasks.all():
            if thread.id.pid == pid and not thread.born and not span.born:
                mine |= self._acts_of(thread.id.tid, 0)
        return self._root(origin, span, since, mine, _several(origin, len(lives), "processes of this number"))

    def _root(
        self, origin: Origin, span: TaskSpan, since: int, own: NDArray[np.bool_], notes: tuple[str, ...]
    ) -> Start:
        executed = [when for when, _ in span.images if when >= since]
        seen = executed[0] if executed else since
        code = span.exit_status if span.died else None
        return Start(span.id.tid, seen, since, own, {}, (), origin.text, code, notes)

    def _acts_of(self, tid: int, since: int) -> NDArray[np.bool_]:
        """The task's activations from ``since`` on, as long as the number is its own."""
        acts = self._acts
        life = self._tasks.span(tid, since)
        mine: NDArray[np.bool_] = (acts.task == tid) & (acts.start >= since)
        for i in np.flatnonzero(mine).tolist() if self._tasks.reused else ():
            mine[i] = self._tasks.span(tid, int(acts.start[i])) is life
        return mine

    def _programs(self) -> Iterable[str]:
        return (_last(image.image.exe) for _, _, image in self._tasks.execs)

    # --- connections ---

    def _served(self, origin: Origin, server: Served) -> Start:
        found = connections_to(server, self._events, self._connections, self._sockets)
        if origin.kind is OriginKind.CONNECT:
            what, all_rows = "connections", [one.rows for one in found]
        else:
            what, all_rows = "requests", [request.taken for _, request in requests_to(found)]
        rows = _pick(origin, all_rows, what, self._servers)
        return self._of_rows(origin, rows, _several(origin, len(all_rows), what))

    def _servers(self) -> Iterable[str]:
        return (one.address for one in accepted(self._events, self._connections, self._sockets))

    def _of_rows(self, origin: Origin, rows: list[int], notes: tuple[str, ...]) -> Start:
        """What came in by calls in ``rows``."""
        entries, begun = self.entries(rows), self.begun(rows)
        first = int(self._events["t"][rows[0]])
        since = min([first, *self._edges.left[entries].tolist()])
        client = self._client(entries)
        tid = client if client else int(self._events["tid"][rows[0]])
        none = np.zeros(len(self._acts.task), bool)
        return Start(tid, since if client else first, since, none, begun, entries, origin.text, None, notes)

    def entries(self, rows: list[int]) -> list[int]:
        """The edges that arrived in ``rows``."""
        kinds = np.isin(self._edges.kind, (EdgeKind.CONNECT, EdgeKind.MESSAGE))
        return np.flatnonzero(kinds & np.isin(self._edges.row_to, rows)).tolist()

    def begun(self, rows: list[int]) -> dict[int, int]:
        """The activations that took in what came in ``rows``, each with when it first did."""
        found: dict[int, int] = {}
        for row in rows:
            when = int(self._events["t"][row])
            found.setdefault(self._timeline.act(int(self._events["tid"][row]), when), when)
        return found

    def _client(self, entries: list[int]) -> int:
        if not entries:
            return 0
        row = int(self._edges.row_from[entries[0]])
        return int(self._events["tid"][row])


def _pick(origin: Origin, found: Sequence[_T], what: str, there: Callable[[], Iterable[str]]) -> _T:
    if origin.n <= len(found):
        return found[origin.n - 1]
    if found:
        raise UsageError(f"{origin.text} is not in the recording.", f"It has {len(found)} such {what}.")
    raise UsageError(f"{origin.text} names nothing in the recording.", unknown(there()))


def unknown(there: Iterable[str]) -> str:
    """What to tell whoever named something else than what is there."""
    names = list(dict.fromkeys(name for name in there if name))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"There are: {', '.join(names[:_NAMED])}{more}." if names else ""


def _several(origin: Origin, count: int, what: str) -> tuple[str, ...]:
    if count == 1 or origin.counted:
        return ()
    return (f"{origin.text} names {count} {what}: this is the first ({origin.text},n=2 is the next).",)


def _last(path: bytes) -> str:
    return path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
