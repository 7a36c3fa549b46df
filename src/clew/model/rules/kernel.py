"""A rule in the form BPF decides by: tests in the order of their cost, patterns as bit masks.

``engine/bpf/probes/glob.bpf.h`` runs the masks.  They describe a machine with one state for each number
of elements matched so far: all states live in the bits of one 128-bit number, every byte of text costs
the same few operations, and nothing backtracks, so the verifier sees one short loop and a hostile argv
buys no time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from clew.errors import RuleError
from clew.model.rules.glob import STAR, Glob
from clew.model.rules.rule import (
    Condition,
    Exclusion,
    Field,
    Rule,
    RuleKind,
    Signals,
    Syscalls,
    TreeRoot,
)

GLOB_LENGTH = 127
"""The most bytes, ``?`` and classes a pattern can have in the kernel; stars do not count."""

GLOB_SIZE = 256 * 16 + 32
"""``sizeof(struct clew_glob)``."""

ARGV_LIMIT = 16384
"""The kernel looks at this many first bytes of a command line."""

_UNSTOPPABLE = {
    9: "A task that gets SIGKILL runs nothing more.",
    18: "SIGCONT is how held tasks are let go.",
    19: "SIGSTOP is how tasks are held.",
}


class Look(IntEnum):
    """What a test looks at, cheapest first: tests are run in this order."""

    UID = 1
    PID = 2
    PARENT_PID = 3
    TREE_COMMAND = 4
    TREE_PID = 5
    COMM = 6
    PROGRAM = 7
    """exe or the path given to exec, whole; unless ``whole_path``, the last component of these or argv[0]."""
    EXE = 8
    PARENT = 9
    """The parent's exe; its comm too unless ``whole_path``."""
    ARGV = 10
    """Each argument, and all joined by single spaces: ``clew_glob_argv_*``."""
    LINEAGE = 11
    """As PARENT, for any ancestor."""
    SELF_OR_LINEAGE = 12
    """PROGRAM, or as LINEAGE."""


LOOKS_AT_PROCESS = frozenset({Look.PID, Look.PARENT_PID, Look.TREE_PID})
"""Looks at a process that a number names: that one, and no later one of its number."""


@dataclass(frozen=True, slots=True)
class KernelTest:
    """One test; the event passes if its outcome differs from ``negated``.

    ``glob`` is None where ``number`` is compared: a uid or a process id (0 with TREE_COMMAND).
    """

    look: Look
    negated: bool = False
    glob: Glob | None = None
    number: int = 0

    @property
    def whole_path(self) -> bool:
        """Whether ``glob`` is held against whole paths."""
        return self.glob is not None and self.glob.whole_path


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """All that BPF has to know of a rule.

    A hit passes all ``tests``; it is held if its number is in [first, last], ``last`` None: no end.
    ``syscalls`` and ``signals`` are numbers, and say which events reach the tests; the address of a call
    or at rule is found by whoever attaches the uprobe, from ``rule.subject``.
    """

    rule: Rule
    tests: tuple[KernelTest, ...]
    first: int = 1
    last: int | None = None
    syscalls: frozenset[int] = frozenset()
    signals: frozenset[int] = frozenset()


def compile_rule(rule: Rule, syscalls: Mapping[str, int]) -> KernelPlan:
    """The plan of ``rule``; ``syscalls`` is the machine's table (``clew.kernel.syscalls.numbers()``).

    Raises RuleError for what no engine can hold at (SIGKILL), a pattern over GLOB_LENGTH, a system call
    this machine lacks, and a hop rule: what its hop was must be read first.
    """
    match rule.subject:
        case Glob() as program:
            return _plan(rule, [KernelTest(Look.PROGRAM, glob=program)])
        case Syscalls(name):
            return _plan(rule, [], syscalls=_syscall_numbers(rule, name, syscalls))
        case Signals(_, numbers):
            return _plan(rule, [], signals=_stoppable(rule, numbers))
        case _ if rule.kind is RuleKind.HOP:
            raise RuleError(rule.text, 0, "A hop is no place to stop until it is read from its trace.")
        case _:
            return _plan(rule, [])


