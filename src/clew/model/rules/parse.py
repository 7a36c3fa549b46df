"""From the text of a rule to the rule.  docs/rules.md has the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from clew.errors import RuleError
from clew.model.rules.conditions import is_number, process_id, read_conditions
from clew.model.rules.glob import Glob
from clew.model.rules.pieces import Piece, split_rule
from clew.model.rules.rule import Exclusion, Rule, RuleKind, RuleSet, TreeRoot
from clew.model.rules.subjects import read_subject
from clew.model.rules.words import KINDS, Vocabulary, guess_kind

# not: is ! for shells in which ! recalls history (bash, zsh, outside single quotes).
_EXCLUDING = re.compile(r"!|not:")
_KIND = re.compile(r"([A-Za-z0-9_-]*):")
_WORD = re.compile(r"[A-Za-z0-9_]*")
_NO_WORDS = Vocabulary()


def parse_rule(text: str, words: Vocabulary = _NO_WORDS) -> Rule | Exclusion:
    """Read one rule or exclusion.  Raises RuleError with the fault's place and, often, what was meant."""
    text = text.lstrip()
    if "\0" in text:
        raise RuleError(text, text.index("\0"), "A rule cannot hold a NUL byte.", "No name or path has one.")
    if mark := _EXCLUDING.match(text):
        return _exclusion(text, mark.end(), words)
    kind = RuleKind(_kind(text, 0, KINDS))
    subject, *rest = split_rule(text, brackets=kind is RuleKind.CALL)
    conditions = read_conditions(rest, words)
    return Rule(
        text=text,
        kind=kind,
        subject=read_subject(kind, subject.after(len(kind) + 1), words),
        conditions=conditions.tests,
        first=conditions.first or 1,
        # n alone names one hit; with max, a row of hits that begins there.
        limit=conditions.limit or (1 if conditions.first else None),
    )


def parse_target(text: str, words: Vocabulary = _NO_WORDS) -> Rule:
    """Read a rule that names what to reach (``--until``): an exclusion is a RuleError."""
    rule = parse_rule(text, words)
    if isinstance(rule, Exclusion):
        raise RuleError(text, 0, "An exclusion names nothing to reach.", "Leave its ! out, or give a rule.")
    return rule


def parse_rules(texts: Iterable[str], words: Vocabulary = _NO_WORDS) -> RuleSet:
    """Read rules and exclusions in any order.  Raises RuleError for the first that does not parse."""
    parsed = [parse_rule(text, words) for text in texts]
    return RuleSet(
        tuple(rule for rule in parsed if isinstance(rule, Rule)),
        tuple(rule for rule in parsed if isinstance(rule, Exclusion)),
    )


def _exclusion(text: str, start: int, words: Vocabulary) -> Exclusion:
    if text.startswith("!", start):
        raise RuleError(
            text, start, "One ! is enough.", "To exclude all descendants as well write !tree:GLOB."
        )
    scope: Literal["process", "tree"]
    scope = "tree" if _kind(text, start, ("exec", "tree")) == "tree" else "process"
    subject, *rest = split_rule(text, brackets=False)
    conditions = read_conditions(rest, words)
    if conditions.first or conditions.limit:
        raise RuleError(text, subject.end + 1, "An exclusion counts no hits.", "Leave n and max out.")
    program = subject.after(start + len("exec:"))
    return Exclusion(text, scope, _excluded(scope, program), conditions.tests)


def _excluded(scope: str, program: Piece) -> Glob | int | TreeRoot:
    if scope == "tree" and program.text == TreeRoot.COMMAND:
        return TreeRoot.COMMAND
    if scope == "tree" and is_number(program.text):
        return process_id(program)
    return program.glob()


def _kind(text: str, start: int, known: tuple[str, ...]) -> str:
    """The word before the colon at ``start``, if it is one of ``known``."""
    match = _KIND.match(text, start)
    if match and match[1] in known:
        return match[1]
    if not text[start:].strip():
        raise RuleError(text, start, "The rule is empty.", "Write one such as exec:qemu-system-*.")
    cause = f"There is no {match[1]}: rule." if match else "A rule begins with its kind and a colon."
    if start:
        cause = "An exclusion names a process by its program."
    raise RuleError(text, start, cause, _meant(text, start, known))


def _meant(text: str, start: int, known: tuple[str, ...]) -> str:
    word_match = _WORD.match(text, start)
    word = word_match[0] if word_match else ""
    rest = text[start + len(word) :].lstrip(" :=")
    if start:
        return f"Write !exec:{rest or 'GLOB'}, or !tree:{rest or 'GLOB'} for all its descendants as well."
    kind = guess_kind(word)
    if kind in known and rest:
        return f"Did you mean {kind}:{rest}?"
    if kind in known and word.lower() == kind:
        return f"Write {kind}:{_SUBJECTS[kind]}."
    if _KIND.match(text, start) and word != text[start:]:
        return f"Kinds are {', '.join(known)}."
    return f"Did you mean exec:{text}? Kinds are {', '.join(known)}."


_SUBJECTS = {
    "exec": "GLOB",
    "fork": "GLOB",
    "call": "[FILE!]FUNCTION",
    "at": "FILE.c:LINE",
    "syscall": "NAME",
    "signal": "NAME",
    "exit": "GLOB",
    "hop": "TRACE#N",
}
