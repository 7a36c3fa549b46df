"""The holder's tracing loop: next stop, dispatch.  Who is held, ``Asked`` decides; this keeps all going.

``ptrace`` may fail with ESRCH (TaskGone) at any time, because the task was killed: then its end will be
reported, and nothing else needs to be done.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Protocol

from clew.engine.ptrace.births import Births
from clew.engine.ptrace.heir_log import HeirLog
from clew.engine.ptrace.space import LOADER, Site, Space
from clew.engine.ptrace.stepping import FAULTS, begin, end, work_out
from clew.engine.ptrace.tracee import Process, Tracee
from clew.errors import ClewError, EngineError, TaskGone
from clew.kernel import procfs, ptrace, signals
from clew.kernel.ptrace import Event, SyscallStop, Wait

_SIGTRAP, _SIGSTOP = 5, 19
_SI_KERNEL = 0x80
_EXIT_GROUP = 231
_TURN_S = 0.01
"""How long a turn may take: between turns requests are answered and leases end."""


class Asked(Protocol):
    """Asked about each event; true where the task is to stay.  The task stands in its ptrace stop."""

    def on_exec(self, tracee: Tracee) -> bool: ...
    def on_fork(self, tracee: Tracee) -> bool: ...
    def on_breakpoint(self, tracee: Tracee, sites: list[Site]) -> bool: ...
    def on_syscall(self, tracee: Tracee, number: int) -> bool: ...
    def on_signal(self, tracee: Tracee, number: int) -> bool: ...
    def on_exit(self, tracee: Tracee) -> bool: ...
    def on_gone(self, tid: int) -> None: ...
    def on_refused(self, site: Site) -> None:
        """No breakpoint can be put there."""


class Loop:
    """Traced tasks, and what becomes of their stops.  To be used in one thread: the tracer."""

    def __init__(self, asked: Asked, log: HeirLog) -> None:
        self._asked, self.log = asked, log
        self.tracees: dict[int, Tracee] = {}
        self.processes: dict[int, Process] = {}
        self.sites: list[Site] = []
        self.every_call = False
        self._births = Births(self)
        self._queue: dict[int, Wait] = {}
        self._heir = os.getppid()

    def turn(self, budget_s: float = _TURN_S) -> None:
        """Deal with the stops there are, for as long as that: ``queued`` says whether some are left."""
        until = time.monotonic() + budget_s
        while self._collect() and time.monotonic() < until:
            self._dispatch(self._queue.pop(next(iter(self._queue))))

    def _collect(self) -> bool:
        """Take every stop there is before any is answered; whether there is one.

        waitpid(2) looks at tasks in order: answered at once, two busy ones at the front starve the others.
        And a stop that nobody has taken is the program's death if the holder is killed now (see ``heir``).
        A task that is told of again has left the stop that was told before (by SIGKILL or an exec).
        """
        while (found := ptrace.wait(hang=False)) is not None:
            self._queue.pop(found.tid, None)
            self._queue[found.tid] = found
        return bool(self._queue)

    def last_births(self) -> None:
        """Take on every child there is, told of or not: nobody will be traced any more."""
        for found in self._births.orphans(after_s=0.0):
            self.tracees[found.tid].stop = found

    def born(self, parent: Tracee, how: int) -> None:
        """The stopped parent tells of a child."""
        self._births.told(parent, how, ptrace.event_message(parent.tid))

    def early(self, found: Wait) -> None:
        """A child that nobody has told of has stopped."""
        self._births.early(found)

    def adopt_orphans(self) -> None:
        """Take on children whose parents died before they told of them."""
        for found in self._births.orphans():
            self._dispatch(found)

    def again(self, found: Wait) -> None:
        """Deal with this stop of a traced task in the next turn."""
        self.tracees[found.tid].stop = found
        self._queue[found.tid] = found

    @property
    def queued(self) -> bool:
        """Whether ``turn`` has work that no SIGCHLD will tell of."""
        return bool(self._queue)

    def _dispatch(self, found: Wait) -> None:
        tracee = self.tracees.get(found.tid)
        if not found.stopped:
            self._births.dead(found.tid)
            self.gone(found.tid)
        elif tracee is None:
            self._births.early(found)
        else:
            tracee.stop = found
            if tracee.held:  # SIGKILL, or an exec by another thread, has ended its stop.
                tracee.held = False
                self._asked.on_gone(tracee.tid)
            with suppress(TaskGone):
                if not self.ends_step(tracee) and self._stays(tracee, found):
                    tracee.held = True
                self.resume(tracee)

    def _stays(self, tracee: Tracee, found: Wait) -> bool:
        """Do what the stop asks for; whether the task is now held."""
        match found.event:
            case Event.NONE if found.signal == ptrace.SYSCALL_STOP:
                return self._on_syscall(tracee)
            case Event.NONE:
                return self._on_signal(tracee, found.signal)
            case Event.FORK | Event.VFORK | Event.CLONE:
                self._births.told(tracee, found.event, ptrace.event_message(tracee.tid))
            case Event.EXEC:
                return self._on_exec(tracee)
            case Event.EXIT:
                return self._on_exit(tracee)
            case Event.STOP if tracee.tid in self._births.fresh:
                self._births.fresh.discard(tracee.tid)
                return tracee.tid == tracee.process.pid and self._asked.on_fork(tracee)
        return False

    def _on_syscall(self, tracee: Tracee) -> bool:
        info = ptrace.syscall_info(tracee.tid)
        return info.stop is SyscallStop.ENTRY and self._asked.on_syscall(tracee, info.number)

    def _on_signal(self, tracee: Tracee, number: int) -> bool:
        if number == _SIGTRAP and (sites := self.take_trap(tracee)) is not None:
            if any(site.rule == LOADER for site in sites):
                self._look_for(tracee.process.space)
            rules = [site for site in sites if site.rule != LOADER]
            return bool(rules) and self._asked.on_breakpoint(tracee, rules)
        tracee.signal = number
        if number == _SIGSTOP and ptrace.signal_info(tracee.tid)[2] == self._heir:
            return False  # We are being killed: what the log says of the task is to stay.
        self.log.stands(tracee.process.pid, tracee.tid, number)
        return self._asked.on_signal(tracee, number)

    def take_trap(self, tracee: Tracee) -> list[Site] | None:
        """The task has a SIGTRAP: take it back to the breakpoint it ran into.

        The sites there; none if it is ours and nobody wants it any more; None if the signal is its own.
        """
        if tracee.owed:
            tracee.owed = False
            return []
        found = self._rewind(tracee)
        tracee.signal = _SIGTRAP if found is None else 0
        self.log.stands(tracee.process.pid, tracee.tid, tracee.signal)
        return found

    def _rewind(self, tracee: Tracee) -> list[Site] | None:
        if ptrace.signal_info(tracee.tid)[1] != _SI_KERNEL:
            return None
        try:
            registers = ptrace.get_registers(tracee.tid)
        except EngineError:
            return None  # 32-bit code, in which there is none of ours.
        at, space = registers.rip - 1, tracee.process.space
        found = space.breakpoints.get(at)
        if found is None and (at not in space.former or space.read(at, 1) == b"\xcc"):
            return None
        registers.rip = at
        ptrace.set_registers(tracee.tid, registers)
        tracee.at = at if found else 0
        return list(found.sites) if found else []

    def _on_exec(self, tracee: Tracee) -> bool:
        """All other threads are gone, and the caller has the first one's id now (ptrace(2))."""
        process = tracee.process
        for tid in [tid for tid in process.tids if tid != tracee.tid]:
            self.gone(tid)
        self._asked.on_gone(tracee.tid)
        self._drop_step(tracee)
        process.space.tids.discard(tracee.tid)
        process.space, process.halted, process.leaving, process.spared = Space(self.log), False, False, None
        process.space.tids.add(tracee.tid)
        tracee.held, tracee.ended, tracee.owed = False, False, False
        tracee.signal, tracee.info, tracee.at = 0, b"", 0
        self.arm(process)
        return self._asked.on_exec(tracee)

    def arm(self, process: Process) -> None:
        """Put breakpoints where the sites' files are mapped, and watch for those that will be."""
        space = process.space
        tid = next(iter(space.tids), 0)
        if self.sites and tid and not space.narrow(tid):
            self._look_for(space)
            space.watch_loader(tid)

    def _look_for(self, space: Space) -> None:
        space.look_for(self.sites)
        for site in space.refused:
            self._asked.on_refused(site)
        space.refused.clear()

    def _on_exit(self, tracee: Tracee) -> bool:
        """Before anything of the task is gone.  A whole process goes once: asked of its first thread."""
        process = tracee.process
        status = ptrace.event_message(tracee.tid)
        if process.leaving or not (status & 0x7F or self._ends_process(tracee)):
            return False
        process.leaving = True
        return self._asked.on_exit(tracee)

    def _ends_process(self, tracee: Tracee) -> bool:
        pid = tracee.process.pid
        if all(tid == tracee.tid or signals.state(pid, tid) in signals.DEAD for tid in procfs.threads(pid)):
            return True
        return ptrace.native_registers(tracee.tid).orig_rax == _EXIT_GROUP

    def add(self, tracee: Tracee) -> None:
        """A task is traced from now on."""
        self.tracees[tracee.tid] = tracee
        self.processes[tracee.process.pid] = tracee.process
        tracee.process.tids.add(tracee.tid)
        tracee.process.space.tids.add(tracee.tid)
        self.log.stands(tracee.process.pid, tracee.tid)

    def gone(self, tid: int) -> None:
        """A task is traced no more, or there is none."""
        tracee = self.tracees.pop(tid, None)
        self._queue.pop(tid, None)
        self.log.gone(tid)
        if tracee is None:
            return
        tracee.process.tids.discard(tid)
        tracee.process.space.tids.discard(tid)
        self._drop_step(tracee)
        if not tracee.process.tids:
            self.processes.pop(tracee.process.pid, None)
        self._asked.on_gone(tid)

    def resume(self, tracee: Tracee) -> None:
        """Let the task run on from its stop, unless it is held."""
        stop = tracee.stop
        leaves = stop is not None and stop.event == Event.EXIT and not tracee.held
        if stop is None or (tracee.kept and not leaves):
            return
        with suppress(TaskGone):
            if stop.group_stopped:
                tracee.stop = None
                self.log.listens(tracee.process.pid, tracee.tid)
                ptrace.listen(tracee.tid)
            elif leaves or not tracee.at or self._pass(tracee):
                self._run_on(tracee, leaves)

    def _run_on(self, tracee: Tracee, leaves: bool) -> None:
        tracee.stop = None
        signal, tracee.signal = tracee.signal, 0
        if leaves:
            tracee.ended = True
            tracee.process.space.tids.discard(tracee.tid)
        info, tracee.info = tracee.info, b""
        if info and signal:
            with suppress(EngineError):
                ptrace.set_siginfo(tracee.tid, info)
        self.log.runs(tracee.process.pid, tracee.tid, tracee.passed)
        tracee.passed = 0
        (ptrace.syscall if self.every_call else ptrace.cont)(tracee.tid, signal)

    def _pass(self, tracee: Tracee) -> bool:
        """Get past the breakpoint; false if that lasts: the task runs its instruction, or waits to."""
        space, at = tracee.process.space, tracee.at
        found = space.breakpoints.get(at)
        if found is None:
            tracee.at = 0
            return True
        if work_out(tracee.tid, space, at, found.instruction):
            tracee.at, tracee.passed = 0, at + found.instruction.length
            return True
        if space.stepper:
            space.waiting.append(tracee.tid)
            return False
        if tracee.signal and not tracee.info:
            tracee.info = ptrace.siginfo(tracee.tid)
        step = begin(tracee.tid, space, at, found.instruction)
        if step is None:
            # It is at the program's entry, which runs once, or cannot be passed at all.
            for site in found.sites:
                self._asked.on_refused(site)
            space.remove(at)
            tracee.at = 0
            return True
        tracee.step, tracee.stop = step, None
        return False

    def ends_step(self, tracee: Tracee) -> bool:
        """Of a task that has stopped: whether that is nothing but the end of its step."""
        step, space = tracee.step, tracee.process.space
        if step is None or tracee.stop is None:
            return False
        tracee.step = None
        try:
            outcome = end(tracee.tid, space, step, tracee.stop)
        finally:
            self._free_scratch(space)
        tracee.owed = outcome.owed
        # A fault is the instruction's own: its handler comes before the instruction is tried again.
        faulted = tracee.stop.signal in FAULTS and not tracee.stop.event
        again = not outcome.ran and not (faulted and ptrace.signal_info(tracee.tid)[1] > 0)
        tracee.at = step.at if again else 0
        tracee.passed = step.at + step.instruction.length if outcome.ran else 0
        if tracee.signal and not outcome.own:
            self._send_again(tracee)
        return outcome.own

    def _send_again(self, tracee: Tracee) -> None:
        """A signal that was taken from the kernel and cannot be delivered at this stop."""
        signal, tracee.signal, tracee.info = tracee.signal, 0, b""
        with suppress(ClewError):
            ptrace.send_signal(tracee.process.pid, tracee.tid, signal)

    def _drop_step(self, tracee: Tracee) -> None:
        """The task is gone, or has other memory: whatever it did at the scratch place is over."""
        tracee.step = None
        if tracee.process.space.stepper == tracee.tid:
            self._free_scratch(tracee.process.space)

    def _free_scratch(self, space: Space) -> None:
        space.unload()
        waiting, space.waiting = space.waiting, []
        for tid in waiting:
            if tid in self.tracees:
                self.resume(self.tracees[tid])

    def halt(self, process: Process) -> None:
        """Stop every thread of a process, until ``go_on``."""
        process.halted = True
        for tid in process.tids:
            if self.tracees[tid].stop is None and not self.tracees[tid].ended:
                with suppress(ClewError):
                    ptrace.interrupt(tid)

    def go_on(self, process: Process) -> None:
        """Let the threads run that are not held for themselves."""
        process.halted = False
        for tid in list(process.tids):
            if tid in self.tracees:
                self.resume(self.tracees[tid])