def compile_exclusion(exclusion: Exclusion) -> tuple[KernelTest, ...]:
    """The tests that an excluded process passes, all of them.  Raises RuleError as compile_rule does."""
    match exclusion.subject:
        case Glob() as program:
            look = Look.SELF_OR_LINEAGE if exclusion.scope == "tree" else Look.PROGRAM
            subject = KernelTest(look, glob=program)
        case root:
            subject = _tree(root, negated=False)
    return _tests(exclusion.text, [subject], exclusion.conditions)


def pack_glob(glob: Glob) -> bytes:
    """``struct clew_glob`` for ``glob``, in the machine's byte order; at most GLOB_LENGTH elements."""
    masks = [0] * 256
    loops = 0
    state = 0
    for element in glob.elements:
        if element == STAR:
            loops |= 1 << state
            continue
        for byte in range(256):
            masks[byte] |= (element >> byte & 1) << state
        state += 1
    return b"".join(map(_two_words, [*masks, loops, 1 << state]))


def _plan(
    rule: Rule,
    subject: list[KernelTest],
    syscalls: frozenset[int] = frozenset(),
    signals: frozenset[int] = frozenset(),
) -> KernelPlan:
    last = None if rule.limit is None else rule.first + rule.limit - 1
    tests = _tests(rule.text, subject, rule.conditions)
    return KernelPlan(rule, tests, rule.first, last, syscalls, signals)


def _tests(text: str, subject: list[KernelTest], conditions: tuple[Condition, ...]) -> tuple[KernelTest, ...]:
    tests = subject + [_test(condition) for condition in conditions]
    for test in tests:
        _check_length(text, test.glob)
    # A pattern of nothing but * is passed by everything.
    asked = [test for test in tests if test.negated or test.glob is None or test.glob.elements != (STAR,)]
    return tuple(sorted(asked, key=lambda test: test.look))


def _test(condition: Condition) -> KernelTest:
    if isinstance(condition.value, Glob):
        return KernelTest(_PATTERN_LOOKS[condition.field], condition.negated, condition.value)
    if condition.field is Field.TREE:
        return _tree(condition.value, condition.negated)
    return KernelTest(_NUMBER_LOOKS[condition.field], condition.negated, number=int(condition.value))


_PATTERN_LOOKS = {
    Field.EXE: Look.EXE,
    Field.ARGV: Look.ARGV,
    Field.COMM: Look.COMM,
    Field.PARENT: Look.PARENT,
    Field.LINEAGE: Look.LINEAGE,
}
_NUMBER_LOOKS = {Field.UID: Look.UID, Field.PID: Look.PID, Field.PARENT: Look.PARENT_PID}


def _tree(root: int | TreeRoot, negated: bool) -> KernelTest:
    if isinstance(root, TreeRoot):
        return KernelTest(Look.TREE_COMMAND, negated)
    return KernelTest(Look.TREE_PID, negated, number=root)


def _check_length(text: str, glob: Glob | None) -> None:
    length = sum(element != STAR for element in glob.elements) if glob else 0
    if glob and length > GLOB_LENGTH:
        raise RuleError(
            text,
            max(text.find(glob.source), 0),
            f"The pattern is {length} bytes long, and the kernel compares at most {GLOB_LENGTH}.",
            "Put a * in place of a part of it.",
        )


def _syscall_numbers(rule: Rule, name: Glob, syscalls: Mapping[str, int]) -> frozenset[int]:
    numbers = frozenset(number for call, number in syscalls.items() if name.matches(call.encode()))
    unnamed = name.source.removeprefix("syscall_")
    if not numbers and unnamed != name.source and unnamed.isdigit():
        numbers = frozenset({int(unnamed)})
    if not numbers:
        raise RuleError(
            rule.text,
            len("syscall:"),
            f"This machine has no system call {name.source!r}.",
            "See man 2 syscalls.",
        )
    return numbers


def _stoppable(rule: Rule, numbers: frozenset[int]) -> frozenset[int]:
    stoppable = numbers - _UNSTOPPABLE.keys()
    if not stoppable:
        reason = " ".join(_UNSTOPPABLE[number] for number in sorted(numbers))
        raise RuleError(rule.text, len("signal:"), reason, "Use exit:GLOB, or another signal.")
    return stoppable


def _two_words(bits: int) -> bytes:
    return struct.pack("=QQ", bits & (1 << 64) - 1, bits >> 64)
