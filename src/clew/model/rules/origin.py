"""``--from``: what a flow is followed from, instead of the recording's own root; docs/rules.md tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from clew.errors import RuleError
from clew.model.rules.conditions import is_number, process_id
from clew.model.rules.glob import Glob
from clew.model.rules.parse import parse_target
from clew.model.rules.pieces import Piece, split_rule
from clew.model.rules.rule import Rule
from clew.model.rules.words import Vocabulary, near

_KIND = re.compile(r"\s*([A-Za-z_-]+):")
_NUMBER = re.compile(r"\s*n=(\d{1,18})")
_NO_WORDS = Vocabulary()


class OriginKind(StrEnum):
    """What a flow can begin with."""

    EXEC = "exec"
    PID = "pid"
    CONNECT = "connect"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Served:
    """A server: by the name of the socket it accepts at, or by its process id."""

    text: str
    socket: Glob | None = None
    pid: int = 0

    def matches(self, name: str, pid: int) -> bool:
        """Whether this is the socket called ``name``, or the process."""
        if self.socket is None:
            return pid == self.pid
        return name == self.text or self.socket.matches(name.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Origin:
    """One root: number ``n`` (from 1) of what is named; ``counted``: whether the number was given.

    ``what`` is a Rule for exec, a process id for pid, a server for connect and request.
    """

    text: str
    kind: OriginKind
    what: Rule | int | Served
    n: int = 1
    counted: bool = False


def parse_origin(text: str, words: Vocabulary = _NO_WORDS) -> Origin:
    """Read what ``--from`` says.  Raises RuleError."""
    text = text.lstrip()
    kind = _kind(text)
    if kind is OriginKind.EXEC:
        rule = parse_target(text, words)
        return Origin(text, kind, rule, rule.first, rule.limit is not None)
    subject, *rest = split_rule(text, brackets=False)
    n = _number(rest)
    subject = subject.after(len(kind) + 1)
    what = process_id(subject) if kind is OriginKind.PID else served(subject)
    return Origin(text, kind, what, n or 1, n is not None)


def parse_served(text: str) -> Served:
    """Read what ``--requests`` says: a socket or a process id.  Raises RuleError."""
    return served(Piece(text, 0, len(text)))


def served(piece: Piece) -> Served:
    """The server a piece of a rule names.  Raises RuleError."""
    if is_number(piece.text):
        return Served(piece.text, pid=process_id(piece))
    if not piece.text:
        raise piece.error("This names no server.", "Write a socket's path, @NAME, 127.0.0.1:80, or a PID.")
    return Served(piece.plain, piece.glob())


def _kind(text: str) -> OriginKind:
    match = _KIND.match(text)
    if match and match[1] in set(OriginKind):
        return OriginKind(match[1])
    guesses = near(match[1], map(str, OriginKind), 1) if match else []
    cause = (
        f"A flow cannot begin with {match[1]}:" if match else "This does not say what the flow begins with."
    )
    guess = f"Did you mean {guesses[0]}:{text[match.end() :]}? " if match and guesses else ""
    remedy = "Write exec:PROGRAM, pid:PID, connect:SOCKET,n=N or request:SOCKET,n=N."
    raise RuleError(text, 0, cause, guess + remedy)


def _number(pieces: Sequence[Piece]) -> int | None:
    if not pieces:
        return None
    if len(pieces) > 1:
        raise pieces[1].error(
            "Only a number may follow.", "Write n=N; \\, for a comma that belongs to a name."
        )
    match = _NUMBER.fullmatch(pieces[0].text)
    if not match or int(match[1]) == 0:
        raise pieces[0].error(f"{pieces[0].text!r} is not a number.", "Write n=N, N from 1 on.")
    return int(match[1])
