"""From rules to armed stops: what BPF is told, and the places of functions, lines and recorded hops."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from clew.engine.stops import Stops
from clew.errors import ClewError, RuleError, SymbolNotFound
from clew.hold.code import Code
from clew.hold.files import CodeFile, mapped_files, program_files
from clew.hold.functions import (
    MOST_PLACES,
    Place,
    find_exits,
    find_function,
    find_raw_exits,
    find_syscall_sites,
)
from clew.hold.reach import Reach, reach
from clew.hold.recorded_hop import rule_of_its_hop
from clew.hold.source_lines import find_source_line
from clew.kernel import procfs
from clew.kernel.syscalls import numbers
from clew.model.rules.glob import Glob
from clew.model.rules.kernel import LOOKS_AT_PROCESS, KernelPlan, Look, compile_rule
from clew.model.rules.rule import (
    Condition,
    Field,
    Function,
    Rule,
    RuleKind,
    RuleSet,
    SourceLine,
    Syscalls,
    TreeRoot,
)

THREAD_KINDS = frozenset({RuleKind.CALL, RuleKind.AT, RuleKind.SYSCALL, RuleKind.SIGNAL})
"""Kinds whose hold is the thread that hit, unless told otherwise; of the others the process."""

_NEVER_DEADLY = frozenset({17, 18, 20, 21, 22, 23, 28})
"""SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH: nobody dies of them (signal(7))."""

_EXACT = {RuleKind.AT: "line", RuleKind.EXIT: "exit", RuleKind.SYSCALL: "before-syscall"}


Version = tuple[int, int, int, int]
"""Device, inode, size and time of a file."""


@dataclass(frozen=True, slots=True)
class ArmedRule:
    """A rule in force: its ``number`` in the kernel, and for call and at rules where it stops."""

    rule: Rule
    number: int
    places: tuple[Place, ...] = ()


class Arming:
    """Arms rules on ``stops``; ``command`` is the program clew will start, b"" without one.

    ``scope`` is what a hit holds, as ``clew.hold.session.HoldOptions`` has it.
    """

    def __init__(
        self,
        stops: Stops,
        command: bytes = b"",
        pids: tuple[int, ...] = (),
        scope: str = "auto",
        confirm: Callable[[Reach], None] | None = None,
    ) -> None:
        self._scope, self._confirm = scope, confirm
        self._waiting: dict[int, ArmedRule] = {}
        self._stops = stops
        # The ptrace engine sees no others; where all processes are seen, rules are narrowed.
        self._roots = () if stops.every_syscall else pids
        self._command = command
        self._files: list[CodeFile] | None = None
        self._code = Code()
        self._attached: dict[bytes, Version] = {}
        self.armed: dict[int, ArmedRule] = {}

    def arm(self, rules: RuleSet, under_debugger: bool = False) -> list[ArmedRule]:
        """Put ``rules`` in force, all or none.

        Raises RuleError, SymbolNotFound, UsageError, HoldError and EngineError.
        """
        self._files = None  # Others may be mapped by now.
        meant = [one for rule in rules.rules for one in self._narrowed(rule_of_its_hop(rule))]
        found = [(rule, self._places_or_wait(rule)) for rule in meant]
        if self._confirm is not None:
            for each in reach(found, rules.exclusions):
                self._confirm(each)
        for exclusion in rules.exclusions:
            self._stops.exclude(exclusion)
        new: list[ArmedRule] = []
        try:
            for rule, places in found:
                plan = compile_rule(rule, numbers(platform.machine()))
                _refuse_gone(plan)
                number = self._stops.arm(plan, under_debugger, self.holds_alone(rule))
                new.append(ArmedRule(rule, number, tuple(places)))
                self.attach(new[-1], places)
        except BaseException:
            for one in new:
                self._stops.disarm(one.number)
            raise
        self.armed.update({one.number: one for one in new})
        self._waiting.update({one.number: one for one in new if _awaited(one.rule)})
        return new

    def holds_alone(self, rule: Rule) -> bool:
        """Whether a hit of the rule holds its thread, and not all of the process."""
        return self._scope == "thread" or (self._scope == "auto" and rule.kind in THREAD_KINDS)

    def notes(self) -> list[str]:
        """What a rule that is in force cannot do, in a sentence each."""
        found = [f"{each} Nothing is stopped in it." for each in self._code.complaints(self._files or ())]
        for armed in self.armed.values():
            if armed.rule.kind is RuleKind.SIGNAL:
                wanted = compile_rule(armed.rule, numbers(platform.machine())).signals - _NEVER_DEADLY
                beyond = wanted - self._stops.deadly_signals
                if beyond:
                    found.append(_dies_first(armed.rule, beyond))
            elif armed.number in self._waiting:
                found.append(f"{armed.rule.text}: waiting for its function in {_named(armed.rule).path}.")
        return found

    def _narrowed(self, rule: Rule) -> list[Rule]:
        """The rule for each of the processes that rules are narrowed to, and for the command."""
        roots: list[int | TreeRoot] = list(self._roots)
        if roots and self._command:
            roots.append(TreeRoot.COMMAND)
        conditions = (Condition(Field.TREE, root) for root in roots)
        return [replace(rule, conditions=(*rule.conditions, one)) for one in conditions] or [rule]

    def disarm(self, number: int) -> None:
        """Take a rule out of force."""
        self._stops.disarm(number)
        self._waiting.pop(number, None)
        self.armed.pop(number, None)

    def attach(self, armed: ArmedRule, places: list[Place]) -> None:
        """Stop at more places for a rule: at first all of them, later those of files that came anew."""
        exact = _EXACT.get(armed.rule.kind, "function")
        for place in places:
            file = str(place.file.path).encode("utf-8", "surrogateescape")
            self._stops.attach(armed.number, file, [place.offset], exact, place.any_call)
            version = _version(place.file.path)
            if version is not None:
                self._attached[place.file.name] = version

    def folders(self) -> set[Path]:
        """Where the files of places lie: what is put there anew may be another version of one."""
        places = [place for armed in self.armed.values() for place in armed.places]
        awaited = [_named(armed.rule).path for armed in self._waiting.values()]
        return {path.parent for path in (*(Path(os.fsdecode(place.file.name)) for place in places), *awaited)}

    def look_again(self) -> None:
        """Stop also where files that were replaced since hold the functions and lines now.

        A uprobe belongs to the file's inode: who still runs the old one is held there as before.  Of a file
        that was written anew in its place the old places are others' code now: they are taken out.
        """
        self._arm_awaited()
        for armed in list(self.armed.values()):
            names = {place.file.name: place.file for place in armed.places}
            new = [file for file in map(_as_it_is_now, names.values()) if file and self._is_new(file)]
            places = self._places_in(armed.rule, new)
            for file in new:
                before, now = self._attached[file.name], _version(file.path)
                if now is not None and before[:2] == now[:2]:
                    self._stops.detach(armed.number, before[:2])
            if places:
                self.attach(armed, places)
                self.armed[armed.number] = replace(armed, places=armed.places + tuple(places))
        self._note_versions()

    def _arm_awaited(self) -> None:
        """Put rules in force whose file is there now."""
        for armed in list(self._waiting.values()):
            if _awaited(armed.rule) is not None:
                continue
            places = self._places_in(armed.rule, [_named(armed.rule)])
            if places:  # Else it is being written.
                self.attach(armed, places)
                self.armed[armed.number] = replace(armed, places=tuple(places))
                del self._waiting[armed.number]

    def _note_versions(self) -> None:
        """Remember how files are now, those too in which a rule's function is no more."""
        for name in self._attached:
            version = _version(Path(os.fsdecode(name)))
            if version is not None:
                self._attached[name] = version

    def _is_new(self, file: CodeFile) -> bool:
        version = _version(file.path)
        return version is not None and version != self._attached.get(file.name, version)

    def _places_or_wait(self, rule: Rule) -> list[Place]:
        try:
            return self._places(rule)
        except SymbolNotFound:
            if self._stops.every_syscall or _awaited(rule) is None:
                raise
            return []

    def _places_in(self, rule: Rule, files: list[CodeFile]) -> list[Place]:
        if not files:
            return []
        before, self._files = self._files, files
        try:
            return [place for place in self._places(rule) if place.file in files]
        except ClewError:
            return []  # The new version lacks it: nothing to stop at.
        finally:
            self._files = before

    def _places(self, rule: Rule) -> list[Place]:
        match rule.subject:
            case Function() as function:
                return find_function(rule.text, function, self._mapped(), self._code)
            case SourceLine() as line:
                return find_source_line(rule.text, line, self._mapped(), self._code)
            case Syscalls() if not self._stops.every_syscall:
                plan = compile_rule(rule, numbers(platform.machine()))
                places = find_syscall_sites(plan.syscalls, self._mapped(), self._code, _programs_of(plan))
                return places if len(places) <= MOST_PLACES else []
            case Glob() as program if rule.kind is RuleKind.EXIT:
                places = find_exits(program, self._mapped(), self._code)
                if self._stops.every_syscall:
                    return places
                known = {place.file.name for place in places}
                return places + find_raw_exits(program, self._mapped(), known, self._code)
            case _:
                return []

    def _mapped(self) -> list[CodeFile]:
        if self._files is None:
            self._files = mapped_files()
            if self._command:
                known = {file.name for file in self._files}
                self._files += [f for f in program_files(self._command) if f.name not in known]
        return self._files


