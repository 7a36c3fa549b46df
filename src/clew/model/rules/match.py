"""Whether a rule applies to an event: for ``--until``, for recordings, and for the ptrace engine."""

from __future__ import annotations

import re

from clew.model.frame import Frame
from clew.model.rules.facts import Ancestor, Facts
from clew.model.rules.glob import Glob
from clew.model.rules.rule import (
    Condition,
    Exclusion,
    Field,
    Function,
    Rule,
    RuleKind,
    Signals,
    SourceLine,
    Syscalls,
    TreeRoot,
)


def matches(rule: Rule, facts: Facts) -> bool:
    """Whether ``facts`` are a hit of ``rule``, before ``n`` and ``max`` are counted.

    A call or at rule is looked for in the whole backtrace, a syscall rule in any event that has one.  A
    hop rule matches nothing until ``clew.model.rules.hop.rule_for_hop`` has said what its hop was.
    """
    return _subject_matches(rule, facts) and all(_holds(test, facts) for test in rule.conditions)


def meets(rule: Rule, facts: Facts) -> bool:
    """As ``matches``, for an event that was seen to be what the rule stops at: a call of its function, say.

    Only the program of exec, fork and exit rules is looked at again.
    """
    program = rule.subject
    if isinstance(program, Glob) and not runs_program(program, facts):
        return False
    return all(_holds(test, facts) for test in rule.conditions)


def excludes(exclusion: Exclusion, facts: Facts) -> bool:
    """Whether the event's process is one that ``exclusion`` keeps from being held."""
    return _excluded(exclusion, facts) and all(_holds(test, facts) for test in exclusion.conditions)


def runs_program(pattern: Glob, facts: Facts) -> bool:
    """Whether the event's program goes by a name ``pattern`` matches.

    With a ``/`` in the pattern: the whole path of the file that runs, or the path given to exec.
    Without: the last component of either, or of argv[0].
    """
    paths = [facts.exe, facts.filename]
    if not pattern.whole_path:
        paths += facts.argv[:1]
    return any(path and pattern.matches_path(path) for path in paths)


def has_argument(pattern: Glob, argv: tuple[bytes, ...]) -> bool:
    """Whether ``pattern`` matches one whole argument, or all of them joined by single spaces."""
    return any(map(pattern.matches, argv)) or pattern.matches(b" ".join(argv))


def function_matches(pattern: Glob, name: str) -> bool:
    """Whether ``pattern`` matches a symbol's or demangled name, with its parameters or without them."""
    encoded = name.encode("utf-8", "surrogateescape")
    if pattern.matches(encoded):
        return True
    bare = without_parameters(name)
    return bare != name and pattern.matches(bare.encode("utf-8", "surrogateescape"))


def without_parameters(name: str) -> str:
    """``ns::f<int (*)(char)>(int) const`` → ``ns::f<int (*)(char)>``; a name without any stays as it is."""
    trimmed = re.sub(r"(?:\s*(?:const|volatile|&|\[clone [^\]]*\]))+$", "", name)
    if not trimmed.endswith(")"):
        return trimmed
    depth = 0
    for at in range(len(trimmed) - 1, -1, -1):
        depth += (trimmed[at] == ")") - (trimmed[at] == "(")
        if not depth:
            return trimmed if trimmed[:at].endswith("operator") or not at else trimmed[:at]
    return trimmed


def _subject_matches(rule: Rule, facts: Facts) -> bool:
    match rule.subject:
        case Glob() as program:
            return facts.kind is rule.kind and runs_program(program, facts)
        case Function() as function:
            return any(_is_function(function, frame) for frame in facts.frames)
        case SourceLine() as place:
            return any(place.matches(frame.file.encode(), frame.line) for frame in facts.frames)
        case Syscalls(name):
            return bool(facts.syscall) and name.matches(facts.syscall.encode())
        case Signals(_, numbers):
            return facts.kind is RuleKind.SIGNAL and facts.signal in numbers
        case _:
            return False


def _is_function(function: Function, frame: Frame) -> bool:
    if function.file is not None and not function.file.matches_path(frame.module):
        return False
    return bool(frame.function) and function_matches(function.name, frame.function)


def _excluded(exclusion: Exclusion, facts: Facts) -> bool:
    if not isinstance(exclusion.subject, Glob):
        return _under(exclusion.subject, facts)
    if runs_program(exclusion.subject, facts):
        return True
    return exclusion.scope == "tree" and any(_is_named(exclusion.subject, one) for one in facts.ancestors)


def _holds(condition: Condition, facts: Facts) -> bool:
    return _positive(condition.field, condition.value, facts) is not condition.negated


def _positive(field: Field, value: Glob | int | TreeRoot, facts: Facts) -> bool:
    if isinstance(value, Glob):
        return _pattern_holds(field, value, facts)
    match field:
        case Field.UID:
            return facts.uid == value
        case Field.PID:
            return facts.pid == value
        case Field.PARENT:
            return any(parent.pid == value for parent in facts.ancestors[:1])
        case _:
            return _under(value, facts)


def _pattern_holds(field: Field, pattern: Glob, facts: Facts) -> bool:
    match field:
        case Field.EXE:
            return pattern.matches_path(facts.exe)
        case Field.ARGV:
            return has_argument(pattern, facts.argv)
        case Field.COMM:
            return pattern.matches(facts.comm)
        case Field.PARENT:
            return any(_is_named(pattern, parent) for parent in facts.ancestors[:1])
        case _:
            return any(_is_named(pattern, ancestor) for ancestor in facts.ancestors)


def _is_named(pattern: Glob, process: Ancestor) -> bool:
    return pattern.matches_path(process.exe) or (not pattern.whole_path and pattern.matches(process.comm))


def _under(root: int | TreeRoot, facts: Facts) -> bool:
    if root is TreeRoot.COMMAND:
        return facts.of_command
    return facts.pid == root or any(ancestor.pid == root for ancestor in facts.ancestors)
