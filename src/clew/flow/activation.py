"""Split every task's time into activations, and find the edges between them, in one pass.

An activation is a stretch of one task's work between two waits for new work.  It begins when a wait returns
and ends at the next wait that is at the same place or at or above its depth in the stack (an address as high
or higher): a wait deeper down (a handler that waits for its helper's answer) is part of the work.  Within it,
each message taken in at the depth of the first one begins a new activation of its own: an event loop that
serves three clients after one wait does three pieces of work.

A task just born, or a program just begun, has no wait to compare with.  There, a wait ends the first piece of
work only at a place the task comes back to: that is what a loop is.  A child that has not exec'd and is
answered by the very task that forked it (a handshake) is still doing what it was born for.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from clew.flow.match import Matches
from clew.flow.steps import Step, Steps
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, LifeFlag
from clew.trace.tasks import TaskSpan, TaskTable

_CHUNK = 1 << 18
_RELATED_DEPTH = 64
_COLUMNS = ("tid", "pid", "nr", "sp", "chan", "ret", "t0", "channel")
_Event = tuple[int, ...]
_PID = 32
# Looking a member up in an enumeration costs more than all else a step does (Python 3.11).
_SIGNALFD = int(ChannelType.SIGNALFD)
_SIGTIMEDWAIT = numbers()["rt_sigtimedwait"]
_SIGKILL, _SIGRTMIN = 9, 32
_SIGINFO_SIZE = 128
_IGNORED = 1  # TRACE_SIGNAL_IGNORED: what became of a signal that was sent (include/trace/events/signal.h)
_Sent = tuple[int, int, int]
"""A signal on its way: (activation that sent it, row, number)."""


class Begun(IntEnum):
    """How an activation came to be."""

    UNKNOWN = 0
    WAIT = 1
    INTAKE = 2
    FORK = 3
    THREAD = 4
    EXEC = 5


class EdgeKind(IntEnum):
    """What an edge is."""

    MESSAGE = 0
    WAKE = 1
    SPAWN = 2
    EXEC = 3
    EXIT = 4
    SIGNAL = 5
    OWN = 6  # no hop: what a task does by itself comes from what it was born for


_UNKNOWN, _WAIT, _INTAKE, _FORK, _THREAD, _EXEC = Begun
_MESSAGE, _WAKE = EdgeKind.MESSAGE, EdgeKind.WAKE


class _Task:
    """Where one task is in the pass."""

    __slots__ = (
        "act",
        "base_nr",
        "base_sp",
        "begun",
        "born",
        "caused",
        "fresh",
        "intake_nr",
        "intake_sp",
        "of_root",
        "sends",
        "signals",
        "wakes",
    )

    def __init__(self) -> None:
        self.act = -1
        self.born = -1
        self.of_root = False
        self.caused = False  # something, in this activation: only then can a cause go back to it
        self.begun = _UNKNOWN
        self.base_nr = self.base_sp = 0
        self.intake_nr = self.intake_sp = 0
        self.fresh = False
        self.sends: Sequence[int] = ()
        self.wakes: list[tuple[int, int, int]] = []
        self.signals: list[_Sent] = []


class Activations:
    """All activations and edges, growing during the pass; ``column`` and ``edge_column`` give them as arrays.

    Of an activation: ``task`` (tid), ``start`` (trace clock), ``begun``, ``row`` (of the event that began
    it, -1); and, as they change, ``end`` (0 while open) and ``parent`` (the activation its first trigger
    came from, -1).  Of an edge: ``kind``, ``source`` and ``target`` (activations), ``row_from`` and
    ``row_to`` (rows of the events table; for births, execs and exits of the task table's lists),
    ``trigger`` (whether it began its target), ``size`` (bytes).
    """

    FACTS = ("task", "start", "begun", "row")
    EDGE = ("kind", "source", "target", "row_from", "row_to", "trigger", "size")

    def __init__(self) -> None:
        self.parent, self.end = array("i"), array("q")
        self._facts, self._edges = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.parent)

    def column(self, name: str) -> NDArray[np.int64]:
        """A fact of all activations."""
        return np.frombuffer(self._facts, np.int64).reshape(-1, len(self.FACTS))[:, self.FACTS.index(name)]

    def edge_column(self, name: str) -> NDArray[np.int64]:
        """A fact of all edges, in the order they arrived."""
        return (
            np.frombuffer(self._edges, np.int64).reshape(-1, len(self.EDGE))[:, self.EDGE.index(name)].copy()
        )

    def begin(self, tid: int, when: int, begun: int, row: int) -> int:
        """A new activation's number."""
        self.parent.append(-1)
        self.end.append(0)
        self._facts.extend((tid, when, begun, row))
        return len(self.parent) - 1

    def edge(
        self, kind: int, source: int, target: int, row_from: int, row_to: int, trigger: bool, size: int = 0
    ) -> None:
        """A new edge; the first trigger of an activation names its parent."""
        self._edges.extend((kind, source, target, row_from, row_to, trigger, size))
        if trigger and self.parent[target] < 0:
            self.parent[target] = source

    def begun_by(self, act: int) -> int:
        """How one activation came to be."""
        return self._facts[act * len(self.FACTS) + 2]

    def descends(self, act: int, ancestor: int) -> bool:
        """Whether ``ancestor`` is among the causes of ``act`` (as far as a bounded walk goes)."""
        for _ in range(_RELATED_DEPTH):
            if act == ancestor:
                return True
            if act < 0:
                return False
            act = self.parent[act]
        return False


class Splitter:
    """The pass.  ``run`` once; the result is in ``acts``."""

    def __init__(self, events: NDArray[np.void], matches: Matches, steps: Steps, tasks: TaskTable) -> None:
        self.acts = Activations()
        self._events, self._steps, self._tasks = events, steps, tasks
        self._task: dict[int, _Task] = defaultdict(_Task)
        # Which activation each send was made in, by row.
        self._send_act = array("i", bytes(4 * len(events)))
        foreign = events["tid"][matches.send] != events["tid"][matches.recv]
        self._pairs = [
            array("q", column[foreign].astype(np.int64).tobytes())
            for column in (matches.recv, matches.send, matches.size)
        ]
        self._pair = 0
        self._exit_act: dict[int, tuple[int, int]] = {}
        self._process_signals: dict[int, list[_Sent]] = defaultdict(list)

    def run(self) -> Activations:
        """Go through all steps."""
        on_table = {Step.BIRTH: self._birth, Step.EXEC: self._exec, Step.EXIT: self._exit}
        on_event: dict[Step, Callable[[int, int, bool, _Event], None]] = {
            Step.SEND: self._send,
            Step.RECV: self._recv,
            Step.WAIT: self._wait,
            Step.WAKE: self._wake,
            Step.SIGNAL: self._signal,
            Step.SIGNALLED: self._signalled,
            Step.WAIT_CHILD: self._wait_child,
        }
        table = {int(code): handler for code, handler in on_event.items()}
        lifecycle = {int(code): handler for code, handler in on_table.items()}
        for low in range(0, len(self._steps), _CHUNK):
            for when, code, row, loop, event in self._chunk(slice(low, low + _CHUNK)):
                if code in table:
                    table[code](when, row, loop, event)
                else:
                    lifecycle[code](when, row)
        return self.acts

    def _chunk(self, part: slice) -> Iterator[tuple[int, int, int, bool, _Event]]:
        """Some steps as Python numbers: (when, step, row, at a loop site, the event's columns)."""
        steps = self._steps
        rows, codes = steps.row[part], steps.code[part]
        of_events = ~np.isin(codes, [Step.BIRTH, Step.EXEC, Step.EXIT])
        events = self._events[np.where(of_events, rows, 0)] if len(self._events) else None
        columns = (events[name].tolist() if events is not None else [0] * len(rows) for name in _COLUMNS)
        return zip(
            steps.when[part].tolist(),
            codes.tolist(),
            rows.tolist(),
            steps.loop_site[part].tolist(),
            zip(*columns, strict=True),
            strict=True,
        )

    # --- births, execs, exits ---

    def _ensure(self, tid: int, when: int) -> _Task:
        """The task's state, with an activation to attribute to."""
        task = self._task[tid]
        if task.act < 0:
            task.act = self.acts.begin(tid, when, _UNKNOWN, -1)
        return task

    def _acting(self, tid: int, when: int) -> int:
        """The activation in which the task now causes something.

        One that nothing from outside set going (a timer, a pipe with room again) goes back to the birth of
        the task: what the command's own descendants, and children that have not exec'd, do by themselves,
        they do because they were started.  A program that some daemon started (a guest) has its own life.
        """
        task = self._ensure(tid, when)
        own = task.of_root or (task.born >= 0 and self.acts.begun_by(task.born) == _FORK)
        if own and task.fresh and task.born >= 0 and self.acts.parent[task.act] < 0:
            self.acts.edge(EdgeKind.OWN, task.born, task.act, -1, -1, True)
        task.caused = True
        return task.act

    def _birth(self, when: int, row: int) -> None:
        span: TaskSpan = self._tasks.births[row]
        parent = self._acting(span.parent_tid, when)
        self._close(self._task.get(span.id.tid), when)
        child = self._task[span.id.tid] = _Task()
        child.begun = _THREAD if span.is_thread else _FORK
        child.act = self.acts.begin(span.id.tid, when, child.begun, -1)
        child.born = child.act
        child.of_root = self._task[span.parent_tid].of_root
        self.acts.edge(EdgeKind.SPAWN, parent, child.act, row, row, True)

    def _exec(self, when: int, row: int) -> None:
        life, span, _ = self._tasks.execs[row]
        caller = self._acting(life.other_tid, when)
        of_root = self._task[life.other_tid].of_root or bool(life.flags & LifeFlag.ROOT)
        self._close(self._task.get(life.other_tid), when)
        self._close(self._task.get(span.id.tid), when)
        task = self._task[span.id.tid] = _Task()
        task.begun = _EXEC
        task.act = self.acts.begin(span.id.tid, when, _EXEC, -1)
        task.born, task.of_root = task.act, of_root
        self.acts.edge(EdgeKind.EXEC, caller, task.act, row, row, True)

    def _exit(self, when: int, row: int) -> None:
        _, span = self._tasks.exits[row]
        task = self._ensure(span.id.tid, when)
        if span.id.tid == span.id.pid:
            self._exit_act[span.id.pid] = (task.act, row)
        self._close(task, when)

    def _close(self, task: _Task | None, when: int) -> None:
        if task and task.act >= 0 and not self.acts.end[task.act]:
            self.acts.end[task.act] = when

    # --- causes ---

    def _send(self, when: int, row: int, loop: bool, event: _Event) -> None:
        self._send_act[row] = self._acting(event[0], when) + 1

    def _wake(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, chan = event[0], event[4]
        # Attributed when the woken task's own wait returns.
        woken = self._task[chan & 0xFFFFFFFF]
        woken.wakes.append((self._acting(tid, when), row, when))

    def _signal(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, nr, chan = event[0], event[2], event[4]
        if event[5] == _IGNORED:
            return
        sent = (self._acting(tid, when), row, nr)
        if self._events["peer"][row]:
            self._process_signals[chan >> _PID].append(sent)
        else:
            self._task[chan & 0xFFFFFFFF].signals.append(sent)

    # --- effects ---

    def _anew(
        self, task: _Task, tid: int, when: int, begun: Begun, row: int, nr: int, sp: int, t0: int
    ) -> None:
        """End the task's activation (where it began to wait) and begin another at ``when``."""
        self._close(task, t0 or when)
        task.act = self.acts.begin(tid, when, begun, row)
        task.begun = begun
        task.fresh = begun is _WAIT
        task.caused = False
        task.sends = ()
        if begun is _WAIT:
            task.base_nr, task.base_sp = nr, sp

    def _ends_work(self, task: _Task, loop: bool, nr: int, sp: int, sources: list[int]) -> bool:
        """Whether a wait at (nr, sp) that ``sources`` ended is a wait for new work."""
        begun = task.begun
        if begun is _UNKNOWN:
            return True
        if begun is _WAIT or begun is _INTAKE:
            if task.base_nr == nr and task.base_sp == sp:
                return True
            if sp < task.base_sp:
                return False
            return not self._dialogue(task.act, sources)
        if not loop:
            return False
        return begun is not _FORK or not self._dialogue(task.act, sources)

    def _dialogue(self, act: int, sources: list[int]) -> bool:
        """Whether all sources are of the activation's own line: it answers to them, or set them to work."""
        descends = self.acts.descends
        return bool(sources) and all(descends(act, s) or descends(s, act) for s in sources)

    def _wait(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, pid, nr, sp, _, ret, t0, channel = event
        task = self._ensure(tid, when)
        wakes = [wake for wake in task.wakes if wake[2] >= t0] if task.wakes else []
        task.wakes = []
        anew = self._ends_work(task, loop, nr, sp, [source for source, _, _ in wakes])
        if anew:
            self._anew(task, tid, when, _WAIT, row, nr, sp, t0)
        if nr == _SIGTIMEDWAIT and ret > 0:
            self._take_signal(when, row, tid, pid, ret)
        elif channel == _SIGNALFD:
            for _ in range(ret // _SIGINFO_SIZE):
                self._take_signal(when, row, tid, pid, 0)
        for source, wake_row, _ in wakes:
            self.acts.edge(_WAKE, source, task.act, wake_row, row, anew)
            task.fresh = task.fresh and not anew

    def _recv(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, _, nr, sp, _, _, t0, _ = event
        task = self._task[tid]
        if task.act < 0:
            self._ensure(tid, when)
        sends, sizes = self._taken(row)
        sources = [act - 1 for send in sends if (act := self._send_act[send])]
        begins = self._intake(task, tid, when, row, loop, nr, sp, t0, sends, sources)
        target, caused = task.act, task.caused
        for send, size in zip(sends, sizes, strict=True):
            source = self._send_act[send] - 1
            if source >= 0:
                trigger = begins and not (caused and self.acts.descends(source, target))
                self.acts.edge(_MESSAGE, source, target, send, row, trigger, size)

    def _taken(self, row: int) -> tuple[Sequence[int], Sequence[int]]:
        """Send rows and bytes of the pairs of this receive; receives come in the order of their rows."""
        recvs, sends, sizes = self._pairs
        low, end = self._pair, len(recvs)
        while low < end and recvs[low] < row:
            low += 1
        high = low
        while high < end and recvs[high] == row:
            high += 1
        self._pair = high
        return sends[low:high], sizes[low:high]

    def _intake(
        self, task: _Task, tid: int, when: int, row: int, loop: bool, nr: int, sp: int, t0: int,
        sends: Sequence[int], sources: list[int],
    ) -> bool:  # fmt: skip
        """Whether this receive begins a piece of work, its activation begun if it does."""
        if task.fresh:
            if task.caused and sources and all(self.acts.descends(s, task.act) for s in sources):
                return False
            task.fresh = False
        elif task.sends:
            if all(send in task.sends for send in sends):
                return True  # the rest of the message that began it
            if sp < task.intake_sp:
                return False
            if (nr != task.intake_nr or sp != task.intake_sp) and self._dialogue(task.act, sources):
                return False
            self._anew(task, tid, when, _INTAKE, row, nr, sp, 0)
        elif self._ends_work(task, loop, nr, sp, sources):
            waited = task.begun is not _WAIT and task.begun is not _INTAKE
            self._anew(task, tid, when, _WAIT if waited else _INTAKE, row, nr, sp, t0)
            task.fresh = False
        else:
            return False
        task.sends, task.intake_nr, task.intake_sp = sends, nr, sp
        return True

    def _signalled(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, pid, nr = event[:3]
        if not self._take_signal(when, row, tid, pid, nr) and nr == _SIGKILL:
            # Whichever signal kills, it arrives as SIGKILL; the exit status says which it was.
            self._take_signal(when, row, tid, pid, self._tasks.span(tid, when).exit_code & 0x7F or nr)

    def _take_signal(self, when: int, row: int, tid: int, pid: int, nr: int) -> bool:
        """Edges of a signal taken by a handler, by sigtimedwait, or (any: 0) read from a signalfd."""
        task = self._ensure(tid, when)
        sent = _dequeue(task.signals, nr) or _dequeue(self._process_signals[pid], nr)
        for source, sent_row, _ in sent:
            trigger = task.fresh and not (task.caused and self.acts.descends(source, task.act))
            self.acts.edge(EdgeKind.SIGNAL, source, task.act, sent_row, row, trigger)
        return bool(sent)

    def _wait_child(self, when: int, row: int, loop: bool, event: _Event) -> None:
        tid, ret = event[0], event[5]
        task = self._ensure(tid, when)
        ended = self._exit_act.pop(ret, None)
        if ended:
            self.acts.edge(EdgeKind.EXIT, ended[0], task.act, ended[1], row, False)


def _dequeue(queue: list[_Sent], nr: int) -> list[_Sent]:
    """Take out what one delivery of signal ``nr`` (0: of the oldest) delivers.

    Alike signals become one while they are pending, except real-time ones (signal(7)).
    """
    number = nr or (queue[0][2] if queue else 0)
    alike = [sent for sent in queue if sent[2] == number]
    taken = alike[:1] if number >= _SIGRTMIN else alike
    if taken:
        queue[:] = [sent for sent in queue if sent not in taken]
    return taken
