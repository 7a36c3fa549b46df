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
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clew.flow.edges import FOREVER, Activations, Begun, EdgeKind
from clew.flow.steps import PLACE_BITS, Causes, Step, Steps, left_at
from clew.model.event import ChannelType, LifeFlag
from clew.trace.tasks import TaskSpan, TaskTable

_CHUNK = 1 << 16
_PID = 32
_DEPTH = -1 << PLACE_BITS
# Looking a member up in an enumeration costs more than all else a step does (Python 3.11).
_UNKNOWN, _WAIT, _INTAKE, _FORK, _THREAD, _EXEC = (int(begun) for begun in Begun)
_MESSAGE, _WAKE = int(EdgeKind.MESSAGE), int(EdgeKind.WAKE)
_AFTER_A_WAIT = (_WAIT, _INTAKE)
_SIGKILL, _SIGRTMIN = 9, 32
_SIGINFO_SIZE = 128
_IGNORED = 1  # TRACE_SIGNAL_IGNORED: what became of a signal that was sent (include/trace/events/signal.h)
_Sent = tuple[int, int, int]
"""A signal on its way: (activation that sent it, row, number)."""


class _Task:
    """Where one task is in the pass: from its birth, or its exec, to the next of that number."""

    __slots__ = (
        "act",
        "acts",
        "base",
        "begun",
        "born",
        "caused",
        "fresh",
        "intake",
        "of_root",
        "older",
        "own",
        "signals",
        "taken",
    )

    def __init__(self, older: _Task | None, act: int, begun: int) -> None:
        self.older = older
        self.acts = array("i", (act,))
        self.act = act
        self.begun = begun
        self.born = -1 if begun == _UNKNOWN else act
        self.of_root = False  # of the command's descendants
        self.own = False  # what it does by itself it does because it was started
        self.base = 0  # the place of the wait that began the activation
        self.fresh = False  # it waited, and took nothing in yet
        self.caused = False  # something, in this activation: only then can a cause go back to it
        self.intake = 0  # the place where it took in its first message, and which that was
        self.taken: Sequence[int] = ()
        self.signals: list[_Sent] = []


