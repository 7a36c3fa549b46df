"""From edges to what is shown: numbered hops with both backtraces, activations, what was reached."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clew.flow.backtraces import Backtraces
from clew.flow.connections import Connections
from clew.flow.edges import Activations, Edges
from clew.flow.kinds import EdgeKind, Evidence
from clew.flow.losses import Losses
from clew.flow.numbering import Numbering
from clew.flow.reach import Reach
from clew.flow.sockets import SocketTable
from clew.flow.start import Start
from clew.kernel.syscalls import name_of
from clew.model.event import NO_CALL, ChannelType, EventFlag, EventKind
from clew.model.flow import Activation, ChannelRef, Credentials, Extent, Hop, HopKind, Tier
from clew.model.task import Party, TaskId
from clew.stack.telling import label_of
from clew.trace.tasks import TaskTable

_KINDS = {
    EdgeKind.MESSAGE: HopKind.MESSAGE,
    EdgeKind.WAKE: HopKind.WAKE,
    EdgeKind.SPAWN: HopKind.SPAWN,
    EdgeKind.EXEC: HopKind.EXEC,
    EdgeKind.EXIT: HopKind.EXIT,
    EdgeKind.SIGNAL: HopKind.SIGNAL,
    EdgeKind.CONNECT: HopKind.CONNECT,
}
_REASONS = {
    EdgeKind.CONTINUED: "its task went on with what it had begun before",
}
_OF_CHANNELS = (EdgeKind.MESSAGE, EdgeKind.CONNECT)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything following found, as columns; what the objects are made from."""

    events: NDArray[np.void]
    tasks: TaskTable
    sockets: SocketTable
    acts: Activations
    edges: Edges
    flow: Reach
    start: Start
    losses: Losses
    connections: Connections
    strict: bool


@dataclass(frozen=True, slots=True)
class _End:
    """One end of an edge: when, in which call, with which stack."""

    tid: int
    t: int
    stack: int = 0
    call: str = ""


def ends(found: Found, edge: int) -> tuple[_End, _End]:
    """Where an edge left and where it arrived."""
    kind = EdgeKind(int(found.edges.kind[edge]))
    row_from, row_to = int(found.edges.row_from[edge]), int(found.edges.row_to[edge])
    left, arrived = int(found.edges.left[edge]), int(found.edges.arrived[edge])
    if kind is EdgeKind.SPAWN:
        span = found.tasks.births[row_from]
        call = name_of(span.call) if span.call else ""
        return _End(span.parent_tid, left, span.stack, call), _End(span.id.tid, arrived)
    if kind is EdgeKind.EXEC:
        life, task, image = found.tasks.execs[row_from]
        return _End(life.other_tid, left, image.stack, "execve"), _End(task.id.tid, arrived)
    if kind is EdgeKind.EXIT:
        _, task = found.tasks.exits[row_from]
        return _End(task.id.tid, left), _event_end(found, row_to, arrived)
    if kind is EdgeKind.SIGNAL and row_from == row_to:  # it only let the task go on
        return _event_end(found, row_from, left), _End(
            int(found.events["chan"][row_to]) & 0xFFFFFFFF, arrived
        )
    return _event_end(found, row_from, left), _event_end(found, row_to, arrived)


def _what(edges: Edges, edge: int) -> tuple[int, int, int]:
    """What is one thing that happened: a wake-up is the end of a wait, whoever may have been the reason."""
    kind = int(edges.kind[edge])
    return kind, -1 if kind == EdgeKind.WAKE else int(edges.row_from[edge]), int(edges.row_to[edge])


def _alternatives(edges: Edges) -> dict[tuple[int, int, int], set[int]]:
    """The activations that each ambiguous edge may have left."""
    found: dict[tuple[int, int, int], set[int]] = defaultdict(set)
    for edge in np.flatnonzero(edges.evidence >= Evidence.AMBIGUOUS).tolist():
        found[_what(edges, edge)].add(int(edges.source[edge]))
    return found


