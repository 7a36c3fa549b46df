"""The ``ptrace`` engine's stops: rules in force over traced tasks, and notes of who is held.

The same as ``clew.engine.bpf.hold_probes.HoldProbes`` for a holding session, which is to use it in one
thread: a tracee belongs to the thread that seized it.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import cache

from clew.engine.ptrace import who
from clew.engine.ptrace.attaching import seize_process
from clew.engine.ptrace.choice import Choice
from clew.engine.ptrace.heir_log import HeirLog
from clew.engine.ptrace.leaving import give, let_everybody_go
from clew.engine.ptrace.loop import Loop
from clew.engine.ptrace.refusal import setid_note, unstoppable_note
from clew.engine.ptrace.space import LOADER, Site, code_at
from clew.engine.ptrace.tracee import Process, Tracee
from clew.engine.ptrace.wakes import Wakes
from clew.engine.ptrace.who import Spared
from clew.engine.stops import Counts, FileId, Held
from clew.errors import ClewError
from clew.kernel import procfs, ptrace
from clew.model.rules.kernel import KernelPlan
from clew.model.rules.rule import Exclusion, RuleKind


class PtraceStops:
    """Stops of traced tasks.

    ``wakes`` wakes the thread that uses it; ``log`` is for the holder's heir.  ``own`` is the process of clew
    that all this is for; ``tell`` takes notes for people.
    """

    every_syscall = True
    deadly_signals = frozenset(range(1, signal.NSIG)) - {signal.SIGKILL}

    def __init__(
        self,
        most: int,
        wakes: Wakes,
        log: HeirLog,
        own: int,
        debuggers: tuple[bytes, ...],
        tell: Callable[[str], None],
    ) -> None:
        self._most, self._wakes, self.tell = most, wakes, tell
        self._own, self._debuggers = own, debuggers
        self._spared: set[int] = set()
        self._choice = Choice()
        self._notes: dict[int, Held] = {}
        self._since: dict[int, int] = {}
        self._news: list[int] = []
        self._enabled = False
        self._taken = self._over = 0
        self._sites: dict[int, list[Site]] = {}
        self._refused: set[Site] = set()
        self.loop = Loop(self, log)

    def seize(self, pid: int, of_command: bool = False) -> None:
        """Trace a process, all its threads, and from now on its children.

        Raises TaskGone and PermissionMissing, with what to do.
        """
        seize_process(self.loop, pid, of_command)

    @property
    def news_fd(self) -> int:
        """Readable when there are stops to deal with."""
        return self._wakes.fileno()

    def take_news(self) -> list[int]:
        """Deal with all stops there are; the threads held since the last call."""
        self._wakes.clear()
        self.loop.turn()
        news, self._news = self._news, []
        self._look_again()
        return news

    def held(self, tid: int) -> Held | None:
        """The note on thread ``tid``."""
        return self._notes.get(tid)

    def all_held(self) -> list[Held]:
        """Every note.  Children that nobody told of are looked for too."""
        self.loop.adopt_orphans()
        return list(self._notes.values())

    def forget(self, tid: int) -> None:
        """Drop the note on a task."""
        self._notes.pop(tid, None)

    def counts(self) -> Counts:
        """How it went so far."""
        return Counts(self._taken, self._over, 0, 0)

    def enable(self, on: bool = True) -> None:
        """From now on hold what rules take, or (off) nothing more."""
        self._enabled = on

    def set_command(self, pid: int) -> None:
        """Trace the command, which waits at its gate: ``tree=cmd``."""
        self.seize(pid, of_command=True)

    def arm(self, plan: KernelPlan, under_debugger: bool = False, alone: bool = False) -> int:
        """Make a rule known; its number.  Raises HoldError if there are too many."""
        number = self._choice.arm(plan, under_debugger)
        if plan.syscalls and not self.loop.every_call:
            self.loop.every_call = True
            for tracee in self.loop.tracees.values():
                if tracee.stop is None:
                    with suppress(ClewError):
                        ptrace.interrupt(tracee.tid)
        return number

    def exclude(self, exclusion: Exclusion) -> None:
        """Hold nobody whom it means."""
        self._choice.exclude(exclusion)

    def attach(
        self,
        number: int,
        file: bytes,
        offsets: Iterable[int],
        exact: str = "function",
        any_call: bool = False,
    ) -> None:
        """Hold for rule ``number`` at these offsets of ``file``, wherever it is mapped."""
        # A deleted file, or one of another mount namespace: its name is as /proc/PID/maps has it.
        real = procfs.link(os.fsdecode(file)) if b"/map_files/" in file else os.path.realpath(file)
        sites = (Site(number, real, offset, exact, code_at(file, offset)) for offset in offsets)
        self._sites.setdefault(number, []).extend(sites)
        self._renew_sites()
        for process in self.loop.processes.values():
            self.loop.arm(process)

    def detach(self, number: int, file: FileId) -> None:
        """Nothing: a breakpoint is put only where the code is what the file says."""

    def set_aside(self, files: Collection[FileId]) -> set[int]:
        """Nothing: who is handed over has none of our breakpoints, and others have memory of their own."""
        return set()

    def drop_used_up(self) -> None:
        """Nothing: the loop takes them out."""

    def disarm(self, number: int) -> None:
        """Hold nothing for rule ``number`` any more."""
        self._choice.disarm(number)
        self._retire(number)

    def _retire(self, number: int) -> None:
        """Nothing more can come of a rule: nobody is to stop for it."""
        if self._sites.pop(number, None):
            self._renew_sites()
            for process in self.loop.processes.values():
                process.space.remove_rule(number)
        self.loop.every_call = self._choice.wants_calls()

    def _renew_sites(self) -> None:
        self.loop.sites = [site for sites in self._sites.values() for site in sites]

    def spare(self, pid: int, tree: bool = False) -> None:
        """Never hold process ``pid``, nor what descends from it."""
        self._spared.add(pid)
        self._spares_changed()

    def unspare(self, pid: int) -> None:
        """Take ``spare`` back."""
        self._spared.discard(pid)
        self._spares_changed()

    def keep(self, pid: int) -> None:
        """Nothing: the session looks for processes that run, and stops them."""

    def keep_no_more(self, pid: int) -> None:
        """Nothing, as ``keep``."""

    def halt(self, pid: int) -> None:
        """Have every thread of a held task's process stand still."""
        process = self.loop.processes.get(pid)
        if process is not None:
            self.loop.halt(process)

    def let_go(self, tid: int, alone: bool = False) -> None:
        """Let a held task, and (unless ``alone``) the threads halted with it, run on."""
        self._since.pop(tid, None)
        tracee = self.loop.tracees.get(tid)
        if tracee is not None:
            tracee.held = False
            self.loop.resume(tracee)
            if tracee.process.halted and not alone:
                self.loop.go_on(tracee.process)
        self._look_again()

    def give(self, pid: int) -> None:
        """Leave a process stopped by SIGSTOP, traced by nobody.  Raises HoldError."""
        give(self.loop, pid)

    def stands(self, tid: int, since_ns: int) -> bool:
        """Whether the task is held since that time (``Held.t_ns``)."""
        return self._since.get(tid) == since_ns

    def close(self) -> None:
        """Take every breakpoint out and let everybody run, untraced."""
        self._enabled = False
        let_everybody_go(self.loop)

    def on_exec(self, tracee: Tracee) -> bool:
        """A program begins, at its loader's entry or its own."""
        self._note_setid(tracee)
        name = tracee.process.space.exec_name(tracee.tid)
        return self._ask(tracee, RuleKind.EXEC, self._choice.of_kind(RuleKind.EXEC), "entry", filename=name)

    def on_fork(self, tracee: Tracee) -> bool:
        """A child that has not returned from its clone."""
        return self._ask(tracee, RuleKind.FORK, self._choice.of_kind(RuleKind.FORK), "clone")

    def on_breakpoint(self, tracee: Tracee, sites: list[Site]) -> bool:
        """At a function's entry or a line, before its instruction."""
        exact = sites[0].exact
        if exact == "exit":
            tracee.process.leaving = True
        return self._ask(tracee, RuleKind.CALL, [site.rule for site in sites], exact)

    def on_syscall(self, tracee: Tracee, number: int) -> bool:
        """Before a system call."""
        among = self._choice.for_syscall(number)
        return self._ask(tracee, RuleKind.SYSCALL, among, "before-syscall", number)

    def on_signal(self, tracee: Tracee, number: int) -> bool:
        """Before a signal is delivered."""
        among = self._choice.for_signal(number)
        if not among or not who.handles(tracee.tid, number):
            return False
        return self._ask(tracee, RuleKind.SIGNAL, among, "delivery", number)

    def on_exit(self, tracee: Tracee) -> bool:
        """Before anything of a process that ends is gone."""
        return self._ask(tracee, RuleKind.EXIT, self._choice.of_kind(RuleKind.EXIT), "gone")

    def on_gone(self, tid: int) -> None:
        """A task has ended, or is another one now."""
        self._notes.pop(tid, None)
        self._since.pop(tid, None)

    def on_refused(self, site: Site) -> None:
        """Say once that a place is left out."""
        if site.rule != LOADER and site not in self._refused:
            self._refused.add(site)
            self.tell(unstoppable_note(site.file, site.offset))

    def _ask(
        self,
        tracee: Tracee,
        kind: RuleKind,
        among: list[int],
        exact: str,
        detail: int = 0,
        filename: bytes = b"",
    ) -> bool:
        if not among or not self._enabled:
            return False
        process = tracee.process
        facts = cache(lambda: who.facts(kind, process.pid, tracee.tid, process.of_command, filename))
        rule = self._choice.take(among, facts, lambda: self._spares(process))
        for number in self._choice.take_spent():
            self._retire(number)
        if rule is None:
            return False
        if len(self._notes) >= self._most:
            self._over += 1
            return False
        note = self._notes[tracee.tid] = self._noted(tracee, rule, exact, detail)
        self._since[tracee.tid] = note.t_ns
        self._taken += 1
        self._news.append(tracee.tid)
        self._look_again()
        return True

    def _noted(self, tracee: Tracee, rule: int, exact: str, detail: int) -> Held:
        pid, tid = tracee.process.pid, tracee.tid
        own, group = procfs.stat(pid, tid), procfs.stat(pid)
        start = own.start_ns if own else 0
        registers = ptrace.native_registers(tid).pt_regs
        now = time.monotonic_ns()
        return Held(
            pid, tid, start, group.start_ns if group else start, now, rule, exact, detail,
            own.comm if own else b"", registers, by="ptrace",
        )  # fmt: skip

    def _spares(self, process: Process) -> Spared:
        if process.spared is None:
            process.spared = who.spared(process.pid, self._spared, self._own, self._debuggers)
        return process.spared

    def _spares_changed(self) -> None:
        for process in self.loop.processes.values():
            process.spared = None

    def _look_again(self) -> None:
        """Have ``take_news`` called once more: something came up outside it."""
        if self._news or self.loop.queued:
            self._wakes.ring()

    def _note_setid(self, tracee: Tracee) -> None:
        if os.geteuid() == 0:
            return
        try:
            found = os.stat(f"/proc/{tracee.tid}/exe")  # noqa: PTH116
        except (OSError, ClewError):
            return
        for bit, owner, own in (
            (stat.S_ISUID, found.st_uid, os.geteuid()),
            (stat.S_ISGID, found.st_gid, os.getegid()),
        ):
            if found.st_mode & bit and owner != own:
                program = procfs.link(f"/proc/{tracee.tid}/exe")
                self.tell(setid_note(program, owner, only_group=bit == stat.S_ISGID))
                return