def _programs_of(plan: KernelPlan) -> list[Glob]:
    """The programs that the rule is about alone (exe=)."""
    return [test.glob for test in plan.tests if test.look is Look.EXE and not test.negated and test.glob]


def _refuse_gone(plan: KernelPlan) -> None:
    """A rule about a process that is no more can match nothing; RuleError says so."""
    text = plan.rule.text
    for test in plan.tests:
        gone = test.look in LOOKS_AT_PROCESS and not test.negated and procfs.stat(test.number) is None
        if gone:
            at = max(text.rfind(str(test.number)), 0)
            raise RuleError(text, at, f"There is no process {test.number}.", "It may have ended: ps -e")


def _dies_first(rule: Rule, numbers_: frozenset[int]) -> str:
    names = [signal.Signals(number).name for number in sorted(numbers_) if number < signal.SIGRTMIN]
    what = f"{', '.join(names[:3])}{'…' * (len(names) > 3)}" if names else "it"
    return (
        f"{rule.text}: a process without a handler for {what} dies before the bpf engine can stop it."
        " `--engine ptrace -- CMD` stops it first."
    )


def _as_it_is_now(file: CodeFile) -> CodeFile | None:
    """The file that the name of ``file`` leads to now; None if it leads to none."""
    path = Path(os.fsdecode(file.name))
    return CodeFile(file.name, path) if path.is_file() else None


def _version(path: Path) -> Version | None:
    """What tells a file, as it is now, from any other and from itself when it is written anew."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _named(rule: Rule) -> CodeFile:
    """The one file that a call rule names by its whole path."""
    name = rule.subject.file.exact if isinstance(rule.subject, Function) and rule.subject.file else None
    return CodeFile(name or b"", Path(os.fsdecode(name or b"")))


def _awaited(rule: Rule) -> Path | None:
    """The file that a call rule names by its whole path, and that is not there yet; its folder is."""
    subject = rule.subject
    if not isinstance(subject, Function) or subject.file is None or not subject.file.whole_path:
        return None
    path = _named(rule).path
    return path if path.is_absolute() and path.parent.is_dir() and not path.exists() else None
