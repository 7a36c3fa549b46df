"""Split every task's time into activations, and find the edges between them, in one pass.

An activation is a stretch of one task's work between two waits for new work.  It begins when a wait returns
and ends at the next wait that is at the same place or at or above its depth in the stack (an address as high
or higher): a wait deeper down (a handler that waits for its helper's answer) is part of the work.  Within it,
each message taken in at the depth of the first one begins a new activation of its own: an event loop that
serves three clients after one wait does three pieces of work.

Depth decides only where what was taken in does not.  A request of somebody with whom the activation has
nothing to do begins a piece of work at any depth; anything else of that kind is added to what the task does.
A task just born, or a program just begun, has no wait to compare with.  There, a wait ends the first piece of
work only at a place the task comes back to: that is what a loop is.  A child that has not exec'd and is
answered by the very task that forked it (a handshake) is still doing what it was born for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from clew.flow.causes import Causes
from clew.flow.doubts import doubted
from clew.flow.edges import FOREVER, Activations, Edges, Web
from clew.flow.kinds import EdgeKind
from clew.flow.moments import left_at
from clew.flow.owners import settle
from clew.flow.requests import Requests
from clew.flow.steps import PLACE_BITS, Side, Step, Steps
from clew.model.event import ChannelType, LifeFlag
from clew.trace.tasks import TaskSpan, TaskTable


class Begun(IntEnum):
    """How an activation came to be."""

    UNKNOWN = 0
    WAIT = 1
    INTAKE = 2
    FORK = 3
    THREAD = 4
    EXEC = 5


_CHUNK = 1 << 16
_PID = 32
_DEPTH = -1 << PLACE_BITS
# Looking a member up in an enumeration costs more than all else a step does (Python 3.11).
_UNKNOWN, _WAIT, _INTAKE, _FORK, _THREAD, _EXEC = (int(begun) for begun in Begun)
_RECV, _TAKE_SIGNAL = int(Step.RECV), int(Step.TAKE_SIGNAL)
_ACCEPTED, _OPENED, _QUEUE = int(Side.ACCEPTED), int(Side.OPENED), int(Side.QUEUE)
_ASKED = 2
_AFTER_A_WAIT = (_WAIT, _INTAKE)
_SIGKILL, _SIGCHLD, _SIGCONT, _SIGRTMIN = 9, 17, 18, 32
_SIGINFO_SIZE = 128
_IGNORED = 1  # TRACE_SIGNAL_IGNORED: what became of a signal that was sent (include/trace/events/signal.h)
_Sent = tuple[int, int, int, int]
"""A signal on its way: (activation that sent it, when, number, row)."""
_Row = tuple[int, int, int, int, int, int, int, int, int]
"""A step: its number, code, when, task, place, its causes [low, high), and the task that made the first of
them, and when."""


class _Task:
    """Where one task is in the pass: from its birth, or its exec, to the next of that number."""

    __slots__ = (
        "act",
        "acts",
        "alone",
        "base",
        "base_again",
        "begun",
        "born",
        "caused",
        "fresh",
        "intake",
        "joined",
        "of_root",
        "older",
        "own",
        "signals",
        "start",
        "starts",
        "taken",
    )

    def __init__(self, older: _Task | None, act: int, when: int, begun: int) -> None:
        self.older = older
        self.acts, self.starts = array("i", (act,)), array("q", (when,))
        self.act, self.start = act, when
        self.begun = begun
        self.born = -1 if begun == _UNKNOWN else act
        self.of_root = False  # of the command's descendants
        self.own = False  # what it does by itself it does because it was started
        self.alone = 0  # ``Web.alone`` of the activation
        self.base = -1  # the place of the wait that began the activation
        self.base_again = False  # it came back to that place, or will
        self.fresh = False  # it waited, and took nothing in yet
        self.caused = False  # something, in this activation: only then can a cause go back to it
        self.intake = 0  # the place where it took in its first message
        self.joined = 0  # the place where it last took in what began nothing
        self.taken = -1  # and the row of the send that was the last it took in there
        self.signals: list[_Sent] = []


class Splitter:
    """The pass.  ``run`` once."""

    def __init__(self, events: NDArray[np.void], steps: Steps, causes: Causes, tasks: TaskTable) -> None:
        self._web = Web(steps, causes)
        self._events, self._steps, self._causes, self._table = events, steps, causes, tasks
        self._sent = array("i", causes.source.tobytes())
        self._side, self._again = steps.side.tobytes(), steps.loop_site.tobytes()
        self.requests = Requests(events, steps, self._web)
        self._tasks: dict[int, _Task] = {}
        self._rare = {
            int(Step.SIGNAL): self._signal,
            int(Step.SIGNALLED): self._signalled,
            int(Step.WAIT_CHILD): self._wait_child,
            int(Step.BIRTH): self._birth,
            int(Step.EXEC): self._exec,
            int(Step.EXIT): self._exit,
            int(Step.ANSWER): self._answer,
        }
        self._exit_act: dict[int, tuple[int, int, int]] = {}
        self._reaped = _reaped(events, steps)
        self._process_signals: dict[int, list[_Sent]] = defaultdict(list)
        self._meet()

    def _meet(self) -> None:
        """An activation for every task that did something before the recording tells of its birth or exec."""
        told: dict[int, int] = {}
        begun = np.isin(self._steps.code, [Step.BIRTH, Step.EXEC])
        for tid, when in zip(self._steps.tid[begun].tolist(), self._steps.when[begun].tolist(), strict=True):
            told.setdefault(tid, when)
        tids, rows = np.unique(self._events["tid"], return_index=True)
        for tid, when in zip(tids.tolist(), left_at(self._events, rows).tolist(), strict=True):
            if when < told.get(tid, FOREVER):
                self._at(tid, when)

    def run(self) -> tuple[Activations, Edges]:
        """Go through all steps."""
        for first in range(0, len(self._steps), _CHUNK):
            self._go_through(self._chunk(first))
        acts, edges = self._web.activations(), doubted(self._events, self._web.edges())
        return acts, settle(self._events, acts, edges, self.requests.given)

    def _chunk(self, first: int) -> Iterator[_Row]:
        """Some steps as Python numbers."""
        s, part = self._steps, slice(first, first + _CHUNK)
        columns = [column[part].tolist() for column in (s.code, s.when, s.tid, s.place, s.low, s.high)]
        causes = self._causes
        if len(causes.tid):
            one = np.minimum(s.low[part], len(causes.tid) - 1)
            columns += [column[one].tolist() for column in (causes.tid, causes.when)]
        else:
            columns += [columns[0]] * 2
        return zip(range(first, first + len(columns[0])), *columns, strict=True)

    def _go_through(self, rows: Iterator[_Row]) -> None:
        """The pass over some steps.

        It is long because it makes no call for what nearly every step needs: calls would cost half of the
        time that following a recording takes.
        """
        rare = self._rare
        tasks, web, sent = self._tasks, self._web, self._sent
        from_act, to_act, triggers, parents = web.source, web.target, web.trigger, web.parent
        intake, anew, recv_code, signal_code = self._intake, self._anew, _RECV, _TAKE_SIGNAL
        side, answers = self._side, self.requests.answers
        sources: Sequence[int]
        begins: int
        for n, code, when, tid, place, low, high, by, left in rows:
            if code > signal_code:
                rare[code](n, when)
                continue
            try:
                task = tasks[tid]
            except KeyError:  # only where the times are damaged: ``_meet`` has met all others
                task = self._at(tid, when)
            if high - low == 1:
                # As in ``_cause``.
                try:
                    cause = tasks[by]
                except KeyError:
                    cause = self._at(by, left)
                if cause.start <= left:
                    cause.caused = True
                    if cause.alone > left:
                        self._of_its_own(cause, cause.act, cause.start)
                    sources = (cause.act,)
                else:
                    sources = (self._cause_before(cause, left),)
                if answers and sent[low] in answers:
                    sources = (answers[sent[low]],)
            else:
                sources = self._caused_by(low, high) if low < high else ()
            if code == recv_code:
                last = sent[high - 1]
                begins = last == task.taken and high - low == 1  # the rest of the message that began it
                if not begins:
                    begins = intake(task, n, when, place, sources)
                    if begins:
                        task.taken, task.intake = last, place
                if side[n] and side[n] != _QUEUE:
                    self._of_connection(task, n, when, sources, begins)
            else:
                begins = place == task.base or self._ends_work(task, n, place, sources)
                if begins:
                    anew(task, n, when, _WAIT, place)
                    if sources:
                        self._set_going(task, when)
                elif sources and parents[task.act] < 0:
                    begins = not self._dialogue(task.act, sources)
            target = task.act
            for source in sources:
                from_act[low], to_act[low] = source, target
                if begins and (begins == _ASKED or not (task.caused and web.descends(source, target))):
                    triggers[low] = 1
                    if parents[target] < 0:
                        parents[target] = source
                low += 1
            if code == signal_code:
                self._take_signals(n, when)

    # --- who was doing what ---

    def _at(self, tid: int, when: int) -> _Task:
        """The task's state; one that nothing is known of yet has been doing something since ``when``."""
        task = self._tasks.get(tid)
        if task is None:
            task = self._tasks[tid] = _Task(None, self._web.begin_unseen(tid, when), when, _UNKNOWN)
        return task

    def _cause(self, tid: int, when: int) -> int:
        """The activation in which the task caused something at ``when``, which may be a while ago.

        One that nothing from outside set going (a timer, a pipe with room again) goes back to the birth of
        the task: what the command's own descendants, children that have not exec'd, and programs whose end
        their parent waits for do by themselves, they do because they were started.  A program that some
        daemon started and left to itself (a guest) has its own life.
        """
        task = self._tasks.get(tid) or self._at(tid, when)
        if task.start > when:
            return self._cause_before(task, when)
        task.caused = True
        if task.alone > when:
            self._of_its_own(task, task.act, task.start)
        return task.act

    def _cause_before(self, task: _Task, when: int) -> int:
        """As ``_cause``, of a task that has begun something else since."""
        while task.starts[0] > when and task.older:
            task = task.older
        at = max(0, bisect_right(task.starts, when) - 1)
        act = task.acts[at]
        if self._web.alone.get(act, 0) > when:
            self._of_its_own(task, act, task.starts[at])
        return act

    def _of_its_own(self, task: _Task, act: int, began: int) -> None:
        """The activation, which nothing from outside has set going by now, comes from the task's birth."""
        web = self._web
        if web.parent[act] < 0:
            web.link(EdgeKind.OWN, task.born, act, web.origin[act], began)

    # --- births, execs, exits ---

    def _birth(self, n: int, when: int) -> None:
        row = int(self._steps.row[n])
        span: TaskSpan = self._table.births[row]
        parent = self._cause(span.parent_tid, when)
        child = self._begin_life(n, span.id.tid, when, _THREAD if span.is_thread else _FORK)
        child.of_root = self._tasks[span.parent_tid].of_root
        child.own = child.of_root or not span.is_thread or self._tasks[span.parent_tid].own
        self._web.link(EdgeKind.SPAWN, parent, child.act, n, when, row, row)

    def _exec(self, n: int, when: int) -> None:
        row = int(self._steps.row[n])
        life, span, _ = self._table.execs[row]
        caller = self._cause(life.other_tid, when)
        of_root = self._tasks[life.other_tid].of_root or bool(life.flags & LifeFlag.ROOT)
        self._web.closed[self._tasks[life.other_tid].act] = when
        task = self._begin_life(n, span.id.tid, when, _EXEC)
        task.of_root = of_root
        task.own = of_root or (span.parent_pid, span.id.pid) in self._reaped
        self._web.link(EdgeKind.EXEC, caller, task.act, n, life.peer2 or when - 1, row, row)

    def _begin_life(self, n: int, tid: int, when: int, begun: int) -> _Task:
        task = self._tasks[tid] = _Task(self._tasks.get(tid), self._web.begin(n), when, begun)
        return task

    def _exit(self, n: int, when: int) -> None:
        row = int(self._steps.row[n])
        _, span = self._table.exits[row]
        act = self._at(span.id.tid, when).act
        if span.id.tid == span.id.pid:
            self._exit_act[span.id.pid] = (act, when, row)
        self._web.closed[act] = when

    def _wait_child(self, n: int, when: int) -> None:
        """The end of a child was collected; where the task had waited for that, it is what it goes on from.

        One that is collected in passing (a server that looks for zombies at each request) is not.
        """
        row = int(self._steps.row[n])
        ended = self._exit_act.pop(int(self._events["ret"][row]), None)
        if not ended:
            return
        act, exited, exit_row = ended
        task, place = self._at(int(self._steps.tid[n]), when), int(self._steps.place[n])
        waited = task.fresh or (bool(self._steps.blocked[n]) and int(self._steps.t0[n]) <= exited)
        begins = waited and not self._dialogue(task.act, (act,))
        if begins and not task.fresh and self._ends_work(task, n, place, (act,)):
            self._anew(task, n, when, _WAIT, place)
        if begins:
            self._set_going(task, when)
        self._web.link(EdgeKind.EXIT, act, task.act, n, exited, exit_row, row, begins)

    # --- taking in ---

    def _anew(self, task: _Task, n: int, when: int, begun: int, place: int) -> None:
        """End the task's activation and begin another in step ``n``."""
        # As ``Web.begin``.
        web = self._web
        task.act = act = len(web.parent)
        web.origin.append(n)
        web.parent.append(-1)
        task.start = when
        task.acts.append(act)
        task.starts.append(when)
        task.begun = begun
        task.caused = False
        task.taken = -1
        task.alone = 0
        if begun == _WAIT:
            task.fresh = True
            task.base, task.base_again = place, self._again[n] != 0
            if task.own:
                task.alone = web.alone[act] = FOREVER
        else:
            task.fresh = False

    def _set_going(self, task: _Task, when: int) -> None:
        """Something from outside has set the task's activation going."""
        task.fresh = False
        if task.alone:
            task.alone = self._web.alone[task.act] = when

    def _ends_work(self, task: _Task, n: int, place: int, sources: Sequence[int]) -> bool:
        """Whether a wait at ``place`` that ``sources`` ended is a wait for new work.

        A wait at start-up that never comes again encloses nothing.
        """
        begun = task.begun
        if begun in _AFTER_A_WAIT:
            if place == task.base:
                return True
            if place < task.base & _DEPTH and (task.base_again or not self._again[n]):
                return False
            return not self._dialogue(task.act, sources)
        if begun == _UNKNOWN:
            return True
        return self._again[n] != 0 and (begun != _FORK or not self._dialogue(task.act, sources))

    def _dialogue(self, act: int, sources: Sequence[int]) -> bool:
        """Whether all sources are of the activation's own line: it answers to them, or set them to work."""
        descends = self._web.descends
        return bool(sources) and all(descends(act, s) or descends(s, act) for s in sources)

    def _caused_by(self, low: int, high: int) -> Sequence[int]:
        """The activations in which the causes [low, high) were made."""
        columns = (column[low:high].tolist() for column in (self._causes.tid, self._causes.when))
        found = [self._cause(tid, when) for tid, when in zip(*columns, strict=True)]
        answers = self.requests.answers
        if answers:
            found = [answers.get(self._sent[low + i], act) for i, act in enumerate(found)]
        return found

    def _intake(self, task: _Task, n: int, when: int, place: int, sources: Sequence[int]) -> int:
        """Whether this receive begins a piece of work, or adds one; its activation begun if it does.

        A request does in any case (``_ASKED``): what is done next is done for it.
        """
        if self._side[n] == _QUEUE:  # a job: whatever woke the task was for one, not for this one
            self._anew(task, n, when, _INTAKE, place)
            self._set_going(task, when)
            return _ASKED
        begins = self._takes_in(task, n, when, place, sources)
        return _ASKED if self._side[n] == _ACCEPTED else begins

    def _takes_in(self, task: _Task, n: int, when: int, place: int, sources: Sequence[int]) -> int:
        if task.fresh:
            if task.caused and all(self._web.descends(s, task.act) for s in sources):
                return False
            self._set_going(task, when)
            return True
        if task.taken >= 0 and place == task.intake:
            self._anew(task, n, when, _INTAKE, place)
            return True
        if task.taken < 0 and self._ends_work(task, n, place, sources):
            self._anew(task, n, when, _INTAKE if task.begun in _AFTER_A_WAIT else _WAIT, place)
            self._set_going(task, when)
            return True
        if self._dialogue(task.act, sources):
            task.joined = place
            return False
        at_loop = task.taken >= 0 and place >= task.intake & _DEPTH
        if at_loop or self._side[n] == _ACCEPTED or place == task.joined:
            self._anew(task, n, when, _INTAKE, place)
        self._set_going(task, when)
        return True

    # --- connections ---

    def _of_connection(self, task: _Task, n: int, when: int, sources: Sequence[int], begins: int) -> None:
        """A request was taken in, or something where the connection was opened."""
        if self._side[n] == _ACCEPTED:
            self.requests.taken(n, task.act)
        elif begins and sources:
            # What answers a question goes on from it; the way round through whoever answered is no shorter.
            asked = self._web.back_to(sources[0], int(self._steps.tid[n]))
            if asked >= 0 and asked != task.act:
                self._web.link(EdgeKind.CONTINUED, asked, task.act, n, when)

    def _answer(self, n: int, when: int) -> None:
        """Something is sent where the connection was accepted.

        It answers the request that was taken in there, whatever the task did since.  What follows may be for
        another that waits for its answer: an activation of its own.
        """
        task = self._at(int(self._steps.tid[n]), when)
        if self.requests.answered(n, task.act):
            if task.alone > when:
                self._of_its_own(task, task.act, task.start)
                task.alone = 0
            before, task.act = task.act, self._web.begin(n)
            task.start = when + 1
            task.acts.append(task.act)
            task.starts.append(when + 1)
            task.caused = False
            self._web.link(EdgeKind.AFTER, before, task.act, n, when)
            self.requests.went_on(n, task.act)

    # --- signals ---

    def _signal(self, n: int, when: int) -> None:
        row = int(self._steps.row[n])
        event = self._events[row]
        if event["nr"] == _SIGCONT:
            self._let_go_on(n, when, row)
        if event["ret"] == _IGNORED:
            return
        sent = (self._cause(int(event["tid"]), when), when, int(event["nr"]), row)
        target = int(event["chan"])
        if event["peer"]:
            self._process_signals[target >> _PID].append(sent)
        else:
            self._at(target & 0xFFFFFFFF, when).signals.append(sent)

    def _let_go_on(self, n: int, when: int, row: int) -> None:
        """SIGCONT acts when it is sent, whether or not there is a handler for it (signal(7))."""
        event = self._events[row]
        source = self._cause(int(event["tid"]), when)
        act = self._at(int(event["chan"]) & 0xFFFFFFFF, when).act
        if not self._web.descends(source, act):
            self._web.link(EdgeKind.SIGNAL, source, act, n, when, row, row)

    def _signalled(self, n: int, when: int) -> None:
        event = self._events[int(self._steps.row[n])]
        nr = int(event["nr"])
        if not self._take_signal(n, when, nr) and nr == _SIGKILL:
            # Whichever signal kills, it arrives as SIGKILL; the exit status says which it was.
            self._take_signal(n, when, self._table.span(int(event["tid"]), when).exit_code & 0x7F or nr)

    def _take_signals(self, n: int, when: int) -> None:
        """Those that sigtimedwait or a read of a signalfd took."""
        event = self._events[int(self._steps.row[n])]
        if event["channel"] == ChannelType.SIGNALFD:
            for _ in range(int(event["ret"]) // _SIGINFO_SIZE):
                if not self._take_signal(n, when, 0):
                    break
        else:
            self._take_signal(n, when, int(event["ret"]))

    def _take_signal(self, n: int, when: int, nr: int) -> bool:
        """Edges of one signal (0: the oldest) that was taken in step ``n``; False if nobody sent one."""
        row = int(self._steps.row[n])
        event = self._events[row]
        task = self._at(int(event["tid"]), when)
        sent = _dequeue(task.signals, nr) or _dequeue(self._process_signals[int(event["pid"])], nr)
        for source, left, number, sent_row in sent:
            # SIGCHLD says no more than the wait for the child that follows, and that of any child.
            begins = task.fresh or number != _SIGCHLD
            trigger = begins and not self._web.descends(source, task.act)
            self._web.link(EdgeKind.SIGNAL, source, task.act, n, left, sent_row, row, trigger)
        return bool(sent)


def _reaped(events: NDArray[np.void], steps: Steps) -> set[tuple[int, int]]:
    """(process, child): children whose end their parent collected, so that they were part of what it did."""
    rows = steps.row[steps.code == Step.WAIT_CHILD]
    return set(zip(events["pid"][rows].tolist(), events["ret"][rows].tolist(), strict=True))


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
