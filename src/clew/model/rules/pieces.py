"""A rule cut at its commas, each piece knowing where it stands for the error that may concern it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from clew.errors import RuleError
from clew.model.rules.glob import Glob

# The operators of C++ whose names hold brackets that open or close nothing, or a comma.
_OPERATOR = re.compile(r"\boperator\s*(?:<=>|<<=?|>>=?|<=?|>=?|->\*?|,)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters [start, end) of ``rule``."""

    rule: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The characters, escapes untouched."""
        return self.rule[self.start : self.end]

    @property
    def plain(self) -> str:
        """The text of a name that is no pattern: ``\\c`` stands for c."""
        return _ESCAPED.sub(r"\1", self.text)

    def after(self, offset: int) -> Piece:
        """What is left without the first ``offset`` characters."""
        return Piece(self.rule, self.start + offset, self.end)

    def before(self, offset: int) -> Piece:
        """The first ``offset`` characters."""
        return Piece(self.rule, self.start, self.start + offset)

    def error(self, cause: str, remedy: str = "", offset: int = 0) -> RuleError:
        """A RuleError whose caret is ``offset`` characters into the piece."""
        return RuleError(self.rule, self.start + offset, cause, remedy)

    def glob(self, classes: bool = True) -> Glob:
        """The piece as a pattern.  Raises RuleError, also for an empty one."""
        if not self.text:
            raise self.error("A pattern is missing here.", "Write * to match everything.")
        try:
            return Glob.parse(self.text, classes)
        except RuleError as error:
            raise self.error(error.cause, error.remedy, error.position) from None


def split_rule(rule: str, brackets: bool) -> list[Piece]:
    """Cut at commas, except those after a backslash.

    With ``brackets``, a comma inside ``()``, ``<>``, ``[]`` or ``{}`` of the first piece belongs to it:
    ``call:f(int, char),uid=0`` is two pieces.  Raises RuleError for a bracket left open.
    """
    first = _subject_end(rule) if brackets else 0
    cuts = [match.start() for match in re.finditer(r"\\.|,", rule[first:], re.DOTALL) if match[0] == ","]
    bounds = [-1, *(cut + first for cut in cuts), len(rule)]
    return [Piece(rule, left + 1, right) for left, right in pairwise(bounds)]


def _subject_end(rule: str) -> int:
    """Where the first comma outside all brackets stands, or the end of the rule."""
    open_at: list[int] = []
    at = 0
    while at < len(rule):
        if operator := _OPERATOR.match(rule, at):
            at = operator.end()
            continue
        if rule[at] in "(<[{":
            open_at.append(at)
        elif rule[at] in ")>]}" and open_at:
            open_at.pop()
        elif rule[at] == "," and not open_at:
            return at
        at += 2 if rule[at] == "\\" else 1
    if open_at and "," in rule[open_at[-1] :]:
        raise RuleError(
            rule,
            open_at[-1],
            f"The {rule[open_at[-1]]} here is never closed.",
            "Close it, or write \\ before it.",
        )
    return len(rule)