class Splitter:
    """The pass.  ``run`` once."""

    def __init__(self, events: NDArray[np.void], steps: Steps, causes: Causes, tasks: TaskTable) -> None:
        self._acts = Activations(causes)
        self._events, self._steps, self._table = events, steps, tasks
        self._tids, self._left = array("q", causes.tid.tobytes()), array("q", causes.when.tobytes())
        self._sources = array("q", causes.source.tobytes())
        self._tasks: dict[int, _Task] = {}
        self._exit_act: dict[int, tuple[int, int]] = {}
        self._process_signals: dict[int, list[_Sent]] = defaultdict(list)
        self._meet()

    def _meet(self) -> None:
        """An activation for every task that did something before the recording tells of its birth or exec."""
        told: dict[int, int] = {}
        for tid, when in [(span.id.tid, span.born) for span in self._table.births] + [
            (span.id.tid, life.t) for life, span, _ in self._table.execs
        ]:
            told[tid] = min(when, told.get(tid, when))
        tids, rows = np.unique(self._events["tid"], return_index=True)
        for tid, when in zip(tids.tolist(), left_at(self._events, rows).tolist(), strict=True):
            if when < told.get(tid, FOREVER):
                self._at(tid, when)

    def run(self) -> Activations:
        """Go through all steps."""
        others = {
            Step.SIGNAL: self._signal,
            Step.SIGNALLED: self._signalled,
            Step.WAIT_CHILD: self._wait_child,
            Step.BIRTH: self._birth,
            Step.EXEC: self._exec,
            Step.EXIT: self._exit,
        }
        rare = {int(code): handler for code, handler in others.items()}
        recv_code, wait_code, signal_code = int(Step.RECV), int(Step.WAIT), int(Step.TAKE_SIGNAL)
        recv, wait = self._recv, self._wait
        for first in range(0, len(self._steps), _CHUNK):
            part = slice(first, first + _CHUNK)
            for code, row, when, tid, place, t0, loop, low, high in self._chunk(part):
                if code == recv_code:
                    recv(when, tid, place, t0, loop, low, high)
                elif code == wait_code:
                    wait(when, tid, place, t0, loop, low, high)
                elif code == signal_code:
                    wait(when, tid, place, t0, loop, low, high)
                    self._take_signals(when, row)
                else:
                    rare[code](when, row)
        return self._acts

    def _chunk(self, part: slice) -> Iterator[tuple[int, int, int, int, int, int, bool, int, int]]:
        """Some steps as Python numbers: (code, row, when, tid, place, t0, at a loop site, low, high)."""
        s = self._steps
        columns = (s.code, s.row, s.when, s.tid, s.place, s.t0, s.loop_site, s.low, s.high)
        return zip(*(column[part].tolist() for column in columns), strict=True)

    # --- who was doing what ---

    def _at(self, tid: int, when: int) -> _Task:
        """The task's state; one that nothing is known of yet has been doing something since ``when``."""
        task = self._tasks.get(tid)
        if task is None:
            task = self._tasks[tid] = _Task(None, self._acts.begin(tid, when, _UNKNOWN), _UNKNOWN)
        return task

    def _cause(self, tid: int, when: int) -> int:
        """The activation in which the task caused something at ``when``, which may be a while ago.

        One that nothing from outside set going (a timer, a pipe with room again) goes back to the birth of
        the task: what the command's own descendants, and children that have not exec'd, do by themselves,
        they do because they were started.  A program that some daemon started (a guest) has its own life.
        """
        acts, task = self._acts, self._tasks[tid]
        act = task.act
        if acts.start[act] <= when:
            task.caused = True
        else:
            while acts.start[task.acts[0]] > when and task.older:
                task = task.older
            before = bisect_right(task.acts, when, key=acts.start.__getitem__)
            act = task.acts[max(0, before - 1)]
        if when < acts.alone[act] and acts.parent[act] < 0:
            acts.link(EdgeKind.OWN, task.born, act, -1, -1, True)
        return act

    def _cause_now(self, tid: int, when: int) -> int:
        self._at(tid, when)
        return self._cause(tid, when)

    def _close(self, task: _Task | None, when: int) -> None:
        if task and not self._acts.end[task.act]:
            self._acts.end[task.act] = when

    # --- births, execs, exits ---

    def _birth(self, when: int, row: int) -> None:
        span: TaskSpan = self._table.births[row]
        parent = self._cause_now(span.parent_tid, when)
        child = self._begin_life(span.id.tid, when, _THREAD if span.is_thread else _FORK)
        child.of_root = self._tasks[span.parent_tid].of_root
        child.own = child.of_root or not span.is_thread
        self._acts.link(EdgeKind.SPAWN, parent, child.act, row, row, True)

    def _exec(self, when: int, row: int) -> None:
        life, span, _ = self._table.execs[row]
        caller = self._cause_now(life.other_tid, when)
        of_root = self._tasks[life.other_tid].of_root or bool(life.flags & LifeFlag.ROOT)
        self._close(self._tasks[life.other_tid], when)
        task = self._begin_life(span.id.tid, when, _EXEC)
        task.of_root = task.own = of_root
        self._acts.link(EdgeKind.EXEC, caller, task.act, row, row, True)

    def _begin_life(self, tid: int, when: int, begun: int) -> _Task:
        older = self._tasks.get(tid)
        self._close(older, when)
        task = self._tasks[tid] = _Task(older, self._acts.begin(tid, when, begun), begun)
        return task

    def _exit(self, when: int, row: int) -> None:
        _, span = self._table.exits[row]
        task = self._at(span.id.tid, when)
        if span.id.tid == span.id.pid:
            self._exit_act[span.id.pid] = (task.act, row)
        self._close(task, when)

    def _wait_child(self, when: int, row: int) -> None:
        event = self._events[row]
        ended = self._exit_act.pop(int(event["ret"]), None)
        if ended:
            act, exit_row = ended
            self._acts.link(EdgeKind.EXIT, act, self._tasks[int(event["tid"])].act, exit_row, row, False)

    # --- taking in ---

    def _anew(self, task: _Task, tid: int, when: int, begun: int, place: int, t0: int) -> None:
        """End the task's activation (where it began to wait) and begin another at ``when``."""
        acts = self._acts
        if not acts.end[task.act]:
            acts.end[task.act] = t0 or when
        task.act = acts.begin(tid, when, begun, FOREVER if begun == _WAIT and task.own else 0)
        task.acts.append(task.act)
        task.begun = begun
        task.caused = False
        task.taken = ()
        if begun == _WAIT:
            task.fresh = True
            task.base = place
        else:
            task.fresh = False

    def _stale(self, task: _Task, when: int) -> None:
        """Something from outside has set the task's activation going."""
        task.fresh = False
        if self._acts.alone[task.act]:
            self._acts.alone[task.act] = when

    def _ends_work(self, task: _Task, loop: bool, place: int, sources: Sequence[int]) -> bool:
        """Whether a wait at ``place`` that ``sources`` ended is a wait for new work."""
        begun = task.begun
        if begun in _AFTER_A_WAIT:
            if place == task.base:
                return True
            if place < task.base & _DEPTH:
                return False
            return not self._dialogue(task.act, sources)
        if begun == _UNKNOWN:
            return True
        return loop and (begun != _FORK or not self._dialogue(task.act, sources))

    def _dialogue(self, act: int, sources: Sequence[int]) -> bool:
        """Whether all sources are of the activation's own line: it answers to them, or set them to work."""
        descends = self._acts.descends
        return bool(sources) and all(descends(act, s) or descends(s, act) for s in sources)

    def _wait(self, when: int, tid: int, place: int, t0: int, loop: bool, low: int, high: int) -> None:
        task = self._tasks[tid]
        wakers = [self._cause(self._tids[i], self._left[i]) for i in range(low, high)] if low < high else ()
        anew = self._ends_work(task, loop, place, wakers)
        if anew:
            self._anew(task, tid, when, _WAIT, place, t0)
        if wakers:
            for i, source in enumerate(wakers, low):
                self._acts.take(_WAKE, source, task.act, i, anew)
            if anew:
                self._stale(task, when)

    def _recv(self, when: int, tid: int, place: int, t0: int, loop: bool, low: int, high: int) -> None:
        task, acts = self._tasks[tid], self._acts
        sources = [self._cause(self._tids[i], self._left[i]) for i in range(low, high)]
        begins = self._intake(task, tid, when, place, t0, loop, sources, self._sources[low:high])
        target = task.act
        for i, source in enumerate(sources, low):
            trigger = begins and not (task.caused and acts.descends(source, target))
            acts.take(_MESSAGE, source, target, i, trigger)

    def _intake(
        self, task: _Task, tid: int, when: int, place: int, t0: int, loop: bool, sources: Sequence[int],
        sends: Sequence[int],
    ) -> bool:  # fmt: skip
        """Whether this receive begins a piece of work, its activation begun if it does."""
        if task.fresh:
            if task.caused and all(self._acts.descends(s, task.act) for s in sources):
                return False
            self._stale(task, when)
        elif task.taken:
            if all(send in task.taken for send in sends):
                return True  # the rest of the message that began it
            if place < task.intake & _DEPTH:
                return False
            if place != task.intake and self._dialogue(task.act, sources):
                return False
            self._anew(task, tid, when, _INTAKE, place, 0)
        elif self._ends_work(task, loop, place, sources):
            self._anew(task, tid, when, _INTAKE if task.begun in _AFTER_A_WAIT else _WAIT, place, t0)
            self._stale(task, when)
        else:
            return False
        task.taken, task.intake = sends, place
        return True

    # --- signals ---

    def _signal(self, when: int, row: int) -> None:
        event = self._events[row]
        if event["ret"] == _IGNORED:
            return
        sent = (self._cause_now(int(event["tid"]), when), row, int(event["nr"]))
        target = int(event["chan"])
        if event["peer"]:
            self._process_signals[target >> _PID].append(sent)
        else:
            self._at(target & 0xFFFFFFFF, when).signals.append(sent)

    def _signalled(self, when: int, row: int) -> None:
        event = self._events[row]
        tid, nr = int(event["tid"]), int(event["nr"])
        if not self._take_signal(when, row, nr) and nr == _SIGKILL:
            # Whichever signal kills, it arrives as SIGKILL; the exit status says which it was.
            self._take_signal(when, row, self._table.span(tid, when).exit_code & 0x7F or nr)

    def _take_signals(self, when: int, row: int) -> None:
        """Those that sigtimedwait or a read of a signalfd took."""
        event = self._events[row]
        if event["channel"] == ChannelType.SIGNALFD:
            for _ in range(int(event["ret"]) // _SIGINFO_SIZE):
                self._take_signal(when, row, 0)
        else:
            self._take_signal(when, row, int(event["ret"]))

    def _take_signal(self, when: int, row: int, nr: int) -> bool:
        """Edges of one signal (0: the oldest) that the task in ``row`` took; False if nobody sent one."""
        event = self._events[row]
        task = self._at(int(event["tid"]), when)
        sent = _dequeue(task.signals, nr) or _dequeue(self._process_signals[int(event["pid"])], nr)
        for source, sent_row, _ in sent:
            trigger = task.fresh and not (task.caused and self._acts.descends(source, task.act))
            self._acts.link(EdgeKind.SIGNAL, source, task.act, sent_row, row, trigger)
        return bool(sent)


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
