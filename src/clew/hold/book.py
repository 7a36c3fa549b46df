"""The book of holds: from the kernel's note of a stop to a hold that people see, and to its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from clew.engine.stops import Held, Stops
from clew.errors import ClewError, HoldError, TaskGone
from clew.hold import deadly, keeping
from clew.hold.arming import ArmedRule, Arming
from clew.hold.backing import Backing
from clew.hold.describe import instruction_pointer, standing
from clew.hold.hold import Hold, HoldEvent, Scope
from clew.hold.keeping import Keeper, Kept
from clew.hold.lending import Lending
from clew.hold.options import HoldOptions
from clew.hold.parting import Partings
from clew.kernel import procfs, ptrace, signals
from clew.kernel.pidfd import PidFd
from clew.model.frame import Frame
from clew.model.rules.rule import SourceLine
from clew.model.task import TaskId

_TICK_NS = 10_000_000
_STOP_WITHIN_S = 0.003
_SLOW_S = 2.0
_KEEP_S = 10.0
_LOOKS = 200
_ALL_STOP_S = 0.1


@dataclass(slots=True)
class _Entry:
    """A line of the book.  ``deadline`` is on time.monotonic().

    ``parting``: it was told to run, and somebody sees to it that it does.
    """

    hold: Hold
    kept: Kept
    note: Held
    deadline: float
    parting: bool = False


@dataclass(slots=True)
class _Unsettled:
    """A task that was sent its SIGSTOP and does not stand still yet (it waits uninterruptibly, say).

    It is held as soon as it does, however long that takes; at ``slow`` (time.monotonic()) that is told.
    ``seized``: it will stop for us, its tracer.
    """

    note: Held
    process: PidFd
    slow: float
    told: bool = False
    seized: bool = False


class Owner(Protocol):
    """What is asked of the session whose holds these are."""

    @property
    def stops(self) -> Stops:
        """The engine's stops."""

    @property
    def backing(self) -> Backing:
        """Who lets go if the session dies."""

    @property
    def keeper(self) -> Keeper:
        """How tasks are kept."""

    @property
    def options(self) -> HoldOptions:
        """How to hold."""

    @property
    def arming(self) -> Arming:
        """The rules that are in force."""

    def tell(self, event: HoldEvent) -> None:
        """Give an event to every listener."""

    def watch(self, fd: int, act: Callable[[], None]) -> None:
        """Call ``act`` whenever ``fd`` can be read."""

    def unwatch(self, fd: int) -> None:
        """Do so no more."""


