"""Recordings written by hand: who did what, one line each, on a clock that only the script moves.

    script = Script()
    client, daemon = script.command("client"), script.running("daemon")
    near, far = script.socketpair()
    client.send(near, 56)
    daemon.poll()
    daemon.recv(far, 56)
    flow = script.flow(tmp_path)
    assert script.told(flow) == ["client > daemon unix 56"]

What is written is a real trace folder in the recorder's own format, read back by the real reader.  Every act
takes one tick (1 µs) of which its system call fills the first half.  A call that *waited* was entered when
its task's last one had returned; ``began`` sets another moment.  ``depth`` is how deep in the task's stack
the call was made: 0 is its loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clew.flow.follow import Target, follow
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventFlag, EventKind, LifeFlag
from clew.model.flow import Flow, Hop, HopKind
from clew.model.frame import Mapping
from clew.model.rules import parse_target
from clew.model.task import Party, TaskId
from clew.trace.layout import FRAMED_EVENT
from clew.trace.life import pack, path_blob
from clew.trace.reader import Trace
from clew.trace.spool import SpoolWriter

TICK = 1000
EAGAIN, EINTR, ETIMEDOUT, EINPROGRESS = -11, -4, -110, -115
_SP, _STACK, _FRAME = 0x7FFD_0000_0000, 1 << 24, 0x100
_WAIT_BITSET, _WAIT, _WAKE = 9 | 128, 128, 1 | 128
_SIGNAL_TO_PROCESS = 1


@dataclass(frozen=True, slots=True)
class End:
    """One endpoint as an event names it: channel, itself, its peer, how the peer is to be read."""

    channel: ChannelType
    chan: int
    peer: int
    flags: int = 0

    def to(self, peer: int, flag: EventFlag) -> End:
        """This endpoint with its peer named another way (a hash, an address, a kernel socket)."""
        return replace(self, peer=peer, flags=int(flag))


class Script:
    """A recording in the making.  Its acts return ids of events: numbers in the order of the script."""

    def __init__(self) -> None:
        self.now = 1000 * TICK
        self.began = self.now
        self._events: list[dict[str, int]] = []
        self._lives: list[bytes] = []
        self._next = 100
        self._labels: dict[TaskId, str] = {}
        self._gaps = 0
        self._mapped: list[tuple[int, Mapping]] = []
        self.meta: dict[str, Any] = {}

    # --- who ---

    def running(self, label: str, exe: str = "") -> Actor:
        """A process that was there before the recording."""
        actor = self.actor(label)
        path = (exe or f"/bin/{label}").encode()
        self.life(EventKind.FORKED, actor, t=0)
        self.life(EventKind.EXECED, actor, path, t=0, other_tid=actor.tid)
        self.life(EventKind.EXE_PATH, actor, path_blob(path), t=0)
        return actor

    def command(self, label: str, exe: str = "") -> Actor:
        """The command that was followed: the root."""
        return self.root(self.actor(label), exe)

    def root(self, actor: Actor, exe: str = "") -> Actor:
        """``actor`` execs the command, with which all begins."""
        path = (exe or f"/bin/{actor.label}").encode()
        self.began = self.now
        self.life(EventKind.EXECED, actor, path, other_tid=actor.tid, flags=LifeFlag.ROOT)
        self.life(EventKind.ARGV, actor, path + b"\0")
        self.tick()
        return actor

    def actor(self, label: str, pid: int = 0, tid: int = 0) -> Actor:
        """A task of which nothing is told yet, with fresh numbers where none are given."""
        tid = tid or self.number()
        actor = Actor(self, label, pid or tid, tid, start=self.number())
        self._labels[TaskId(actor.pid, tid, actor.start)] = label
        return actor

    # --- with what ---

    def pipe(self, channel: ChannelType = ChannelType.PIPE) -> End:
        """A pipe, FIFO or eventfd: one object whose both sides are the same endpoint."""
        number = self.number()
        return End(channel, number, number)

    def socketpair(self, channel: ChannelType = ChannelType.UNIX) -> tuple[End, End]:
        """Two connected sockets (or the master and slave of a pty)."""
        one = self.number() * 2
        return End(channel, one, one + 1), End(channel, one + 1, one)

    def socket(self, channel: ChannelType, inode: int, blob: bytes = b"", **facts: int) -> None:
        """A socket's description, as the recorder gives it at the first use.

        ``peer``: its struct sock; ``peer2``: its peer's inode, or remote address; ``local``: its own.
        """
        self._lives.append(pack(EventKind.SOCKET, blob, t=self.now, chan=inode, channel=channel, **facts))
        self.tick()

    # --- what ---

    def number(self) -> int:
        """One that nothing in this recording has."""
        self._next += 1
        return self._next

    def tick(self, ticks: int = 1) -> None:
        """Let time pass."""
        self.now += ticks * TICK

    def life(self, kind: EventKind, actor: Actor, blob: bytes = b"", **facts: Any) -> None:
        """A lifecycle record of ``actor``."""
        who = {"tid": actor.tid, "pid": actor.pid, "start": actor.start, "comm": actor.label.encode()[:15]}
        self._lives.append(pack(kind, blob, **{"t": self.now, **who, **facts}))

    def event(self, **fields: int) -> int:
        """Any event; its id."""
        self._events.append(fields)
        return len(self._events) - 1

    def maps(self, actor: Actor, mapping: Mapping) -> None:
        """A file is mapped executable into ``actor``."""
        self._mapped.append((actor.pid, mapping))

    def gap(self, began: int = 0, lost: int = 1) -> None:
        """Records were lost, from ``began`` (default: one tick ago) until now."""
        self.event(kind=EventKind.GAP, t0=began or self.now - TICK, t=self.now, ret=lost)
        self._gaps += lost
        self.tick()

    def when(self, event: int) -> int:
        """When an event was reported; ``began`` is when the command began."""
        return self._events[event]["t"]

    def amend(self, event: int, **fields: int) -> None:
        """Change fields of an event."""
        self._events[event].update(fields)

    def forget(self, event: int) -> None:
        """Lose an event: what it did happened, but no record tells of it."""
        self._events[event] = {}

    # --- what comes of it ---

    def trace(self, folder: Path, name: str = "trace") -> Trace:
        """The recording as it is so far, on disk and read back."""
        spool = SpoolWriter(folder / name)
        table = np.zeros(len(self._events), FRAMED_EVENT)
        table["header"] = FRAMED_EVENT.itemsize - 8
        for i, fields in enumerate(self._events):
            for field, value in fields.items():
                table[field][i] = value
        kept = [i for i, fields in enumerate(self._events) if fields]
        spool.append("events", table[kept].tobytes())
        spool.append("lifecycle", b"".join(self._lives))
        for pid, mapping in self._mapped:
            spool.mapping(pid, mapping)
        lost = {"send": self._gaps} if self._gaps else {}
        spool.write_meta(**{"finished": True, "wait_status": 0, "lost": lost, **self.meta})
        spool.close()
        return Trace(folder / name)

    def ids(self) -> list[int]:
        """Of each row of the trace's events table, the id of the event in this script."""
        kept = [i for i, fields in enumerate(self._events) if fields]
        return sorted(kept, key=lambda i: self._events[i]["t"])

    def flow(self, folder: Path, until: str = "") -> Flow:
        """What following makes of the recording."""
        self.trace(folder)
        return self.follow(folder, until)

    @staticmethod
    def follow(folder: Path, until: str = "", whole: bool = True) -> Flow:
        """What it makes of the recording that was written to ``folder`` before."""
        target = Target(until, parse_target(until)) if until else None
        return follow(Trace(folder / "trace"), target, whole)

    def label(self, party: Party) -> str:
        """What the script calls the task."""
        return self._labels.get(party.id, f"{party.pid}/{party.tid}")

    def line(self, hop: Hop) -> str:
        """A hop in a few words."""
        source, target = self.label(hop.source), self.label(hop.target)
        reply = " (reply)" if hop.reply else ""
        match hop.kind:
            case HopKind.MESSAGE:
                assert hop.channel is not None
                return f"{source} > {target} {hop.channel.type} {hop.bytes}{reply}"
            case HopKind.EXEC:
                return f"{source} execs {hop.exe.decode()}"
        words = {
            HopKind.CONNECT: "connects to",
            HopKind.WAKE: "wakes",
            HopKind.SPAWN: "spawns",
            HopKind.SIGNAL: "signals",
            HopKind.EXIT: "ends:",
        }
        return f"{source} {words[hop.kind]} {target}{reply if hop.kind is not HopKind.EXIT else ''}"

    def told(self, flow: Flow) -> list[str]:
        """All hops, in their order."""
        return [self.line(hop) for hop in flow.hops]

    def path(self, flow: Flow) -> list[str]:
        """The hops of the path, in its order."""
        return [self.line(flow.hops[n - 1]) for n in flow.path]


