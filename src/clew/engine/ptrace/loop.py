"""The holder's tracing loop: next stop, dispatch.  Who is held, ``Asked`` decides; this keeps all going.

``ptrace`` may fail with ESRCH (TaskGone) at any time, because the task was killed: then its end will be
reported, and nothing else needs to be done.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Protocol

from clew.engine.ptrace.births import Births
from clew.engine.ptrace.space import LOADER, Site, Space
from clew.engine.ptrace.stepping import Stepped, halt_others, step_over
from clew.engine.ptrace.tracee import Process, Tracee
from clew.errors import ClewError, EngineError, TaskGone
from clew.kernel import procfs, ptrace
from clew.kernel.ptrace import Event, SyscallStop, Wait

_SIGTRAP = 5
_SI_KERNEL = 0x80
_EXIT_GROUP = 231


class Asked(Protocol):
    """Asked about each event; true where the task is to stay.  The task stands in its ptrace stop."""

    def on_exec(self, tracee: Tracee) -> bool: ...
    def on_fork(self, tracee: Tracee) -> bool: ...
    def on_breakpoint(self, tracee: Tracee, sites: list[Site]) -> bool: ...
    def on_syscall(self, tracee: Tracee, number: int) -> bool: ...
    def on_signal(self, tracee: Tracee, number: int) -> bool: ...
    def on_exit(self, tracee: Tracee) -> bool: ...
    def on_gone(self, tid: int) -> None: ...


class Loop:
    """Traced tasks, and what becomes of their stops.  To be used in one thread: the tracer."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.tracees: dict[int, Tracee] = {}
        self.processes: dict[int, Process] = {}
        self.sites: list[Site] = []
        self.every_call = False
        self._births = Births(self)
        self._queue: deque[Wait] = deque()
        self._paused: list[Tracee] = []

    def turn(self) -> None:
        """Deal with every stop there is."""
        while (found := self._next()) is not None:
            self._dispatch(found)

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
        self._queue.append(found)

    @property
    def queued(self) -> bool:
        """Whether ``turn`` has work that no SIGCHLD will tell of."""
        return bool(self._queue)

    def _next(self) -> Wait | None:
        return self._queue.popleft() if self._queue else ptrace.wait(hang=False)

    def _dispatch(self, found: Wait) -> None:
        tracee = self.tracees.get(found.tid)
        if not found.stopped:
            self._births.dead(found.tid)
            self.gone(found.tid)
        elif tracee is None:
            self._births.early(found)
        else:
            tracee.stop, tracee.silent = found, False
            if tracee.held:  # SIGKILL, or an exec by another thread, has ended its stop.
                tracee.held = False
                self._asked.on_gone(tracee.tid)
            with suppress(TaskGone):
                if self._stays(tracee, found):
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
        if number == _SIGTRAP and (sites := self.rewind(tracee)) is not None:
            if any(site.rule == LOADER for site in sites):
                tracee.process.space.look_for(self.sites)
            rules = [site for site in sites if site.rule != LOADER]
            return bool(rules) and self._asked.on_breakpoint(tracee, rules)
        tracee.signal = number
        return self._asked.on_signal(tracee, number)

    def rewind(self, tracee: Tracee) -> list[Site] | None:
        """Take the task back to the breakpoint it ran into; None if the trap is its own."""
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
        process.space.tids.discard(tracee.tid)
        process.space, process.halted, process.leaving, process.spared = Space(), False, False, None
        process.space.tids.add(tracee.tid)
        tracee.held, tracee.signal, tracee.at = False, 0, 0
        self.arm(process)
        return self._asked.on_exec(tracee)

    def arm(self, process: Process) -> None:
        """Put breakpoints where the sites' files are mapped, and watch for those that will be."""
        space = process.space
        tid = next(iter(space.tids), 0)
        if self.sites and tid and not space.narrow(tid):
            space.look_for(self.sites)
            space.watch_loader(tid)

    def _on_exit(self, tracee: Tracee) -> bool:
        """Before anything of the task is gone.  A whole process goes once: asked of its first thread."""
        process = tracee.process
        status = ptrace.event_message(tracee.tid)
        if process.leaving or not (status & 0x7F or self._ends_process(tracee)):
            return False
        process.leaving = True
        return self._asked.on_exit(tracee)

    def _ends_process(self, tracee: Tracee) -> bool:
        if procfs.threads(tracee.process.pid) == [tracee.tid]:
            return True
        return ptrace.native_registers(tracee.tid).orig_rax == _EXIT_GROUP

    def add(self, tracee: Tracee) -> None:
        """A task is traced from now on."""
        self.tracees[tracee.tid] = tracee
        self.processes[tracee.process.pid] = tracee.process
        tracee.process.tids.add(tracee.tid)
        tracee.process.space.tids.add(tracee.tid)

    def gone(self, tid: int) -> None:
        """A task is traced no more, or there is none."""
        tracee = self.tracees.pop(tid, None)
        if tracee is None:
            return
        tracee.process.tids.discard(tid)
        tracee.process.space.tids.discard(tid)
        if not tracee.process.tids:
            self.processes.pop(tracee.process.pid, None)
        self._asked.on_gone(tid)

    def resume(self, tracee: Tracee) -> None:
        """Let the task run on from its stop, unless it is held."""
        leaves = tracee.stop is not None and tracee.stop.event == Event.EXIT and not tracee.held
        if tracee.stop is None or (tracee.kept and not leaves):
            return
        if tracee.at and not self._passed(tracee):
            return
        stop, tracee.stop = tracee.stop, None
        signal, tracee.signal = tracee.signal, 0
        with suppress(TaskGone):
            if stop.group_stopped:
                tracee.silent = True
                ptrace.listen(tracee.tid)
            elif self.every_call:
                ptrace.syscall(tracee.tid, signal)
            else:
                ptrace.cont(tracee.tid, signal)

    def _passed(self, tracee: Tracee) -> bool:
        """Have the task run the instruction under its breakpoint; false if something came between."""
        if tracee.signal in _FAULTS and ptrace.signal_info(tracee.tid)[1] > 0:
            tracee.at = 0  # The very instruction faulted: its handler comes first.
            return True
        tid, signal = tracee.tid, tracee.signal
        how = step_over(tracee, self._halt)
        for other in self._paused:
            self.resume(other)
        self._paused.clear()
        if how is not Stepped.DONE and tracee.stop is not None:
            self._queue.append(tracee.stop)
            if signal and how is Stepped.OTHER:
                self._send_again(tracee, signal)
        return how is Stepped.DONE and tid in self.tracees

    def _send_again(self, tracee: Tracee, signal: int) -> None:
        """A signal that was taken from the kernel and cannot be delivered at this stop."""
        tracee.signal = 0
        with suppress(ClewError):
            ptrace.send_signal(tracee.process.pid, tracee.tid, signal)

    def _halt(self, space: Space, but: Tracee) -> None:
        others = [self.tracees[tid] for tid in space.tids if tid in self.tracees]
        running = [one for one in others if one is not but and one.stop is None]
        plain, other = halt_others(running)
        self._paused += plain
        self._queue += [one.stop for one in other if one.stop is not None]

    def halt(self, process: Process) -> None:
        """Stop every thread of a process, until ``go_on``."""
        process.halted = True
        for tid in process.tids:
            if self.tracees[tid].stop is None:
                with suppress(ClewError):
                    ptrace.interrupt(tid)

    def go_on(self, process: Process) -> None:
        """Let the threads run that are not held for themselves."""
        process.halted = False
        for tid in list(process.tids):
            if tid in self.tracees:
                self.resume(self.tracees[tid])


_FAULTS = (4, 7, 8, 11)  # SIGILL, SIGBUS, SIGFPE, SIGSEGV
