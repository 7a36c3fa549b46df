"""Ceasing to trace: everybody, with nothing left behind; or one process, stopped for a debugger."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from clew.engine.ptrace.stepping import ALL_BUT_FAULTS, FAULTS
from clew.engine.ptrace.tracee import Process, Tracee
from clew.errors import ClewError, HoldError
from clew.kernel import procfs, ptrace, signals
from clew.kernel.ptrace import Event, SyscallStop

if TYPE_CHECKING:
    from clew.engine.ptrace.loop import Loop

_STOP_S = 2.0
_POLL_S = 0.0002
_TRAP_PENDING = 1 << (signal.SIGTRAP - 1)


def let_everybody_go(loop: Loop) -> None:
    """Take the breakpoints out, let every task run, and cease to trace it.

    Only who may just have run into a breakpoint is stopped for that: a task that sleeps in a system call has
    not, and being stopped could end its call with EINTR (signal(7)).  The kernel sets it free, without a
    stop, when its tracer ends.
    """
    touched = {id(p.space) for p in loop.processes.values() if p.space.breakpoints or p.space.former}
    for process in list(loop.processes.values()):
        process.halted = False
        process.space.clear()
    for tracee in list(loop.tracees.values()):
        tracee.held = False
        if tracee.stop is None and id(tracee.process.space) in touched and _may_be_trapped(tracee):
            with suppress(ClewError):
                ptrace.interrupt(tracee.tid)
    until = time.monotonic() + _STOP_S
    for tracee in list(loop.tracees.values()):
        if tracee.stop is None and id(tracee.process.space) in touched and _may_be_trapped(tracee):
            _await_stop(loop, tracee, until)
    _last_births(loop)
    for tracee in list(loop.tracees.values()):
        _detach(tracee)
        loop.gone(tracee.tid)


def _last_births(loop: Loop) -> None:
    """Forks that were under way have copied breakpoints: mend the children before they run."""
    while (found := ptrace.wait(hang=False)) is not None:
        tracee = loop.tracees.get(found.tid)
        if not found.stopped:
            loop.gone(found.tid)
        elif tracee is None:
            loop.early(found)
        else:
            _take_stop(loop, tracee, found)
    loop.last_births()
    for process in list(loop.processes.values()):
        process.space.clear()


def _take_stop(loop: Loop, tracee: Tracee, found: ptrace.Wait) -> None:
    tracee.stop = found
    with suppress(ClewError):
        if loop.ends_step(tracee):
            return
        if found.event in (Event.FORK, Event.VFORK, Event.CLONE):
            loop.born(tracee, found.event)
        elif found.signal == signal.SIGTRAP and not found.event:
            loop.take_trap(tracee)
        elif not found.event and found.signal != ptrace.SYSCALL_STOP:
            tracee.signal = found.signal
        _take_pending_trap(loop, tracee)


def _take_pending_trap(loop: Loop, tracee: Tracee) -> None:
    """A stop that was asked for comes before the SIGTRAP of a breakpoint run into: that must not be left."""
    stop = tracee.stop
    if stop is None or stop.event != Event.STOP or not _owes_trap(tracee):
        return
    ptrace.cont(tracee.tid)
    found = ptrace.wait(tracee.tid)
    tracee.stop = found if found is not None and found.stopped else None
    if found is not None and found.signal == signal.SIGTRAP and not found.event:
        loop.take_trap(tracee)
        if stop.group_stopped and not tracee.signal:
            tracee.signal = stop.signal  # It takes part in that stop again.


def _owes_trap(tracee: Tracee) -> bool:
    return bool(int(procfs.status(tracee.tid).get(b"SigPnd", b"0"), 16) & _TRAP_PENDING)


def _may_be_trapped(tracee: Tracee) -> bool:
    if tracee.ended:
        return False
    return tracee.step is not None or signals.state(tracee.process.pid, tracee.tid) in ("R", "t")


def _await_stop(loop: Loop, tracee: Tracee, until: float) -> None:
    """Let the loop deal with what comes until this task stands, or sleeps, or is gone."""
    while tracee.stop is None and tracee.tid in loop.tracees and time.monotonic() < until:
        found = ptrace.wait(tracee.tid, hang=False)
        if found is not None and not found.stopped:
            loop.gone(tracee.tid)
        elif found is not None:
            _take_stop(loop, tracee, found)
        elif signals.state(tracee.process.pid, tracee.tid) in ("S", "D") and tracee.step is None:
            return
        else:
            time.sleep(_POLL_S)


def _detach(tracee: Tracee) -> None:
    if tracee.stop is not None:
        with suppress(ClewError):
            ptrace.detach(tracee.tid, tracee.signal)


def give(loop: Loop, pid: int) -> None:
    """Leave process ``pid`` in a group-stop (state T), without breakpoints, traced by nobody.

    Raises HoldError if one of its tasks does not stop, or it is about to be gone.
    """
    process = loop.processes.get(pid)
    if process is None:
        raise HoldError(f"Process {pid} is no longer traced.")
    loop.halt(process)
    _await_all(loop, process)
    tracees = _of(loop, process)
    if any(one.stop is not None and one.stop.event == Event.EXIT for one in tracees):
        raise HoldError(
            f"Process {pid} is about to be gone: no debugger can attach to it any more.",
            "`clew bt` shows where it was.",
        )
    process.space.clear()
    for tracee in tracees:
        with suppress(ClewError):
            _take_pending_trap(loop, tracee)
            _before_its_call(tracee)
    late = [(one.tid, one.signal) for one in tracees if one.signal and one.signal not in FAULTS]
    first = next((one for one in tracees if _takes_signal(one)), tracees[0])
    _stop_at_once(first)
    for tracee in (first, *tracees):
        tracee.signal = 0
        _detach(tracee)
        loop.gone(tracee.tid)
    if not signals.wait_stopped(pid, first.tid, _STOP_S):
        raise HoldError(f"Process {pid} did not stop for the hand-over.")
    for tid, number in late:
        with suppress(ClewError):
            ptrace.send_signal(pid, tid, number)


def _of(loop: Loop, process: Process) -> list[Tracee]:
    return [loop.tracees[tid] for tid in process.tids if not loop.tracees[tid].ended]


def _await_all(loop: Loop, process: Process) -> None:
    until = time.monotonic() + _STOP_S
    while any(one.stop is None for one in _of(loop, process)):
        loop.turn()
        if time.monotonic() > until:
            raise HoldError(f"Process {process.pid} does not come to a stop.", "Try once more.")
        time.sleep(_POLL_S)


def _takes_signal(tracee: Tracee) -> bool:
    """Whether it stands before the delivery of a signal, and takes another in its place."""
    stop = tracee.stop
    return stop is not None and not stop.event and stop.signal != ptrace.SYSCALL_STOP


def _stop_at_once(tracee: Tracee) -> None:
    """Begin the group-stop with this thread, before any signal that waits for it moves it.

    A task takes a stop that its siblings began before any signal (get_signal in kernel/signal.c), but
    SIGSTOP itself is taken after those with a lower number.
    """
    stop = tracee.stop
    if stop is None or stop.group_stopped:
        return
    if not _takes_signal(tracee):
        mask = ptrace.get_signal_mask(tracee.tid)
        ptrace.set_signal_mask(tracee.tid, ALL_BUT_FAULTS)
        ptrace.send_signal(tracee.process.pid, tracee.tid, signal.SIGSTOP)
        while tracee.stop is not None and not _takes_signal(tracee):
            ptrace.cont(tracee.tid)
            tracee.stop = ptrace.wait(tracee.tid)
        if tracee.stop is None or not tracee.stop.stopped:
            raise HoldError(f"Process {tracee.process.pid} ended.")
        ptrace.set_signal_mask(tracee.tid, mask)
    ptrace.detach(tracee.tid, signal.SIGSTOP)
    tracee.stop = None
    signals.wait_stopped(tracee.process.pid, tracee.tid, _STOP_S)


def _before_its_call(tracee: Tracee) -> None:
    """Of a task that stands at a system call's entry: take it back to the instruction that makes the call.

    A debugger that attaches then stands before it, too; else the call would have been made by then.
    """
    if tracee.stop is None or tracee.stop.signal != ptrace.SYSCALL_STOP:
        return
    info = ptrace.syscall_info(tracee.tid)
    if info.stop is not SyscallStop.ENTRY:
        return
    registers = ptrace.get_registers(tracee.tid)
    number, registers.orig_rax = registers.orig_rax, (1 << 64) - 1
    ptrace.set_registers(tracee.tid, registers)
    ptrace.syscall(tracee.tid)
    found = ptrace.wait(tracee.tid)
    if found is None or found.signal != ptrace.SYSCALL_STOP:
        return
    tracee.stop = found
    registers = ptrace.get_registers(tracee.tid)
    registers.rax, registers.rip = number, registers.rip - 2
    ptrace.set_registers(tracee.tid, registers)