class Actor:
    """One task and what it does."""

    def __init__(self, script: Script, label: str, pid: int, tid: int, start: int) -> None:
        self.script, self.label, self.pid, self.tid, self.start = script, label, pid, tid, start
        self._last = script.now

    # --- life ---

    def thread(self, label: str, before: bool = False) -> Actor:
        """A thread it makes now, or (``before``) had made before the recording."""
        return self._born(self.script.actor(label, self.pid), before, LifeFlag.THREAD)

    def fork(self, label: str, tid: int = 0) -> Actor:
        """A child process, with the number ``tid`` if one is given."""
        return self._born(self.script.actor(label, tid, tid), False, LifeFlag(0))

    def _born(self, child: Actor, before: bool, flags: LifeFlag) -> Actor:
        moment: dict[str, Any] = {"t": 0} if before else {}
        self.script.life(
            EventKind.FORKED, child, other_tid=self.tid, other_pid=self.pid, flags=flags, code=56, **moment
        )
        self._acted()
        child._last = self.script.now
        return child

    def exec(self, path: str, *argv: str) -> Actor:
        """Runs another program; returns the thread that lives on, under the process's id."""
        heir = self
        if self.tid != self.pid:
            heir = self.script.actor(self.label, self.pid, self.pid)
        self.script.life(EventKind.EXECED, heir, path.encode(), other_tid=self.tid)
        self.script.life(EventKind.ARGV, heir, b"".join(a.encode() + b"\0" for a in (path, *argv)))
        self._acted()
        heir._last = self.script.now
        return heir

    def exit(self, status: int = 0) -> None:
        """Ends with a wait status."""
        self.script.life(EventKind.EXITED, self, code=status, flags=LifeFlag.GROUP_DEAD)
        self._acted()

    # --- calls ---

    def call(
        self, kind: EventKind, name: str, ret: int = 0, depth: int = 0, waited: bool = False, began: int = -1,
        **fields: Any,
    ) -> int:  # fmt: skip
        """Any system call that returned; its id."""
        now = self.script.now
        start = began if began >= 0 else self._last + 1 if waited else now
        sp = _SP - self.tid * _STACK - depth * _FRAME
        event = self.script.event(
            kind=kind, tid=self.tid, pid=self.pid, nr=numbers()[name], ret=ret, sp=sp, t0=start,
            t=now + TICK // 2, **fields,
        )  # fmt: skip
        self._acted()
        return event

    def _acted(self) -> None:
        self._last = self.script.now + TICK // 2
        self.script.tick()

    def _move(
        self, kind: EventKind, end: End, name: str, size: int, depth: int, flags: int, options: Any
    ) -> int:
        place: dict[str, Any] = {
            "channel": end.channel,
            "chan": end.chan,
            "peer": end.peer,
            "flags": end.flags | flags,
        }
        return self.call(kind, name, size, depth, **place, **options)

    def send(
        self, end: End, size: int, depth: int = 2, call: str = "write", flags: int = 0, **options: Any
    ) -> int:
        """Puts ``size`` bytes in."""
        return self._move(EventKind.SEND, end, call, size, depth, flags, options)

    def recv(
        self, end: End, size: int, depth: int = 1, call: str = "read", flags: int = 0, **options: Any
    ) -> int:
        """Takes ``size`` bytes out."""
        return self._move(EventKind.RECV, end, call, size, depth, flags, options)

    def poll(self, ret: int = 1, depth: int = 0, call: str = "poll", **options: Any) -> int:
        """Waited until something was ready."""
        return self.call(EventKind.WAIT, call, ret, depth, True, **options)

    def connect(self, end: End, ret: int = 0, call: str = "connect", **options: Any) -> int:
        """Opens a connection, of which ``end`` is its side."""
        return self._move(EventKind.CONNECT, end, call, ret, 2, 0, options)

    def accept(self, end: End, depth: int = 1, blocked: bool = False, **options: Any) -> int:
        """Takes a connection, of which ``end`` is its side."""
        flags = int(EventFlag.BLOCKED) if blocked else 0
        return self._move(EventKind.ACCEPT, end, "accept", 9, depth, flags, options)

    def wakes(self, other: Actor, word: int = 0x5000, depth: int = 2, same: bool = True) -> int:
        """Makes ``other`` runnable, which waits on the futex ``word``."""
        flags = EventFlag.SAME_FUTEX if same else 0
        fields: dict[str, Any] = {
            "channel": ChannelType.FUTEX,
            "chan": other.pid << 32 | other.tid,
            "peer": word,
        }
        return self.call(EventKind.WAKE, "futex", 0, depth, began=self.script.now, flags=flags, **fields)

    def futex(
        self, word: int = 0x5000, ret: int = 0, depth: int = 0, mutex: bool = False, **options: Any
    ) -> int:
        """Waited on a condition variable, or for a mutex."""
        count = _WAIT if mutex else _WAIT_BITSET
        fields: dict[str, Any] = {"channel": ChannelType.FUTEX, "chan": word, "count": count}
        return self.call(EventKind.FUTEX_WAIT, "futex", ret, depth, True, **fields, **options)

    def releases(self, word: int = 0x5000, depth: int = 2) -> int:
        """Unlocks a mutex for which others have waited: a wake-up, whether or not it wakes any."""
        fields: dict[str, Any] = {"channel": ChannelType.FUTEX, "chan": word, "count": _WAKE}
        return self.call(EventKind.FUTEX_WAKE, "futex", 0, depth, **fields)

    def kill(self, other: Actor, signal: int, thread: bool = False, result: int = 0) -> int:
        """Sends a signal to the process of ``other``, or to that one thread."""
        target = other.pid << 32 | other.tid
        event = self.call(
            EventKind.SIGNAL, "kill", result, 2, began=self.script.now, chan=target,
            peer=0 if thread else _SIGNAL_TO_PROCESS,
        )  # fmt: skip
        self.script.amend(event, nr=signal)
        return event

    def signalled(self, signal: int) -> int:
        """Is delivered a signal."""
        event = self.call(EventKind.SIGNALLED, "kill", began=self.script.now)
        self.script.amend(event, nr=signal)
        return event

    def reap(self, child: Actor) -> int:
        """Waited for the end of ``child``."""
        return self.call(EventKind.WAIT_CHILD, "wait4", child.pid, 1, True)
