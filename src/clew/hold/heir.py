"""The holder's heir: does nothing until the holder is killed, and then undoes what that one left.

The heir is the holder's tracer.  A task that dies, of SIGKILL too, stops once more (PTRACE_EVENT_EXIT,
ptrace(2)) while its tracees are still its own.  In that time each of their threads is given a SIGSTOP, which
it obeys before it runs another instruction; only then the holder may die.  The heir seizes them, takes the
breakpoints out, and lets everybody run.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import suppress
from types import FrameType

from clew.engine.ptrace import mending
from clew.engine.ptrace.heir_log import HeirLog
from clew.engine.ptrace.mending import Memory
from clew.errors import ClewError
from clew.hold.guardian import Wards, part_with
from clew.kernel import procfs, ptrace, signals
from clew.kernel.ptrace import Event, Option, Wait

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)
_ROUNDS, _ROUND_S = 1000, 0.001
_STOP_S, _POLL_S = 5.0, 0.0005
_SIGSTOP_PENDING = 1 << (signal.SIGSTOP - 1)
_SI_KERNEL, _PRIORITY = 0x80, -20


class Heir:
    """Watches over process ``holder``, its child."""

    def __init__(self, holder: int, log: HeirLog) -> None:
        self._holder, self._log = holder, log
        self._threads = {holder}
        self._pids: dict[int, int] = {}
        self._stops: dict[int, Wait] = {}
        self._sent: set[int] = set()
        self._to_stop: set[int] = set()

    def begin(self) -> None:
        """Trace the holder.  Raises ClewError if that is not permitted."""
        # It sleeps until then, and then must be quick.
        gc.disable()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        ptrace.seize(self._holder, Option.TRACEEXIT | Option.TRACECLONE)
        signal.signal(signal.SIGTERM, self._pass_on)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            os.kill(self._holder, number)

    def watch(self) -> None:
        """Return when the holder is gone, and nothing of it is left."""
        while (found := ptrace.wait()) is not None:
            if not found.stopped:
                self._threads.discard(found.tid)
                if found.tid == self._holder:
                    return
                continue
            self._threads.add(found.tid)
            with suppress(ClewError):
                if found.event == Event.EXIT and ptrace.event_message(found.tid):
                    self._take_over(found.tid)
                    return
                # Whatever would stop the holder would stop the program with it.
                signalled = not found.event and found.signal != signal.SIGSTOP
                ptrace.cont(found.tid, found.signal if signalled else 0)

    def _take_over(self, first: int) -> None:
        stood = self._freeze({first}) if self._log.has_places() else {}
        self._bury()
        self._seize(stood)
        for pid in set(self._pids.values()):
            self._mend(pid, stood)
        stopped = {pid for pid in set(self._pids.values()) if self._was_stopped(pid)}
        for pid in set(self._pids.values()) - stopped:
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        # Only then, or a stop signal among those that are sent again would be undone.
        for tid, pid in self._pids.items():
            self._detach(tid, pid, pid in stopped)
        self._release_held(stopped)

    def _was_stopped(self, pid: int) -> bool:
        """Whether somebody else stopped the process, or had sent it the SIGSTOP.

        Its threads then stop again without taking ours: a group-stop comes before any signal (get_signal() in
        kernel/signal.c).  Otherwise one of them took it, and that stopped the others.
        """
        tids = [tid for tid, its in self._pids.items() if its == pid]
        if pid in self._to_stop or any(self._log.task(tid).listens for tid in tids):
            return True
        stops = [stop for tid in tids if (stop := self._stops.get(tid))]
        if any(stop.signal == signal.SIGSTOP and not stop.event and not _is_own(stop.tid) for stop in stops):
            return True
        grouped = [stop.tid for stop in stops if stop.group_stopped]
        return bool(grouped) and all(_has_pending(tid, signal.SIGSTOP) for tid in grouped)

    def _await_last_words(self, leaving: set[int]) -> None:
        """All threads of the holder are about to end: none does anything to a tracee any more."""
        while self._threads - leaving:
            found = ptrace.wait()
            if found is None:
                return
            if not found.stopped:
                self._threads.discard(found.tid)
            elif found.event == Event.EXIT:
                self._threads.add(found.tid)
                leaving.add(found.tid)
            else:
                self._threads.add(found.tid)
                with suppress(ClewError):
                    ptrace.cont(found.tid)

    def _freeze(self, leaving: set[int]) -> dict[int, bool]:
        """Give each tracee's thread a SIGSTOP; all of them, and whether each was in a ptrace stop.

        A SIGTRAP that the holder did not take before it died is delivered when it is gone: that ends the
        program, and nobody can prevent it.  So whoever runs is given its SIGSTOP as soon as can be.
        """
        # At once those that are known: who runs into a breakpoint before its SIGSTOP is lost (see below).
        for pid, tid in self._log.live():
            self._send_stop(pid, tid)
        self._await_last_words(leaving)
        stood: dict[int, bool] = {}
        for _ in range(_ROUNDS):
            loose = 0
            for pid, tid, status in self._tracees():
                state = status.get(b"State", b"Z")[:1].decode()
                stood.setdefault(tid, state == signals.TRACED)
                self._pids[tid] = pid
                if int(status[b"ShdPnd"], 16) & _SIGSTOP_PENDING:
                    self._to_stop.add(pid)
                if state in signals.DEAD or int(status[b"SigPnd"], 16) & _SIGSTOP_PENDING:
                    continue
                if procfs.exit_code(pid, tid) == signal.SIGSTOP:
                    continue  # It has taken ours, or another one, and the holder has not.
                loose += 1  # It may have the SIGSTOP at once: seen in the next round.
                # One of ours and no more, where it may yet be taken: that tells who stopped the process.
                if tid not in self._sent or state == signals.TRACED:
                    self._send_stop(pid, tid)
            if not loose:
                break
            time.sleep(_ROUND_S)
        return stood

    def _send_stop(self, pid: int, tid: int) -> None:
        self._sent.add(tid)
        with suppress(ClewError):
            ptrace.send_signal(pid, tid, signal.SIGSTOP)

    def _tracees(self) -> list[tuple[int, int, dict[bytes, bytes]]]:
        found = []
        for pid in procfs.pids():
            # A thread inherits its process's tracer, so the first one tells of all.
            if int(procfs.status(pid).get(b"TracerPid", 0)) in self._threads:
                tasks = ((tid, procfs.status(tid)) for tid in procfs.threads(pid))
                found += [(pid, tid, status) for tid, status in tasks if b"SigPnd" in status]
        return found

    def _bury(self) -> None:
        for tid in self._threads:
            with suppress(ClewError):
                ptrace.cont(tid)
        while (found := ptrace.wait()) is not None:
            if found.stopped:  # a thread that was born just before
                with suppress(ClewError):
                    ptrace.cont(found.tid)
            elif found.tid == self._holder:
                return

    def _seize(self, stood: dict[int, bool]) -> None:
        for tid in list(self._pids):
            try:
                ptrace.seize(tid)
                ptrace.interrupt(tid)
            except ClewError:
                with suppress(OSError):  # Gone, or not ours to trace: then it runs on as it is.
                    os.kill(self._pids.pop(tid), signal.SIGCONT)
        until = time.monotonic() + _STOP_S
        while time.monotonic() < until and set(self._pids) - set(self._stops):
            found = ptrace.wait(hang=False)
            if found is None:
                time.sleep(_POLL_S)
            elif not found.stopped:
                self._pids.pop(found.tid, None)
                self._stops.pop(found.tid, None)
            elif self._owes_trap(found):
                ptrace.cont(found.tid)
            else:
                self._stops[found.tid] = found

    def _owes_trap(self, found: Wait) -> bool:
        """Whether a SIGTRAP waits behind this stop: it must not be left to the program."""
        if found.signal == signal.SIGTRAP and not found.event:
            return False
        return _has_pending(found.tid, signal.SIGTRAP)

    def _mend(self, pid: int, stood: dict[int, bool]) -> None:
        tids = [tid for tid in self._stops if self._pids.get(tid) == pid]
        if not tids:
            return
        known = mending.breakpoints(tids[0], self._log.places())
        for step in self._log.steps():
            if step.tid in tids:
                with suppress(ClewError):
                    mending.mend_step(step, Memory(step.tid))
        for tid in tids:
            with suppress(ClewError):
                self._rewind(tid, known, stood[tid])
        for address, byte in known.items():
            Memory(tids[0]).write(address, bytes([byte]))

    def _rewind(self, tid: int, known: dict[int, int], stood: bool) -> None:
        stop = self._stops[tid]
        registers = ptrace.get_registers(tid)
        trapped = stop.signal == signal.SIGTRAP and not stop.event
        if trapped and ptrace.signal_info(tid)[1] == _SI_KERNEL:
            if registers.rip - 1 in known:
                registers.rip -= 1
            self._stops[tid] = Wait(tid, 0x7F)  # no signal to deliver
        elif stood and mending.ran_into(registers, known, self._log.task(tid)):
            registers.rip -= 1
        ptrace.set_registers(tid, registers)

    def _detach(self, tid: int, pid: int, stays: bool) -> None:
        stop = self._stops.get(tid)
        if stop is None:
            return
        mending.send(self._log, pid, tid)
        number = 0 if stop.event or (stop.signal == signal.SIGSTOP and not stays) else stop.signal
        if stays and not stop.event and not number:
            number = signal.SIGSTOP
        with suppress(ClewError):
            ptrace.detach(tid, number)

    def _release_held(self, stopped: set[int]) -> None:
        """Those that were handed over stand by SIGSTOP, which outlives the holder."""
        wards = Wards(None)
        for task in self._log.held():
            if task.pid not in stopped:
                wards.add((task.pid, task.tid, task.start_ns))
        part_with(wards)


def _has_pending(tid: int, number: int) -> bool:
    """Whether a signal waits for this very thread."""
    return bool(int(procfs.status(tid).get(b"SigPnd", b"0"), 16) >> (number - 1) & 1)


def _is_own(tid: int) -> bool:
    """Whether the signal before which the task stands is one of ours."""
    try:
        return ptrace.signal_info(tid)[2] == os.getpid()
    except ClewError:
        return True


def leave_heir(log: HeirLog) -> None:
    """Return in the holder, a new process; the caller's own becomes its heir, and never returns."""
    told, tells = os.pipe()
    holder = os.fork()
    if holder:
        _inherit(holder, log, tells)
    os.close(tells)
    os.read(told, 1)  # The heir watches, or is gone.
    os.close(told)


def _inherit(holder: int, log: HeirLog, tells: int) -> None:
    try:
        heir = Heir(holder, log)
        with suppress(ClewError):
            heir.begin()
        os.write(tells, b"x")
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            if int(name) > 2 and int(name) != log.fileno():
                with suppress(OSError):
                    os.close(int(name))
        heir.watch()
    finally:
        os._exit(0)