class Book:
    """All holds of a session.  To be used in the session's thread only."""

    def __init__(self, session: Owner) -> None:
        self._session = session
        self._entries: dict[str, _Entry] = {}
        self._by_tid: dict[int, str] = {}
        self._waiting: dict[int, _Unsettled] = {}
        self._keeping: dict[str, float] = {}
        self._late: set[int] = set()
        self._lending = Lending(session.stops, self._tell_lent)
        self.partings = Partings(session.backing.let_go, self._is_noted)
        self._number = 0

    @property
    def unsettled(self) -> bool:
        """Whether some task is yet to stand still, and may do so at any moment."""
        return bool(self._keeping or self._late or any(not one.told for one in self._waiting.values()))

    def holds(self) -> list[Hold]:
        """Everything held, oldest first."""
        return [self._shown(entry) for entry in self._entries.values()]

    def hold(self, hold_id: str) -> Hold:
        """One hold.  HoldError if there is none of that name."""
        return self._shown(self._entry(hold_id))

    def note(self, hold_id: str) -> Held:
        """What the kernel noted of a hold."""
        return self._entry(hold_id).note

    def take_up(self, tid: int) -> None:
        """Begin a hold for the task the kernel has just stopped."""
        note = self._session.stops.held(tid)
        if note is None or tid in self._waiting or self._is_known(note):
            return
        try:
            process = PidFd(note.pid)
        except TaskGone:
            self._session.stops.forget(tid)
            return
        if not _is_same(note):
            process.close()
            self._session.stops.forget(tid)
            return
        # From now on somebody else would let it go as well.
        self._session.backing.holds(_task(note))
        if note.exact == "fatal":
            self._catch(note, process)
        elif note.waits:
            self._seize_waiting(note, process)
        elif signals.wait_stopped(note.pid, tid, _STOP_WITHIN_S):
            self._begin(note, process)
        else:
            self._waiting[tid] = _Unsettled(note, process, time.monotonic() + _SLOW_S)

    def settle(self) -> None:
        """Begin the holds of tasks that have come to stand still meanwhile."""
        self._watch_kept(time.monotonic())
        self._late = {tid for tid in self._late if not deadly.reap(tid)}
        for tid, one in list(self._waiting.items()):
            self._settle_one(tid, one)
            if tid in self._waiting and time.monotonic() >= one.slow and not one.told:
                one.told = True
                self._session.tell(HoldEvent("warning", reason=_waits_in_the_kernel(one.note)))
        self.partings.look()

    def _settle_one(self, tid: int, one: _Unsettled) -> None:
        if one.seized:
            self._take_seized(tid, one)
        elif signals.is_stopped(one.note.pid, tid):
            del self._waiting[tid]
            self._begin(one.note, one.process)
        elif one.process.ended():
            self._give_up(tid, one)

    def release(self, hold_id: str, reason: str, force: bool = False) -> Hold:
        """Let one go."""
        entry = self._entry(hold_id)
        debugger = self._debugger(entry)
        if debugger and not force:
            raise HoldError(
                f"{hold_id} is in a debugger (process {debugger}).",
                "Quit it there, or add --force: the task then runs on when the debugger lets it.",
            )
        self._let_go(entry)
        return self._drop(entry, reason)

    def release_all(self, reason: str) -> list[Hold]:
        """Let everything go."""
        for tid, one in list(self._waiting.items()):
            self._give_up(tid, one)
        self.partings.look()
        done = []
        for entry in list(self._entries.values()):
            self._let_go(entry)
            done.append(self._drop(entry, reason))
        return done

    def hand_over(self, hold_id: str) -> Hold:
        """Leave it plainly stopped, for a debugger to attach."""
        entry = self._entry(hold_id)
        self._lending.lend(entry.kept.task.pid)
        for one in self._of(entry.kept.task.pid):
            self._session.keeper.hand_over(one.kept)  # A debugger wants all threads.
        signals.wait_all_stopped(entry.kept.task.pid, _ALL_STOP_S)
        self._lending.stands(entry.kept.task.pid)
        entry.deadline = time.monotonic() + self._session.options.lease_s
        return self._shown(entry)

    def keep(self, hold_id: str) -> Hold:
        """A debugger is about to leave it: have it stop again before it does anything."""
        entry = self._entry(hold_id)
        self._session.stops.keep(entry.kept.task.pid)
        self._keeping[hold_id] = time.monotonic() + _KEEP_S
        return self._shown(entry)

    def _watch_kept(self, now: float) -> None:
        """Take the net away once the debugger has left and the process stands still."""
        for hold_id, until in list(self._keeping.items()):
            entry = self._entries.get(hold_id)
            task = entry.kept.task if entry else None
            if entry and task and self._debugger(entry) and now < until:
                continue
            if task and now < until and not signals.wait_all_stopped(task.pid, 0.0):
                continue
            del self._keeping[hold_id]
            if task:
                self._session.stops.keep_no_more(task.pid)

    def renew(self, hold_id: str, lease_s: float | None = None) -> Hold:
        """Begin the lease anew."""
        entry = self._entry(hold_id)
        entry.deadline = time.monotonic() + (lease_s or self._session.options.lease_s)
        return self._shown(entry)

    def look_over(self, now: float) -> None:
        """End the holds that ended by themselves, and those whose lease ran out."""
        for entry in list(self._entries.values()):
            if self._session.keeper.has_ended(entry.kept):
                self._drop(entry, "it ended")
            elif self._debugger(entry):
                self._lending.lend(entry.kept.task.pid)
                entry.deadline = now + self._session.options.lease_s
            elif entry.hold.id not in self._keeping and keeping.runs(entry.kept):
                self._drop(entry, "somebody else continued it")
            elif now >= entry.deadline:
                self._let_go(entry)
                self._drop(entry, "its lease ran out")

        self._lending.look({entry.kept.task.pid for entry in self._entries.values()})

    def _tell_lent(self, pid: int, numbers: set[int]) -> None:
        """Say which rules hold nobody because a debugger has a process."""
        armed = self._session.arming.armed
        rules = sorted({armed[number].rule.text for number in numbers if number in armed})
        if rules:
            self._session.tell(HoldEvent("warning", reason=_is_lent(pid, rules)))

    def _begin(self, note: Held, process: PidFd) -> None:
        kept = Kept(_task(note), process, note.by, note.t_ns)
        scope = self._scope(note)
        self._drop_ended(note.pid)
        if scope == "process" and any(e.kept.by == kept.by for e in self._of(note.pid)):
            # Its process is held already, by a thread that hit before: one hold is enough.
            self._session.stops.forget(note.tid)
            self._session.keeper.join(kept)
            self._session.backing.let_go(kept.task)
            process.close()
            return
        if scope == "process":
            self._session.keeper.halt(kept)
        elif kept.by == "signal":
            scope = self._keep_thread(kept)
        self._enter(note, kept, scope)

    def _give_up(self, tid: int, one: _Unsettled) -> None:
        """Hold it no more, who does not stand still yet."""
        del self._waiting[tid]
        self._session.stops.forget(tid)
        if one.seized:
            self._late.add(tid)
            self._session.backing.let_go(_task(one.note))
        else:
            self.partings.add(_task(one.note))
        one.process.close()

    def _seize_waiting(self, note: Held, process: PidFd) -> None:
        """Trace a thread that waits for that; if it cannot be, the kernel stops its process a bit later."""
        try:
            deadly.ask(note.tid)
        except ClewError:
            process.close()
            if signals.tracer(note.tid):
                self._session.stops.forget(note.tid)  # A debugger was quicker, and decides over it.
                self._session.backing.let_go(_task(note))
            return
        one = _Unsettled(note, process, time.monotonic() + _SLOW_S, seized=True)
        self._waiting[note.tid] = one
        for _ in range(_LOOKS):
            if note.tid not in self._waiting:
                return
            self._take_seized(note.tid, one)
        # It stands still in a moment, or waits in the kernel.

    def _take_seized(self, tid: int, one: _Unsettled) -> None:
        """Begin the hold of a thread that has come to stop for us, if it has."""
        kept = Kept(_task(one.note), one.process, "ptrace", one.note.t_ns)
        if ptrace.has_ended(tid):
            del self._waiting[tid]
            self._session.stops.forget(tid)
            self._session.keeper.part(kept)
            self._session.backing.let_go(kept.task)
            one.process.close()
        elif ptrace.wait(tid, hang=False) is not None:
            del self._waiting[tid]
            self._enter(one.note, kept, "thread")

    def _catch(self, note: Held, process: PidFd) -> None:
        """Hold a task that a signal is about to end, if there is still time."""
        kept = Kept(_task(note), process, "ptrace", note.t_ns, note.detail)
        if deadly.catch(kept.task):
            if self._scope(note) == "process":
                process.send(signal.SIGSTOP)
            self._enter(note, kept, self._scope(note))
            return
        self._late.add(note.tid)
        self._session.stops.forget(note.tid)
        self._session.backing.let_go(kept.task)
        process.close()

    def _of(self, pid: int) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.kept.task.pid == pid]

    def _drop_ended(self, pid: int) -> None:
        """An exec, say, has ended holds on threads of its process."""
        for entry in list(self._entries.values()):
            if entry.kept.task.pid == pid and self._session.keeper.has_ended(entry.kept):
                self._drop(entry, "it ended")

    def _keep_thread(self, kept: Kept) -> Scope:
        """Hold the thread alone, and let its siblings run; "process" if that cannot be done."""
        signals.wait_all_stopped(kept.task.pid, 0.05)
        try:
            keeping.seize(kept)
        except HoldError as error:
            self._session.tell(HoldEvent("warning", reason=str(error)))
            return "process"
        # Siblings that hit a rule before they stopped are noted by now, and must not get away.
        for tid in procfs.threads(kept.task.pid):
            note = self._session.stops.held(tid)
            if note is not None and tid != kept.task.tid and not self._is_known(note):
                self._keep_sibling(note, kept)
        if not any(e.kept.by == "signal" for e in self._of(kept.task.pid)):
            keeping.let_siblings_run(kept)
        return "thread"

    def _keep_sibling(self, note: Held, first: Kept) -> None:
        self._waiting.pop(note.tid, None)
        try:
            kept = Kept(_task(note), PidFd(first.task.pid))
        except ClewError:
            return
        try:
            keeping.seize(kept)
        except ClewError:
            kept.process.close()
            return
        self._session.backing.holds(kept.task)
        self._enter(note, kept, "thread")

    def _scope(self, note: Held) -> Scope:
        chosen = self._session.options.scope
        if chosen != "auto":
            return chosen
        armed = self._session.arming.armed.get(note.rule)
        return "thread" if armed and self._session.arming.holds_alone(armed.rule) else "process"

    def _enter(self, note: Held, kept: Kept, scope: Scope) -> None:
        # How exact the stop is, the system call's end tells; the first look may have come before it.
        settled = self._session.stops.held(note.tid)
        note = settled if settled and settled.t_ns == note.t_ns else note
        self._number += 1
        hold_id = f"H{self._number}"
        armed = self._session.arming.armed.get(note.rule)
        found = procfs.stat(note.pid)
        lease_s = self._session.options.lease_s
        hold = Hold(
            id=hold_id,
            rule=armed.rule.text if armed else "",
            task=kept.task,
            comm=note.comm,
            exe=procfs.exe(note.pid),
            argv=procfs.argv(note.pid),
            parent=found.parent if found else 0,
            uid=_uid(note.pid),
            scope=scope,
            exact=note.exact,
            at=_place(note, armed),
            since_ns=note.t_ns,
            lease_s=lease_s,
            kept=kept.by,
        )
        self._entries[hold_id] = _Entry(hold, kept, note, time.monotonic() + lease_s)
        self._by_tid[note.tid] = hold_id
        self._session.watch(kept.process.fileno(), lambda: self._process_ended(hold_id))
        self._session.tell(HoldEvent("held", hold))

    def _process_ended(self, hold_id: str) -> None:
        entry = self._entries.get(hold_id)
        if entry is not None:
            self._drop(entry, "it ended")

    def _let_go(self, entry: _Entry) -> None:
        # First the note, so that the task is held again if its next step hits a rule.
        self._session.stops.forget(entry.kept.task.tid)
        pid = entry.kept.task.pid
        others = [e for e in self._entries.values() if e.kept.task.pid == pid and e is not entry]
        # What no debugger came for: the rules are in force again before it runs.
        self._lending.look({e.kept.task.pid for e in self._entries.values() if e is not entry})
        if entry.kept.by == "signal" and any(e.kept.by == "signal" for e in others):
            return  # Another hold on the same process keeps it.
        if not self._session.keeper.let_go(entry.kept, lambda: self._is_noted(pid)):
            self.partings.add(entry.kept.task)
            entry.parting = True

    def _is_noted(self, pid: int) -> bool:
        return any(self._session.stops.held(tid) is not None for tid in procfs.threads(pid))

    def _drop(self, entry: _Entry, reason: str) -> Hold:
        hold, task = self._shown(entry), entry.kept.task
        if self._keeping.pop(hold.id, None) is not None:
            self._session.stops.keep_no_more(task.pid)
        del self._entries[hold.id]
        if self._by_tid.get(task.tid) == hold.id:
            del self._by_tid[task.tid]
        note = self._session.stops.held(task.tid)
        if note is not None and note.start_ns == task.start_ns and note.t_ns == entry.note.t_ns:
            self._session.stops.forget(task.tid)
        self._session.keeper.part(entry.kept)
        if not entry.parting:
            self._session.backing.let_go(task)
        self._session.unwatch(entry.kept.process.fileno())
        entry.kept.process.close()
        self._session.tell(HoldEvent("released", hold, reason))
        return hold

    def _entry(self, hold_id: str) -> _Entry:
        found = self._entries.get(hold_id)
        if found is None:
            names = ", ".join(self._entries) or "none"
            raise HoldError(f"There is no hold {hold_id!r}; held now: {names}.", "`clew ps` lists them.")
        return found

    def _is_known(self, note: Held) -> bool:
        entry = self._entries.get(self._by_tid.get(note.tid, ""))
        return entry is not None and entry.note.t_ns == note.t_ns

    def _debugger(self, entry: _Entry) -> int:
        return 0 if entry.kept.by == "ptrace" else signals.tracer(entry.kept.task.tid)

    def _shown(self, entry: _Entry) -> Hold:
        left = max(entry.deadline - time.monotonic(), 0.0)
        return replace(entry.hold, lease_s=left, debugger=self._debugger(entry), kept=entry.kept.by)