def _replies(found: Found) -> NDArray[np.bool_]:
    """Which edges answer.

    The side of the connection says it: what arrives where it was accepted asks, and what arrives where it was
    opened answers, unless it began something that had not to do with what its task had asked.  Where the side
    is not known, an answer is what began nothing.
    """
    edges = found.edges
    replies: NDArray[np.bool_] = ~edges.trigger & (edges.kind != EdgeKind.SIGNAL)
    messages = np.flatnonzero(edges.kind == EdgeKind.MESSAGE)
    rows = edges.row_to[messages]
    replies[messages[found.connections.requests(found.events, rows)]] = False
    opened = messages[found.connections.answers(found.events, rows)]
    went_on = edges.target[edges.kind == EdgeKind.CONTINUED]
    replies[opened] |= np.isin(edges.target[opened], went_on)
    replies[edges.kind == EdgeKind.CONNECT] = False
    return replies


def _event_end(found: Found, row: int, t: int) -> _End:
    event = found.events[row]
    return _End(int(event["tid"]), t, int(event["stack"]), _call(event))


def _call(event: np.void) -> str:
    """The system call that an event's task was in; "" if it was in none, or if none is known."""
    kind, channel, nr = (int(event[name]) for name in ("kind", "channel", "nr"))
    if kind in (EventKind.SIGNAL, EventKind.SIGNALLED) or channel == ChannelType.QUEUE:
        return ""
    if kind == EventKind.WAKE and channel != ChannelType.FUTEX:
        nr = int(event["count"])  # its number is the woken task's call
    return "" if nr == NO_CALL else name_of(nr)


