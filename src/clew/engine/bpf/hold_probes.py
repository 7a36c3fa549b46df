"""The ``bpf`` engine's stops: rules into maps, probes attached where rules need them, notes of who is held.

The layouts are those of ``probes/hold_state.bpf.h``.  Numbers of rules are given out by ``arm`` and never
used again for another rule, so that a hold's rule is what its number says even after it was disarmed.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from clew.engine.bpf.libbpf import Link, Object
from clew.engine.bpf.parts import CRASH_HOLDS, HOLDS, LONE_HOLDS, Part
from clew.engine.bpf.places import Places
from clew.engine.bpf.ring import Ring
from clew.engine.stops import MAX_RULES, Counts, FileId, Held, too_many
from clew.errors import EngineError, HoldError, PartRefused, PermissionMissing
from clew.kernel import features, procfs
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import LOOKS_AT_PROCESS, KernelPlan, KernelTest, compile_exclusion, pack_glob
from clew.model.rules.rule import Exclusion, RuleKind

_MAX_TESTS, _MAX_GLOBS = 16, 256
_UNDER_DEBUGGER, _ALONE = 1, 2
_HOW_WAIT = 1
_ANY_CALL = 1 << 8
_SPARED_SELF, _SPARED_TREE, _SPARED_TOP = 1, 2, 4
_ALL = _NEVER = (1 << 64) - 1

_TEST = struct.Struct("=IHHIIQ")
_RULE = struct.Struct("=QQQII")
_SPARE = struct.Struct("=QII")
_SETTINGS = struct.Struct("=IIIIQQQQ")
_COUNTS = struct.Struct("=QQQQ")
HELD = struct.Struct("=QQQIIIIII16s168s")
"""``struct held``: the notes in the map the guardian reads too."""

EXACT = (
    "entry",
    "clone",
    "first-syscall",
    "function",
    "line",
    "before-syscall",
    "after-syscall",
    "handler",
    "exit",
    "fatal",
)
"""How exact a hold is, by ``enum hold_exact``; docs/hold.md says what each means."""

DUMPS_CORE = frozenset({3, 4, 5, 6, 7, 8, 11, 24, 25, 31})
"""Signals whose default action dumps core (signal(7)): a process can be held before one of them ends it."""

_KINDS = {RuleKind.EXEC: 0, RuleKind.FORK: 1, RuleKind.EXIT: 4}

_PROGRAMS = {
    RuleKind.EXEC: ("hold_exec",),
    RuleKind.FORK: ("hold_fork",),
    RuleKind.SIGNAL: ("hold_signal",),
    RuleKind.SYSCALL: ("hold_syscall_enter", "hold_syscall_exit"),
}

_WHO_MAY_WAIT = ("hold_call", "hold_syscall_enter", "hold_signal")
"""Programs whose hits a rule may hold alone."""


def unpack_held(note: bytes) -> Held:
    """From the bytes of ``struct held``."""
    start, group, t, tgid, tid, rule, exact, detail, how, comm, regs = HELD.unpack(note)
    name = comm.partition(b"\0")[0]
    waits = how == _HOW_WAIT
    return Held(tgid, tid, start, group, t, rule, EXACT[exact], detail, name, regs, waits=waits)


_MAPS = (
    "rules exclusions globs kind_rules syscall_rules signal_rules spared debuggers"
    " held asked works spent pending keeping news settings counts"
)


class HoldProbes:
    """The loaded probes.  Nothing is stopped before ``enable``; ``close`` detaches everything.

    Programs are loaded when a rule first needs them, since each costs the verifier some 100 ms.  Raises
    PermissionMissing and EngineError as ``Object`` does.
    """

    every_syscall = False

    def __init__(self, most: int) -> None:
        self._object = HOLDS.open()
        self._more: dict[str, Object] = {}
        self._globs: dict[Glob, int] = {}
        self._exclusions = self._numbers = 0
        self._free = deque(range(MAX_RULES))
        self._slots: dict[int, int] = {}
        self._kind_masks = [0] * 5
        self._syscall_masks: dict[int, int] = {}
        self._signal_masks: dict[int, int] = {}
        self._under_debugger = 0
        self._most, self._let_go, self._command, self._enabled = most, 0, 0, False
        self._attached: set[str] = set()
        self._sees_fatal = False
        self._keeping: Link | None = None
        self._kept: set[int] = set()
        self._places = Places(self._attach_call)
        try:
            for program in self._object.programs():
                self._object.skip(program)
            HOLDS.load(self._object)
            self._news = Ring(self._object.map("news"))
        except BaseException:
            self._object.close()
            raise
        self._write_settings()

    @property
    def news_fd(self) -> int:
        """Readable when a task was held."""
        return self._object.map("news").fd

    @property
    def held_fd(self) -> int:
        """The map of notes: for the guardian."""
        return self._object.map("held").fd

    @property
    def settings_fd(self) -> int:
        """The map with the switch: for the guardian."""
        return self._object.map("settings").fd

    @property
    def deadly_signals(self) -> frozenset[int]:
        """Signals that it stops a process before which has no handler for them."""
        return DUMPS_CORE if self._sees_fatal else frozenset()

    def pin_notes(self, path: Path, switch: Path) -> None:
        """Have the kernel keep the notes and the switch under these paths of a bpffs.  Raises EngineError."""
        self._object.map("settings").pin(switch)
        self._object.map("held").pin(path)

    def enable(self, on: bool = True) -> None:
        """From now on hold what rules take, or (off) nothing more."""
        self._enabled = on
        self._write_settings()

    def set_command(self, pid: int) -> None:
        """The process that ``tree=cmd`` means."""
        self._command = pid
        self._write_settings()

    def arm(self, plan: KernelPlan, under_debugger: bool = False, alone: bool = False) -> int:
        """Make ``plan``'s rule known; its number.  A call or at rule holds once ``attach`` was told where.

        Raises HoldError if there are too many rules.
        """
        number, slot = self._take_slot()
        last = _ALL if plan.last is None else plan.last
        flags = _UNDER_DEBUGGER * under_debugger | _ALONE * alone
        self._write_rule("rules", slot, plan.tests, plan.first, last, flags)
        self._under_debugger = self._under_debugger & ~(1 << slot) | under_debugger << slot
        self._write_settings()
        self._route(plan, slot)
        for program in _PROGRAMS.get(plan.rule.kind, ()):
            self._attach_once(program)
        if plan.rule.kind is RuleKind.EXIT or set(plan.signals) & DUMPS_CORE:
            self._attach_fatal()
        if plan.rule.kind is RuleKind.FORK and (under_debugger or not can_signal_child()):
            self._attach_once("hold_pending")
        return number

    def _take_slot(self) -> tuple[int, int]:
        """A number for a rule, and a place in the kernel's table that no note speaks of any more."""
        spoken_of = {note.rule for note in self.all_held()}
        slot = next((slot for slot in self._free if self._number_of(slot) not in spoken_of), None)
        if slot is None:
            raise too_many("rules")
        self._free.remove(slot)
        number = self._numbers
        self._numbers += 1
        self._slots = {other: at for other, at in self._slots.items() if at != slot}
        self._slots[number] = slot
        return number, slot

    def _number_of(self, slot: int) -> int:
        """The rule that a slot belongs to, or did last; -1: none."""
        return next((number for number, at in self._slots.items() if at == slot), -1)

    def exclude(self, exclusion: Exclusion) -> None:
        """Hold nobody whom it means.  Raises HoldError if there are too many, RuleError as its compiler."""
        if self._exclusions == MAX_RULES:
            raise too_many("exclusions")
        tests = compile_exclusion(exclusion)
        self._write_rule("exclusions", self._exclusions, tests, 1, _ALL, 0)
        self._exclusions += 1
        self._write_settings()

    def attach(
        self,
        number: int,
        file: bytes,
        offsets: Iterable[int],
        exact: str = "function",
        any_call: bool = False,
    ) -> None:
        """Hold for rule ``number`` at these offsets of ``file``, in every process, present or future.

        ``any_call``: only if the register says that a system call of the rule comes next.
        """
        cookie = self._slots[number] | any_call * _ANY_CALL | EXACT.index(exact) << 32
        try:
            for offset in offsets:
                self._places.add(number, file, offset, cookie)
        except OSError as error:
            raise EngineError(f"Cannot open {os.fsdecode(file)}: {error.strerror}.") from error

    def _attach_call(self, file: bytes, offset: int, cookie: int) -> Link:
        return self._loaded("hold_call").attach_uprobe("hold_call", file, offset, cookie)

    def detach(self, number: int, file: FileId) -> None:
        """See ``Stops``."""
        self._places.drop(number, file)

    def set_aside(self, files: Collection[FileId]) -> set[int]:
        """See ``Stops``."""
        return self._places.set_aside(files)

    def drop_used_up(self) -> None:
        """See ``Stops``."""
        for number in self._places.rules():
            row = self._object.map("rules").lookup(_u32(self._slots[number]))
            if row and _RULE.unpack_from(row)[2] >= _RULE.unpack_from(row)[1]:
                self._places.drop(number)

    def disarm(self, number: int) -> None:
        """Hold nothing for rule ``number`` any more."""
        slot = self._slots.get(number)
        if slot is None or slot in self._free:
            return
        keep = ~(1 << slot)
        for kind, mask in enumerate(self._kind_masks):
            self._set_mask("kind_rules", kind, mask & keep)
            self._kind_masks[kind] = mask & keep
        for name, masks in (("syscall_rules", self._syscall_masks), ("signal_rules", self._signal_masks)):
            for at in masks:
                masks[at] &= keep
                self._set_mask(name, at, masks[at])
        self._places.drop(number)
        self._free.append(slot)

    def spare(self, pid: int, tree: bool = False) -> None:
        """Never hold process ``pid``; nor, with ``tree``, what descends from it."""
        self._spare(pid, _SPARED_TREE if tree else _SPARED_SELF)

    def spare_self(self, pid: int) -> None:
        """Never hold ``pid``, ourselves.  What we start is not spared, even if a debugger started us."""
        self._spare(pid, _SPARED_SELF | _SPARED_TOP)

    def _spare(self, pid: int, how: int) -> None:
        self._object.map("spared").update(_u32(pid), _SPARE.pack(_start_ticks(pid), how, 0))

    def unspare(self, pid: int) -> None:
        """Take ``spare`` back."""
        self._object.map("spared").delete(_u32(pid))

    def spare_debuggers(self, names: Collection[bytes]) -> None:
        """Spare processes of these names (comm) and what they start."""
        for name in names:
            self._object.map("debuggers").update(name[:15].ljust(16, b"\0"), _u32(1))

    def take_news(self) -> list[int]:
        """Ids of threads held since the last call.  One may be missing if the ring was full."""
        found: list[int] = []

        def read(data: memoryview) -> None:
            found.extend(int(tid) for _header, tid in struct.iter_unpack("=QQ", data))

        self._news.drain(read)
        return found

    def held(self, tid: int) -> Held | None:
        """The note on thread ``tid``."""
        note = self._object.map("held").lookup(_u32(tid))
        if note is None:
            return None
        found = unpack_held(note)
        return replace(found, rule=self._number_of(found.rule))

    def all_held(self) -> list[Held]:
        """Every note."""
        tids = [struct.unpack("=I", key)[0] for key in self._object.map("held").keys(4)]
        return [note for tid in tids if (note := self.held(tid)) is not None]

    def keep(self, pid: int) -> None:
        """Stop process ``pid`` at its next system call that nobody traces, and at each one after that."""
        if self._keeping is None:
            self._loaded("hold_keep")
            self._keeping = self._more["hold_keep"].attach("hold_keep")
        self._object.map("keeping").update(_u32(pid), struct.pack("=Q", _start_ticks(pid)))
        self._kept.add(pid)

    def keep_no_more(self, pid: int) -> None:
        """Take ``keep`` back."""
        self._object.map("keeping").delete(_u32(pid))
        self._kept.discard(pid)
        if not self._kept and self._keeping is not None:
            self._keeping.close()
            self._keeping = None

    def let_pass(self, tid: int, start_ns: int) -> None:
        """The thread's next deadly signal is the one it was held for, come again: it is to have it."""
        self._object.map("spent").update(_u32(tid), struct.pack("=Q", start_ns))

    def forget(self, tid: int) -> None:
        """Drop the note on a task that was let go or is gone: it makes room for another."""
        self._object.map("held").delete(_u32(tid))
        self._let_go += 1
        self._write_settings()

    def counts(self) -> Counts:
        """How it went so far."""
        return Counts(*_COUNTS.unpack(self._object.map("counts").lookup(_u32(0)) or bytes(_COUNTS.size)))

    def hits(self, number: int) -> int:
        """How many events met all conditions of rule ``number``."""
        row = self._object.map("rules").lookup(_u32(self._slots.get(number, MAX_RULES)))
        return int(_RULE.unpack_from(row)[2]) if row else 0

    def close(self) -> None:
        """Stop nobody any more, and detach.  Who is held stays held."""
        self.enable(False)
        self._places.close()
        self._news.close()
        for more in self._more.values():
            more.close()
        self._object.close()

    def _route(self, plan: KernelPlan, number: int) -> None:
        kind = _KINDS.get(plan.rule.kind)
        if kind is not None:
            self._kind_masks[kind] |= 1 << number
            self._set_mask("kind_rules", kind, self._kind_masks[kind])
        for name, masks, wanted in (
            ("syscall_rules", self._syscall_masks, plan.syscalls),
            ("signal_rules", self._signal_masks, plan.signals),
        ):
            for at in wanted:
                masks[at] = masks.get(at, 0) | 1 << number
                self._set_mask(name, at, masks[at])

    def _attach_fatal(self) -> None:
        """Stop before deadly signals act, where the kernel can; the rules can do without."""
        if not can_give_work():
            return
        try:
            self._attach_once("hold_fatal")
        except (EngineError, PermissionMissing):
            return
        self._sees_fatal = True

    def _attach_once(self, program: str) -> None:
        if program not in self._attached:
            self._loaded(program).attach(program)
            self._attached.add(program)

    def _loaded(self, program: str) -> Object:
        """The object that ``program`` is loaded in: its maps are those of the first one."""
        if program not in self._more:
            part = self._part_of(program)
            try:
                self._more[program] = self._load_one(program, part)
            except PartRefused:
                if part is not LONE_HOLDS:
                    raise
                self._more[program] = self._load_one(program, HOLDS)
        return self._more[program]

    def _load_one(self, program: str, part: Part) -> Object:
        more = part.open()
        try:
            for name in _MAPS.split():
                more.map(name).share(self._object.map(name))
            for other in more.programs():
                if other != program:
                    more.skip(other)
            part.load(more)
        except BaseException:
            more.close()
            raise
        return more

    @staticmethod
    def _part_of(program: str) -> Part:
        if program == "hold_fatal":
            return CRASH_HOLDS
        return LONE_HOLDS if program in _WHO_MAY_WAIT and can_give_work() else HOLDS

    def _set_mask(self, name: str, at: int, mask: int) -> None:
        self._object.map(name).update(_u32(at), struct.pack("=Q", mask))

    def _write_rule(
        self, table: str, number: int, tests: Sequence[KernelTest], first: int, last: int, flags: int
    ) -> None:
        if len(tests) > _MAX_TESTS:
            raise HoldError(f"A rule has {len(tests)} conditions; the kernel takes {_MAX_TESTS}.")
        rows = b"".join(map(self._packed, tests)).ljust(_MAX_TESTS * _TEST.size, b"\0")
        row = _RULE.pack(first, last, 0, len(tests), flags) + rows
        self._object.map(table).update(_u32(number), row)

    def _packed(self, test: KernelTest) -> bytes:
        operand = self._glob(test.glob) if test.glob else test.number
        start = _start_ticks(test.number) if test.look in LOOKS_AT_PROCESS else 0
        return _TEST.pack(test.look, test.negated, test.whole_path, operand, 0, start)

    def _glob(self, glob: Glob) -> int:
        if glob not in self._globs:
            if len(self._globs) == _MAX_GLOBS:
                raise HoldError(f"The rules hold more than {_MAX_GLOBS} patterns.", "Use fewer.")
            self._object.map("globs").update(_u32(len(self._globs)), pack_glob(glob))
            self._globs[glob] = len(self._globs)
        return self._globs[glob]

    def _write_settings(self) -> None:
        row = _SETTINGS.pack(
            self._enabled,
            self._exclusions,
            self._command,
            not can_signal_child(),
            self._most,
            self._let_go,
            self._under_debugger,
            _start_ticks(self._command),
        )
        self._object.map("settings").update(_u32(0), row)


@cache
def can_give_work() -> bool:
    """Whether a task can be kept from a deadly signal: bpf_task_work_schedule_signal(), Linux 6.18."""
    return CRASH_HOLDS.way() is not None


@cache
def can_signal_child() -> bool:
    """Whether a forked child can be stopped before it runs: bpf_send_signal_task(), Linux 6.13."""
    return features.fork_signal().ok


def _start_ticks(pid: int) -> int:
    """When process ``pid`` began, in the ticks of proc(5): another of its number began at another time."""
    found = procfs.stat(pid) if pid else None
    return found.start_ns // procfs.TICK_NS if found else _NEVER


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