def _task(note: Held) -> TaskId:
    return TaskId(note.pid, note.tid, note.start_ns)


def _waits_in_the_kernel(note: Held) -> str:
    return (
        f"Task {note.tid} of process {note.pid} met a rule, and waits in the kernel where nothing stops it"
        " (state D): it is held as soon as it can be."
    )


def _is_lent(pid: int, rules: list[str]) -> str:
    return (
        f"While a debugger has process {pid}, clew has no breakpoints in its files:"
        f" {', '.join(rules[:3])}{'…' * (len(rules) > 3)} hold{'s' * (len(rules) == 1)} nobody else there."
    )


def _uid(pid: int) -> int:
    """The user that owns the process; root for one that is not dumpable."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return 0


def _place(note: Held, armed: ArmedRule | None) -> Frame:
    """Where the event happened; the line is known only where the rule named it."""
    at = standing(note.pid, instruction_pointer(note.registers))
    if armed is not None and isinstance(armed.rule.subject, SourceLine):
        return replace(at, file=os.fsdecode(armed.rule.subject.file), line=armed.rule.subject.line)
    return at


def _is_same(note: Held) -> bool:
    """Whether the task with the note's number is still the one that was noted."""
    found = procfs.stat(note.pid, note.tid)
    return found is not None and abs(found.start_ns - note.start_ns) <= _TICK_NS