class Builder:
    """Makes hops and activations of ``found``; ``order`` are the flow's edges by when they left."""

    def __init__(self, found: Found, backtraces: Backtraces) -> None:
        self._found, self._backtraces = found, backtraces
        self._parties: dict[tuple[TaskId, bytes, bytes], Party] = {}
        self._numbering = Numbering(found.events, found.acts, found.edges, found.flow.edges)
        self.order, every = self._numbering.order, self._numbering.all
        begin = every[found.edges.trigger[every]]
        self._begin = begin[np.argsort(found.edges.target[begin], kind="stable")]
        self._begun = found.edges.target[self._begin]
        self._reply = _replies(found)
        self._others = _alternatives(found.edges)
        self._within: dict[int, EdgeKind] = {}
        self._act_ids: dict[int, int] = {}
        self._credential_calls = np.flatnonzero(
            (found.events["kind"] == EventKind.CRED) & (found.events["ret"] == 0)
        )

    def number(self, edge: int) -> int:
        """The hop number of an edge of the flow."""
        return self._numbering.number(edge)

    def target_of(self, edge: int) -> tuple[int, int]:
        """Where an edge arrived: the task's id, and when."""
        end = ends(self._found, edge)[1]
        return end.tid, end.t

    def extent(self, path: list[int]) -> Extent:
        """The size of the whole flow; replies are counted off ``path``."""
        edges, task = self._found.edges, self._found.acts.task
        ends_of = np.concatenate([edges.source[self.order], edges.target[self.order]])
        off = np.setdiff1d(self.order, np.array(path, np.int64))
        replies = int(self._reply[off].sum())
        return Extent(len(self.order), len(np.unique(task[ends_of])), replies)

    def stack_ids(self, edges: list[int]) -> set[int]:
        """Ids of the stacks at both ends of ``edges``."""
        return {end.stack for edge in edges for end in ends(self._found, edge)}

    def hop(self, edge: int, on_path: bool) -> Hop:
        """The hop of one edge of the flow."""
        found = self._found
        source, target = ends(found, edge)
        columns = found.edges
        kind = EdgeKind(int(columns.kind[edge]))
        row_from = int(columns.row_from[edge])
        pieces = self._numbering.pieces(edge)
        tier, reason = self._tier(edge, pieces)
        image = found.tasks.execs[row_from][2].image if kind is EdgeKind.EXEC else None
        return Hop(
            n=self.number(edge),
            kind=_KINDS[kind],
            tier=tier,
            source=self._party(source),
            target=self._party(target),
            source_activation=self._act(int(columns.source[edge])),
            target_activation=self._act(int(columns.target[edge])),
            t_ns=max(0, source.t - found.start.since),
            arrived_ns=max(0, target.t - found.start.since),
            channel=self._channel(kind, row_from),
            bytes=self._bytes(kind, pieces),
            syscall_from=source.call,
            syscall_to=target.call,
            stack_from=self._backtraces[source.stack],
            stack_to=self._backtraces[target.stack],
            exe=image.exe if image else b"",
            argv=image.argv if image else (),
            argv_truncated=image.argv_truncated if image else False,
            credentials=self._credentials(row_from) if kind is EdgeKind.EXEC else None,
            on_path=on_path,
            reply=bool(self._reply[pieces].all()),
            passed_fds=int(
                kind is EdgeKind.MESSAGE and bool(found.events["flags"][row_from] & EventFlag.FDS)
            ),
            near_gap=any(map(self._near_gap, pieces.tolist())),
            reason=reason,
            alternatives=self._alternatives(edge) if tier is Tier.AMBIGUOUS else (),
            signal=int(found.events["nr"][row_from]) if kind is EdgeKind.SIGNAL else 0,
            exit_status=found.tasks.exits[row_from][1].exit_status if kind is EdgeKind.EXIT else None,
        )

    def _credentials(self, exec_row: int) -> Credentials:
        """The ids the new image began with, and the task's own calls that changed them."""
        life, span, image = self._found.tasks.execs[exec_row]
        events = self._found.events
        since = max(image.parent.image.since_ns if image.parent else 0, span.born)
        made = events[self._credential_calls]
        made = made[(made["tid"] == life.other_tid) & (made["t"] >= since) & (made["t"] <= life.t)]
        calls = dict.fromkeys(name_of(int(nr)) for nr in made["nr"])
        return Credentials(image.image.uid, image.image.gid, tuple(calls))

    def path(self, edges: list[int]) -> list[int]:
        """The hops among the edges of a path; what led to them within their tasks is told with them."""
        hops: list[int] = []
        for before, edge in zip([-1, *edges], edges, strict=False):
            if not self._found.flow.edges[edge]:
                continue
            hop = self._numbering.first(edge)
            if hop in hops[-1:]:
                continue
            hops.append(hop)
            if before >= 0 and not self._found.flow.edges[before]:
                self._within[hop] = EdgeKind(int(self._found.edges.kind[before]))
        return hops

    def _tier(self, edge: int, pieces: NDArray[np.int64]) -> tuple[Tier, str]:
        evidence = Evidence(int(self._found.edges.evidence[pieces].max()))
        if evidence >= Evidence.AMBIGUOUS:
            return Tier.AMBIGUOUS, "made while its task had several requests to work on"
        if evidence is Evidence.CONTINUED:
            return Tier.CONTINUED, "what came of it answered that request"
        reason = _REASONS.get(self._within.get(edge, EdgeKind.MESSAGE), "")
        return (Tier.CONTINUED if reason else Tier.OBSERVED), reason

    def _alternatives(self, edge: int) -> tuple[int, ...]:
        """Numbers of the hops that began the other activations an edge may have left."""
        own = int(self._found.edges.source[edge])
        acts = [act for act in self._others.get(_what(self._found.edges, edge), ()) if act != own]
        return tuple(sorted({n for act in acts for n in self._triggers(act) if n}))

    def _near_gap(self, edge: int) -> bool:
        """Whether what was lost may be another cause of the hop, or what it really carried."""
        found, edges = self._found, self._found.edges
        act, began = int(edges.source[edge]), int(edges.left[edge])
        if not found.start.own[act]:
            began = min(began, int(found.acts.start[act]))
        astray = edges.kind[edge] == EdgeKind.MESSAGE and found.losses.doubtful(int(edges.row_to[edge]))
        return astray or found.losses.between(began, int(edges.arrived[edge]))

    def _party(self, end: _End) -> Party:
        party = self._found.tasks.party(end.tid, end.t)
        return self._parties.setdefault((party.id, party.comm, party.exe), party)

    def _act(self, act: int) -> int:
        return self._act_ids.setdefault(act, len(self._act_ids) + 1)

    def _bytes(self, kind: EdgeKind, pieces: NDArray[np.int64]) -> int | None:
        row = int(self._found.edges.row_from[pieces[0]])
        if kind not in _OF_CHANNELS or self._found.events["channel"][row] == ChannelType.QUEUE:
            return None
        return int(self._found.edges.size[pieces].sum())

    def _channel(self, kind: EdgeKind, row: int) -> ChannelRef | None:
        if kind not in (*_OF_CHANNELS, EdgeKind.WAKE):
            return None
        event = self._found.events[row]
        chan, peer = int(event["chan"]), int(event["peer"])
        known = int(event["channel"]) in set(ChannelType)
        channel = ChannelType(int(event["channel"])) if known else ChannelType.NONE
        if kind is EdgeKind.WAKE and channel is ChannelType.FUTEX:
            return ChannelRef("futex", f"{peer:#x}")
        if kind is EdgeKind.WAKE and event["kind"] == EventKind.WAKE:
            return ChannelRef(channel.label, _channel_id(channel, peer)) if channel else None
        if channel is ChannelType.QUEUE:
            return ChannelRef(channel.label, f"{chan:#x}", f"job {chan:#x}")
        socket = ChannelType.UNIX <= channel <= ChannelType.UDP
        name = ""
        if socket:
            left = int(event["t0"]) or int(event["t"])
            other = self._found.sockets.receiver(chan, channel, peer, int(event["flags"]), left)
            name = self._found.sockets.name(chan, other)
        return ChannelRef(channel.label, _channel_id(channel, chan), name)

    def activations(self, hops: list[Hop]) -> list[Activation]:
        """The activations that ``hops`` begin or end in, by when they began."""
        leaving: dict[int, list[Hop]] = defaultdict(list)
        entering: dict[int, list[Hop]] = defaultdict(list)
        for hop in hops:
            leaving[hop.source_activation].append(hop)
            entering[hop.target_activation].append(hop)
        made = [
            self._activation(act, n, leaving[n], entering[n])
            for act, n in self._act_ids.items()
            if leaving[n] or entering[n]
        ]
        return sorted(made, key=lambda a: (a.start_ns, a.id))

    def _triggers(self, act: int) -> tuple[int, ...]:
        """Numbers of the hops that began an activation, those too that are not listed."""
        low, high = np.searchsorted(self._begun, act), np.searchsorted(self._begun, act, side="right")
        return tuple(dict.fromkeys(map(self.number, self._begin[low:high].tolist())))

    def _activation(self, act: int, n: int, leaving: list[Hop], entering: list[Hop]) -> Activation:
        acts, root = self._found.acts, self._found.start.since
        start = max(0, int(self._found.acts.start[act]) - root)
        last = max([start, *(h.t_ns for h in leaving), *(h.arrived_ns for h in entering)])
        end = max(last, int(acts.end[act]) - root)
        task = leaving[0].source if leaving else entering[0].target
        label = label_of([h.stack_from for h in leaving] + [h.stack_to for h in entering])
        return Activation(
            n,
            task,
            start,
            end,
            label or task.exe.rpartition(b"/")[2].decode("utf-8", "backslashreplace"),
            self._triggers(act),
            any(h.on_path for h in leaving + entering),
        )


def _channel_id(channel: ChannelType, chan: int) -> str:
    if channel is ChannelType.PTY:
        return f"pts/{(chan >> 1) - 1}"
    if channel in (ChannelType.EVENTFD, ChannelType.FIFO):
        return f"{chan:#x}"
    return str(chan)
