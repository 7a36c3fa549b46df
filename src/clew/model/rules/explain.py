"""A rule in one English sentence."""

from __future__ import annotations

from clew.model.rules.glob import STAR, Glob
from clew.model.rules.rule import (
    Condition,
    Exclusion,
    Field,
    Function,
    RecordedHop,
    Rule,
    RuleKind,
    Signals,
    SourceLine,
    Syscalls,
    TreeRoot,
)
from clew.model.rules.signals import signal_name
from clew.model.rules.text import shown


def explain(rule: Rule | Exclusion, verb: str = "Holds") -> str:
    """What ``rule`` takes, as a sentence that begins with ``verb`` ("Holds", "Reaches").

    >>> from clew.model.rules import parse_rule
    >>> explain(parse_rule("exec:qemu-*,uid=0"))
    "Holds a process at the first instruction of a program named 'qemu-*', if its user id is 0."
    """
    if isinstance(rule, Exclusion):
        return f"Never holds {_excluded(rule)}{_conditions(rule.conditions)}."
    times = _times(rule.first, rule.limit)
    return f"{verb} {_point(rule)}{_conditions(rule.conditions)}{times}."


def _point(rule: Rule) -> str:
    match rule.subject:
        case Glob() as program:
            return _PROGRAM_POINTS[rule.kind].format(_program(program))
        case Function() as function:
            return f"a thread as it enters {_function(function)}"
        case SourceLine(file, line):
            return f"a thread as it comes to line {line} of the source file '{shown(file)}'"
        case Syscalls(name):
            call = _pattern("the system call", "a system call like", name)
            return f"a thread that makes {call}, before it runs"
        case Signals(_, numbers):
            return f"a thread that is about to receive {_signals(numbers)}"
        case RecordedHop(trace, number):
            return f"a task where hop {number} of the recording '{shown(trace)}' left"


_PROGRAM_POINTS = {
    RuleKind.EXEC: "a process at the first instruction of {}",
    RuleKind.FORK: "a new process, before it runs, when its parent runs {}",
    RuleKind.EXIT: "a process that runs {}, as it exits and before it is gone",
}


def _program(program: Glob) -> str:
    if program.elements == (STAR,):
        return "any program"
    if program.whole_path:
        return f"a program with the path '{shown(program.source)}'"
    return f"a program named '{shown(program.source)}'"


def _function(function: Function) -> str:
    name = _pattern("the function", "a function like", function.name)
    return name if function.file is None else f"{name} of the file '{shown(function.file.source)}'"


def _pattern(exactly: str, alike: str, pattern: Glob) -> str:
    return f"{alike if pattern.exact is None else exactly} '{shown(pattern.source)}'"


def _signals(numbers: frozenset[int]) -> str:
    """Up to four by name; longer rows by their ends."""
    names = [signal_name(number) for number in sorted(numbers)]
    if len(names) > 4:
        return f"one of {len(names)} signals, {names[0]} to {names[-1]}"
    return _joined(names, "or")


def _excluded(exclusion: Exclusion) -> str:
    match exclusion.subject:
        case Glob() as program:
            who = f"a process that runs {_program(program)}"
        case root:
            who = _root(root)
    return f"{who}, nor any below it" if exclusion.scope == "tree" else who


def _root(root: int | TreeRoot) -> str:
    return "the command that clew starts" if isinstance(root, TreeRoot) else f"process {root}"


def _conditions(conditions: tuple[Condition, ...]) -> str:
    return f", if {_joined([_condition(one) for one in conditions], 'and')}" if conditions else ""


def _condition(condition: Condition) -> str:
    value = condition.value
    if isinstance(value, Glob):
        phrase = _PATTERN_PHRASES[condition.field][condition.negated]
        return phrase.format(f"'{shown(value.source)}'")
    phrase = _NUMBER_PHRASES[condition.field][condition.negated]
    return phrase.format(_root(value) if condition.field is not Field.UID else value)


# What holds, and what holds when the condition is written with !=.
_PATTERN_PHRASES = {
    Field.EXE: ("its program is {}", "its program is not {}"),
    Field.ARGV: (
        "an argument, or the whole command line, matches {}",
        "neither an argument nor the whole command line matches {}",
    ),
    Field.COMM: ("its thread is named {}", "its thread is not named {}"),
    Field.PARENT: ("its parent is {}", "its parent is not {}"),
    Field.LINEAGE: ("a process above it is {}", "no process above it is {}"),
}
_NUMBER_PHRASES = {
    Field.UID: ("its user id is {}", "its user id is not {}"),
    Field.PID: ("it is {}", "it is not {}"),
    Field.PARENT: ("its parent is {}", "its parent is not {}"),
    Field.TREE: ("it is {} or below it", "it is neither {} nor below it"),
}


def _times(first: int, limit: int | None) -> str:
    if limit is None:
        return "" if first == 1 else f"; from the {_ordinal(first)} time on"
    if limit == 1:
        return f"; only the {_ordinal(first)} time"
    if first == 1:
        return f"; only the first {limit} times"
    return f"; only the {_ordinal(first)} to the {_ordinal(first + limit - 1)} time"


def _ordinal(number: int) -> str:
    if number == 1:
        return "first"
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _joined(parts: list[str], word: str) -> str:
    *most, last = parts
    return f"{', '.join(most)} {word} {last}" if most else last
