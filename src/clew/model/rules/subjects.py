"""What follows a rule's kind and colon, kind by kind."""

from __future__ import annotations

import re

from clew.model.rules.glob import Glob
from clew.model.rules.pieces import Piece
from clew.model.rules.rule import (
    Function,
    RecordedHop,
    RuleKind,
    Signals,
    SourceLine,
    Subject,
    Syscalls,
)
from clew.model.rules.signals import NUMBERS, full_name, signals_named
from clew.model.rules.words import Vocabulary, did_you_mean, near

# A ! ends the file's pattern, but not that of operator! and operator!=, nor one in f<!is_array<T>::value>.
_FILE_MARK = re.compile(r"(?:\\.|[^\\!<(])*(?<!operator)!", re.DOTALL)
_LONE_COLON = re.compile(r"(?<![:\\]):(?!:)")
_BRACKET = re.compile(r"[(<\[{]")  # there are colons behind it: f[abi:cxx11]
_SYSCALL_PREFIX = re.compile(r"(?:__(?:x64|arm64|se|do)_)?sys_|__NR_|SYS_")


def read_subject(kind: RuleKind, piece: Piece, words: Vocabulary) -> Subject:
    """The subject of a ``kind`` rule.  Raises RuleError."""
    match kind:
        case RuleKind.EXEC | RuleKind.FORK | RuleKind.EXIT:
            return _program(kind, piece)
        case RuleKind.CALL:
            return _function(piece)
        case RuleKind.AT:
            return _source_line(piece)
        case RuleKind.SYSCALL:
            return _syscalls(piece, words)
        case RuleKind.SIGNAL:
            return _signals(piece)
        case RuleKind.HOP:
            return _recorded_hop(piece)


def _program(kind: RuleKind, piece: Piece) -> Glob:
    if not piece.text:
        raise piece.error(f"{kind}: names no program.", f"Write {kind}:NAME, or {kind}:* for every program.")
    return piece.glob()


def _function(piece: Piece) -> Function:
    match = _FILE_MARK.match(piece.text)
    mark = match.end() - 1 if match else -1
    name = piece.after(mark + 1)
    if not name.text:
        raise name.error("call: names no function.", "Write call:FUNCTION or call:FILE!FUNCTION.")
    if colon := _LONE_COLON.search(_BRACKET.split(name.text)[0]):
        raise name.error(
            "A single : has no meaning in a function's name.",
            _colon_remedy(name, colon.start()),
            colon.start(),
        )
    return Function(name.glob(classes=False), piece.before(mark).glob() if mark >= 0 else None)


def _colon_remedy(name: Piece, colon: int) -> str:
    file, rest = name.text[:colon], name.text[colon + 1 :]
    if rest.isdigit():
        return f"For a line of source write at:{file}:{rest}."
    return f"A file is set off by an exclamation mark: '{file}!{rest}', in single quotes for the shell."


def _source_line(piece: Piece) -> SourceLine:
    file, colon, line = piece.plain.rpartition(":")
    if not colon or not file:
        where = piece.after(len(piece.text))
        raise where.error("at: wants a file and a line.", "Write at:FILE.c:LINE, such as at:main.c:120.")
    where = piece.after(piece.text.rindex(":") + 1)
    if not re.fullmatch(r"[0-9]{1,9}", line) or int(line) == 0:
        raise where.error(f"{line!r} is not a line number.", "Lines are counted from 1: at:main.c:120.")
    return SourceLine(file.encode("utf-8", "surrogateescape"), int(line))


def _syscalls(piece: Piece, words: Vocabulary) -> Syscalls:
    if not piece.text:
        raise piece.error("syscall: names no system call.", "Write syscall:NAME, such as syscall:openat.")
    name = piece.glob()
    known = words.syscalls
    if known and not any(name.matches(call.encode()) for call in known) and not _numbered(piece.text):
        guesses = near(_SYSCALL_PREFIX.sub("", piece.text), known)
        raise piece.error(
            f"There is no system call {piece.text!r}.",
            did_you_mean(f"syscall:{call}" for call in guesses) or "man 2 syscalls lists their names.",
        )
    return Syscalls(name)


def _numbered(text: str) -> bool:
    return re.fullmatch(r"syscall_[0-9]{1,9}", text) is not None


def _signals(piece: Piece) -> Signals:
    if not piece.text:
        raise piece.error("signal: names no signal.", "Write signal:NAME, such as signal:TERM.")
    piece.glob()
    numbers = signals_named(piece.text)
    if not numbers:
        guesses = near(full_name(piece.text), NUMBERS)
        raise piece.error(
            f"There is no signal {piece.text!r}.",
            did_you_mean(f"signal:{name}" for name in guesses) or "kill -l lists their names.",
        )
    return Signals(piece.text, numbers)


def _recorded_hop(piece: Piece) -> RecordedHop:
    trace, mark, number = piece.plain.rpartition("#")
    if not mark or not trace:
        where = piece.after(len(piece.text))
        raise where.error(
            "hop: wants a trace and a hop's number.", "Write hop:TRACE#N, such as hop:start.clew#7."
        )
    if not re.fullmatch(r"[0-9]{1,9}", number) or int(number) == 0:
        where = piece.after(piece.text.rindex("#") + 1)
        raise where.error(
            f"{number!r} is not a hop's number.", "Hops are counted from 1: clew show prints them."
        )
    return RecordedHop(trace.encode("utf-8", "surrogateescape"), int(number))
